/* test_spares.c - kept memory: which fits, how much is kept, what is in it, that none is lost. */
#include "check.h"

#include "spares.h"

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

static lc_spares spares;

static void give(size_t cap)
{
  lc_buf b;
  lc_buf_init(&b, SIZE_MAX / 2);
  CHECK(lc_buf_reserve(&b, cap) == LC_OK && b.cap == cap);
  lc_spares_give(&spares, &b);
  CHECK(!b.data && !b.cap && b.max == SIZE_MAX / 2);
}

/* The memory an empty buffer grows into; 0: none. It is given back. */
static size_t grown(size_t len, size_t want)
{
  lc_buf b;
  size_t cap;
  lc_buf_init(&b, SIZE_MAX / 2);
  lc_spares_grow(&spares, &b, len, want);
  cap = b.cap;
  CHECK(!cap == !b.data && !lc_buf_len(&b));
  lc_spares_give(&spares, &b);
  return cap;
}

static void test_what_fits(void)
{
  give(63 * KIB);
  CHECK(!spares.count && check_live == 0); /* too small to be kept */
  give(100 * KIB);
  give(1 * MIB);
  CHECK(spares.count == 2 && spares.bytes == MIB + 100 * KIB && check_live == 2);
  CHECK(grown(10, 0) == 0);
  CHECK(grown(10, 63 * KIB) == 0);
  CHECK(grown(64 * KIB, 0) == 100 * KIB);
  CHECK(grown(1, 100 * KIB) == 100 * KIB);
  CHECK(grown(1, 100 * KIB + 1) == 0); /* the other is more than four times as much */
  CHECK(grown(1, 256 * KIB) == MIB);
  CHECK(grown(1, MIB + 1) == 0);
  CHECK(spares.count == 2 && spares.bytes == MIB + 100 * KIB);
  lc_spares_trim(&spares, 1);
  CHECK(!spares.count && !spares.bytes && check_live == 0);
}

static void test_the_bytes_move_along(void)
{
  lc_buf b;
  give(256 * KIB);
  lc_buf_init(&b, 200 * KIB);
  CHECK(lc_buf_append(&b, LIT("xxhello")) == LC_OK);
  lc_buf_consume(&b, 2);
  lc_spares_grow(&spares, &b, 4, 0); /* there is room */
  CHECK(b.cap == 256);
  lc_spares_grow(&spares, &b, 200 * KIB, 0); /* beyond its ceiling */
  CHECK(b.cap == 256 && spares.count == 1);
  lc_spares_grow(&spares, &b, 100 * KIB, 0);
  CHECK(b.cap == 256 * KIB && !spares.count && !spares.bytes);
  CHECK(lc_buf_len(&b) == 5 && !memcmp(lc_buf_data(&b), "hello", 5));
  give(190 * KIB);
  lc_spares_grow(&spares, &b, 100 * KIB, 150 * KIB); /* has it already */
  CHECK(b.cap == 256 * KIB && spares.count == 1);
  lc_spares_give(&spares, &b);
  CHECK(spares.count == 2);
  lc_spares_trim(&spares, 1);
  CHECK(check_live == 0);
}

static void test_how_much_is_kept(void)
{
  int i;
  for(i = 0; i < 40; i++)
    give(3 * MIB);
  CHECK(spares.bytes == 30 * MIB && spares.count == 10 && check_live == 10);
  lc_spares_trim(&spares, 0);
  CHECK(spares.bytes == 3 * MIB && spares.count == 1 && check_live == 1);
  for(i = 0; i < 40; i++)
    give(64 * KIB);
  CHECK(spares.count == LC_SPARES && check_live == LC_SPARES);
  lc_spares_trim(&spares, 0);
  CHECK(spares.bytes == 31 * 64 * KIB && spares.count == 31); /* the oldest went first */
  give(40 * MIB);
  CHECK(spares.count == 31);
  lc_spares_trim(&spares, 1);
  CHECK(check_live == 0);
}

int main(void)
{
  check_alloc_on();
  test_what_fits();
  test_the_bytes_move_along();
  test_how_much_is_kept();
  return check_done("spares");
}
