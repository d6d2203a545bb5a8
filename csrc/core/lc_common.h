/* lc_common.h - result codes and small macros shared by all of csrc/core.
 *
 * Job: the vocabulary of the core. Not its job: anything with behaviour.
 * Used by: every file of csrc/core and csrc/py. Threads: no state, any thread.
 */
#ifndef LC_COMMON_H
#define LC_COMMON_H

#include <stddef.h>
#include <stdint.h>

/* Result of a core function. Zero and above: fine; below zero: an error. */
typedef enum lc_rc {
  LC_OK = 0,
  LC_AGAIN = 1,        /* nothing to do now, call again after more input */
  LC_EOF = 2,          /* no more will come */
  LC_ERR_NOMEM = -1,   /* an allocation failed */
  LC_ERR_LIMIT = -2,   /* a ceiling given at init would be crossed */
  LC_ERR_CURL = -3,    /* libcurl refused; the caller has the CURLcode */
  LC_ERR_SYS = -4,     /* a system call failed; errno tells */
  LC_ERR_STATE = -5,   /* not allowed in this state */
  LC_ERR_PARSE = -6    /* input is not of the expected form */
} lc_rc;

#define LC_LIKELY(x) __builtin_expect(!!(x), 1)
#define LC_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define LC_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The struct of type `type` whose field `member` lies at `ptr`. */
#define LC_CONTAINER_OF(ptr, type, member) \
  ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#ifdef LC_DEBUG
#include <assert.h>
#define LC_ASSERT(x) assert(x)
#else
#define LC_ASSERT(x) ((void)0)
#endif

#endif
