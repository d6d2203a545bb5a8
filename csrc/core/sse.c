/* sse.c - see sse.h.
 *
 * While bytes are fed, the parts of an event (data, type, id) point into them,
 * or into `line` when that line began in an earlier call. What is still open
 * when the bytes end is copied to the parts' own buffers, so nothing borrowed
 * outlives a call.
 */
#include "sse.h"

#include <string.h>

#define SSE_KEEP 4096 /* bytes of memory each buffer keeps over a reset */

static const char sse_bom[3] = {'\xEF', '\xBB', '\xBF'};

static void part_clear(lc_sse_part *part)
{
  part->at = "";
  part->len = 0;
  part->set = 0;
}

void lc_sse_init(lc_sse *p, size_t max, unsigned flags)
{
  memset(p, 0, sizeof(*p));
  lc_buf_init(&p->line, max ? max : 1); /* a comment's colon is kept */
  lc_buf_init(&p->data.own, max);
  lc_buf_init(&p->type.own, max);
  lc_buf_init(&p->id.own, max);
  lc_buf_init(&p->last_id, max);
  p->max = max;
  p->flags = flags;
  p->retry = p->event_retry = -1;
  part_clear(&p->data);
  part_clear(&p->type);
  part_clear(&p->id);
}

void lc_sse_reset(lc_sse *p)
{
  lc_buf_reset(&p->line, SSE_KEEP);
  lc_buf_reset(&p->data.own, SSE_KEEP);
  lc_buf_reset(&p->type.own, SSE_KEEP);
  lc_buf_reset(&p->id.own, SSE_KEEP);
  lc_buf_reset(&p->last_id, SSE_KEEP);
  part_clear(&p->data);
  part_clear(&p->type);
  part_clear(&p->id);
  p->retry = p->event_retry = -1;
  p->events = 0;
  p->bom = p->skip_lf = p->failed = p->done = 0;
}

void lc_sse_free(lc_sse *p)
{
  lc_buf_free(&p->line);
  lc_buf_free(&p->data.own);
  lc_buf_free(&p->type.own);
  lc_buf_free(&p->id.own);
  lc_buf_free(&p->last_id);
  lc_sse_init(p, p->max, p->flags);
}

/* Copies what the part borrows into its own buffer. */
static lc_rc part_own(lc_sse_part *part)
{
  lc_rc rc;

  if(!part->len || part->at == lc_buf_data(&part->own))
    return LC_OK;
  lc_buf_reset(&part->own, SIZE_MAX);
  rc = lc_buf_append(&part->own, part->at, part->len);
  if(!rc)
    part->at = lc_buf_data(&part->own);
  return rc;
}

static void part_set(lc_sse_part *part, const char *value, size_t len)
{
  part->at = value;
  part->len = len;
  part->set = 1;
}

static lc_rc data_field(lc_sse *p, const char *value, size_t len)
{
  lc_sse_part *data = &p->data;
  lc_rc rc;

  if(!data->set) {
    part_set(data, value, len);
    return LC_OK;
  }
  /* a further line: only now the data need a place of their own */
  if(!data->len)
    lc_buf_reset(&data->own, SIZE_MAX);
  rc = part_own(data);
  if(!rc)
    rc = lc_buf_append(&data->own, "\n", 1);
  if(!rc)
    rc = lc_buf_append(&data->own, value, len);
  data->at = lc_buf_data(&data->own);
  data->len = lc_buf_len(&data->own);
  return rc;
}

static void retry_field(lc_sse *p, const char *value, size_t len)
{
  int64_t n = 0;
  size_t i;

  for(i = 0; i < len; i++) {
    int digit = value[i] - '0';
    if(digit < 0 || digit > 9)
      return;
    n = n > (INT64_MAX - digit) / 10 ? INT64_MAX : n * 10 + digit;
  }
  if(len)
    p->retry = p->event_retry = n;
}

/* A line that is not blank, without its end. */
static lc_rc field(lc_sse *p, const char *line, size_t len)
{
  const char *colon, *value;
  size_t name_len, value_len;
  lc_rc rc = LC_OK;

  if(LC_LIKELY(len > 5 && !memcmp(line, "data:", 5)))
    colon = line + 4;
  else
    colon = memchr(line, ':', len);
  name_len = colon ? (size_t)(colon - line) : len;
  value = colon ? colon + 1 : line + len;
  value_len = len - (size_t)(value - line);
  if(value_len && *value == ' ') {
    value++;
    value_len--;
  }
  if(name_len == 4 && !memcmp(line, "data", 4))
    rc = data_field(p, value, value_len);
  else if(name_len == 5 && !memcmp(line, "event", 5))
    part_set(&p->type, value, value_len);
  else if(name_len == 2 && !memcmp(line, "id", 2)) {
    if(!value_len || !memchr(value, '\0', value_len))
      part_set(&p->id, value, value_len);
  }
  else if(name_len == 5 && !memcmp(line, "retry", 5))
    retry_field(p, value, value_len);
  if(!rc && p->data.len + p->type.len + p->id.len > p->max)
    rc = LC_ERR_LIMIT;
  return rc;
}

/* A blank line: the event is complete. */
static lc_rc dispatch(lc_sse *p, lc_sse_sink sink, void *ctx, unsigned flushed)
{
  lc_sse_event ev;
  int stop = 0;

  if(p->id.set) {
    lc_rc rc;
    lc_buf_reset(&p->last_id, SIZE_MAX);
    rc = lc_buf_append(&p->last_id, p->id.at, p->id.len);
    if(rc)
      return rc;
    part_clear(&p->id);
  }
  if(p->data.set) {
    ev.data = p->data.at;
    ev.data_len = p->data.len;
    ev.type = p->type.at;
    ev.type_len = p->type.len;
    ev.id = lc_buf_data(&p->last_id);
    ev.id_len = lc_buf_len(&p->last_id);
    ev.retry = p->event_retry;
    ev.flushed = flushed & 1u;
    p->events++;
    stop = sink(ctx, &ev);
    part_clear(&p->data);
  }
  part_clear(&p->type);
  p->event_retry = -1;
  return (lc_rc)stop;
}

/* The bytes have run out inside an event: nothing may point into them. */
static lc_rc own_parts(lc_sse *p)
{
  lc_rc rc = part_own(&p->data);
  if(!rc)
    rc = part_own(&p->type);
  if(!rc)
    rc = part_own(&p->id);
  return rc;
}

/* Keeps the start of a line. Of a comment only the colon. */
static lc_rc keep_line(lc_sse *p, const char *bytes, size_t len)
{
  size_t have = lc_buf_len(&p->line);

  if(!len || (have && *lc_buf_data(&p->line) == ':'))
    return LC_OK;
  if(!have && *bytes == ':')
    len = 1;
  return lc_buf_append(&p->line, bytes, len);
}

/* Passes the BOM at the start of the stream; returns how many bytes it took. */
static lc_rc skip_bom(lc_sse *p, const char *bytes, size_t len, size_t *taken)
{
  size_t i = 0;
  unsigned seen;

  while(i < len && p->bom < 3 && bytes[i] == sse_bom[p->bom]) {
    p->bom = (p->bom + 1u) & 3u;
    i++;
  }
  *taken = i;
  if(p->bom == 3 || i == len)
    return LC_OK;
  /* it was none: what an earlier call took of it begins the first line */
  seen = p->bom;
  p->bom = 3;
  *taken = 0;
  return lc_buf_append(&p->line, sse_bom, seen - i);
}

/* One whole line, which may have begun in an earlier call. */
static lc_rc whole_line(lc_sse *p, const char *line, size_t len,
                        lc_sse_sink sink, void *ctx)
{
  if(LC_UNLIKELY(lc_buf_len(&p->line))) {
    lc_rc rc = keep_line(p, line, len);
    if(rc)
      return rc;
    line = lc_buf_data(&p->line);
    len = lc_buf_len(&p->line);
    /* emptied, yet its bytes stay until a line is kept again */
    lc_buf_reset(&p->line, SIZE_MAX);
  }
  if(!len)
    return dispatch(p, sink, ctx, 0);
  if(*line == ':')
    return LC_OK;
  if(len > p->max)
    return LC_ERR_LIMIT;
  return field(p, line, len);
}

static lc_rc feed(lc_sse *p, const char *at, const char *end, lc_sse_sink sink,
                  void *ctx)
{
  /* the next LF and CR; each is looked for only once it is passed, so that a
     stream with just one of them is not scanned over and over */
  const char *lf = NULL, *cr = NULL;
  lc_rc rc = LC_OK;

  if(p->skip_lf && at < end) {
    p->skip_lf = 0;
    if(*at == '\n')
      at++;
  }
  while(at < end) {
    const char *line = at, *eol;
    if(!lf || lf < at) {
      lf = memchr(at, '\n', (size_t)(end - at));
      if(!lf)
        lf = end;
    }
    if(!cr || cr < at) {
      cr = memchr(at, '\r', (size_t)(end - at));
      if(!cr)
        cr = end;
    }
    eol = lf < cr ? lf : cr;
    if(eol == end)
      break;
    at = eol + 1;
    if(eol == cr) {
      if(at == end)
        p->skip_lf = 1;
      else if(*at == '\n')
        at++;
    }
    rc = whole_line(p, line, (size_t)(eol - line), sink, ctx);
    if(rc)
      return rc;
  }
  rc = own_parts(p);
  if(!rc && at < end)
    rc = keep_line(p, at, (size_t)(end - at));
  return rc;
}

lc_rc lc_sse_feed(lc_sse *p, const char *bytes, size_t len, lc_sse_sink sink,
                  void *ctx)
{
  size_t taken = 0;
  lc_rc rc = LC_OK;

  if(p->failed || p->done)
    return LC_ERR_STATE;
  if(!len)
    return LC_OK;
  if(LC_UNLIKELY(p->bom < 3))
    rc = skip_bom(p, bytes, len, &taken);
  if(!rc)
    rc = feed(p, bytes + taken, bytes + len, sink, ctx);
  if(rc)
    p->failed = 1;
  return rc;
}

lc_rc lc_sse_finish(lc_sse *p, lc_sse_sink sink, void *ctx)
{
  lc_rc rc = LC_OK;

  if(p->failed || p->done)
    return LC_ERR_STATE;
  p->done = 1;
  if(!(p->flags & LC_SSE_FLUSH_AT_EOF))
    return LC_OK;
  if(lc_buf_len(&p->line))
    rc = whole_line(p, "", 0, sink, ctx);
  if(!rc && p->data.set)
    rc = dispatch(p, sink, ctx, 1);
  return rc;
}
