/* fuzz_sse.c - event streams: any split of the input gives the same, and with
 * room enough the same as the rules written down one by one. Built as fuzz.h
 * says. The first byte is the ceiling, the second the seed of the split. */
#include "fuzz.h"
#include "sse.h"

static int sink(void *ctx, const lc_sse_event *ev)
{
  struct log *l = ctx;
  log_field(l, ev->data, ev->data_len);
  log_field(l, ev->type, ev->type_len);
  log_field(l, ev->id, ev->id_len);
  log_put(l, &ev->retry, sizeof(ev->retry));
  log_put(l, ev->flushed ? "!" : ".", 1);
  return 0;
}

/* `seed` 0: in one piece. */
static void parse(const char *in, size_t len, size_t max, unsigned flags,
                  unsigned seed, struct log *l)
{
  lc_rc rc = LC_OK;
  const char *id;
  size_t at = 0, id_len;
  int64_t retry;
  lc_sse p;

  l->len = 0;
  lc_sse_init(&p, max, flags);
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
    rc = lc_sse_feed(&p, copy, n, sink, l);
    memset(copy, 0x5A, n);
    free(copy);
    at += n;
  }
  if(rc)
    MUST(rc == LC_ERR_LIMIT);
  else {
    rc = lc_sse_finish(&p, sink, l);
    id = lc_sse_last_id(&p, &id_len);
    log_field(l, id, id_len);
    retry = p.retry;
    log_put(l, &retry, sizeof(retry));
  }
  log_put(l, &rc, sizeof(rc));
  lc_sse_free(&p);
}

/* The rules, step by step, for a whole stream and no ceiling. */
static struct {
  char data[1 << 16], type[1 << 16], id[1 << 16], last_id[1 << 16];
  size_t data_len, type_len, id_len, last_id_len;
  int64_t event_retry, retry;
} ref;

static void ref_dispatch(struct log *l, unsigned flushed)
{
  memcpy(ref.last_id, ref.id, ref.id_len);
  ref.last_id_len = ref.id_len;
  if(ref.data_len) {
    lc_sse_event ev = {ref.data, ref.data_len - 1, ref.type, ref.type_len,
                       ref.last_id, ref.last_id_len, ref.event_retry, 0};
    ev.flushed = flushed & 1u;
    sink(l, &ev);
  }
  ref.data_len = ref.type_len = 0;
  ref.event_retry = -1;
}

static void ref_field(const char *line, size_t len)
{
  size_t name = 0, i;
  const char *value;
  size_t n;

  while(name < len && line[name] != ':')
    name++;
  value = line + (name < len ? name + 1 : name);
  n = (size_t)(line + len - value);
  if(n && *value == ' ') {
    value++;
    n--;
  }
  if(name == 4 && !strncmp(line, "data", 4)) {
    memcpy(ref.data + ref.data_len, value, n);
    ref.data_len += n;
    ref.data[ref.data_len++] = '\n';
  }
  else if(name == 5 && !strncmp(line, "event", 5)) {
    memcpy(ref.type, value, n);
    ref.type_len = n;
  }
  else if(name == 2 && !strncmp(line, "id", 2)) {
    for(i = 0; i < n; i++)
      if(!value[i])
        return;
    memcpy(ref.id, value, n);
    ref.id_len = n;
  }
  else if(name == 5 && !strncmp(line, "retry", 5) && n) {
    double big = 0;
    int64_t small = 0;
    for(i = 0; i < n; i++) {
      if(value[i] < '0' || value[i] > '9')
        return;
      big = big * 10 + (value[i] - '0');
      if(big < 9e18)
        small = small * 10 + (value[i] - '0');
    }
    if(big >= 9e18 && big < 9.3e18)
      small = -2; /* too near the largest for this arithmetic */
    ref.retry = ref.event_retry = big >= 9.3e18 ? INT64_MAX : small;
  }
}

/* Zero if the reference cannot tell. */
static int reference(const char *in, size_t len, unsigned flags, struct log *l)
{
  size_t at = 0;
  lc_rc rc = LC_OK;

  l->len = 0;
  ref.data_len = ref.type_len = ref.id_len = ref.last_id_len = 0;
  ref.retry = ref.event_retry = -1;
  if(len >= 3 && !memcmp(in, "\xEF\xBB\xBF", 3))
    at = 3;
  while(at < len) {
    size_t end = at;
    while(end < len && in[end] != '\n' && in[end] != '\r')
      end++;
    if(end == len) {
      if((flags & LC_SSE_FLUSH_AT_EOF) && in[at] != ':')
        ref_field(in + at, end - at);
      break;
    }
    if(end == at)
      ref_dispatch(l, 0);
    else if(in[at] != ':')
      ref_field(in + at, end - at);
    if(ref.retry == -2)
      return 0;
    at = end + 1;
    if(in[end] == '\r' && at < len && in[at] == '\n')
      at++;
  }
  if((flags & LC_SSE_FLUSH_AT_EOF) && ref.data_len)
    ref_dispatch(l, 1);
  log_field(l, ref.last_id, ref.last_id_len);
  log_put(l, &ref.retry, sizeof(ref.retry));
  log_put(l, &rc, sizeof(rc));
  return ref.retry != -2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static struct log whole, pieces;
  unsigned flags, seed;
  size_t max;

  if(size < 2 || size > 4096)
    return 0;
  flags = data[0] & 1 ? LC_SSE_FLUSH_AT_EOF : 0;
  max = data[0] & 2 ? data[0] >> 2 : 1 << 16;
  seed = data[1] + 1u;
  data += 2;
  size -= 2;
  parse((const char *)data, size, max, flags, 0, &whole);
  parse((const char *)data, size, max, flags, seed, &pieces);
  MUST(log_same(&whole, &pieces));
  if(max == 1 << 16 && reference((const char *)data, size, flags, &pieces))
    MUST(log_same(&whole, &pieces));
  return 0;
}
