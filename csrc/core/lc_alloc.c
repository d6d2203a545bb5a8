/* lc_alloc.c - see lc_alloc.h. Names in parentheses are no macros: csrc/fault has
 * macros of these names. */
#include "lc_alloc.h"

#include <stdlib.h>
#include <string.h>

static const lc_allocator libc_table = {malloc, calloc, realloc, free};
static lc_allocator table = {malloc, calloc, realloc, free};

void lc_alloc_set(const lc_allocator *replacement)
{
  table = replacement ? *replacement : libc_table;
}

void *(lc_malloc)(size_t size)
{
  return table.malloc_fn(size);
}

void *(lc_calloc)(size_t count, size_t size)
{
  return table.calloc_fn(count, size);
}

void *(lc_realloc)(void *ptr, size_t size)
{
  return table.realloc_fn(ptr, size);
}

void lc_free(void *ptr)
{
  table.free_fn(ptr);
}

char *(lc_strndup)(const char *text, size_t len)
{
  char *copy = lc_malloc(len + 1);
  if(copy) {
    memcpy(copy, text, len);
    copy[len] = '\0';
  }
  return copy;
}
