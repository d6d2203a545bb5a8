/* test_ndjson.c - lines of JSON, at every split of the input. */
#include "check.h"

#include "ndjson.h"

/* What came out: each line and "|", "!" before a flushed one. */
struct record {
  char bytes[4000];
  size_t len;
  int stop_at, seen;
};

static int sink(void *ctx, const lc_ndjson_line *line)
{
  struct record *r = ctx;
  if(line->data_len + 2 > sizeof(r->bytes) - r->len)
    abort();
  CHECK(line->data_len > 0);
  if(line->flushed)
    r->bytes[r->len++] = '!';
  memcpy(r->bytes + r->len, line->data, line->data_len);
  r->len += line->data_len;
  r->bytes[r->len++] = '|';
  return r->seen++ == r->stop_at ? -77 : 0;
}

static int is(const struct record *r, const char *want, size_t len)
{
  return r->len == len && !memcmp(r->bytes, want, len);
}

static const struct {
  const char *in, *out;
  size_t in_len, out_len;
} cases[] = {
#define CASE(in, out) {in, out, sizeof(in) - 1, sizeof(out) - 1}
  CASE("", ""),
  CASE("{}\n", "{}|"),
  CASE("{}\n{\"a\":1}\n[]\n", "{}|{\"a\":1}|[]|"),
  CASE("{}\r\n{\"a\":1}\r\n", "{}|{\"a\":1}|"),
  CASE("{}\n{\"a\":1}", "{}|!{\"a\":1}|"),
  CASE("{}\r", "!{}|"),
  CASE("a\r\r\n", "a\r|"),
  CASE("a\rb\n", "a\rb|"),
  CASE("\n\r\n\n{}\n\n \t\n\t\r\n1\n\n", "{}|1|"),
  CASE(" {} \n", " {} |"),
  CASE("\r", ""),
  CASE("  ", ""),
  CASE("\0\n\xFF\xFE\n", "\0|\xFF\xFE|"),
  CASE("\"\xE2\x80\xA8\xE2\x80\xA9\xC2\x85\v\f\x1C\"\n2\n",
       "\"\xE2\x80\xA8\xE2\x80\xA9\xC2\x85\v\f\x1C\"|2|"),
  CASE("{\"message\":{\"content\":\"Hi\"},\"done\":false}\n{\"done\":true}\n",
       "{\"message\":{\"content\":\"Hi\"},\"done\":false}|{\"done\":true}|"),
#undef CASE
};

static lc_rc feed(lc_ndjson *p, struct record *r, const char *bytes, size_t len)
{
  lc_rc rc = lc_ndjson_feed(p, guard_put(bytes, len), len, sink, r);
  guard_scrub(len);
  return rc;
}

static void test_every_split(void)
{
  size_t i, a, b;

  for(i = 0; i < LC_ARRAY_LEN(cases); i++) {
    const char *in = cases[i].in;
    size_t len = cases[i].in_len;
    check_label = in;
    for(a = 0; a <= len; a++)
      for(b = a; b <= len; b++) {
        struct record r = {.stop_at = -1};
        lc_ndjson p;
        lc_ndjson_init(&p, 100);
        CHECK(feed(&p, &r, in, a) == LC_OK);
        CHECK(feed(&p, &r, in + a, b - a) == LC_OK);
        CHECK(feed(&p, &r, in + b, len - b) == LC_OK);
        CHECK(lc_ndjson_finish(&p, sink, &r) == LC_OK);
        CHECK(is(&r, cases[i].out, cases[i].out_len));
        CHECK(p.lines == (uint64_t)r.seen);
        CHECK(lc_ndjson_feed(&p, "", 0, sink, &r) == LC_ERR_STATE);
        CHECK(lc_ndjson_finish(&p, sink, &r) == LC_ERR_STATE);
        lc_ndjson_free(&p);
      }
  }
  check_label = "";
  CHECK(check_live == 0);
}

static void test_reset(void)
{
  struct record r = {.stop_at = -1};
  lc_ndjson p;
  size_t i, k;

  lc_ndjson_init(&p, 100);
  for(i = 0; i < LC_ARRAY_LEN(cases); i++) {
    check_label = cases[i].in;
    r.len = 0;
    for(k = 0; k < cases[i].in_len; k++)
      CHECK(feed(&p, &r, cases[i].in + k, 1) == LC_OK);
    CHECK(lc_ndjson_finish(&p, sink, &r) == LC_OK);
    CHECK(is(&r, cases[i].out, cases[i].out_len));
    lc_ndjson_reset(&p);
    CHECK(p.lines == 0);
  }
  check_label = "";
  /* a line that was begun is forgotten */
  r.len = 0;
  CHECK(feed(&p, &r, LIT("abc")) == LC_OK);
  lc_ndjson_reset(&p);
  CHECK(feed(&p, &r, LIT("d\n")) == LC_OK);
  CHECK(is(&r, LIT("d|")));
  lc_ndjson_free(&p);
  CHECK(check_live == 0);
}

static lc_rc limited(const char *in, size_t len, size_t step, size_t max,
                     struct record *r)
{
  lc_rc rc = LC_OK;
  lc_ndjson p;
  size_t at, n;

  r->len = 0;
  r->stop_at = -1;
  lc_ndjson_init(&p, max);
  for(at = 0; at < len && !rc; at += n) {
    n = len - at < step ? len - at : step;
    rc = feed(&p, r, in + at, n);
  }
  if(!rc)
    rc = lc_ndjson_finish(&p, sink, r);
  else
    CHECK(lc_ndjson_feed(&p, "\n", 1, sink, r) == LC_ERR_STATE);
  CHECK(p.line.cap <= max + 1);
  lc_ndjson_free(&p);
  return rc;
}

static void test_ceiling(void)
{
  static struct record r;
  static const char *const tries[] = {"12345\n", "12345\r\n", "12345",
                                      "12345\r", "1\n12345\n1\n"};
  size_t i, step, max;

  for(i = 0; i < LC_ARRAY_LEN(tries); i++)
    for(step = 1; step < 12; step++)
      for(max = 0; max < 10; max++) {
        check_label = tries[i];
        CHECK(limited(tries[i], strlen(tries[i]), step, max, &r) ==
              (max < 5 ? LC_ERR_LIMIT : LC_OK));
        if(i == 4 && max && max < 5)
          CHECK(is(&r, LIT("1|")));
      }
  check_label = "";
  CHECK(limited(LIT("1\n22\n"), 9, SIZE_MAX, &r) == LC_OK);
  CHECK(is(&r, LIT("1|22|")));
  CHECK(check_live == 0);
}

static void test_sink_stops(void)
{
  struct record r = {.stop_at = 1};
  lc_ndjson p;

  lc_ndjson_init(&p, 100);
  CHECK((int)feed(&p, &r, LIT("1\n2\n3\n")) == -77);
  CHECK(is(&r, LIT("1|2|")));
  CHECK(feed(&p, &r, LIT("4\n")) == LC_ERR_STATE);
  CHECK(lc_ndjson_finish(&p, sink, &r) == LC_ERR_STATE);
  lc_ndjson_reset(&p);
  r.stop_at = 2;
  CHECK(feed(&p, &r, LIT("4")) == LC_OK);
  CHECK((int)lc_ndjson_finish(&p, sink, &r) == -77);
  lc_ndjson_free(&p);
  CHECK(check_live == 0);
}

static int count_sink(void *ctx, const lc_ndjson_line *line)
{
  *(size_t *)ctx += line->data_len;
  return 0;
}

static void test_no_copy(void)
{
  static const char in[] = "{}\n\n{\"a\":1}\r\n[]\n";
  size_t sum = 0;
  lc_ndjson p;

  check_allocs = 0;
  lc_ndjson_init(&p, 100);
  CHECK(lc_ndjson_feed(&p, in, sizeof(in) - 1, count_sink, &sum) == LC_OK);
  CHECK(p.lines == 3 && sum == 11 && check_allocs == 0);
  lc_ndjson_free(&p);
}

static int needs_memory(void *ctx)
{
  static char piece[100];
  lc_rc rc = LC_OK;
  size_t sum = 0;
  lc_ndjson p;
  int i;
  (void)ctx;

  memset(piece, 'x', sizeof(piece));
  lc_ndjson_init(&p, 1 << 20);
  for(i = 0; i < 100 && !rc; i++) {
    rc = lc_ndjson_feed(&p, piece, sizeof(piece), count_sink, &sum);
    if(!rc && i % 30 == 29)
      rc = lc_ndjson_feed(&p, "\r\nx", 3, count_sink, &sum);
  }
  if(!rc)
    rc = lc_ndjson_finish(&p, count_sink, &sum);
  CHECK(rc == LC_OK || rc == LC_ERR_NOMEM);
  lc_ndjson_free(&p);
  return rc == LC_ERR_NOMEM;
}

int main(void)
{
  check_alloc_on();
  test_every_split();
  test_reset();
  test_ceiling();
  test_sink_stops();
  test_no_copy();
  check_every_alloc(needs_memory, NULL);
  return check_done("ndjson");
}
