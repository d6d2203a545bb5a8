/* fuzz_main.c - a driver for the fuzz targets where there is no libFuzzer.
 *
 * Job: give a target every file of its corpus and, for so many seconds more,
 * mutations of them. The input that stopped it is left in crash-<target>.bin.
 * Not its job: coverage; libFuzzer finds more, see fuzz.h. Used by:
 * scripts/test_c.py, linked to each fuzz_*.c. Threads: one.
 *
 *   fuzz_sse SECONDS SEED FILE...
 */
#include "fuzz.h"

#include <sanitizer/common_interface_defs.h>
#include <time.h>

#define INPUT_MAX 4096

struct input {
  unsigned char *bytes;
  size_t len;
};

static struct input current;
static const char *target;
static uint64_t state;

static void save_input(void)
{
  char name[256];
  FILE *file;
  const char *base = strrchr(target, '/');

  snprintf(name, sizeof(name), "crash-%s.bin", base ? base + 1 : target);
  file = fopen(name, "wb");
  if(!file)
    return;
  fwrite(current.bytes, 1, current.len, file);
  fclose(file);
  fprintf(stderr, "input left in %s (%zu bytes)\n", name, current.len);
}

static unsigned pick(size_t below)
{
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return below ? (unsigned)((state >> 11) % below) : 0;
}

static struct input load(const char *name)
{
  struct input in = {NULL, 0};
  FILE *file = fopen(name, "rb");

  MUST(file != NULL);
  in.bytes = malloc(INPUT_MAX);
  MUST(in.bytes != NULL);
  in.len = fread(in.bytes, 1, INPUT_MAX, file);
  fclose(file);
  return in;
}

/* Replaces `cut` bytes at `at` of `in` by `len` others, within the ceiling. */
static void splice(struct input *in, size_t at, size_t cut,
                   const unsigned char *bytes, size_t len)
{
  size_t tail = in->len - at - cut;

  if(at + len + tail > INPUT_MAX)
    return;
  memmove(in->bytes + at + len, in->bytes + at + cut, tail);
  memcpy(in->bytes + at, bytes, len);
  in->len = at + len + tail;
}

static void mutate(struct input *in, const struct input *other)
{
  static const unsigned char odd[] = {'\0', '\n', '\r', ':', ' ', '"', '\\',
                                      '{', '}', '[', ']', ',', 0x80, 0xff,
                                      0xef, 0xbb, 0xbf, '0', '\t', 'u'};
  unsigned char piece[64];
  size_t at = pick(in->len + 1);
  size_t room = in->len - at;
  size_t cut = room ? pick(room > 16 ? 16 : room + 1) : 0;
  size_t len;

  switch(pick(6)) {
  case 0:
    if(room)
      in->bytes[at] ^= (unsigned char)(1u << pick(8));
    break;
  case 1:
    splice(in, at, pick(2) && room ? 1 : 0, odd + pick(sizeof(odd)), 1);
    break;
  case 2:
    splice(in, at, cut, odd, 0);
    break;
  case 3: /* the same piece twice */
    len = cut;
    memcpy(piece, in->bytes + at, len);
    splice(in, at, 0, piece, len);
    break;
  case 4: /* a piece of another input */
    if(other->len) {
      size_t from = pick(other->len);
      len = other->len - from;
      len = pick(len > sizeof(piece) ? sizeof(piece) : len) + 1;
      memcpy(piece, other->bytes + from, len);
      splice(in, at, cut, piece, len);
    }
    break;
  default:
    in->len = at;
  }
}

static void run_one(const struct input *in)
{
  /* a block of its own, as libFuzzer does: reading past its end is seen */
  current.bytes = (unsigned char *)fuzz_copy(in->bytes, in->len);
  current.len = in->len;
  LLVMFuzzerTestOneInput(current.bytes, current.len);
  free(current.bytes);
  current.bytes = NULL;
  current.len = 0;
}

int main(int argc, char **argv)
{
  struct input *corpus, scratch;
  size_t count, i;
  unsigned long runs = 0;
  time_t end;

  MUST(argc > 3);
  target = argv[0];
  __sanitizer_set_death_callback(save_input);
  state = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
  count = (size_t)argc - 3;
  corpus = calloc(count, sizeof(*corpus));
  scratch.bytes = malloc(INPUT_MAX);
  MUST(corpus && scratch.bytes);
  for(i = 0; i < count; i++) {
    corpus[i] = load(argv[i + 3]);
    run_one(&corpus[i]);
    runs++;
  }
  end = time(NULL) + (time_t)strtol(argv[1], NULL, 10);
  while(time(NULL) < end) {
    for(i = 0; i < 256; i++) {
      const struct input *from = &corpus[pick(count)];
      unsigned times = 1 + pick(6);
      memcpy(scratch.bytes, from->bytes, from->len);
      scratch.len = from->len;
      while(times--)
        mutate(&scratch, &corpus[pick(count)]);
      run_one(&scratch);
      runs++;
    }
  }
  printf("%lu inputs, seed %s\n", runs, argv[2]);
  for(i = 0; i < count; i++)
    free(corpus[i].bytes);
  free(corpus);
  free(scratch.bytes);
  return 0;
}
