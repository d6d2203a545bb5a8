/* test_sse.c - event streams by the WHATWG rules, at every split of the input. */
#include "check.h"

#include "sse.h"

/* What came out, as "type|data|id|retry;" per event ("!" before a flushed one). */
struct record {
  char bytes[20000];
  size_t len;
  int stop_at; /* the event at which the sink says -77; -1: never */
  int seen;
};

static void put(struct record *r, const char *bytes, size_t len)
{
  if(len > sizeof(r->bytes) - r->len)
    abort();
  if(len)
    memcpy(r->bytes + r->len, bytes, len);
  r->len += len;
}

static int sink(void *ctx, const lc_sse_event *ev)
{
  struct record *r = ctx;
  char retry[40];

  if(ev->flushed)
    put(r, "!", 1);
  put(r, ev->type, ev->type_len);
  put(r, "|", 1);
  put(r, ev->data, ev->data_len);
  put(r, "|", 1);
  put(r, ev->id, ev->id_len);
  put(r, "|", 1);
  put(r, retry, (size_t)snprintf(retry, sizeof(retry), "%lld;",
                                 (long long)ev->retry));
  return r->seen++ == r->stop_at ? -77 : 0;
}

static int is(const struct record *r, const char *want, size_t len)
{
  return r->len == len && !memcmp(r->bytes, want, len);
}

struct sse_case {
  const char *label, *in, *out, *flushed, *id;
  size_t in_len, out_len, flushed_len;
  int64_t retry; /* of the stream */
};

/* Input; events; what finish adds with LC_SSE_FLUSH_AT_EOF; last id and retry
 * of the stream. */
#define CASE(label, in, out, flushed, id, retry)                               \
  {label, in, out, flushed, id, sizeof(in) - 1, sizeof(out) - 1,               \
   sizeof(flushed) - 1, retry}
#define BOM "\xEF\xBB\xBF"
#define X16 "xxxxxxxxxxxxxxxx"
#define X64 X16 X16 X16 X16

static const struct sse_case cases[] = {
  CASE("nothing", "", "", "", "", -1),
  CASE("one", "data: hello\n\n", "|hello||-1;", "", "", -1),
  CASE("two", "data: a\n\ndata: b\n\n", "|a||-1;|b||-1;", "", "", -1),
  CASE("CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", "|a||-1;|b||-1;", "", "", -1),
  CASE("CR", "data: a\r\rdata: b\r\r", "|a||-1;|b||-1;", "", "", -1),
  CASE("line ends mixed", "data:a\r\ndata\ndata:b\r\n\rdata:c\n\r\ndata:d\r\n\n",
       "|a\n\nb||-1;|c||-1;|d||-1;", "", "", -1),
  CASE("LF CR is two ends", "data:a\n\rdata:b\n\r", "|a||-1;|b||-1;", "", "", -1),
  CASE("blank lines", "\n\r\n\r\n\n\r\rdata:a\n\n\n\n\r\n", "|a||-1;", "", "", -1),
  CASE("BOM", BOM "data:1\n\n" BOM "data:2\n\ndata:3\n\n", "|1||-1;|3||-1;", "",
       "", -1),
  CASE("two BOMs", BOM BOM "data:1\n\ndata:2\n\n", "|2||-1;", "", "", -1),
  CASE("BOM and a blank line", BOM "\ndata:1\n\n", "|1||-1;", "", "", -1),
  CASE("BOM alone", BOM, "", "", "", -1),
  CASE("half a BOM", "\xEF\xBB", "", "", "", -1),
  CASE("a third of a BOM, then a line", "\xEF" "data:1\n\ndata:2\n\n", "|2||-1;", "",
       "", -1),
  CASE("two thirds of a BOM, then a line", "\xEF\xBB\ndata:2\n\n", "|2||-1;", "", "",
       -1),
  CASE("nearly a BOM", "\xEF\xBB\xBE" "data:1\n\ndata:2\n\n", "|2||-1;", "", "", -1),
  CASE("BOM twice begun", "\xEF\xEF\xBB\xBF" "data:1\n\ndata:2\n\n", "|2||-1;", "",
       "", -1),
  CASE("comments", "data:1\r:\0\n:\r\ndata:2\n:" X64 "\rdata:3\n:data:no\r:" X64
       "\ndata:4\n\n", "|1\n2\n3\n4||-1;", "", "", -1),
  CASE("comments only", ": ping\n\n: ping\n\n:\n\n", "", "", "", -1),
  CASE("comment at the end", "data:1\n\n: pin", "|1||-1;", "", "", -1),
  CASE("data without a blank line", "retry:1000\ndata:a\n\nid:x\ndata:b",
       "|a||1000;", "!|b|x|-1;", "", 1000),
  CASE("data line without a blank line", "data:a\n\nid:x\ndata:b\n", "|a||-1;",
       "!|b|x|-1;", "", -1),
  CASE("blank line cut at the end", "data:a\r\n\r", "|a||-1;", "", "", -1),
  CASE("line cut at the end", "data:a\ndata", "", "!|a\n||-1;", "", -1),
  CASE("type without data at the end", "event:a\nid:1\n", "", "", "", -1),
  CASE("empty data", "data:\n\ndata\ndata\n\ndata:test\n\n",
       "|||-1;|\n||-1;|test||-1;", "", "", -1),
  CASE("one space goes", "data:\ta\rdata: \ndata:  b \ndata:c\n\n",
       "|\ta\n\n b \nc||-1;", "", "", -1),
  CASE("parsing", "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\n"
       "da-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
       "|\0\n 2\n1\n3\n\n4||-1;", "", "", -1),
  CASE("unknown fields", "data:a\n data\ndata\nfoo:x\nwords\n:c\n\xFF\xFE:1\n"
       "data:b\ndatax:1\ndat:2\ndataa\n\n", "|a\n\nb||-1;", "", "", -1),
  CASE("colons in the value", "data:a:b\ndata::\ndata: :\n\n", "|a:b\n:\n:||-1;", "",
       "", -1),
  CASE("type", "event:t\ndata:x\n\ndata:y\n\n", "t|x||-1;|y||-1;", "", "", -1),
  CASE("empty type", "event: \ndata:x\n\nevent\ndata:y\n\n", "|x||-1;|y||-1;", "", "",
       -1),
  CASE("the last type counts", "event:a\nevent: b c\ndata:x\nevent:d\n\n",
       "d|x||-1;", "", "", -1),
  CASE("type emptied again", "event:a\ndata:x\nevent\n\n", "|x||-1;", "", "", -1),
  CASE("type is forgotten without data", "event:a\n\ndata:x\n\n", "|x||-1;", "", "",
       -1),
  CASE("id", "id:1\ndata:a\n\ndata:b\n\n", "|a|1|-1;|b|1|-1;", "", "1", -1),
  CASE("id changes", "id:1\ndata:a\n\nid: 22\ndata:b\n\ndata:c\n\n",
       "|a|1|-1;|b|22|-1;|c|22|-1;", "", "22", -1),
  CASE("id emptied", "id:1\ndata:a\n\nid:\ndata:b\n\nid\ndata:c\n\n",
       "|a|1|-1;|b||-1;|c||-1;", "", "", -1),
  CASE("id without data counts", "id:7\n\ndata:a\n\nid:8\n\n", "|a|7|-1;", "", "8",
       -1),
  CASE("id cut off does not", "id:7\ndata:a\n\nid:8\n", "|a|7|-1;", "", "7", -1),
  CASE("id with NUL is ignored", "id:1\ndata:a\n\nid:2\0" "3\ndata:b\n\nid:\0\n\n",
       "|a|1|-1;|b|1|-1;", "", "1", -1),
  CASE("id twice", "id:1\nid:2\nid:x\0\ndata:a\n\n", "|a|2|-1;", "", "2", -1),
  CASE("retry", "retry:3000\ndata:a\n\ndata:b\n\n", "|a||3000;|b||-1;", "", "", 3000),
  CASE("retry alone", "retry:10\n\ndata:b\n\n", "|b||-1;", "", "", 10),
  CASE("retry bogus", "retry:3000\nretry:1000x\nretry: -1\nretry:+1\nretry:0x1\n"
       "retry:1 \nretry:\xD9\xA1\ndata:x\n\n", "|x||3000;", "", "", 3000),
  CASE("retry empty", "retry:400\nretry\nretry:\nretry: \ndata:x\n\n", "|x||400;", "",
       "", 400),
  CASE("retry with zeros", "retry: 00012\ndata:x\n\n", "|x||12;", "", "", 12),
  CASE("retry beyond all", "retry:99999999999999999999999\ndata:x\n\n",
       "|x||9223372036854775807;", "", "", INT64_MAX),
  CASE("retry nearly beyond all", "retry:9223372036854775800\ndata:x\n\n",
       "|x||9223372036854775800;", "", "", INT64_C(9223372036854775800)),
  CASE("names in capitals are unknown", "DATA:a\nEvent:b\nID:1\nRetry:1\n\ndata:x\n\n",
       "|x||-1;", "", "", -1),
  CASE("blanks before a name or colon", " data:a\ndata :b\n\tdata:c\n\ndata:x\n\n",
       "|x||-1;", "", "", -1),
  CASE("NUL", "data:\0\n\n\n\n", "|\0||-1;", "", "", -1),
  CASE("UTF-8", "data:ok \xE2\x80\xA6 \xF0\x9F\x98\x80\n\n",
       "|ok \xE2\x80\xA6 \xF0\x9F\x98\x80||-1;", "", "", -1),
  CASE("U+2028, U+2029, U+0085, VT and FF end no line",
       "data: {\"a\":\"\xE2\x80\xA8 \xE2\x80\xA9 \xC2\x85 \v \f \x1C\"}\n\n",
       "|{\"a\":\"\xE2\x80\xA8 \xE2\x80\xA9 \xC2\x85 \v \f \x1C\"}||-1;", "", "", -1),
  CASE("broken UTF-8 passes", "data:\xFF\xC0\x80\xED\xA0\x80\nid:\xFE\n\n",
       "|\xFF\xC0\x80\xED\xA0\x80|\xFE|-1;", "", "\xFE", -1),
  CASE("OpenAI", "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n"
       "data: [DONE]\n\n",
       "|{\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}||-1;|[DONE]||-1;", "", "", -1),
  CASE("Anthropic", "event: ping\r\ndata: {\"type\": \"ping\"}\r\n\r\n"
       "event: message_stop\r\ndata: {}\r\n\r\n",
       "ping|{\"type\": \"ping\"}||-1;message_stop|{}||-1;", "", "", -1),
  CASE("all fields in any order", "retry:5\ndata:a\nid:i\nevent:e\ndata:b\n\n",
       "e|a\nb|i|5;", "", "i", 5),
};
#undef CASE

#define MAX_EVENT 4096

static void feed(lc_sse *p, struct record *r, const char *bytes, size_t len)
{
  CHECK(lc_sse_feed(p, guard_put(bytes, len), len, sink, r) == LC_OK);
  guard_scrub(len);
}

static void run(const struct sse_case *c, size_t cut1, size_t cut2, unsigned flags)
{
  static struct record r;
  lc_sse p;
  const char *id;
  size_t id_len;

  r.len = 0;
  r.seen = 0;
  r.stop_at = -1;
  lc_sse_init(&p, MAX_EVENT, flags);
  feed(&p, &r, c->in, cut1);
  feed(&p, &r, c->in + cut1, cut2 - cut1);
  feed(&p, &r, c->in + cut2, c->in_len - cut2);
  CHECK(is(&r, c->out, c->out_len));
  id = lc_sse_last_id(&p, &id_len);
  CHECK(id_len == strlen(c->id) && !memcmp(id, c->id, id_len));
  CHECK(p.retry == c->retry);
  r.len = 0;
  CHECK(lc_sse_finish(&p, sink, &r) == LC_OK);
  if(flags)
    CHECK(is(&r, c->flushed, c->flushed_len));
  else
    CHECK(r.len == 0);
  if(!r.len) { /* no event, so no new id either */
    id = lc_sse_last_id(&p, &id_len);
    CHECK(id_len == strlen(c->id) && !memcmp(id, c->id, id_len));
  }
  CHECK(p.events == (uint64_t)r.seen);
  CHECK(lc_sse_feed(&p, "", 0, sink, &r) == LC_ERR_STATE);
  CHECK(lc_sse_finish(&p, sink, &r) == LC_ERR_STATE);
  lc_sse_free(&p);
}

static void test_every_split(void)
{
  size_t i, a, b;

  for(i = 0; i < LC_ARRAY_LEN(cases); i++) {
    const struct sse_case *c = &cases[i];
    check_label = c->label;
    for(a = 0; a <= c->in_len; a++)
      for(b = a; b <= c->in_len; b++) {
        run(c, a, b, 0);
        run(c, a, b, LC_SSE_FLUSH_AT_EOF);
      }
  }
  check_label = "";
  CHECK(check_live == 0);
}

/* All the cases as one stream per parser that is reset between them, byte by
 * byte. */
static void test_single_bytes_and_reset(void)
{
  static struct record r;
  lc_sse p;
  size_t i, k;

  lc_sse_init(&p, MAX_EVENT, LC_SSE_FLUSH_AT_EOF);
  r.stop_at = -1;
  for(i = 0; i < LC_ARRAY_LEN(cases); i++) {
    const struct sse_case *c = &cases[i];
    check_label = c->label;
    r.len = 0;
    for(k = 0; k < c->in_len; k++)
      feed(&p, &r, c->in + k, 1);
    CHECK(is(&r, c->out, c->out_len));
    r.len = 0;
    CHECK(lc_sse_finish(&p, sink, &r) == LC_OK);
    CHECK(is(&r, c->flushed, c->flushed_len));
    lc_sse_reset(&p);
    CHECK(p.retry == -1 && p.events == 0);
  }
  check_label = "";
  lc_sse_free(&p);
  CHECK(check_live == 0);
}

/* The result of feeding `in` in pieces of `step` with the ceiling `max`. */
static lc_rc limited(const char *in, size_t len, size_t step, size_t max,
                     struct record *r)
{
  lc_rc rc = LC_OK;
  lc_sse p;
  size_t at, n;

  r->len = 0;
  lc_sse_init(&p, max, LC_SSE_FLUSH_AT_EOF);
  for(at = 0; at < len && !rc; at += n) {
    n = len - at < step ? len - at : step;
    rc = lc_sse_feed(&p, guard_put(in + at, n), n, sink, r);
    guard_scrub(n);
  }
  if(rc)
    CHECK(lc_sse_feed(&p, "\n", 1, sink, r) == LC_ERR_STATE);
  else
    rc = lc_sse_finish(&p, sink, r);
  CHECK(p.line.cap <= (max ? max : 1) && p.data.own.cap <= max && p.id.own.cap <= max &&
        p.type.own.cap <= max && p.last_id.cap <= max);
  lc_sse_free(&p);
  return rc;
}

static void test_ceiling(void)
{
  static struct record r;
  static const struct {
    const char *in;
    size_t least; /* the lowest ceiling that lets it pass */
  } tries[] = {
    {"data:12345\n\n", 10},                    /* a line */
    {"data:12345\ndata:123456\n\n", 12},       /* 5 + 1 + 6 joined */
    {"data:1\ndata:1\ndata:1\ndata:1\ndata:1\ndata:1\ndata:1\n\n", 13},
    {"event:1234\ndata:12345\nid:123\n\n", 12}, /* the sum */
    {"event:1234\nid:12\n\n", 10},
    {"unknown:1234\n\n", 12},
    {"data:12345", 10},
    {"data:1\n\ndata:12\n\ndata:123\n\n", 8},
    {": a comment of any length\n\ndata:1\n\n", 6},
    {": a comment of any length", 0},
    {"id:12345\n\nevent:12345\n\ndata:1234567\n\n", 12},
  };
  size_t i, step, max;

  r.stop_at = -1;
  for(i = 0; i < LC_ARRAY_LEN(tries); i++) {
    size_t len = strlen(tries[i].in);
    check_label = tries[i].in;
    for(max = 0; max < 40; max++)
      for(step = 1; step <= len; step++) {
        lc_rc rc = limited(tries[i].in, len, step, max, &r);
        CHECK(rc == (max < tries[i].least ? LC_ERR_LIMIT : LC_OK));
      }
  }
  check_label = "";
  /* events before the one that is too large come out */
  for(step = 1; step < 40; step++) {
    CHECK(limited(LIT("data:1\n\ndata:123456789\n\n"), step, 10, &r) ==
          LC_ERR_LIMIT);
    CHECK(is(&r, LIT("|1||-1;")));
  }
  CHECK(check_live == 0);
}

static void test_sink_stops(void)
{
  static struct record r;
  lc_sse p;

  lc_sse_init(&p, 100, LC_SSE_FLUSH_AT_EOF);
  r.len = 0;
  r.seen = 0;
  r.stop_at = 1;
  CHECK((int)lc_sse_feed(&p, LIT("data:1\n\ndata:2\n\ndata:3\n\n"), sink, &r) == -77);
  CHECK(is(&r, LIT("|1||-1;|2||-1;")));
  CHECK(lc_sse_feed(&p, LIT("data:4\n\n"), sink, &r) == LC_ERR_STATE);
  CHECK(lc_sse_finish(&p, sink, &r) == LC_ERR_STATE);
  lc_sse_reset(&p);
  r.stop_at = 2;
  CHECK(lc_sse_feed(&p, LIT("data:4"), sink, &r) == LC_OK);
  CHECK((int)lc_sse_finish(&p, sink, &r) == -77);
  CHECK(lc_sse_finish(&p, sink, &r) == LC_ERR_STATE);
  lc_sse_free(&p);
  CHECK(check_live == 0);
}

struct view {
  const char *from, *to;
  int inside;
};

static int view_sink(void *ctx, const lc_sse_event *ev)
{
  struct view *v = ctx;
  v->inside += ev->data >= v->from && ev->data + ev->data_len <= v->to;
  return 0;
}

/* Whole events of one data line are not copied, and cost no allocation. */
static void test_no_copy(void)
{
  static const char in[] = "data: a\n\nevent: x\ndata: b\n\n: c\n\r\ndata:d\r\n\r\n"
                           "retry: 1\rdata:e\r\r";
  struct view v = {in, in + sizeof(in), 0};
  lc_sse p;

  check_allocs = 0;
  lc_sse_init(&p, 100, 0);
  CHECK(lc_sse_feed(&p, in, sizeof(in) - 1, view_sink, &v) == LC_OK);
  CHECK(p.events == 4 && v.inside == 4 && check_allocs == 0);
  lc_sse_free(&p);
}

/* One event of half a megabyte in small pieces, then a small one. */
static void test_large_event(void)
{
  static char piece[1000];
  struct view v = {NULL, NULL, 0};
  lc_sse p;
  int i;

  memset(piece, 'x', sizeof(piece));
  lc_sse_init(&p, 1 << 20, 0);
  CHECK(lc_sse_feed(&p, LIT("data: "), view_sink, &v) == LC_OK);
  for(i = 0; i < 500; i++)
    CHECK(lc_sse_feed(&p, piece, sizeof(piece), view_sink, &v) == LC_OK);
  CHECK(lc_sse_feed(&p, LIT("\n\ndata:1\n\n"), view_sink, &v) == LC_OK);
  CHECK(p.events == 2);
  lc_sse_free(&p);
  CHECK(check_live == 0);
}

/* Uses every buffer, each larger than its first allocation. */
static int needs_memory(void *ctx)
{
  static const char in[] =
    BOM "event: " X64 X64 X64 X64 X64 "\nid: " X64 X64 X64 X64 X64 "\n"
    "data: " X64 X64 X64 X64 X64 "\ndata: " X64 X64 X64 X64 X64 "\n\n"
    "data: a\ndata: b\n\ndata: " X64 X64 X64 X64 X64;
  static struct record r;
  size_t step = *(size_t *)ctx, at, n;
  lc_rc rc = LC_OK;
  lc_sse p;

  r.len = 0;
  r.stop_at = -1;
  lc_sse_init(&p, MAX_EVENT, LC_SSE_FLUSH_AT_EOF);
  for(at = 0; at < sizeof(in) - 1 && !rc; at += n) {
    n = sizeof(in) - 1 - at < step ? sizeof(in) - 1 - at : step;
    rc = lc_sse_feed(&p, in + at, n, sink, &r);
  }
  if(!rc)
    rc = lc_sse_finish(&p, sink, &r);
  CHECK(rc == LC_OK || rc == LC_ERR_NOMEM);
  lc_sse_free(&p);
  return rc == LC_ERR_NOMEM;
}

int main(void)
{
  static size_t steps[] = {1, 2, 7, 100, 333, 400, 1000, 5000};
  size_t i;

  check_alloc_on();
  test_every_split();
  test_single_bytes_and_reset();
  test_ceiling();
  test_sink_stops();
  test_no_copy();
  test_large_event();
  for(i = 0; i < LC_ARRAY_LEN(steps); i++)
    check_every_alloc(needs_memory, &steps[i]);
  return check_done("sse");
}
