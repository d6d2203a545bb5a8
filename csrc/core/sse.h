/* sse.h - push parser for text/event-stream, by the WHATWG rules.
 *
 * Job: bytes in, events out to a sink; state is kept over any split of the
 * input. An event that lies wholly inside the bytes fed, with one data line,
 * is handed out without a copy. Not its job: decoding (bytes pass as they are,
 * NUL and broken UTF-8 too), reconnecting, I/O.
 * Used by: csrc/py streams. Threads: one owner at a time.
 */
#ifndef LC_SSE_H
#define LC_SSE_H

#include "buf.h"

/* All pointers are borrowed: valid only inside the sink. */
typedef struct lc_sse_event {
  const char *data;     /* lines joined by LF; not NUL-terminated */
  size_t data_len;
  const char *type;     /* of the `event` field; empty means "message" */
  size_t type_len;
  const char *id;       /* the last event id in force */
  size_t id_len;
  int64_t retry;        /* ms, if this event had a `retry` field; else -1 */
  unsigned flushed : 1; /* the input ended before the blank line: the last
                           line of data may be cut short */
} lc_sse_event;

/* Zero goes on. Anything else (an lc_rc below zero by custom) stops the
 * parser, and is what feed or finish returns. Must not call the parser. */
typedef int (*lc_sse_sink)(void *ctx, const lc_sse_event *ev);

#define LC_SSE_FLUSH_AT_EOF 1u /* finish hands out an event whose blank line is
                                  missing (by the rules it is dropped) */

typedef struct lc_sse_part { /* private */
  const char *at;  /* into the input, `line` or `own` */
  size_t len;
  lc_buf own;
  unsigned set : 1;
} lc_sse_part;

typedef struct lc_sse {
  int64_t retry;    /* last `retry` of the stream in ms, -1: none */
  uint64_t events;  /* handed out */
  /* private */
  lc_buf line;      /* start of a line whose end is not here yet */
  lc_sse_part data, type, id; /* of the event being read */
  lc_buf last_id;
  int64_t event_retry;
  size_t max;
  unsigned flags;
  unsigned bom : 2; /* bytes of the BOM seen; 3: past it, or there is none */
  unsigned skip_lf : 1; /* the last byte was CR */
  unsigned failed : 1;
  unsigned done : 1;
} lc_sse;

/* At most `max` bytes in one line (comments do not count) and in data, type
 * and id of one event together; no buffer of the five grows past it. Allocates
 * nothing. `flags`: LC_SSE_FLUSH_AT_EOF or 0. */
void lc_sse_init(lc_sse *p, size_t max, unsigned flags);
/* As after init with the same ceiling and flags; keeps small buffers. */
void lc_sse_reset(lc_sse *p);
void lc_sse_free(lc_sse *p);
/* Parses `len` bytes. LC_OK, LC_ERR_LIMIT, LC_ERR_NOMEM, the sink's non-zero
 * value; after any of these errors, and after finish, only LC_ERR_STATE. */
lc_rc lc_sse_feed(lc_sse *p, const char *bytes, size_t len, lc_sse_sink sink,
                  void *ctx);
/* The input has ended. Calls the sink at most once. Returns as feed does. */
lc_rc lc_sse_finish(lc_sse *p, lc_sse_sink sink, void *ctx);
/* The last event id, as a reconnect would send it (the id of an event that was
 * cut off does not count). Borrowed: valid until the next call. */
static inline const char *lc_sse_last_id(const lc_sse *p, size_t *len)
{
  *len = lc_buf_len(&p->last_id);
  return lc_buf_data(&p->last_id);
}

#endif
