/* fuzz_ndjson.c - lines of JSON: any split of the input gives the same, and
 * with room enough the same as splitting at LF. Built as fuzz.h says. The first
 * byte is the ceiling, the second the seed of the split. */
#include "fuzz.h"
#include "ndjson.h"

static int sink(void *ctx, const lc_ndjson_line *line)
{
  struct log *l = ctx;
  MUST(line->data_len > 0);
  log_field(l, line->data, line->data_len);
  log_put(l, line->flushed ? "!" : ".", 1);
  return 0;
}

/* `seed` 0: in one piece. */
static void parse(const char *in, size_t len, size_t max, unsigned seed,
                  struct log *l)
{
  lc_rc rc = LC_OK;
  size_t at = 0;
  lc_ndjson p;

  l->len = 0;
  lc_ndjson_init(&p, max);
  while(at < len && !rc) {
    size_t n = len - at;
    char *copy;
    if(seed) {
      seed = seed * 1103515245u + 12345u;
      n = (seed >> 16) % ((seed >> 28) > 3 ? 4 : 40) + 1;
      if(n > len - at)
        n = len - at;
    }
    copy = fuzz_copy(in + at, n);
    rc = lc_ndjson_feed(&p, copy, n, sink, l);
    memset(copy, 0x5A, n);
    free(copy);
    at += n;
  }
  if(!rc)
    rc = lc_ndjson_finish(&p, sink, l);
  MUST(rc == LC_OK || rc == LC_ERR_LIMIT);
  log_put(l, &rc, sizeof(rc));
  lc_ndjson_free(&p);
}

static void reference(const char *in, size_t len, struct log *l)
{
  lc_rc rc = LC_OK;
  size_t at = 0;

  l->len = 0;
  while(at < len) {
    lc_ndjson_line line = {in + at, 0, 0};
    size_t end = at, i = 0;
    while(end < len && in[end] != '\n')
      end++;
    line.flushed = end == len;
    line.data_len = end - at;
    if(line.data_len && in[end - 1] == '\r')
      line.data_len--;
    while(i < line.data_len && (line.data[i] == ' ' || line.data[i] == '\t'))
      i++;
    if(i < line.data_len)
      sink(l, &line);
    at = end + 1;
  }
  log_put(l, &rc, sizeof(rc));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static struct log whole, pieces;
  size_t max;
  unsigned seed;

  if(size < 2 || size > 4096)
    return 0;
  max = data[0] & 1 ? data[0] >> 1 : 1 << 16;
  seed = data[1] + 1u;
  data += 2;
  size -= 2;
  parse((const char *)data, size, max, 0, &whole);
  parse((const char *)data, size, max, seed, &pieces);
  MUST(log_same(&whole, &pieces));
  if(max == 1 << 16) {
    reference((const char *)data, size, &pieces);
    MUST(log_same(&whole, &pieces));
  }
  return 0;
}
