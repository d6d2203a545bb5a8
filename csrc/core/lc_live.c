/* lc_live.c - see lc_live.h. */
#include "lc_live.h"

#include <stdatomic.h>

static atomic_long counts[LC_LIVE_KINDS];

static const char *const names[LC_LIVE_KINDS] = {"reactor", "pool", "origin", "lane", "slot", "xfer", "target", "headers", "call", "stream"};

void lc_live_add(int kind, long change)
{
  atomic_fetch_add_explicit(&counts[kind], change, memory_order_relaxed);
}

long lc_live_get(int kind)
{
  return atomic_load_explicit(&counts[kind], memory_order_relaxed);
}

const char *lc_live_name(int kind)
{
  return names[kind];
}
