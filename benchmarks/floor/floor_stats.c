/* floor_stats.c - clocks, CPU time, memory, latency histogram.
 *
 * Job: measure. Not its job: printing. Used by: floor.c. Threads: one.
 */
#include "floor_stats.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

uint64_t floor_now_us(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t floor_cpu_us(void)
{
  struct rusage ru;
  getrusage(RUSAGE_SELF, &ru);
  return (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000u +
         (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
}

static long status_kb(const char *name)
{
  char line[256];
  long kb = 0;
  const size_t len = strlen(name);
  FILE *f = fopen("/proc/self/status", "r");
  if(!f)
    return 0;
  while(fgets(line, sizeof(line), f)) {
    if(!strncmp(line, name, len) && sscanf(line + len, ": %ld", &kb) == 1)
      break;
  }
  fclose(f);
  return kb;
}

long floor_rss_kb(void)
{
  return status_kb("VmRSS");
}

long floor_peak_rss_kb(void)
{
  return status_kb("VmHWM");
}

/* Index of the octave (highest bit) and 6 bits below it. */
static unsigned hist_index(uint64_t us)
{
  unsigned octave, index;
  if(us < FLOOR_HIST_SUB)
    return (unsigned)us;
  octave = 63u - (unsigned)__builtin_clzll(us);
  index = (octave - 5u) * FLOOR_HIST_SUB +
          (unsigned)((us >> (octave - 6u)) & (FLOOR_HIST_SUB - 1));
  return index < FLOOR_HIST_LEN ? index : FLOOR_HIST_LEN - 1;
}

static double hist_value(unsigned index)
{
  const unsigned octave = index / FLOOR_HIST_SUB + 5u;
  const unsigned sub = index % FLOOR_HIST_SUB;
  if(index < FLOOR_HIST_SUB)
    return index;
  return ((double)(FLOOR_HIST_SUB + sub) + 0.5) *
         (double)((uint64_t)1 << (octave - 6u));
}

void floor_hist_add(floor_hist *h, uint64_t us)
{
  h->bucket[hist_index(us)]++;
  h->count++;
}

double floor_hist_ms(const floor_hist *h, double q)
{
  const double want = q * (double)h->count;
  uint64_t seen = 0;
  unsigned i;
  for(i = 0; i < FLOOR_HIST_LEN; i++) {
    seen += h->bucket[i];
    if(h->bucket[i] && (double)seen >= want)
      return hist_value(i) / 1000.0;
  }
  return 0;
}
