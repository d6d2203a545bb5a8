/* floor_stats.h - clocks, CPU time, memory, latency histogram.
 *
 * Job: measure. Not its job: printing. Used by: floor.c. Threads: one.
 */
#ifndef FLOOR_STATS_H
#define FLOOR_STATS_H

#include <stdint.h>

/* Latencies in buckets of 1/64 of an octave from 1 us up: about 1 % wide. */
#define FLOOR_HIST_SUB 64
#define FLOOR_HIST_LEN (40 * FLOOR_HIST_SUB)

typedef struct floor_hist {
  uint64_t count;
  uint32_t bucket[FLOOR_HIST_LEN];
} floor_hist;

/* Monotonic clock, microseconds. */
uint64_t floor_now_us(void);
/* CPU time of all threads of this process, user + system, microseconds. */
uint64_t floor_cpu_us(void);
/* Resident memory now and at its peak, KB. */
long floor_rss_kb(void);
long floor_peak_rss_kb(void);

void floor_hist_add(floor_hist *h, uint64_t us);
/* The quantile `q` (0..1) in milliseconds; 0 of an empty histogram. */
double floor_hist_ms(const floor_hist *h, double q);

#endif
