/* test_head.c - the final header block out of libcurl's header lines. */
#include "check.h"

#include "head.h"

/* Feeds `text` line by line (a line ends behind its LF), each at the end of
 * mapped memory, `bare` without its line end. Returns the last result; `eofs`
 * counts the ended blocks. */
static lc_rc feed(lc_head *h, const char *text, size_t len, int bare, int *eofs)
{
  lc_rc rc = LC_OK;
  *eofs = 0;
  while(len && rc >= 0) {
    const char *lf = memchr(text, '\n', len);
    size_t n = lf ? (size_t)(lf - text) + 1 : len;
    size_t end = n;
    if(bare && lf)
      end -= end > 1 && text[end - 2] == '\r' ? 2 : 1;
    rc = lc_head_line(h, guard_put(text, end), end);
    guard_scrub(end);
    *eofs += rc == LC_EOF;
    text += n;
    len -= n;
  }
  return rc;
}

static int block_is(const lc_head *h, const char *want, size_t len)
{
  return lc_buf_len(&h->block) == len &&
         !memcmp(lc_buf_data(&h->block), want, len);
}

#define ENC 1
#define LOC 2
#define COOKIE 4

static const struct head_case {
  const char *label, *lines, *block;
  size_t lines_len, block_len;
  int status, version, flags, eofs;
  int64_t length;
} cases[] = {
#define CASE(label, lines, block, status, version, flags, eofs, length)        \
  {label, lines, block, sizeof(lines) - 1, sizeof(block) - 1,                 \
   status, version, flags, eofs, length}
  CASE("plain", "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\n",
       "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n", 200, 11, 0, 1, -1),
  CASE("h2", "HTTP/2 404 \r\ncontent-length: 12\r\n\r\n",
       "HTTP/2 404 \r\ncontent-length: 12\r\n", 404, 20, 0, 1, 12),
  CASE("h3 without a reason", "HTTP/3 200\r\n\r\n", "HTTP/3 200\r\n", 200, 30,
       0, 1, -1),
  CASE("1.0, bare LF becomes CRLF", "HTTP/1.0 200 OK\nA: b\n\n",
       "HTTP/1.0 200 OK\r\nA: b\r\n", 200, 10, 0, 1, -1),
  CASE("1xx dropped",
       "HTTP/1.1 100 Continue\r\nSet-Cookie: x=1\r\n\r\n"
       "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLocation: /x\r\n\r\n"
       "HTTP/1.1 201 Created\r\nB: c\r\n\r\n",
       "HTTP/1.1 201 Created\r\nB: c\r\n", 201, 11, 0, 1, -1),
  CASE("redirect, then the answer",
       "HTTP/1.1 302 Found\r\nLocation: /b\r\nSet-Cookie: a=b\r\n"
       "Content-Length: 3\r\nContent-Encoding: br\r\n\r\n"
       "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
       "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n", 200, 11, 0, 2, 7),
  CASE("CONNECT, then the answer",
       "HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\nHTTP/2 200 \r\n\r\n",
       "HTTP/2 200 \r\n", 200, 20, 0, 2, -1),
  CASE("trailers ignored",
       "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n\r\nX-Sum: 1\r\n"
       "Content-Encoding: gzip\r\nHTTP/x: 1\r\n\r\n",
       "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n", 200, 11, 0, 1, -1),
  CASE("a status line without a blank line before it",
       "HTTP/1.1 500 Oops\r\nLocation: /x\r\nHTTP/1.1 200 OK\r\n\r\n",
       "HTTP/1.1 200 OK\r\n", 200, 11, 0, 1, -1),
  CASE("no end yet", "HTTP/1.1 200 OK\r\nA: b\r\n",
       "HTTP/1.1 200 OK\r\nA: b\r\n", 200, 11, 0, 0, -1),
  CASE("only 1xx so far", "HTTP/1.1 100 Continue\r\n\r\n", "", 0, 0, 0, 0, -1),
  CASE("fields in any case, blanks around",
       "HTTP/1.1 301 X\r\ncOnTeNt-EnCoDiNg:\tGZIP \r\nLOCATION:/\r\n"
       "set-cookie:a=b\r\nContent-LENGTH:  42  \r\n\r\n",
       "HTTP/1.1 301 X\r\ncOnTeNt-EnCoDiNg:\tGZIP \r\nLOCATION:/\r\n"
       "set-cookie:a=b\r\nContent-LENGTH:  42  \r\n",
       301, 11, ENC | LOC | COOKIE, 1, 42),
  CASE("a blank before the colon", "HTTP/1.1 200 X\r\nContent-Encoding : br\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Encoding : br\r\n", 200, 11, ENC, 1, -1),
  CASE("names that are alike",
       "HTTP/1.1 200 X\r\nContent-Encodings: br\r\nLocatio: a\r\nSet-Cookie2: a\r\n"
       "Content-Length-X: 1\r\nXLocation: b\r\nC\r\nl\r\nLocation\r\n: x\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Encodings: br\r\nLocatio: a\r\nSet-Cookie2: a\r\n"
       "Content-Length-X: 1\r\nXLocation: b\r\nC\r\nl\r\nLocation\r\n: x\r\n",
       200, 11, 0, 1, -1),
  CASE("identity is no encoding",
       "HTTP/1.1 200 X\r\nContent-Encoding: Identity\r\nContent-Encoding:\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Encoding: Identity\r\nContent-Encoding:\r\n",
       200, 11, 0, 1, -1),
  CASE("identity and one more",
       "HTTP/1.1 200 X\r\nContent-Encoding: identity, gzip\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Encoding: identity, gzip\r\n",
       200, 11, ENC, 1, -1),
  CASE("folded",
       "HTTP/1.1 200 X\r\nA: b\r\n  c\r\n\td\r\nContent-Encoding:\r\n gzip\r\n\r\n",
       "HTTP/1.1 200 X\r\nA: b c d\r\nContent-Encoding: gzip\r\n",
       200, 11, ENC, 1, -1),
  CASE("folded onto the status line", "HTTP/1.1 200 X\r\n  c\r\nA: b\r\n \r\n\r\n",
       "HTTP/1.1 200 X\r\nA: b\r\n", 200, 11, 0, 1, -1),
  CASE("same length twice",
       "HTTP/1.1 200 X\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
       200, 11, 0, 1, 5),
  CASE("two lengths",
       "HTTP/1.1 200 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n"
       "Content-Length: 5\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n"
       "Content-Length: 5\r\n",
       200, 11, 0, 1, -1),
  CASE("a length that is no number",
       "HTTP/1.1 200 X\r\nContent-Length: +5\r\nContent-Length: 5\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Length: +5\r\nContent-Length: 5\r\n",
       200, 11, 0, 1, -1),
  CASE("a length too large",
       "HTTP/1.1 200 X\r\nContent-Length: 99999999999999999999\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Length: 99999999999999999999\r\n",
       200, 11, 0, 1, -1),
  CASE("a large length",
       "HTTP/1.1 200 X\r\nContent-Length: 999999999999999999\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Length: 999999999999999999\r\n",
       200, 11, 0, 1, INT64_C(999999999999999999)),
  CASE("location only", "HTTP/1.1 999 X\r\nLocation: /\r\n\r\n",
       "HTTP/1.1 999 X\r\nLocation: /\r\n", 999, 11, LOC, 1, -1),
  CASE("cookie only", "HTTP/1.1 200 X\r\nSet-Cookie:\r\n\r\n",
       "HTTP/1.1 200 X\r\nSet-Cookie:\r\n", 200, 11, COOKIE, 1, -1),
  CASE("a word between name and colon",
       "HTTP/1.1 200 X\r\nLocation x: /\r\nSet-Cookie  \r\n\r\n",
       "HTTP/1.1 200 X\r\nLocation x: /\r\nSet-Cookie  \r\n", 200, 11, 0, 1, -1),
  CASE("blanks only as values",
       "HTTP/1.1 200 X\r\nContent-Encoding:  \r\nContent-Length: \t\r\n\r\n",
       "HTTP/1.1 200 X\r\nContent-Encoding:  \r\nContent-Length: \t\r\n",
       200, 11, 0, 1, -1),
  CASE("NUL and high bytes stay", "HTTP/1.1 200 X\r\nA: \0\xFF\r\n\r\n",
       "HTTP/1.1 200 X\r\nA: \0\xFF\r\n", 200, 11, 0, 1, -1),
#undef CASE
};

static void test_cases(void)
{
  lc_head h;
  size_t i;

  lc_head_init(&h, 4096);
  for(i = 0; i < 2 * LC_ARRAY_LEN(cases); i++) {
    const struct head_case *c = &cases[i / 2];
    int eofs, flags;
    check_label = c->label;
    CHECK(feed(&h, c->lines, c->lines_len, i % 2, &eofs) >= 0);
    CHECK(block_is(&h, c->block, c->block_len));
    CHECK(h.status == c->status);
    CHECK(h.version == c->version);
    CHECK(h.content_length == c->length);
    CHECK(eofs == c->eofs);
    CHECK(h.complete == (c->eofs > 0));
    flags = (h.has_encoding ? ENC : 0) | (h.has_location ? LOC : 0) |
            (h.has_set_cookie ? COOKIE : 0);
    CHECK(flags == c->flags);
    lc_head_reset(&h);
    CHECK(h.status == 0 && h.complete == 0 && h.content_length == -1);
    CHECK(lc_buf_len(&h.block) == 0);
  }
  check_label = "";
  lc_head_free(&h);
  CHECK(check_live == 0);
}

static void test_bad_status_lines(void)
{
  static const char *const bad[] = {
    "", "\r\n", "\n", "A: b\r\n", "H", "HTTP/", "HTTP/1", "HTTP/1.1", "HTTP/1.1 ",
    "HTTP/1.1 20", "HTTP/1.1 2O0 OK", "HTTP/1.1 000 X", "HTTP/1.1 099 X",
    "HTTP/1.1 2000 X", "HTTP/1.1 200X", "HTTP/1. 200 OK", "HTTP/.1 200 OK",
    "HTTP/11 200 OK", "HTTP/1.12 200 X", "HTTP/x 200 OK", "http/1.1 200 OK",
    "HTTP/1.1\r\n", "HTTP/2 2", "HTTP/2     \r\n", "HTTP/2         ", " HTTP/1.1 200 OK\r\n",
    "ICY 200 OK\r\n"};
  size_t i;

  for(i = 0; i < LC_ARRAY_LEN(bad); i++) {
    lc_head h;
    size_t len = strlen(bad[i]);
    check_label = bad[i];
    lc_head_init(&h, 4096);
    CHECK(lc_head_line(&h, guard_put(bad[i], len), len) == LC_ERR_PARSE);
    CHECK(lc_buf_len(&h.block) == 0 && h.status == 0);
    lc_head_free(&h);
  }
  check_label = "";
}

static void test_ceiling_and_memory(void)
{
  static const char status[] = "HTTP/1.1 200 OK\r\n";
  char line[9000];
  lc_head h;
  size_t max, i;

  for(max = 0; max <= 27; max++) { /* 17 + 7 + 2 bytes in all */
    lc_rc rc;
    lc_head_init(&h, max);
    rc = lc_head_line(&h, LIT(status));
    CHECK(rc == (max < 17 ? LC_ERR_LIMIT : LC_OK));
    if(rc == LC_OK) {
      CHECK(lc_head_line(&h, LIT("Ab: c\r\n")) ==
            (max < 24 ? LC_ERR_LIMIT : LC_OK));
      CHECK(lc_buf_len(&h.block) == (max < 24 ? 17 : 24));
      CHECK(lc_head_line(&h, LIT(" d\r\n")) ==
            (max < 21 || (max >= 24 && max < 28) ? LC_ERR_LIMIT : LC_OK));
    }
    lc_head_free(&h);
  }
  memset(line, 'a', sizeof(line));
  line[1] = ':';
  lc_head_init(&h, 1 << 20);
  CHECK(lc_head_line(&h, LIT(status)) == LC_OK);
  CHECK(lc_head_line(&h, line, sizeof(line)) == LC_OK);
  CHECK(h.block.cap > 4096);
  lc_head_reset(&h);
  CHECK(h.block.cap == 0 && check_live == 0); /* too much to keep */
  CHECK(lc_head_line(&h, LIT(status)) == LC_OK);
  for(i = 0; i < 20; i++)
    CHECK(lc_head_line(&h, LIT("Name: a usual value\r\n")) == LC_OK);
  CHECK(check_live == 1);
  max = h.block.cap;
  lc_head_reset(&h);
  CHECK(h.block.cap == max && max <= 4096);
  lc_head_free(&h);
  CHECK(check_live == 0);
  /* interim and ignored lines take no memory, but there is an end to them */
  check_allocs = 0;
  CHECK(lc_head_line(&h, LIT("HTTP/1.1 103 Early Hints\r\n")) == LC_OK);
  for(i = 1; i <= (1 << 20) / (int)sizeof(line); i++)
    CHECK(lc_head_line(&h, line, sizeof(line)) == ((size_t)i * (sizeof(line) + 2) + 26 > 1 << 20 ? LC_ERR_LIMIT : LC_OK));
  CHECK(lc_head_line(&h, line, sizeof(line)) == LC_ERR_LIMIT);
  CHECK(check_allocs == 0);
  lc_head_reset(&h);
  CHECK(lc_head_line(&h, LIT(status)) == LC_OK);
  lc_head_free(&h);
}

/* A usual answer needs one allocation; each may fail. */
static int answer(void *ctx)
{
  char line[600];
  lc_head h;
  lc_rc rc;
  int i;
  (void)ctx;
  memset(line, 'x', sizeof(line));
  line[3] = ':';
  lc_head_init(&h, 1 << 20);
  rc = lc_head_line(&h, LIT("HTTP/1.1 200 OK\r\n"));
  for(i = 0; i < 10 && rc == LC_OK; i++)
    rc = lc_head_line(&h, line, sizeof(line));
  for(i = 0; i < 10 && rc == LC_OK; i++) {
    line[0] = ' ';
    rc = lc_head_line(&h, line, sizeof(line));
  }
  lc_head_free(&h);
  return rc == LC_ERR_NOMEM;
}

int main(void)
{
  check_alloc_on();
  test_cases();
  test_bad_status_lines();
  test_ceiling_and_memory();
  check_every_alloc(answer, NULL);
  return check_done("head");
}
