/* floor_opts.h - command line of the floor.
 *
 * Job: parse and hold the options. Not its job: acting on them.
 * Used by: floor.c. Threads: one.
 */
#ifndef FLOOR_OPTS_H
#define FLOOR_OPTS_H

#include <stddef.h>

typedef struct floor_opts {
  const char *url;
  const char *ca;       /* PEM bundle; NULL: libcurl's default */
  char *expect;         /* owned: the expected answer; NULL: the first answer */
  size_t expect_len;
  char *body;           /* owned: the request body; NULL: GET */
  size_t body_len;
  const char *headers[16]; /* further header lines, NULL at the end */
  long inflight;        /* calls in flight */
  long calls;           /* measured calls; 0: `seconds` decides */
  double seconds;
  long warmup;          /* calls before the measurement; -1: 2 * inflight */
  long width;           /* transfers per lane; 0: 16, with HTTP/2 64 */
  long ramp;            /* calls started per turn of the loop at most */
  long batch;           /* events taken per epoll_wait */
  int http2;
  int sse;              /* count events of the answer */
  int sticky;           /* keep fds in the epoll set between requests */
} floor_opts;

/* Fills `o`; prints what is wrong and returns -1, or 0. */
int floor_opts_parse(floor_opts *o, int argc, char **argv);

#endif
