/* floor_opts.c - command line of the floor.
 *
 * Job: parse the options, build the request body. Not its job: acting on them.
 * Used by: floor.c. Threads: one.
 */
#include "floor_opts.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
  "usage: floor [options] URL\n"
  "  -c, --inflight N   calls in flight (64)\n"
  "  -n, --calls N      measured calls (default: --seconds)\n"
  "  -t, --seconds S    length of the measurement (3)\n"
  "  -w, --width W      transfers per lane (16; HTTP/2 64)\n"
  "  -b, --body N       bytes of the POST body (1024); 0: GET\n"
  "      --body-file F  the POST body\n"
  "  -H, --header L     a further header line (up to 15)\n"
  "      --warmup N     calls before the measurement (2 x in flight)\n"
  "      --http2        HTTP/2 (over TLS by ALPN, else prior knowledge)\n"
  "      --ca FILE      trust this PEM file only\n"
  "      --expect FILE  every answer must equal this file (the first answer)\n"
  "      --sse          count server-sent events\n"
  "      --no-sticky    unwatch sockets whenever libcurl asks for it\n"
  "      --ramp N       start at most N calls per turn (256)\n"
  "      --batch N      events per epoll_wait (128)\n";

/* The bytes in quotes make a chat completion request of exactly `len` bytes
 * where that is possible, else filler. Owned by the caller. */
static char *make_body(size_t len)
{
  static const char head[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
                             "\"content\":\"";
  static const char tail[] = "\"}]}";
  const size_t head_len = sizeof(head) - 1, tail_len = sizeof(tail) - 1;
  char *body = malloc(len + 1);
  if(!body)
    return NULL;
  memset(body, 'x', len);
  body[len] = '\0';
  if(len >= head_len + tail_len) {
    memcpy(body, head, head_len);
    memcpy(body + len - tail_len, tail, tail_len);
  }
  return body;
}

/* The whole file, owned by the caller; NULL after a message on stderr. */
static char *read_file(const char *path, size_t *len)
{
  char *data = NULL;
  size_t cap = 65536;
  FILE *f = fopen(path, "rb");
  *len = 0;
  while(f) {
    char *more = realloc(data, cap);
    if(!more)
      break;
    data = more;
    *len += fread(data + *len, 1, cap - *len, f);
    if(*len < cap) {
      if(ferror(f))
        break;
      fclose(f);
      return data;
    }
    cap *= 2;
  }
  perror(path);
  free(data);
  if(f)
    fclose(f);
  return NULL;
}

enum { O_BODY_FILE = 256, O_WARMUP, O_HTTP2, O_CA, O_EXPECT, O_SSE, O_NOSTICKY,
       O_RAMP, O_BATCH };

static const struct option longopts[] = {
  { "inflight", required_argument, NULL, 'c' },
  { "calls", required_argument, NULL, 'n' },
  { "seconds", required_argument, NULL, 't' },
  { "width", required_argument, NULL, 'w' },
  { "body", required_argument, NULL, 'b' },
  { "header", required_argument, NULL, 'H' },
  { "body-file", required_argument, NULL, O_BODY_FILE },
  { "warmup", required_argument, NULL, O_WARMUP },
  { "http2", no_argument, NULL, O_HTTP2 },
  { "ca", required_argument, NULL, O_CA },
  { "expect", required_argument, NULL, O_EXPECT },
  { "sse", no_argument, NULL, O_SSE },
  { "no-sticky", no_argument, NULL, O_NOSTICKY },
  { "ramp", required_argument, NULL, O_RAMP },
  { "batch", required_argument, NULL, O_BATCH },
  { NULL, 0, NULL, 0 }
};

int floor_opts_parse(floor_opts *o, int argc, char **argv)
{
  const char *body_file = NULL, *expect_file = NULL;
  long body = 1024;
  size_t headers = 0;
  int c;
  memset(o, 0, sizeof(*o));
  o->inflight = 64;
  o->seconds = 3;
  o->warmup = -1;
  o->ramp = 256;
  o->batch = 128;
  o->sticky = 1;
  while((c = getopt_long(argc, argv, "c:n:t:w:b:H:h", longopts, NULL)) != -1) {
    switch(c) {
    case 'c': o->inflight = atol(optarg); break;
    case 'n': o->calls = atol(optarg); break;
    case 't': o->seconds = atof(optarg); break;
    case 'w': o->width = atol(optarg); break;
    case 'b': body = atol(optarg); break;
    case O_BODY_FILE: body_file = optarg; break;
    case 'H':
      if(headers < sizeof(o->headers) / sizeof(o->headers[0]) - 1)
        o->headers[headers++] = optarg;
      break;
    case O_WARMUP: o->warmup = atol(optarg); break;
    case O_HTTP2: o->http2 = 1; break;
    case O_CA: o->ca = optarg; break;
    case O_EXPECT: expect_file = optarg; break;
    case O_SSE: o->sse = 1; break;
    case O_NOSTICKY: o->sticky = 0; break;
    case O_RAMP: o->ramp = atol(optarg); break;
    case O_BATCH: o->batch = atol(optarg); break;
    default: fputs(usage, stderr); return -1;
    }
  }
  if(optind + 1 != argc || o->inflight < 1 || o->calls < 0 || body < 0 ||
     o->ramp < 1 || o->batch < 1 || o->width < 0) {
    fputs(usage, stderr);
    return -1;
  }
  o->url = argv[optind];
  if(!o->width)
    o->width = o->http2 ? 64 : 16;
  if(o->warmup < 0)
    o->warmup = 2 * o->inflight;
  if(expect_file && !(o->expect = read_file(expect_file, &o->expect_len)))
    return -1;
  if(body_file) {
    o->body = read_file(body_file, &o->body_len);
    return o->body ? 0 : -1;
  }
  if(body) {
    o->body = make_body((size_t)body);
    o->body_len = (size_t)body;
    return o->body ? 0 : -1;
  }
  return 0;
}
