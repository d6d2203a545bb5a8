/* watch.h - notices that a loop does not serve its reactor.
 *
 * Job: one thread looks at all reactors of an interpreter twenty times a second:
 * is the event set ready, and has no step been made since? From time to time it
 * wakes a reactor that has transfers and notes how long that takes (the lag).
 * Not its job: who is to blame (llmcurl._watch samples the loop's stack). Used by:
 * csrc/py/watch_obj.c; reactor.c and xfer.c, where it costs a comparison.
 * Threads: lc_watch_wait in the watcher's; lc_watch_served, lc_watch_rouse and
 * lc_watch_late in the reactor's; the rest in any. `lock` guards all that is shared.
 */
#ifndef LC_WATCH_H
#define LC_WATCH_H

#include "core.h"

enum { LC_LATE_NOW = 1, LC_LATE_OVER = 2 };

/* What lc_watch_wait saw. */
typedef struct lc_late {
  uint64_t token;       /* of the reactor */
  int64_t ns;           /* how long its events have waited, or had waited */
  unsigned long thread; /* that served it last, pthread_self() */
  int kind;             /* LC_LATE_* */
} lc_late;

/* Returns a watch with one reference; NULL without memory. */
lc_watch *lc_watch_new(void);
void lc_watch_unref(lc_watch *w);
/* From now on events that wait longer than `threshold` ns are told. Returns the reactor's token, a
 * second time the same one with the smaller threshold; 0 if another watch has it. */
uint64_t lc_watch_add(lc_watch *w, lc_reactor *r, int64_t threshold);
/* The reactor's descriptors are about to be closed. May be repeated; in a forked child it only forgets. */
void lc_watch_remove(lc_reactor *r);
/* Sleeps until there is something to tell: 1. 0: no reactor is left, or lc_watch_stop. */
int lc_watch_wait(lc_watch *w, lc_late *out);
/* 1 while the reactor with this token is late, as lc_watch_wait has told. */
int lc_watch_late_now(lc_watch *w, uint64_t token);
/* How many reactors it has. */
unsigned lc_watch_count(lc_watch *w);
/* Ends lc_watch_wait, and those to come until it is called with 0. */
void lc_watch_stop(lc_watch *w, int stop);

/* Off the hot path: the watcher has left a note (r->noted) or is asleep (r->unwatched). */
void lc_watch_served(lc_reactor *r, int64_t now);
void lc_watch_rouse(lc_reactor *r);
/* ns that the socket with this tag had been ready when the step began, as far as the watcher saw. */
int64_t lc_watch_late(const lc_reactor *r, uint64_t tag);
/* The lag of `part` (0.5, 0.99) of the samples, in ns; the worst for 1. -1 without samples. */
int64_t lc_watch_lag(const lc_reactor *r, double part);

#endif
