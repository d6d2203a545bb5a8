/* evset.h - the only file pair that knows epoll, timerfd and eventfd.
 *
 * Job: one pollable fd that stands for many sockets, one timer and one
 * cross-thread wake-up. Not its job: what the readiness means. A kqueue port
 * replaces evset.c and nothing else. Used by: reactor, socks.
 * Threads: all calls from the reactor's thread, but lc_evset_wake from any.
 */
#ifndef LC_EVSET_H
#define LC_EVSET_H

#include "lc_common.h"

enum { LC_EV_IN = 1, LC_EV_OUT = 2, LC_EV_HUP = 4, LC_EV_ERR = 8 };

typedef struct lc_ready {
  uint64_t tag;    /* as given to lc_evset_add */
  unsigned events; /* LC_EV_* */
} lc_ready;

typedef struct lc_evset {
  int epfd;
  int timerfd;
  int wakefd;
  int64_t armed; /* ns the timer is set to, LC_NEVER when it is not */
} lc_evset;

#define LC_NEVER INT64_MAX

/* Monotonic clock in nanoseconds. */
int64_t lc_now(void);

/* LC_ERR_SYS with errno when a descriptor cannot be had; nothing stays open. */
lc_rc lc_evset_init(lc_evset *ev);
/* Closes its own descriptors, never those registered. */
void lc_evset_close(lc_evset *ev);
/* `mask` is of LC_EV_IN and LC_EV_OUT; a peer's close is reported with IN.
 * A mask of 0 keeps the fd registered but reports errors only. */
lc_rc lc_evset_add(lc_evset *ev, int fd, unsigned mask, uint64_t tag);
lc_rc lc_evset_mod(lc_evset *ev, int fd, unsigned mask, uint64_t tag);
void lc_evset_del(lc_evset *ev, int fd);
/* Fills `out` with what is ready now, without waiting. Timer and wake-up are
 * swallowed here. Returns how many, 0 when none. */
int lc_evset_poll(lc_evset *ev, lc_ready *out, int max);
/* The tags of what is ready now, but for timer and wake-up; takes nothing away. Any thread. */
int lc_evset_peek(lc_evset *ev, uint64_t *tags, int max);
/* Sets the timer to the absolute time `due`, or turns it off with LC_NEVER. */
lc_rc lc_evset_arm(lc_evset *ev, int64_t due);
/* Makes the epoll fd readable. Any thread. */
void lc_evset_wake(lc_evset *ev);

#endif
