/* spares.c - see spares.h. */
#include "spares.h"

#include "lc_alloc.h"

#include <string.h>

#define LEAST ((size_t)64 * 1024) /* below it malloc has memory of its own */
#define MOST ((size_t)32 * 1024 * 1024)
#define IDLE ((size_t)4 * 1024 * 1024)

static void keep(lc_spares *s, char *data, size_t cap)
{
  if(cap < LEAST || s->count == LC_SPARES || cap > MOST - s->bytes) {
    lc_free(data);
    return;
  }
  s->kept[s->count].data = data;
  s->kept[s->count].cap = cap;
  s->count++;
  s->bytes += cap;
}

static char *drop(lc_spares *s, size_t i)
{
  char *data = s->kept[i].data;
  s->bytes -= s->kept[i].cap;
  s->count--;
  memmove(&s->kept[i], &s->kept[i + 1], (s->count - i) * sizeof(s->kept[0]));
  return data;
}

void lc_spares_grow(lc_spares *s, lc_buf *b, size_t len, size_t want)
{
  size_t used = lc_buf_len(b);
  size_t i;

  if(len <= b->cap - b->end || len > b->max - used)
    return;
  if(want < used + len)
    want = used + len;
  if(want < LEAST)
    return;
  for(i = s->count; i-- > 0;) {
    size_t cap = s->kept[i].cap;
    char *old = b->data;
    size_t old_cap = b->cap;
    if(cap < want || cap / 4 > want)
      continue; /* too small, or a waste */
    b->data = drop(s, i);
    if(used)
      memcpy(b->data, old + b->start, used);
    b->start = 0;
    b->end = used;
    b->cap = cap;
    if(old)
      keep(s, old, old_cap);
    return;
  }
}

void lc_spares_give(lc_spares *s, lc_buf *b)
{
  if(b->data)
    keep(s, b->data, b->cap);
  lc_buf_init(b, b->max);
}

void lc_spares_trim(lc_spares *s, int all)
{
  while(s->count && (all || s->bytes > IDLE))
    lc_free(drop(s, 0)); /* the one that was used longest ago */
}
