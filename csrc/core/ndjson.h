/* ndjson.h - push parser for lines of JSON (NDJSON, JSON lines).
 *
 * Job: bytes in, lines out to a sink; state is kept over any split of the
 * input. A line that lies wholly inside the bytes fed is handed out without a
 * copy. Not its job: looking at the JSON, I/O.
 * Used by: csrc/py streams. Threads: one owner at a time.
 */
#ifndef LC_NDJSON_H
#define LC_NDJSON_H

#include "buf.h"

typedef struct lc_ndjson_line {
  const char *data;     /* borrowed, valid only inside the sink; no line end,
                           not NUL-terminated, never blank */
  size_t data_len;
  unsigned flushed : 1; /* the input ended before the line did: it may be cut */
} lc_ndjson_line;

/* Zero goes on. Anything else (an lc_rc below zero by custom) stops the
 * parser, and is what feed or finish returns. Must not call the parser. */
typedef int (*lc_ndjson_sink)(void *ctx, const lc_ndjson_line *line);

typedef struct lc_ndjson {
  uint64_t lines; /* handed out */
  /* private */
  lc_buf line;    /* start of a line whose end is not here yet */
  size_t max;
  unsigned failed : 1;
  unsigned done : 1;
} lc_ndjson;

/* Lines of at most `max` bytes, their end not counted. Allocates nothing. */
void lc_ndjson_init(lc_ndjson *p, size_t max);
/* As after init with the same ceiling; keeps a small buffer. */
void lc_ndjson_reset(lc_ndjson *p);
void lc_ndjson_free(lc_ndjson *p);
/* Parses `len` bytes. Lines end with LF or CRLF; blank ones (nothing but
 * spaces and tabs) are skipped. LC_OK, LC_ERR_LIMIT, LC_ERR_NOMEM, the sink's
 * non-zero value; after any of these errors, and after finish, only
 * LC_ERR_STATE. */
lc_rc lc_ndjson_feed(lc_ndjson *p, const char *bytes, size_t len,
                     lc_ndjson_sink sink, void *ctx);
/* The input has ended: hands out a last line without an end. Returns as feed
 * does. */
lc_rc lc_ndjson_finish(lc_ndjson *p, lc_ndjson_sink sink, void *ctx);

#endif
