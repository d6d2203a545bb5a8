/* reactor.h - one per event loop: the event set and all that hangs on it.
 *
 * Job: one step = cancels, starts, ready sockets, timers; bounded in time.
 * Not its job: Python (csrc/py calls lc_reactor_step without the GIL).
 * Used by: csrc/py. Threads: one, but for the functions named *_foreign.
 */
#ifndef LC_REACTOR_H
#define LC_REACTOR_H

#include "core.h"

/* Returns an owned reactor; NULL with errno set. */
lc_reactor *lc_reactor_new(void);
lc_reactor *lc_reactor_ref(lc_reactor *r);
void lc_reactor_unref(lc_reactor *r);
/* Does what is due, for about `budget` ns. Returns 1 when there is more to do
 * at once, 0 when the event set's descriptor will tell. */
int lc_reactor_step(lc_reactor *r, int64_t budget);
/* 1 when a step would find work that the descriptor does not show. */
int lc_reactor_pending(const lc_reactor *r);
/* 1 when all its pools are closed and no transfer runs. */
int lc_reactor_over(const lc_reactor *r);
/* Takes the next transfer with news (borrowed), NULL when there is none. */
lc_xfer *lc_reactor_next_news(lc_reactor *r);
/* Ends everything: after it only news of ended transfers are left. */
void lc_reactor_shutdown(lc_reactor *r);
/* In a forked child: closes the descriptors, sends nothing, frees nothing that libcurl holds. */
void lc_reactor_abandon(lc_reactor *r);

/* Once per process: libcurl's own start-up and the fork counter. LC_ERR_CURL
 * when libcurl cannot start. */
lc_rc lc_global_init(void);
/* The libcurl that runs, as LIBCURL_VERSION_NUM has it: asked once, curl_version_info is slow. */
unsigned lc_curl_version(void);
/* How often this process is the child of a fork since lc_global_init. */
int lc_fork_generation(void);

#endif
