/* evset.c - see evset.h. */
#define _GNU_SOURCE
#include "evset.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define TAG_TIMER (UINT64_MAX)
#define TAG_WAKE (UINT64_MAX - 1)
#define POLL_BATCH 256
#define NSEC 1000000000LL

int64_t lc_now(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * NSEC + ts.tv_nsec;
}

static uint32_t to_epoll(unsigned mask)
{
  uint32_t events = 0;
  if(mask & LC_EV_IN)
    events |= EPOLLIN | EPOLLRDHUP;
  if(mask & LC_EV_HUP)
    events |= EPOLLRDHUP;
  if(mask & LC_EV_OUT)
    events |= EPOLLOUT;
  return events;
}

static lc_rc control(lc_evset *ev, int op, int fd, uint32_t events, uint64_t tag)
{
  struct epoll_event e;
  memset(&e, 0, sizeof(e));
  e.events = events;
  e.data.u64 = tag;
  return epoll_ctl(ev->epfd, op, fd, &e) ? LC_ERR_SYS : LC_OK;
}

lc_rc lc_evset_init(lc_evset *ev)
{
  ev->armed = LC_NEVER;
  ev->epfd = ev->timerfd = ev->wakefd = -1;
  ev->epfd = epoll_create1(EPOLL_CLOEXEC);
  if(ev->epfd < 0)
    goto error;
  ev->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if(ev->timerfd < 0)
    goto error;
  ev->wakefd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if(ev->wakefd < 0)
    goto error;
  if(control(ev, EPOLL_CTL_ADD, ev->timerfd, EPOLLIN, TAG_TIMER) ||
     control(ev, EPOLL_CTL_ADD, ev->wakefd, EPOLLIN, TAG_WAKE))
    goto error;
  return LC_OK;
error:
  lc_evset_close(ev);
  return LC_ERR_SYS;
}

void lc_evset_close(lc_evset *ev)
{
  int saved = errno;
  if(ev->epfd >= 0)
    close(ev->epfd);
  if(ev->timerfd >= 0)
    close(ev->timerfd);
  if(ev->wakefd >= 0)
    close(ev->wakefd);
  ev->epfd = ev->timerfd = ev->wakefd = -1;
  errno = saved;
}

lc_rc lc_evset_add(lc_evset *ev, int fd, unsigned mask, uint64_t tag)
{
  return control(ev, EPOLL_CTL_ADD, fd, to_epoll(mask), tag);
}

lc_rc lc_evset_mod(lc_evset *ev, int fd, unsigned mask, uint64_t tag)
{
  return control(ev, EPOLL_CTL_MOD, fd, to_epoll(mask), tag);
}

void lc_evset_del(lc_evset *ev, int fd)
{
  (void)control(ev, EPOLL_CTL_DEL, fd, 0, 0);
}

/* Reads the counter of a timerfd or eventfd, so that it is no longer ready. */
static void swallow(int fd)
{
  uint64_t count;
  ssize_t got;
  do
    got = read(fd, &count, sizeof(count));
  while(got < 0 && errno == EINTR);
}

int lc_evset_poll(lc_evset *ev, lc_ready *out, int max)
{
  struct epoll_event events[POLL_BATCH];
  int i, n, count = 0;

  if(max > POLL_BATCH)
    max = POLL_BATCH;
  do
    n = epoll_wait(ev->epfd, events, max, 0);
  while(n < 0 && errno == EINTR);
  for(i = 0; i < n; i++) {
    uint32_t e = events[i].events;
    unsigned mask = 0;
    if(events[i].data.u64 == TAG_TIMER) {
      swallow(ev->timerfd);
      ev->armed = LC_NEVER;
      continue;
    }
    if(events[i].data.u64 == TAG_WAKE) {
      swallow(ev->wakefd);
      continue;
    }
    if(e & EPOLLIN)
      mask |= LC_EV_IN;
    if(e & EPOLLOUT)
      mask |= LC_EV_OUT;
    if(e & (EPOLLHUP | EPOLLRDHUP))
      mask |= LC_EV_HUP;
    if(e & EPOLLERR)
      mask |= LC_EV_ERR;
    out[count].tag = events[i].data.u64;
    out[count].events = mask;
    count++;
  }
  return count;
}

int lc_evset_peek(lc_evset *ev, uint64_t *tags, int max)
{
  struct epoll_event events[POLL_BATCH];
  int n = max > 0 ? epoll_wait(ev->epfd, events, max < POLL_BATCH ? max : POLL_BATCH, 0) : 0;
  int i, count = 0;
  for(i = 0; i < n; i++)
    if(events[i].data.u64 != TAG_TIMER && events[i].data.u64 != TAG_WAKE)
      tags[count++] = events[i].data.u64;
  return count;
}

lc_rc lc_evset_arm(lc_evset *ev, int64_t due)
{
  struct itimerspec spec;
  if(due == ev->armed)
    return LC_OK;
  memset(&spec, 0, sizeof(spec));
  if(due != LC_NEVER) {
    if(due < 1)
      due = 1; /* all zero would turn the timer off */
    spec.it_value.tv_sec = (time_t)(due / NSEC);
    spec.it_value.tv_nsec = (long)(due % NSEC);
  }
  if(timerfd_settime(ev->timerfd, TFD_TIMER_ABSTIME, &spec, NULL))
    return LC_ERR_SYS;
  ev->armed = due;
  return LC_OK;
}

void lc_evset_wake(lc_evset *ev)
{
  uint64_t one = 1;
  ssize_t put;
  do
    put = write(ev->wakefd, &one, sizeof(one));
  while(put < 0 && errno == EINTR);
}
