/* reactor.c - see reactor.h. */
#define _GNU_SOURCE
#include "reactor.h"

#include "fdtable.h"
#include "lane.h"
#include "lc_alloc.h"
#include "lc_live.h"
#include "pool.h"
#include "socks.h"
#include "watch.h"
#include "xfer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 256
#define PORTS 65536
#define KICKS 512 /* libcurl may ask to be run again at once, but not for ever */

lc_reactor *lc_reactor_new(void)
{
  lc_reactor *r = lc_calloc(1, sizeof(*r));
  if(!r) {
    errno = ENOMEM;
    return NULL;
  }
  if(lc_evset_init(&r->ev)) {
    lc_free(r);
    return NULL;
  }
  if(pthread_mutex_init(&r->foreign_lock, NULL)) {
    lc_evset_close(&r->ev);
    lc_free(r);
    errno = ENOMEM;
    return NULL;
  }
  lc_fdtable_grow(1);
  lc_timers_init(&r->timers);
  r->fd_of_port = lc_calloc(PORTS, sizeof(*r->fd_of_port));
  if(!r->fd_of_port) {
    lc_evset_close(&r->ev);
    pthread_mutex_destroy(&r->foreign_lock);
    lc_free(r);
    errno = ENOMEM;
    return NULL;
  }
  r->refs = 1;
  r->now = lc_now();
  r->pid_gen = lc_fork_generation();
  lc_live_add(LC_LIVE_REACTOR, 1);
  return r;
}

lc_reactor *lc_reactor_ref(lc_reactor *r)
{
  r->refs++;
  return r;
}

void lc_reactor_unref(lc_reactor *r)
{
  if(--r->refs)
    return;
  LC_ASSERT(!r->pools);
  lc_xfer_free_spares(r);
  lc_spares_trim(&r->spares, 1);
  lc_timers_free(&r->timers);
  lc_watch_remove(r);
  lc_evset_close(&r->ev);
  pthread_mutex_destroy(&r->foreign_lock);
  lc_free(r->watched.seen);
  lc_free(r->watched.late);
  lc_free(r->socks);
  lc_free(r->fd_of_port);
  lc_free(r);
  lc_live_add(LC_LIVE_REACTOR, -1);
}

lc_xfer *lc_reactor_next_news(lc_reactor *r)
{
  lc_xfer *x = r->news_head;
  if(x) {
    r->news_head = x->news_next;
    if(!r->news_head)
      r->news_tail = NULL;
    x->news_next = NULL;
    x->in_news = 0;
  }
  return x;
}

static void take_foreign(lc_reactor *r)
{
  lc_xfer *drops;
  lc_pool *pools;

  pthread_mutex_lock(&r->foreign_lock);
  drops = r->foreign_drops;
  pools = r->foreign_pools;
  r->foreign_drops = NULL;
  r->foreign_pools = NULL;
  pthread_mutex_unlock(&r->foreign_lock);
  while(drops) {
    lc_xfer *x = drops;
    drops = x->drop_next;
    x->foreign = 0;
    lc_xfer_drop(x);
  }
  while(pools) {
    lc_pool *pool = pools;
    uint8_t request;
    pools = pool->foreign_next;
    pthread_mutex_lock(&r->foreign_lock);
    request = pool->foreign_request;
    pool->foreign_request = 0;
    pthread_mutex_unlock(&r->foreign_lock);
    lc_pool_close(pool, request & LC_FOREIGN_CLOSE);
    if(request & LC_FOREIGN_RELEASE)
      lc_pool_unref(pool);
  }
}

/* Stops the transfers nobody waits for. They come out as news, to be freed. */
static void apply_drops(lc_reactor *r)
{
  while(r->drop_head) {
    lc_xfer *x = r->drop_head;
    r->drop_head = x->drop_next;
    x->drop_next = NULL;
    x->dropped = 0;
    r->stats.cancelled++;
    if(x->state == LC_XFER_QUEUED || x->state == LC_XFER_ACTIVE)
      lc_xfer_finish(x, LC_END_CURL, CURLE_ABORTED_BY_CALLBACK);
    else
      lc_xfer_tell(x, LC_NEWS_DONE);
  }
}

/* Runs the lanes that asked for it, until `until`: none if that is over, for one
 * run may start several TLS handshakes, milliseconds. Lanes that ask again while
 * they are run wait for the next step after a few rounds. */
static void run_kicked(lc_reactor *r, int64_t until)
{
  unsigned left = KICKS;
  while(r->kick_head && left-- && r->now < until) {
    lc_lane *lane = r->kick_head;
    r->kick_head = lane->kick_next;
    if(!r->kick_head)
      r->kick_tail = NULL;
    lane->kicked = 0;
    lane->kick_next = NULL;
    lc_lane_run(lane);
    r->now = lc_now();
  }
}

/* An event on a connection that libcurl is not watching. */
static void idle_event(lc_reactor *r, lc_sock *s, int fd, unsigned events)
{
  lc_lane *lane = s->lane;
  char byte;

  if(s->ours && !(events & ~(unsigned)LC_EV_OUT)) {
    /* libcurl 8 may read an answer in the very run that sent the request: room
       to send is still watched for then, which tells nothing of an idle one */
    lc_sock_rest(r, fd);
    return;
  }
  if(s->ours && (!lane->paused || !lane->active)) {
    int gone = (events & (LC_EV_HUP | LC_EV_ERR)) != 0;
    if(!gone && !lane->origin->https) {
      /* an end of file, or an answer nobody asked for: of no use any more. HTTP/2 has
         frames that ask for nothing; libcurl reads them before it uses the connection */
      ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
      gone = !got || (got > 0 && lane->origin->proto != LC_PROTO_H2);
    }
    else if(!gone && !lane->active && lane->origin->proto == LC_PROTO_H2)
      gone = lc_sock_alerted(fd); /* libcurl 8.22 overlooks it */
    if(gone) {
      lc_sock_died(r, fd);
      lc_pool_lane_settled(lane);
      return;
    }
  }
  lc_sock_mute(r, fd);
}

/* Serves ready sockets until `until`; what is left shows again at once. */
static void poll_once(lc_reactor *r, int64_t until)
{
  lc_ready ready[BATCH];
  int n = lc_evset_poll(&r->ev, ready, BATCH);
  int more = n == BATCH;
  int i;

  for(i = 0; i < n; i++) {
    int fd;
    lc_sock *s = lc_sock_of_tag(r, ready[i].tag, &fd);
    unsigned events = ready[i].events;
    unsigned wanted;
    if(!s)
      continue; /* closed by an event served before it */
    wanted = s->want;
    if(!wanted) {
      idle_event(r, s, fd, events);
      continue;
    }
    if(!(events & (LC_EV_HUP | LC_EV_ERR)) && !(events & wanted)) {
      lc_sock_mute(r, fd);
      continue;
    }
    if((events & (LC_EV_IN | LC_EV_HUP)) && !(wanted & LC_EV_IN)) {
      /* the peer talks or leaves while libcurl only sends: it must not come up
         again and again, and the sender is told by its own direction */
      lc_sock_mute(r, fd);
      events = (events & ~(unsigned)(LC_EV_IN | LC_EV_HUP)) | (events & LC_EV_HUP ? LC_EV_OUT : 0);
    }
    if(r->watched.late_count)
      r->late = lc_watch_late(r, ready[i].tag);
    lc_lane_event(s->lane, fd, events);
    r->now = lc_now(); /* one event may be a TLS handshake: a millisecond */
    if(r->now >= until) {
      more = 1;
      break;
    }
  }
  r->late = 0;
  if(!more)
    r->watched.late_count = 0;
}

static void run_timers(lc_reactor *r)
{
  lc_timer *timer;
  while((timer = lc_timers_pop(&r->timers, r->now)) != NULL) {
    switch(timer->kind) {
    case LC_TIMER_LANE:
      lc_lane_kick(LC_CONTAINER_OF(timer, lc_lane, timer));
      break;
    case LC_TIMER_WATCH:
      lc_lane_watch(LC_CONTAINER_OF(timer, lc_lane, watch));
      break;
    default:
      lc_xfer_expired(LC_CONTAINER_OF(timer, lc_xfer, timer));
      break;
    }
  }
}

static int start_pools(lc_reactor *r, int64_t until)
{
  lc_pool *pool;
  int more = 0;

  r->start_wanted = 0;
  for(pool = r->pools; pool; pool = pool->next) {
    /* a lane's worth is started and run at a time: running is where the cost lies */
    while(pool->queue.head && lc_pool_start(pool, LC_WIDTH_H1)) {
      r->now = lc_now();
      run_kicked(r, until);
      if(r->now >= until) {
        more = 1;
        break;
      }
    }
  }
  run_kicked(r, until);
  if(more)
    r->start_wanted = 1;
  return more;
}

static void sweep_pools(lc_reactor *r)
{
  lc_pool *pool, *next;
  for(pool = r->pools; pool; pool = next) {
    next = pool->next;
    if(pool->sweep) {
      lc_pool_sweep(pool, pool->closed || pool->sweep_all);
      pool->sweep = pool->sweep_all = 0;
    }
  }
}

int lc_reactor_pending(const lc_reactor *r)
{
  return r->start_wanted || r->kick_head || r->drop_head;
}

int lc_reactor_over(const lc_reactor *r)
{
  const lc_pool *pool;
  for(pool = r->pools; pool; pool = pool->next)
    if(!pool->closed)
      return 0;
  return !atomic_load_explicit(&r->unfinished, memory_order_relaxed);
}

int lc_reactor_step(lc_reactor *r, int64_t budget)
{
  int64_t begin = lc_now(), end;
  int more = 0;

  r->now = begin;
  r->stats.runs++;
  if(LC_UNLIKELY(atomic_load_explicit(&r->noted, memory_order_relaxed)))
    lc_watch_served(r, begin);
  atomic_store_explicit(&r->served, r->stats.runs, memory_order_relaxed); /* after the look at `noted` */
  take_foreign(r);
  apply_drops(r);
  end = begin + budget;
  /* first of all, which kept connections have died: none of them is used again */
  poll_once(r, begin + budget / 2);
  sweep_pools(r);
  /* what asked in the last step goes on even if events used this one up */
  run_kicked(r, r->now < end ? end : r->now + 1);
  if(r->start_wanted)
    more = start_pools(r, end);
  r->now = lc_now();
  run_timers(r);
  run_kicked(r, end);
  if(r->start_wanted && r->now < end)
    more = start_pools(r, end);
  sweep_pools(r);
  if(lc_evset_arm(&r->ev, lc_timers_next(&r->timers)))
    more = 1; /* without a timer only another step looks at the deadlines */
  return more || r->kick_head || r->start_wanted;
}

void lc_reactor_shutdown(lc_reactor *r)
{
  lc_pool *pool, *next;
  lc_watch_remove(r);
  take_foreign(r);
  apply_drops(r);
  for(pool = r->pools; pool; pool = next) {
    next = pool->next;
    lc_pool_close(pool, 1);
  }
}

void lc_reactor_abandon(lc_reactor *r)
{
  uint32_t fd;
  for(fd = 0; fd < r->socks_cap; fd++)
    if(r->socks[fd].lane && r->socks[fd].ours)
      close((int)fd);
  lc_evset_close(&r->ev);
}
