/* xfer.h - one transfer from submit to its last byte.
 *
 * Job: its life cycle (new, queued, active, done), its deadlines, its buffers
 * and what libcurl's callbacks tell it. Not its job: which lane it runs in
 * (pool), libcurl's options (slot). Used by: csrc/py, pool, lane, slot, reactor.
 * Threads: the reactor's, but for lc_xfer_drop_foreign.
 *
 * Life: lc_xfer_new -> (fill in) -> lc_xfer_submit -> news ... LC_NEWS_DONE ->
 * lc_xfer_free. An owner that goes earlier calls lc_xfer_drop; the transfer
 * then comes out of the news list once more, without an owner, to be freed.
 */
#ifndef LC_XFER_H
#define LC_XFER_H

#include "core.h"

/* Where a transfer was when it ended. */
enum { LC_PHASE_QUEUE = 0, LC_PHASE_RESOLVE, LC_PHASE_CONNECT, LC_PHASE_TLS, LC_PHASE_SEND, LC_PHASE_WAIT, LC_PHASE_RECEIVE };

/* Returns an owned transfer that holds its own references; NULL = no memory. */
lc_xfer *lc_xfer_new(lc_target *target, lc_headers *headers);
/* Sets the method word; LC_ERR_PARSE unless it is a token of 1 to 23 bytes (RFC 9110 5.6.2). */
lc_rc lc_xfer_set_method(lc_xfer *x, const char *name, size_t len);
/* The names of the methods that lc_method knows. */
extern const char lc_method_names[LC_OTHER][8];
void lc_xfer_set_known_method(lc_xfer *x, lc_method method);
/* Into its pool's queue. LC_ERR_STATE when the pool is closed. */
lc_rc lc_xfer_submit(lc_xfer *x);
/* The owner is gone; what runs is stopped at the next step. */
void lc_xfer_drop(lc_xfer *x);
void lc_xfer_drop_foreign(lc_xfer *x);
/* Takes it out of whatever it is in and makes it DONE. */
void lc_xfer_finish(lc_xfer *x, lc_reason reason, CURLcode code);
/* Recycles it. It must be DONE or NEW and in no list; `body_owner` let go. */
void lc_xfer_free(lc_xfer *x);
/* Frees the reactor's recycled ones. */
void lc_xfer_free_spares(lc_reactor *r);

/* Stream: the owner took bytes from `in`; lets libcurl go on if it was paused. */
void lc_xfer_resume(lc_xfer *x);
/* Upload: more bytes; `eof` ends the body. */
lc_rc lc_xfer_feed(lc_xfer *x, const char *bytes, size_t len, int eof);

/* Asks libcurl for the times so far; the transfer must have a slot. */
void lc_xfer_collect_times(lc_xfer *x);
/* Its timer fired. */
void lc_xfer_expired(lc_xfer *x);
/* Sets the timer to its next deadline. */
void lc_xfer_rearm(lc_xfer *x);
/* Of a stream: fails as LC_END_IDLE unless bytes of the body come within `wait` ns (0 = no such limit). `read`
   >= 0 is the read time-out from now on. 1: the reactor must step, to wake up sooner than it had planned. */
int lc_xfer_await_bytes(lc_xfer *x, int64_t wait, int64_t read);
/* Puts `news` on the reactor's list. */
void lc_xfer_tell(lc_xfer *x, unsigned news);

/* From libcurl's callbacks. */
size_t lc_xfer_on_body(lc_xfer *x, const char *data, size_t len);
size_t lc_xfer_on_header(lc_xfer *x, const char *line, size_t len);
size_t lc_xfer_on_read(lc_xfer *x, char *out, size_t room);
void lc_xfer_on_resolved(lc_xfer *x);
void lc_xfer_on_connected(lc_xfer *x);
/* RFC 9110 9.2.2. */
int lc_xfer_idempotent(const lc_xfer *x);
/* 1 when the request may be sent again, its kept connection having died: libcurl is about to. */
int lc_xfer_may_replay(lc_xfer *x);
/* The same where libcurl gives up, the HTTP/2 session being over (GOAWAY was read, or the end of the connection). */
int lc_xfer_may_resend(lc_xfer *x, CURLcode code);

#endif
