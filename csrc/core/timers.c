/* timers.c - see timers.h. */
#include "timers.h"

#include "evset.h"
#include "lc_alloc.h"

#include <string.h>

#define FIRST_PLACES 64

void lc_timers_init(lc_timers *t)
{
  memset(t, 0, sizeof(*t));
}

void lc_timers_free(lc_timers *t)
{
  LC_ASSERT(t->count == 0);
  lc_free(t->heap);
  lc_timers_init(t);
}

void lc_timer_init(lc_timer *timer, uint8_t kind)
{
  timer->due = timer->want = LC_NEVER;
  timer->pos = 0;
  timer->kind = kind;
}

static void place(lc_timers *t, uint32_t i, lc_timer *timer)
{
  t->heap[i] = timer;
  timer->pos = i + 1;
}

static void sift_up(lc_timers *t, uint32_t i)
{
  lc_timer *timer = t->heap[i];
  while(i) {
    uint32_t parent = (i - 1) / 2;
    if(t->heap[parent]->due <= timer->due)
      break;
    place(t, i, t->heap[parent]);
    i = parent;
  }
  place(t, i, timer);
}

static void sift_down(lc_timers *t, uint32_t i)
{
  lc_timer *timer = t->heap[i];
  for(;;) {
    uint32_t child = 2 * i + 1;
    if(child >= t->count)
      break;
    if(child + 1 < t->count && t->heap[child + 1]->due < t->heap[child]->due)
      child++;
    if(timer->due <= t->heap[child]->due)
      break;
    place(t, i, t->heap[child]);
    i = child;
  }
  place(t, i, timer);
}

lc_rc lc_timers_reserve(lc_timers *t, uint32_t n)
{
  uint32_t cap = t->cap ? t->cap : FIRST_PLACES;
  while(cap < t->reserved + n)
    cap *= 2;
  if(cap > t->cap) {
    lc_timer **heap = lc_realloc(t->heap, cap * sizeof(*heap));
    if(!heap)
      return LC_ERR_NOMEM;
    t->heap = heap;
    t->cap = cap;
  }
  t->reserved += n;
  return LC_OK;
}

void lc_timers_release(lc_timers *t, uint32_t n)
{
  LC_ASSERT(t->reserved >= n && t->count <= t->reserved - n);
  t->reserved -= n;
}

void lc_timer_set(lc_timers *t, lc_timer *timer, int64_t due)
{
  timer->want = due;
  if(timer->pos) {
    if(due < timer->due) {
      timer->due = due;
      sift_up(t, timer->pos - 1);
    }
    return; /* later than before: put right when the old time comes */
  }
  if(due == LC_NEVER)
    return;
  LC_ASSERT(t->count < t->reserved);
  timer->due = due;
  t->heap[t->count] = timer;
  sift_up(t, t->count++);
}

void lc_timer_clear(lc_timer *timer)
{
  timer->want = LC_NEVER;
}

void lc_timer_remove(lc_timers *t, lc_timer *timer)
{
  uint32_t i;
  lc_timer *last;

  timer->want = LC_NEVER;
  if(!timer->pos)
    return;
  i = timer->pos - 1;
  timer->pos = 0;
  last = t->heap[--t->count];
  if(last == timer)
    return;
  place(t, i, last);
  sift_up(t, i);
  sift_down(t, last->pos - 1);
}

lc_timer *lc_timers_pop(lc_timers *t, int64_t now)
{
  while(t->count && t->heap[0]->due <= now) {
    lc_timer *timer = t->heap[0];
    if(timer->want <= now) {
      lc_timer_remove(t, timer);
      return timer;
    }
    if(timer->want == LC_NEVER)
      lc_timer_remove(t, timer);
    else {
      timer->due = timer->want;
      sift_down(t, 0);
    }
  }
  return NULL;
}

int64_t lc_timers_next(const lc_timers *t)
{
  return t->count ? t->heap[0]->due : LC_NEVER;
}
