/* fuzz_head.c - header lines: what may be relied on in a block, and that a block
 * fed again gives itself. Built as fuzz.h says. The first byte is the ceiling. */
#include "fuzz.h"
#include "head.h"

static lc_rc feed(lc_head *h, const char *at, size_t len)
{
  lc_rc rc = LC_OK;

  while(len && rc >= 0) {
    const char *lf = memchr(at, '\n', len);
    size_t n = lf ? (size_t)(lf - at) + 1 : len;
    char *copy = fuzz_copy(at, n);
    int was_complete = h->complete;
    rc = lc_head_line(h, copy, n);
    memset(copy, 0x5A, n);
    free(copy);
    if(rc == LC_EOF)
      MUST(h->complete && !was_complete && n <= 2);
    at += n;
    len -= n;
  }
  return rc;
}

static void check(const lc_head *h, size_t max)
{
  const char *block = lc_buf_data(&h->block);
  size_t len = lc_buf_len(&h->block);

  MUST(len <= max && h->block.cap <= max);
  MUST(h->content_length >= -1);
  if(!h->status) {
    MUST(!len && !h->complete && !h->version && h->content_length == -1);
    MUST(!h->has_encoding && !h->has_location && !h->has_set_cookie);
    return;
  }
  MUST(h->status >= 200 && h->status <= 999);
  MUST(h->version >= 0 && h->version <= 99);
  if(!len) /* the status line did not fit */
    return;
  MUST(len > 10 && !memcmp(block, "HTTP/", 5));
  MUST(!memcmp(block + len - 2, "\r\n", 2));
  MUST(!memmem(block, len, "\n\r\n", 3));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  lc_head h, again;
  size_t max;
  lc_rc rc;

  if(size < 1 || size > 8192)
    return 0;
  max = data[0] & 1 ? data[0] : 1 << 16;
  lc_head_init(&h, max);
  rc = feed(&h, (const char *)data + 1, size - 1);
  MUST(rc >= 0 || rc == LC_ERR_PARSE || rc == LC_ERR_LIMIT);
  check(&h, max);
  /* a folded line may look like a status line once it is unfolded */
  if(rc >= 0 && h.status &&
     !memmem(lc_buf_data(&h.block), lc_buf_len(&h.block), "\nHTTP/", 6)) {
    lc_head_init(&again, 1 << 20);
    MUST(feed(&again, lc_buf_data(&h.block), lc_buf_len(&h.block)) == LC_OK);
    MUST(lc_head_line(&again, "\r\n", 2) == LC_EOF);
    MUST(lc_buf_len(&again.block) == lc_buf_len(&h.block));
    MUST(!memcmp(lc_buf_data(&again.block), lc_buf_data(&h.block),
                 lc_buf_len(&h.block)));
    MUST(again.status == h.status && again.version == h.version);
    MUST(again.has_encoding == h.has_encoding);
    MUST(again.has_location == h.has_location);
    MUST(again.has_set_cookie == h.has_set_cookie);
    /* a length that was folded counts as none */
    MUST(h.content_length == -1 || again.content_length == h.content_length);
    lc_head_free(&again);
  }
  lc_head_reset(&h);
  check(&h, max);
  rc = lc_head_line(&h, "HTTP/1.1 204 x\r\n", 16);
  MUST(max < 16 ? rc == LC_ERR_LIMIT : rc == LC_OK && h.status == 204);
  lc_head_free(&h);
  return 0;
}
