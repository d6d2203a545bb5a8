/* floor_timers.c - binary heap of deadlines, each owner has at most one.
 *
 * Job: set, clear, earliest. Not its job: clocks. Used by: floor.c.
 * Threads: one.
 */
#include "floor_timers.h"

#include <stdlib.h>

static void put(floor_timers *h, size_t slot, floor_timer *t)
{
  h->heap[slot] = t;
  t->slot = slot;
}

static void sift(floor_timers *h, size_t slot, floor_timer *t)
{
  while(slot > 1 && h->heap[slot / 2]->at > t->at) {
    put(h, slot, h->heap[slot / 2]);
    slot /= 2;
  }
  for(;;) {
    size_t child = slot * 2;
    if(child > h->len)
      break;
    if(child < h->len && h->heap[child + 1]->at < h->heap[child]->at)
      child++;
    if(h->heap[child]->at >= t->at)
      break;
    put(h, slot, h->heap[child]);
    slot = child;
  }
  put(h, slot, t);
}

int floor_timers_set(floor_timers *h, floor_timer *t, uint64_t at)
{
  t->at = at;
  if(!t->slot) {
    if(h->len + 1 >= h->cap) {
      const size_t cap = h->cap ? h->cap * 2 : 64;
      floor_timer **heap = realloc(h->heap, cap * sizeof(*heap));
      if(!heap)
        return -1;
      h->heap = heap;
      h->cap = cap;
    }
    t->slot = ++h->len;
    h->heap[t->slot] = t;
  }
  sift(h, t->slot, t);
  return 0;
}

void floor_timers_clear(floor_timers *h, floor_timer *t)
{
  const size_t slot = t->slot;
  floor_timer *last;
  if(!slot)
    return;
  t->slot = 0;
  last = h->heap[h->len--];
  if(last != t)
    sift(h, slot, last);
}

floor_timer *floor_timers_first(const floor_timers *h)
{
  return h->len ? h->heap[1] : NULL;
}

void floor_timers_free(floor_timers *h)
{
  free(h->heap);
  h->heap = NULL;
  h->len = h->cap = 0;
}
