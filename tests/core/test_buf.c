/* test_buf.c - the bounded buffer: contents, ceiling, failing allocations. */
#include "check.h"

#include "buf.h"

static int holds(const lc_buf *b, const char *want, size_t len)
{
  return lc_buf_len(b) == len && !memcmp(lc_buf_data(b), want, len);
}

static void test_append_and_consume(void)
{
  lc_buf b;

  lc_buf_init(&b, 1000);
  CHECK(check_live == 0);
  CHECK(holds(&b, "", 0));
  CHECK(lc_buf_data(&b) != NULL);
  CHECK(lc_buf_append(&b, "", 0) == LC_OK);
  CHECK(lc_buf_append(&b, NULL, 0) == LC_OK);
  CHECK(check_live == 0);
  CHECK(lc_buf_append(&b, LIT("hello")) == LC_OK);
  CHECK(lc_buf_append(&b, LIT(" w\0rld")) == LC_OK);
  CHECK(holds(&b, LIT("hello w\0rld")));
  lc_buf_consume(&b, 6);
  CHECK(holds(&b, LIT("w\0rld")));
  lc_buf_consume(&b, 0);
  CHECK(holds(&b, LIT("w\0rld")));
  lc_buf_consume(&b, 5);
  CHECK(holds(&b, "", 0) && b.start == 0);
  lc_buf_free(&b);
  CHECK(check_live == 0 && b.max == 1000);
  lc_buf_free(&b);
}

static void test_ceiling(void)
{
  char bytes[64];
  lc_buf b;
  size_t max;

  memset(bytes, 'x', sizeof(bytes));
  for(max = 0; max < 40; max++) {
    size_t have;
    lc_buf_init(&b, max);
    CHECK(lc_buf_append(&b, bytes, max + 1) == LC_ERR_LIMIT);
    CHECK(lc_buf_append(&b, bytes, SIZE_MAX) == LC_ERR_LIMIT);
    CHECK(lc_buf_reserve(&b, max + 1) == LC_ERR_LIMIT);
    CHECK(lc_buf_len(&b) == 0);
    for(have = 0; have < max; have++)
      CHECK(lc_buf_append(&b, bytes, 1) == LC_OK);
    CHECK(lc_buf_append(&b, bytes, 1) == LC_ERR_LIMIT);
    CHECK(lc_buf_len(&b) == max && b.cap <= max);
    if(max > 2) { /* what is consumed makes room again */
      lc_buf_consume(&b, 2);
      CHECK(lc_buf_append(&b, "ab", 2) == LC_OK);
      CHECK(lc_buf_append(&b, "c", 1) == LC_ERR_LIMIT);
      CHECK(!memcmp(lc_buf_data(&b) + max - 2, "ab", 2));
    }
    lc_buf_free(&b);
  }
  CHECK(check_live == 0);
}

static void test_reset(void)
{
  lc_buf b;

  lc_buf_init(&b, 100000);
  CHECK(lc_buf_reserve(&b, 100) == LC_OK);
  lc_buf_append(&b, LIT("abc"));
  lc_buf_reset(&b, 4096);
  CHECK(lc_buf_len(&b) == 0 && b.data != NULL);
  CHECK(lc_buf_reserve(&b, 5000) == LC_OK && b.cap >= 5000);
  lc_buf_reset(&b, 4096);
  CHECK(lc_buf_len(&b) == 0 && b.data == NULL && b.max == 100000);
  CHECK(lc_buf_append(&b, LIT("abc")) == LC_OK && holds(&b, LIT("abc")));
  lc_buf_reset(&b, 0);
  CHECK(b.data == NULL && check_live == 0);
}

/* A queue of counted bytes against what must be in it, with sizes that make it
 * grow, move down and wrap to empty. */
static void test_random_queue(void)
{
  unsigned seed;

  for(seed = 1; seed < 40; seed++) {
    unsigned long rng = seed, in = 0, out = 0, step;
    lc_buf b;
    lc_buf_init(&b, 3000);
    for(step = 0; step < 3000; step++) {
      unsigned char bytes[700];
      size_t n, i;
      rng = rng * 6364136223846793005UL + 1442695040888963407UL;
      n = (rng >> 33) % ((rng >> 60) < 3 ? sizeof(bytes) : 30);
      if(rng >> 63) {
        for(i = 0; i < n; i++)
          bytes[i] = (unsigned char)((in + i) * 31);
        if(lc_buf_append(&b, bytes, n) == LC_OK)
          in += n;
        else
          CHECK(in - out + n > 3000);
      }
      else {
        if(n > lc_buf_len(&b))
          n = lc_buf_len(&b);
        for(i = 0; i < n; i++)
          if((unsigned char)lc_buf_data(&b)[i] != (unsigned char)((out + i) * 31))
            break;
        CHECK(i == n);
        lc_buf_consume(&b, n);
        out += n;
      }
      CHECK(lc_buf_len(&b) == in - out && b.cap <= 3000);
    }
    lc_buf_free(&b);
  }
  CHECK(check_live == 0);
}

static int grow(void *ctx)
{
  lc_buf b;
  int i, failed = 0;
  (void)ctx;
  lc_buf_init(&b, 1 << 20);
  for(i = 0; i < 2000; i++) {
    size_t before = lc_buf_len(&b);
    lc_rc rc = lc_buf_append(&b, LIT("0123456789"));
    if(rc) {
      failed = rc == LC_ERR_NOMEM;
      CHECK(lc_buf_len(&b) == before); /* unchanged on error */
      CHECK(!before || !memcmp(lc_buf_data(&b) + before - 10, "0123456789", 10));
      break;
    }
  }
  lc_buf_free(&b);
  return failed;
}

int main(void)
{
  check_alloc_on();
  test_append_and_consume();
  test_ceiling();
  test_reset();
  test_random_queue();
  check_every_alloc(grow, NULL);
  return check_done("buf");
}
