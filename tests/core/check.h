/* check.h - what the C tests of csrc/core share.
 *
 * Job: CHECK, a place for input whose end is the end of mapped memory (reading
 * on crashes), an allocator that fails on demand and counts what is not freed.
 * Not its job: finding and running tests (scripts/test_c.py).
 * Used by: tests/core/test_*.c, one program each, included first. Threads: one.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* MAP_ANONYMOUS under -std=c11 */
#endif

#include "lc_alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned long check_count, check_failed;
static const char *check_label = ""; /* what is being tried, for the report */

#define CHECK(cond)                                                           \
  do {                                                                        \
    check_count++;                                                            \
    if(!(cond) && check_failed++ < 20)                                        \
      printf("%s:%d: %s  [%s]\n", __FILE__, __LINE__, #cond, check_label);    \
  } while(0)

/* Prints the one line and gives main its exit code. */
static inline int check_done(const char *name)
{
  printf("%s: %lu checks, %lu failed\n", name, check_count, check_failed);
  return check_failed ? 1 : 0;
}

/* A string constant and its length, NULs inside included. */
#define LIT(s) (s), (sizeof(s) - 1)

#define GUARD_MAX ((size_t)1 << 20)

/* The first byte that must not be touched, behind GUARD_MAX writable ones. */
static inline char *guard_end(void)
{
  static char *end;
  if(!end) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, GUARD_MAX + page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if(map == MAP_FAILED || mprotect(map + GUARD_MAX, page, PROT_NONE))
      abort();
    end = map + GUARD_MAX;
  }
  return end;
}

/* Copies `len` bytes so that they end where memory ends. Valid until the next
 * call. */
static inline char *guard_put(const void *bytes, size_t len)
{
  char *at = guard_end() - len;
  if(len > GUARD_MAX)
    abort();
  if(len)
    memcpy(at, bytes, len);
  return at;
}

/* Overwrites what guard_put put there: nobody may still look at it. */
static inline void guard_scrub(size_t len)
{
  memset(guard_end() - len, 0x5A, len);
}

static long check_live;         /* blocks that are allocated */
static long check_allocs;       /* allocations tried */
static long check_fail_at = -1; /* the allocation that fails (0: the first) */

static inline int check_refuse(void)
{
  return check_allocs++ == check_fail_at;
}

static inline void *check_malloc(size_t size)
{
  void *p = check_refuse() ? NULL : malloc(size);
  check_live += p != NULL;
  return p;
}

static inline void *check_calloc(size_t count, size_t size)
{
  void *p = check_refuse() ? NULL : calloc(count, size);
  check_live += p != NULL;
  return p;
}

static inline void *check_realloc(void *ptr, size_t size)
{
  void *p = check_refuse() ? NULL : realloc(ptr, size);
  check_live += p && !ptr;
  return p;
}

static inline void check_free(void *ptr)
{
  check_live -= ptr != NULL;
  free(ptr);
}

/* From here on allocations are counted. */
static inline void check_alloc_on(void)
{
  static const lc_allocator counting = {check_malloc, check_calloc,
                                        check_realloc, check_free};
  lc_alloc_set(&counting);
}

/* Calls `run` with its first, second, ... allocation failing until it gets by
 * without a failure. `run` says whether it met LC_ERR_NOMEM and has freed all
 * it had. */
static inline void check_every_alloc(int (*run)(void *ctx), void *ctx)
{
  long n;
  for(n = 0; n < 1000; n++) {
    int failed;
    check_allocs = 0;
    check_fail_at = n;
    failed = run(ctx);
    check_fail_at = -1;
    CHECK(check_live == 0);
    CHECK(!!failed == (check_allocs > n));
    if(check_allocs <= n)
      return;
  }
  CHECK(!"no end of allocations");
}

#endif
