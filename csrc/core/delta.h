/* delta.h - lifts the text delta out of one chunk of a chat stream.
 *
 * Job: one pass over the JSON of a chunk, without building it: either the text
 * in it, or the certainty that it holds nothing, or "decode it in full".
 * Everything unforeseen is the last, so no token is lost to a shape that is
 * not known here. Not its job: framing (sse, ndjson), "[DONE]", tool calls,
 * reasoning, usage, errors: these are LC_DELTA_OTHER.
 * Used by: csrc/py streams. Threads: no state but the caller's buffer.
 */
#ifndef LC_DELTA_H
#define LC_DELTA_H

#include "buf.h"

typedef enum lc_delta_kind {
  LC_DELTA_OPENAI,    /* choices[0].delta.content, choice 0 only */
  LC_DELTA_ANTHROPIC, /* delta.text of a content_block_delta / text_delta */
  LC_DELTA_GEMINI,    /* candidates[0].content.parts[0].text, candidate 0 only */
  LC_DELTA_OLLAMA     /* message.content, not done */
} lc_delta_kind;

typedef enum lc_delta_rc {
  LC_DELTA_OTHER, /* not sure: decode it in full */
  LC_DELTA_TEXT,  /* a text, not empty, and nothing else for the user */
  LC_DELTA_EMPTY  /* well-formed, and nothing in it for the user */
} lc_delta_rc;

typedef struct lc_delta {
  const char *text;       /* valid UTF-8, may hold NUL; borrowed from the JSON,
                             or from `scratch` when it had escapes */
  size_t len;
  int index;              /* Anthropic's content block; else 0 */
  unsigned ascii : 1;     /* every byte of the text is below 0x80 */
  unsigned has_usage : 1; /* Gemini: usageMetadata came along (as it does in
                             every chunk); keep the last such chunk */
} lc_delta;

/* Scans `json`, which must be one JSON object and nothing else. `out` is filled
 * in for LC_DELTA_TEXT only; `scratch` is the caller's, is overwritten, and its
 * ceiling (or no memory) turns a text with escapes into LC_DELTA_OTHER.
 * Duplicate keys on the path, lone surrogates and broken UTF-8 in the text, and
 * nesting over 64 levels are LC_DELTA_OTHER. UTF-8 outside of the text is not
 * checked. */
lc_delta_rc lc_delta_scan(lc_delta_kind kind, const char *json, size_t len,
                          lc_buf *scratch, lc_delta *out);

#endif
