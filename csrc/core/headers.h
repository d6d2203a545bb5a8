/* headers.h - request header lists, made ready once and shared by many calls.
 *
 * Job: a counted curl_slist. Not its job: what a line must look like (pool_obj
 * checks). Used by: csrc/py, slot, xfer. Threads: the count is atomic: the last
 * reference may go on any thread.
 */
#ifndef LC_HEADERS_H
#define LC_HEADERS_H

#include "core.h"

/* Returns an owned, empty list; NULL = no memory. */
lc_headers *lc_headers_new(void);
/* Adds one line "Name: value" (NUL-terminated). "expect:" must come first, if at all. */
lc_rc lc_headers_add(lc_headers *h, const char *line);
lc_headers *lc_headers_ref(lc_headers *h);
void lc_headers_unref(lc_headers *h);

#endif
