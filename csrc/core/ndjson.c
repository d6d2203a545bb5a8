/* ndjson.c - see ndjson.h. */
#include "ndjson.h"

#include <string.h>

#define NDJSON_KEEP 4096 /* bytes of memory kept over a reset */

void lc_ndjson_init(lc_ndjson *p, size_t max)
{
  memset(p, 0, sizeof(*p));
  /* one more for a CR, which counts only if no LF follows it */
  lc_buf_init(&p->line, max < SIZE_MAX ? max + 1 : max);
  p->max = max;
}

void lc_ndjson_reset(lc_ndjson *p)
{
  lc_buf_reset(&p->line, NDJSON_KEEP);
  p->lines = 0;
  p->failed = p->done = 0;
}

void lc_ndjson_free(lc_ndjson *p)
{
  lc_buf_free(&p->line);
  lc_ndjson_init(p, p->max);
}

static int is_void(const char *line, size_t len)
{
  size_t i = 0;
  while(i < len && (line[i] == ' ' || line[i] == '\t'))
    i++;
  return i == len;
}

/* The rest of a line, without LF. */
static lc_rc whole_line(lc_ndjson *p, const char *line, size_t len,
                        lc_ndjson_sink sink, void *ctx, unsigned flushed)
{
  lc_ndjson_line out;

  if(LC_UNLIKELY(lc_buf_len(&p->line))) {
    lc_rc rc = lc_buf_append(&p->line, line, len);
    if(rc)
      return rc;
    line = lc_buf_data(&p->line);
    len = lc_buf_len(&p->line);
    /* emptied, yet its bytes stay until something is appended */
    lc_buf_reset(&p->line, SIZE_MAX);
  }
  if(len && line[len - 1] == '\r')
    len--;
  if(len > p->max)
    return LC_ERR_LIMIT;
  if(is_void(line, len))
    return LC_OK;
  out.data = line;
  out.data_len = len;
  out.flushed = flushed & 1u;
  p->lines++;
  return (lc_rc)sink(ctx, &out);
}

lc_rc lc_ndjson_feed(lc_ndjson *p, const char *bytes, size_t len,
                     lc_ndjson_sink sink, void *ctx)
{
  lc_rc rc = LC_OK;

  if(p->failed || p->done)
    return LC_ERR_STATE;
  while(len && !rc) {
    const char *lf = memchr(bytes, '\n', len);
    size_t n = lf ? (size_t)(lf - bytes) : len;
    if(lf) {
      rc = whole_line(p, bytes, n, sink, ctx, 0);
      n++;
    }
    else
      rc = lc_buf_append(&p->line, bytes, n);
    bytes += n;
    len -= n;
  }
  if(rc)
    p->failed = 1;
  return rc;
}

lc_rc lc_ndjson_finish(lc_ndjson *p, lc_ndjson_sink sink, void *ctx)
{
  lc_rc rc = LC_OK;

  if(p->failed || p->done)
    return LC_ERR_STATE;
  p->done = 1;
  if(lc_buf_len(&p->line))
    rc = whole_line(p, "", 0, sink, ctx, 1);
  return rc;
}
