/* fuzz.h - what the fuzz targets of csrc/core share.
 *
 * Job: the entry point's name, a log to compare two runs by, a check that
 * stops the fuzzer. Not its job: running; one target is built and run so:
 *   clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -Icsrc/core \
 *     tests/core/fuzz_X.c csrc/core/{buf,lc_alloc,head,sse,ndjson,delta,json_scan}.c
 *   ./a.out -max_total_time=60 new_inputs/ tests/core/corpus/X/
 * (delta: with -dict=tests/core/corpus/delta.dict too)
 * Used by: tests/core/fuzz_*.c, one program each. Threads: one.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                            \
  do {                                                                        \
    if(!(cond)) {                                                             \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);              \
      abort();                                                                \
    }                                                                         \
  } while(0)

struct log {
  unsigned char bytes[1 << 18];
  size_t len;
};

static inline void log_put(struct log *l, const void *bytes, size_t len)
{
  MUST(len <= sizeof(l->bytes) - l->len);
  if(len)
    memcpy(l->bytes + l->len, bytes, len);
  l->len += len;
}

/* Length first, so that no two lists of fields look alike. */
static inline void log_field(struct log *l, const void *bytes, size_t len)
{
  uint32_t n = (uint32_t)len;
  log_put(l, &n, sizeof(n));
  log_put(l, bytes, len);
}

static inline int log_same(const struct log *a, const struct log *b)
{
  return a->len == b->len && !memcmp(a->bytes, b->bytes, a->len);
}

/* A copy that ends where its block ends; free() it. */
static inline char *fuzz_copy(const void *bytes, size_t len)
{
  char *copy = malloc(len ? len : 1);
  MUST(copy != NULL);
  if(len)
    memcpy(copy, bytes, len);
  return copy;
}

#endif
