/* spares.h - the memory of large answers, used again.
 *
 * Job: a buffer beyond 64 KiB comes from the kernel page by page, zeroed, and goes back to it: that costs more
 * than to fill it. What an answer leaves is kept for the next one: up to 32 MiB, and 4 MiB once no call is in
 * flight. Not its job: small bodies, for which malloc is good enough. Used by: xfer. Threads: the reactor's.
 */
#ifndef LC_SPARES_H
#define LC_SPARES_H

#include "buf.h"

#define LC_SPARES 32

typedef struct lc_spares {
  struct {
    char *data; /* owned */
    size_t cap;
  } kept[LC_SPARES]; /* the last one was used last: the likeliest to be in the processor's cache */
  size_t count;
  size_t bytes;
} lc_spares;

/* Before `len` bytes are appended: `b` grows into kept memory if it has to grow, to at least `want` bytes in
 * all, and some fits. If not it is left as it is. */
void lc_spares_grow(lc_spares *s, lc_buf *b, size_t len, size_t want);
/* Like lc_buf_free, but keeps the memory if that pays. */
void lc_spares_give(lc_spares *s, lc_buf *b);
/* Frees what is more than 4 MiB, or `all`. */
void lc_spares_trim(lc_spares *s, int all);

#endif
