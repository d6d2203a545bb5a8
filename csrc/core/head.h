/* head.h - the final header block of one answer.
 *
 * Job: takes the lines of libcurl's header callback one by one and keeps the
 * block of the final answer: blocks of 1xx answers are dropped, a new status
 * line (redirect, proxy CONNECT, repeated authentication) starts afresh, and
 * trailers are ignored. Notes the few fields the core itself asks about.
 * Not its job: a table of headers (made in Python when it is asked for).
 * Used by: xfer. Threads: one owner at a time.
 */
#ifndef LC_HEAD_H
#define LC_HEAD_H

#include "buf.h"

typedef struct lc_head {
  lc_buf block;              /* status line first; each line ends with CRLF; no
                                blank line at the end; folded lines unfolded */
  int64_t content_length;    /* as the field says; -1: absent, not a number, or
                                two that differ */
  int status;                /* of `block`; 0 before there is one */
  int version;               /* 10, 11, 20, 30 */
  unsigned complete : 1;     /* the blank line of a final block was seen */
  unsigned has_encoding : 1; /* Content-Encoding other than identity */
  unsigned has_location : 1;
  unsigned has_set_cookie : 1;
  unsigned switching : 1;    /* it was refused for being a 101 */
  /* private */
  unsigned state : 2;
  unsigned length_seen : 1;
  unsigned length_bad : 1;
  size_t line_at;            /* where the last line begins in the block */
  size_t total;              /* bytes of all lines so far, 1xx answers and trailers included */
} lc_head;

/* Starts empty. At most `max` bytes of lines are taken in all: a server that goes
 * on with 1xx answers or trailers for ever comes to an end. Allocates nothing. */
void lc_head_init(lc_head *h, size_t max);
/* Ready for the next answer. Keeps the memory if it is at most 4 KB. */
void lc_head_reset(lc_head *h);
/* Frees the memory; as after lc_head_init with the same ceiling. */
void lc_head_free(lc_head *h);
/* One line as libcurl gives it, with or without its line end.
 * LC_OK; LC_EOF when it was the blank line of a block that is not 1xx (a
 * redirect or CONNECT answer says so too: the next status line opens a new
 * block, and `block` changes with it); LC_ERR_LIMIT, LC_ERR_NOMEM;
 * LC_ERR_PARSE when a status line is due and this is none, or a 101: what follows is
 * no HTTP, and nobody here has asked for it. */
lc_rc lc_head_line(lc_head *h, const char *line, size_t len);

#endif
