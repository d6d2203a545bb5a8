/* floor_watch.c - the epoll set and the sockets libcurl opens.
 *
 * Job: libcurl's socket callbacks, sticky registration, turning an event into
 * (lane, fd, bits). Not its job: calling libcurl. Used by: floor.c.
 * Threads: one.
 */
#include "floor_watch.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is known of a file descriptor. */
typedef struct watch {
  struct lane *lane;
  uint32_t gen;  /* fd numbers come back */
  uint32_t want; /* events libcurl asks for; 0: none */
  uint32_t mask; /* events registered; 0: not in the set */
  int owned;     /* opened and closed by the callbacks below */
} watch;

static struct {
  int ep, sticky;
  watch *table; /* owned, by fd */
  size_t len;
  struct epoll_event *evs; /* owned */
  long batch;
  uint64_t opened;
} w_;

void floor_fatal(const char *what)
{
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  exit(2);
}

void floor_watch_init(long batch, int sticky)
{
  w_.batch = batch;
  w_.sticky = sticky;
  w_.evs = calloc((size_t)batch, sizeof(*w_.evs));
  w_.ep = epoll_create1(EPOLL_CLOEXEC);
  if(!w_.evs || w_.ep < 0)
    floor_fatal("epoll set");
}

void floor_watch_free(void)
{
  close(w_.ep);
  free(w_.evs);
  free(w_.table);
  memset(&w_, 0, sizeof(w_));
}

uint64_t floor_watch_opened(void)
{
  return w_.opened;
}

static watch *watch_of(int fd)
{
  if((size_t)fd >= w_.len) {
    const size_t len = ((size_t)fd + 64) * 2;
    watch *table = realloc(w_.table, len * sizeof(*table));
    if(!table)
      floor_fatal("memory");
    memset(table + w_.len, 0, (len - w_.len) * sizeof(*table));
    w_.table = table;
    w_.len = len;
  }
  return &w_.table[fd];
}

static void watch_set(int fd, watch *w, uint32_t mask)
{
  struct epoll_event ev;
  const int op = !mask ? EPOLL_CTL_DEL :
                 w->mask ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if(mask == w->mask)
    return;
  ev.events = mask;
  ev.data.u64 = (uint64_t)(uint32_t)fd | ((uint64_t)w->gen << 32);
  if(epoll_ctl(w_.ep, op, fd, &ev) && op != EPOLL_CTL_DEL)
    floor_fatal("epoll_ctl");
  w->mask = mask;
}

int floor_watch_socket(CURL *easy, curl_socket_t fd, int what, void *user,
                       void *assigned)
{
  watch *w = watch_of(fd);
  (void)easy;
  (void)assigned;
  w->lane = user;
  if(what == CURL_POLL_REMOVE || what == CURL_POLL_NONE) {
    w->want = 0;
    if(!w->owned || !w_.sticky)
      watch_set(fd, w, 0);
    return 0;
  }
  w->want = ((what & CURL_POLL_IN) ? (uint32_t)EPOLLIN : 0u) |
            ((what & CURL_POLL_OUT) ? (uint32_t)EPOLLOUT : 0u);
  watch_set(fd, w, w->want);
  return 0;
}

curl_socket_t floor_watch_open(void *user, curlsocktype purpose,
                               struct curl_sockaddr *addr)
{
  const int fd = socket(addr->family,
                        addr->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                        addr->protocol);
  watch *w;
  (void)user;
  (void)purpose;
  if(fd < 0)
    return CURL_SOCKET_BAD;
  w = watch_of(fd);
  w->gen++;
  w->mask = w->want = 0;
  w->owned = 1;
  w_.opened++;
  return fd;
}

int floor_watch_close(void *user, curl_socket_t fd)
{
  watch *w = watch_of(fd);
  (void)user;
  watch_set(fd, w, 0);
  w->want = 0;
  w->owned = 0;
  w->lane = NULL;
  return close(fd);
}

int floor_watch_cork(int fd, int on)
{
  return setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

long floor_watch_wait(int ms, struct epoll_event **evs)
{
  const int n = epoll_wait(w_.ep, w_.evs, (int)w_.batch, ms);
  if(n < 0 && errno != EINTR)
    floor_fatal("epoll_wait");
  *evs = w_.evs;
  return n;
}

struct lane *floor_watch_event(const struct epoll_event *ev, int *fd,
                               int *bits)
{
  watch *w;
  *fd = (int)(uint32_t)ev->data.u64;
  w = &w_.table[*fd];
  if(w->gen != (uint32_t)(ev->data.u64 >> 32) || !w->lane)
    return NULL;
  if(!w->want) { /* idle: the server closed it, libcurl sees it on reuse */
    watch_set(*fd, w, 0);
    return NULL;
  }
  *bits = 0;
  if(ev->events & EPOLLIN)
    *bits |= CURL_CSELECT_IN;
  if(ev->events & EPOLLOUT)
    *bits |= CURL_CSELECT_OUT;
  if(ev->events & (EPOLLERR | EPOLLHUP))
    *bits |= CURL_CSELECT_ERR | CURL_CSELECT_IN;
  return w->lane;
}
