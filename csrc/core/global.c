/* global.c - libcurl's start-up and a fork counter, for the whole process.
 *
 * Job: curl_global_init exactly once whatever threads and interpreters come
 * (libcurl(3): GLOBAL CONSTANTS), and to know that this process is a forked
 * child, which must not touch its parent's connections. Never undone: other
 * users of libcurl in the process may still be at work. Used by: csrc/py.
 * Threads: any.
 */
#include "reactor.h"

#include <stdatomic.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static lc_rc result = LC_OK;
static unsigned version;
static atomic_int generation;

static void in_child(void)
{
  atomic_fetch_add(&generation, 1);
}

static void init(void)
{
  if(curl_global_init(CURL_GLOBAL_DEFAULT) || pthread_atfork(NULL, NULL, in_child))
    result = LC_ERR_CURL;
  version = curl_version_info(CURLVERSION_NOW)->version_num;
}

lc_rc lc_global_init(void)
{
  pthread_once(&once, init);
  return result;
}

unsigned lc_curl_version(void)
{
  pthread_once(&once, init);
  return version;
}

int lc_fork_generation(void)
{
  return atomic_load(&generation);
}
