/* buf.c - see buf.h. */
#include "buf.h"

#include "lc_alloc.h"

#include <string.h>

#define BUF_FIRST 256

void lc_buf_init(lc_buf *b, size_t max)
{
  memset(b, 0, sizeof(*b));
  b->max = max;
}

void lc_buf_free(lc_buf *b)
{
  size_t max = b->max;
  lc_free(b->data);
  lc_buf_init(b, max);
}

void lc_buf_reset(lc_buf *b, size_t keep)
{
  if(b->cap > keep)
    lc_buf_free(b);
  else
    b->start = b->end = 0;
}

lc_rc lc_buf_reserve(lc_buf *b, size_t len)
{
  size_t used = b->end - b->start;
  size_t want, cap;
  char *data;

  if(len > b->max - used)
    return LC_ERR_LIMIT;
  if(len <= b->cap - b->end)
    return LC_OK;
  /* moving the live bytes down is cheaper than growing when half is consumed */
  if(b->start && used + len <= b->cap && b->start >= used) {
    memmove(b->data, b->data + b->start, used);
    b->start = 0;
    b->end = used;
    return LC_OK;
  }
  want = used + len;
  cap = b->cap ? b->cap : want; /* the first is often all there will be */
  if(cap < BUF_FIRST)
    cap = BUF_FIRST;
  while(cap < want)
    cap = cap > SIZE_MAX / 2 ? want : cap * 2;
  if(cap > b->max)
    cap = b->max;
  data = lc_malloc(cap);
  if(!data)
    return LC_ERR_NOMEM;
  if(used)
    memcpy(data, b->data + b->start, used);
  lc_free(b->data);
  b->data = data;
  b->start = 0;
  b->end = used;
  b->cap = cap;
  LC_ASSERT(b->cap - b->end >= len);
  return LC_OK;
}

lc_rc lc_buf_append(lc_buf *b, const void *bytes, size_t len)
{
  lc_rc rc;
  if(!len)
    return LC_OK;
  rc = lc_buf_reserve(b, len);
  if(rc)
    return rc;
  memcpy(b->data + b->end, bytes, len);
  b->end += len;
  return LC_OK;
}

void lc_buf_consume(lc_buf *b, size_t len)
{
  LC_ASSERT(len <= lc_buf_len(b));
  b->start += len;
  if(b->start == b->end)
    b->start = b->end = 0;
}
