/* headers.c - see headers.h. */
#include "headers.h"

#include "lc_alloc.h"
#include "lc_live.h"

#include <string.h>

lc_headers *lc_headers_new(void)
{
  lc_headers *h = lc_calloc(1, sizeof(*h));
  if(h) {
    h->refs = 1;
    lc_live_add(LC_LIVE_HEADERS, 1);
  }
  return h;
}

lc_rc lc_headers_add(lc_headers *h, const char *line)
{
  struct curl_slist *list = curl_slist_append(h->list, line);
  if(!list)
    return LC_ERR_NOMEM;
  if(!h->list && !strcmp(line, "expect:"))
    h->usual = NULL;
  else if(!h->usual)
    h->usual = h->list ? h->list->next : list; /* the line just added */
  h->list = list;
  h->bytes += (uint32_t)strlen(line) + 2;
  return LC_OK;
}

lc_headers *lc_headers_ref(lc_headers *h)
{
  if(h)
    h->refs++;
  return h;
}

void lc_headers_unref(lc_headers *h)
{
  if(h && --h->refs == 0) {
    curl_slist_free_all(h->list);
    lc_free(h);
    lc_live_add(LC_LIVE_HEADERS, -1);
  }
}
