/* buf.h - growable bytes with a ceiling that is named at init.
 *
 * Job: append, consume from the front, take all. Not its job: parsing.
 * Used by: xfer (header block, body), sse, ndjson. Threads: one owner at a time.
 */
#ifndef LC_BUF_H
#define LC_BUF_H

#include "lc_common.h"

typedef struct lc_buf {
  char *data;   /* owned; NULL until the first append */
  size_t start; /* bytes before it are consumed */
  size_t end;   /* bytes from it on are free */
  size_t cap;   /* bytes allocated */
  size_t max;   /* ceiling of end - start */
} lc_buf;

/* Starts empty; holds at most `max` bytes. Allocates nothing. */
void lc_buf_init(lc_buf *b, size_t max);
/* Frees the memory; the buffer is as after lc_buf_init with the same ceiling. */
void lc_buf_free(lc_buf *b);
/* Empties the buffer. Keeps its memory unless it is larger than `keep` bytes. */
void lc_buf_reset(lc_buf *b, size_t keep);
/* Appends `len` bytes. LC_ERR_LIMIT past the ceiling, LC_ERR_NOMEM; the
 * contents are unchanged on error. */
lc_rc lc_buf_append(lc_buf *b, const void *bytes, size_t len);
/* Makes room for `len` more bytes (a hint: one allocation instead of many). */
lc_rc lc_buf_reserve(lc_buf *b, size_t len);
/* Drops `len` bytes from the front; `len` must not exceed lc_buf_len. */
void lc_buf_consume(lc_buf *b, size_t len);

static inline size_t lc_buf_len(const lc_buf *b)
{
  return b->end - b->start;
}

/* Borrowed: valid until the buffer changes. */
static inline const char *lc_buf_data(const lc_buf *b)
{
  return b->data ? b->data + b->start : "";
}

#endif
