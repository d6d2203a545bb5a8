/* socks.h - the descriptors of a reactor: which lane, registered for what.
 *
 * Job: the table by fd number and its registration with the event set, sticky:
 * a socket stays registered when libcurl stops watching it, until it is closed
 * (two epoll_ctl calls less per call). Not its job: running libcurl.
 * Used by: slot (open and close callbacks), lane (socket callback), reactor.
 * Threads: the reactor's.
 */
#ifndef LC_SOCKS_H
#define LC_SOCKS_H

#include "core.h"

/* Entry of `fd`, NULL when there is no memory for it. */
lc_sock *lc_sock_at(lc_reactor *r, int fd);
/* Entry of an event's tag, NULL when that life of the number is over. */
lc_sock *lc_sock_of_tag(lc_reactor *r, uint64_t tag, int *fd);
/* A socket of ours was opened for `lane`. */
lc_rc lc_sock_opened(lc_reactor *r, int fd, lc_lane *lane);
/* It is about to be closed. Forgets it. */
void lc_sock_closing(lc_reactor *r, int fd);
/* libcurl wants to be told of `want` (0 = nothing any more). */
lc_rc lc_sock_want(lc_reactor *r, int fd, lc_lane *lane, unsigned want);
/* Takes out of the registration what nobody waits for (a level-triggered event
 * that is not served would come again at once). */
void lc_sock_mute(lc_reactor *r, int fd);
/* Watched for what an idle one can have: a word, or the end, of its peer. */
void lc_sock_rest(lc_reactor *r, int fd);
/* An idle one was closed by its peer. */
void lc_sock_died(lc_reactor *r, int fd);
/* 1 when a TLS alert, which on an idle connection can only be close_notify or worse, or the end is among what
 * waits to be read. */
int lc_sock_alerted(int fd);
/* Forgets all sockets of a lane that is being freed: those libcurl closed without
 * a word. */
void lc_socks_forget(lc_reactor *r, const lc_lane *lane);

#endif
