/* timers.h - deadlines of lanes and transfers in one lazy binary heap.
 *
 * Job: the next due time, and who is due. A timer moved later, or cleared,
 * stays where it is in the heap until its old time comes, and is then put
 * right: a recycled transfer with the same time-out costs no heap work at all.
 * Not its job: reading a clock. Used by: reactor, lane, xfer, pool.
 * Threads: the reactor's.
 */
#ifndef LC_TIMERS_H
#define LC_TIMERS_H

#include "lc_common.h"

typedef struct lc_timer {
  int64_t due;  /* place in the heap: never later than `want` */
  int64_t want; /* ns of the true deadline, LC_NEVER when off */
  uint32_t pos; /* 1-based place in the heap, 0 = not in it */
  uint8_t kind; /* the owner's: tells what struct the timer lies in */
} lc_timer;

typedef struct lc_timers {
  lc_timer **heap; /* owned array of borrowed timers: each removes itself before it is freed */
  uint32_t count;
  uint32_t cap;
  uint32_t reserved; /* timers that may be in it: never more than cap */
} lc_timers;

void lc_timers_init(lc_timers *t);
void lc_timers_free(lc_timers *t);
void lc_timer_init(lc_timer *timer, uint8_t kind);
/* Keeps places for `n` more timers, so that setting one cannot fail: a deadline
 * that could not be noted would be a call that never ends. LC_ERR_NOMEM, or 0. */
lc_rc lc_timers_reserve(lc_timers *t, uint32_t n);
/* Gives `n` places back; their timers were removed. */
void lc_timers_release(lc_timers *t, uint32_t n);
/* Sets the deadline. */
void lc_timer_set(lc_timers *t, lc_timer *timer, int64_t due);
/* Turns it off; it stays in the heap. */
void lc_timer_clear(lc_timer *timer);
/* Takes it out of the heap; afterwards its memory may go. */
void lc_timer_remove(lc_timers *t, lc_timer *timer);
/* Returns a timer whose deadline is at or before `now` (borrowed, turned off),
 * NULL when there is none. */
lc_timer *lc_timers_pop(lc_timers *t, int64_t now);
/* When to look again: never later than the next deadline. */
int64_t lc_timers_next(const lc_timers *t);

#endif
