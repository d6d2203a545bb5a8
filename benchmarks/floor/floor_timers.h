/* floor_timers.h - binary heap of deadlines, each owner has at most one.
 *
 * Job: set, clear, earliest. Not its job: clocks. Used by: floor.c.
 * Threads: one.
 */
#ifndef FLOOR_TIMERS_H
#define FLOOR_TIMERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct floor_timer {
  uint64_t at;   /* microseconds */
  size_t slot;   /* 1-based place in the heap; 0: not set */
} floor_timer;

typedef struct floor_timers {
  floor_timer **heap; /* owned array of borrowed timers, 1-based */
  size_t len, cap;
} floor_timers;

/* Sets or moves `t`; -1 when memory is out. */
int floor_timers_set(floor_timers *h, floor_timer *t, uint64_t at);
void floor_timers_clear(floor_timers *h, floor_timer *t);
/* NULL when none is set. */
floor_timer *floor_timers_first(const floor_timers *h);
void floor_timers_free(floor_timers *h);

#endif
