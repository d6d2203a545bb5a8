/* lc_fault.c - see lc_fault.h. What tests/fault calls, through ctypes, is marked
 * ACCESS: these are the only symbols of this build besides the init function. */
#include "lc_fault.h"

#include <stdlib.h>

#define ACCESS __attribute__((visibility("default")))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static lc_fault_site *sites; /* all that were reached, newest first */
static lc_fault_site *armed_site; /* count the calls of this one only, NULL = of all */
static long armed_at; /* the call that fails, counted from 1; 0 = none does */
static long count; /* calls since lc_fault_arm */
static int only_libcurl; /* count the allocations inside libcurl, and nothing else */
static lc_fault_site *fired; /* NULL = none yet */

static int hit(lc_fault_site *site)
{
  int fail = 0;
  pthread_mutex_lock(&lock);
  if(!site->known) {
    site->known = 1;
    site->next = sites;
    sites = site;
  }
  site->hits++;
  if((!armed_site || site == armed_site) && ++count == armed_at) {
    fail = 1;
    site->fired++;
    fired = site;
  }
  pthread_mutex_unlock(&lock);
  return fail;
}

int lc_fault_hit(lc_fault_site *site)
{
  return only_libcurl ? 0 : hit(site);
}

/* The n-th call from now on fails, 0 = none; the counters begin anew. `site` (of
 * lc_fault_site_at) counts its own calls only; NULL: all, or those inside libcurl. */
ACCESS void lc_fault_arm(lc_fault_site *site, long n, int in_libcurl)
{
  lc_fault_site *s;
  pthread_mutex_lock(&lock);
  for(s = sites; s; s = s->next)
    s->hits = 0;
  count = 0;
  armed_site = site;
  armed_at = n;
  only_libcurl = in_libcurl;
  fired = NULL;
  pthread_mutex_unlock(&lock);
}

/* Calls since lc_fault_arm. */
ACCESS long lc_fault_count(void)
{
  return count;
}

/* Where the failure was: "what file:line" into `text`. 0 when none was. */
ACCESS int lc_fault_fired(char *text, size_t len)
{
  lc_fault_site *s = fired;
  if(s)
    snprintf(text, len, "%s %s:%d", s->what, s->file, s->line);
  return s != NULL;
}

/* The index-th site that was reached. NULL when there are no more. */
ACCESS lc_fault_site *lc_fault_site_at(long index, char *text, size_t len, long *hits, long *times_fired)
{
  lc_fault_site *s;
  for(s = sites; s && index; s = s->next)
    index--;
  if(s) {
    snprintf(text, len, "%s %s:%d", s->what, s->file, s->line);
    *hits = s->hits;
    *times_fired = s->fired;
  }
  return s;
}

/* -- the allocations of libcurl itself -- */

static lc_fault_site inside = {"allocation", "libcurl", 0, 0, 0, 0, NULL};

static int hit_inside(void)
{
  return only_libcurl && hit(&inside);
}

static void *in_malloc(size_t size)
{
  return hit_inside() ? NULL : malloc(size);
}

static void *in_calloc(size_t n, size_t size)
{
  return hit_inside() ? NULL : calloc(n, size);
}

static void *in_realloc(void *ptr, size_t size)
{
  return hit_inside() ? NULL : realloc(ptr, size);
}

static char *in_strdup(const char *text)
{
  return hit_inside() ? NULL : strdup(text);
}

CURLcode lc_fault_global_init(long flags)
{
  static lc_fault_site here = {"curl_global_init", "global.c", 0, 0, 0, 0, NULL};
  if(lc_fault_hit(&here))
    return CURLE_OUT_OF_MEMORY;
  return curl_global_init_mem(flags, in_malloc, free, in_realloc, in_strdup, in_calloc);
}
