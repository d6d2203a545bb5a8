/* lc_alloc.h - the one door to the heap for csrc/core.
 *
 * Job: malloc and friends behind one table, so that a test can make the n-th
 * allocation fail. Not its job: pooling. Used by: every file of csrc/core.
 * Threads: the table is set before any thread starts and then only read.
 */
#ifndef LC_ALLOC_H
#define LC_ALLOC_H

#include <stddef.h>

typedef struct lc_allocator {
  void *(*malloc_fn)(size_t size);
  void *(*calloc_fn)(size_t count, size_t size);
  void *(*realloc_fn)(void *ptr, size_t size);
  void (*free_fn)(void *ptr);
} lc_allocator;

/* Replaces the table (tests only). NULL brings the C library's back. */
void lc_alloc_set(const lc_allocator *table);

void *lc_malloc(size_t size);
void *lc_calloc(size_t count, size_t size);
void *lc_realloc(void *ptr, size_t size);
void lc_free(void *ptr);
/* Returns an owned, NUL-terminated copy of `len` bytes, NULL when out of memory. */
char *lc_strndup(const char *text, size_t len);

#endif
