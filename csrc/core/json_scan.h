/* json_scan.h - a cursor over JSON text that steps over values.
 *
 * Job: the grammar of JSON (RFC 8259) from a cursor onward, never past the end,
 * and the text behind a string's escapes. Not its job: a tree, numbers' values.
 * Used by: delta. Threads: no state but the caller's.
 */
#ifndef LC_JSON_SCAN_H
#define LC_JSON_SCAN_H

#include "buf.h"

#define LC_JSON_NESTING 64 /* levels of arrays and objects that are followed */

typedef struct lc_json {
  const char *at, *end;
} lc_json;

/* What a string holds. */
#define LC_JSON_ESCAPES 1u
#define LC_JSON_HIGH 2u /* bytes of 0x80 and above */

/* All of these return zero for bad grammar; where the cursor then stands does
 * not matter. */

/* Steps over the rest of a string whose opening quote is passed; the last byte
 * stepped over is the closing quote. UTF-8 is not checked. */
int lc_json_string(lc_json *j, unsigned *traits);
/* Steps over anything but an array or object. */
int lc_json_scalar(lc_json *j);
/* Steps over any value. */
int lc_json_skip(lc_json *j);
/* Steps over digits, at least one. */
int lc_json_digits(lc_json *j);
/* Steps over `word`, which has `len` bytes. */
int lc_json_literal(lc_json *j, const char *word, size_t len);

/* Replaces what `out` holds by the text behind the escapes of a string that
 * lc_json_string has passed (`at`, `len`: without its quotes). LC_ERR_PARSE for
 * half of a surrogate pair, else as lc_buf_append. Adds LC_JSON_HIGH to
 * `traits` if an escape stands for more than ASCII. */
lc_rc lc_json_unescape(const char *at, size_t len, lc_buf *out,
                       unsigned *traits);
/* Strict: no overlong forms, no surrogates, nothing above U+10FFFF. */
int lc_utf8_valid(const char *text, size_t len);

static inline void lc_json_space(lc_json *j)
{
  while(j->at < j->end && (unsigned char)*j->at <= ' ' &&
        (*j->at == ' ' || *j->at == '\n' || *j->at == '\r' || *j->at == '\t'))
    j->at++;
}

/* Steps over `c`. */
static inline int lc_json_eat(lc_json *j, char c)
{
  if(j->at == j->end || *j->at != c)
    return 0;
  j->at++;
  return 1;
}

/* The next byte, -1 at the end. */
static inline int lc_json_peek(const lc_json *j)
{
  return j->at < j->end ? (unsigned char)*j->at : -1;
}

#endif
