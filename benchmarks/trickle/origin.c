/* origin.c - a server of very many slow event streams, cheap enough not to be what is measured.
 *
 *   origin STREAMS EVENTS INTERVAL_MS     prints its port, serves until killed
 *
 * Each request gets the head of a chat stream at once. When STREAMS requests are there, each stream
 * gets EVENTS chunks, one every INTERVAL_MS in a phase of its own, so that each comes alone on its
 * connection and they are spread evenly over the time. The text of a chunk is "STREAM/NUMBER ", of
 * 6 and 4 digits. After the last come [DONE] and the end of the answer; then the next STREAMS
 * requests are waited for. One thread, epoll, no allocation after the start.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536
#define HEAD                                                                                       \
  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define CHUNK                                                                                      \
  "data: {\"id\":\"chatcmpl-9XbGjQ2wVhN1\",\"object\":\"chat.completion.chunk\","                  \
  "\"created\":1760000000,\"model\":\"bench-1\",\"choices\":[{\"index\":0,"                        \
  "\"delta\":{\"content\":\"%06d/%04d \"},\"finish_reason\":null}]}\n\n"
#define LAST "data: [DONE]\n\n"

struct conn {
  char got[4096]; /* of the request */
  unsigned len;
};

static struct conn *conns[MAX_FD];
static int *streams; /* their descriptors, in the order of the requests; -1: gone */
static int wanted, events, interval, ready;

static void die(const char *what)
{
  perror(what);
  exit(1);
}

static uint64_t now_us(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void drop(int fd)
{
  for(int i = 0; i < ready; i++)
    if(streams[i] == fd)
      streams[i] = -1;
  close(fd);
}

/* What does not fit into the socket's buffer would have to be kept: with a reader that lags so
 * far the measurement is void anyway. */
static void put(int i, const char *bytes, size_t len)
{
  if(streams[i] >= 0 && send(streams[i], bytes, len, MSG_NOSIGNAL) != (ssize_t)len) {
    fprintf(stderr, "stream %d lags or is gone\n", i);
    drop(streams[i]);
  }
}

static void request(int fd)
{
  if(ready >= wanted) {
    fprintf(stderr, "more than %d streams\n", wanted);
    drop(fd);
    return;
  }
  streams[ready] = fd;
  put(ready++, HEAD, sizeof(HEAD) - 1);
}

static void readable(int fd)
{
  struct conn *c = conns[fd];
  ssize_t n = recv(fd, c->got + c->len, sizeof(c->got) - 1 - c->len, 0);
  char *body, *length;

  if(n <= 0) {
    if(n == 0 || (errno != EAGAIN && errno != EINTR))
      drop(fd);
    return;
  }
  c->len += (unsigned)n;
  c->got[c->len] = '\0';
  body = strstr(c->got, "\r\n\r\n");
  if(!body)
    return;
  body += 4;
  length = strcasestr(c->got, "\r\ncontent-length:");
  if(length && (size_t)(c->got + c->len - body) < strtoul(length + 17, NULL, 10))
    return;
  c->len = 0;
  request(fd);
}

static void accept_all(int listener, int ep)
{
  for(;;) {
    struct epoll_event ev = {.events = EPOLLIN};
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if(fd < 0)
      return;
    if(fd >= MAX_FD || (!conns[fd] && !(conns[fd] = malloc(sizeof(struct conn)))))
      die("too many connections");
    conns[fd]->len = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    ev.data.fd = fd;
    if(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
      die("epoll_ctl");
  }
}

static void give(int i, int number)
{
  char data[512], chunk[600];
  int len = snprintf(data, sizeof(data), CHUNK, i, number);
  if(number == events - 1)
    len += snprintf(data + len, sizeof(data) - (size_t)len, LAST);
  len = snprintf(chunk, sizeof(chunk), "%x\r\n%s\r\n%s", (unsigned)len, data,
                 number == events - 1 ? "0\r\n\r\n" : "");
  put(i, chunk, (size_t)len);
}

int main(int argc, char **argv)
{
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof(a);
  struct epoll_event ev = {.events = EPOLLIN}, got[512];
  struct rlimit files;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0);
  uint64_t begin = 0, given = 0, total;

  if(argc != 4)
    return 2;
  wanted = atoi(argv[1]), events = atoi(argv[2]), interval = atoi(argv[3]);
  total = (uint64_t)wanted * (uint64_t)events;
  streams = calloc((size_t)wanted, sizeof(*streams));
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  if(!streams || bind(listener, (struct sockaddr *)&a, size) || listen(listener, 65535) ||
     getsockname(listener, (struct sockaddr *)&a, &size))
    die("listen");
  ev.data.fd = listener;
  epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
  printf("%d\n", ntohs(a.sin_port));
  fflush(stdout);
  for(;;) {
    int n = epoll_wait(ep, got, 512, ready == wanted ? 1 : -1);
    for(int i = 0; i < n; i++) {
      if(got[i].data.fd == listener)
        accept_all(listener, ep);
      else
        readable(got[i].data.fd);
    }
    if(ready < wanted)
      continue;
    if(!begin)
      begin = now_us() + 1000000u; /* all have their heads and come to rest */
    /* the `given`-th event of all is due so many us after the begin */
    for(uint64_t now = now_us(); given < total && now >= begin; given++) {
      if(now < begin + given * (uint64_t)interval * 1000u / (uint64_t)wanted)
        break;
      give((int)(given % (uint64_t)wanted), (int)(given / (uint64_t)wanted));
    }
    if(given == total)
      ready = 0, begin = 0, given = 0;
  }
}
