/* watch.c - see watch.h. */
#define _GNU_SOURCE
#include "watch.h"

#include "fdtable.h"
#include "lc_alloc.h"
#include "reactor.h"

#include <poll.h>
#include <string.h>
#include <time.h>

#define TICK (50 * LC_MS)     /* between two looks, each of which asks for a sign of life */
#define TICK_LATE (10 * LC_MS) /* while one is not given */
#define DROWSY (1000 * LC_MS) /* without transfers: then the thread sleeps */
#define ENDED 16
#define NSEC 1000000000LL

struct lc_watch {
  pthread_mutex_t lock;
  pthread_cond_t news;  /* something to look at: a reactor, a transfer, the end */
  lc_reactor *reactors; /* borrowed: a reactor leaves before it goes */
  uint64_t tokens;
  int64_t idle_since;
  uint32_t refs;    /* under lock */
  lc_late ended[ENDED]; /* the ends of waits of reactors that have left, to be told */
  uint32_t ended_count;
  int pid_gen;      /* fork generation it was made in */
  unsigned stop : 1;
  unsigned late : 1; /* something waited at the last look */
};

lc_watch *lc_watch_new(void)
{
  pthread_condattr_t attr;
  lc_watch *w = lc_calloc(1, sizeof(*w));
  int failed;

  if(!w)
    return NULL;
  if(pthread_mutex_init(&w->lock, NULL)) {
    lc_free(w);
    return NULL;
  }
  failed = pthread_condattr_init(&attr);
  if(!failed) {
    failed = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) || pthread_cond_init(&w->news, &attr);
    (void)pthread_condattr_destroy(&attr);
  }
  if(failed) {
    pthread_mutex_destroy(&w->lock);
    lc_free(w);
    return NULL;
  }
  w->refs = 1;
  w->pid_gen = lc_fork_generation();
  return w;
}

static int inherited(const lc_watch *w)
{
  return w->pid_gen != lc_fork_generation();
}

void lc_watch_unref(lc_watch *w)
{
  uint32_t left;
  if(inherited(w)) {
    /* a thread of the parent's may have held the lock: the child, which has one thread, goes without */
    if(!--w->refs)
      lc_free(w);
    return;
  }
  pthread_mutex_lock(&w->lock);
  left = --w->refs;
  pthread_mutex_unlock(&w->lock);
  if(left)
    return;
  LC_ASSERT(!w->reactors);
  pthread_cond_destroy(&w->news);
  pthread_mutex_destroy(&w->lock);
  lc_free(w);
}

uint64_t lc_watch_add(lc_watch *w, lc_reactor *r, int64_t threshold)
{
  lc_watched *s = &r->watched;

  if(s->watch) {
    if(s->watch != w || inherited(w))
      return 0;
    pthread_mutex_lock(&w->lock);
    if(threshold < s->threshold)
      s->threshold = threshold;
    pthread_mutex_unlock(&w->lock);
    return s->token;
  }
  if(!s->seen)
    s->seen = lc_calloc(LC_SEEN, sizeof(*s->seen));
  if(!s->late)
    s->late = lc_calloc(LC_SEEN, sizeof(*s->late));
  if(!s->seen || !s->late)
    return 0; /* freed with the reactor; the next one who asks tries again */
  pthread_mutex_lock(&w->lock);
  s->watch = w;
  s->token = ++w->tokens;
  s->threshold = threshold;
  s->served = atomic_load_explicit(&r->served, memory_order_relaxed);
  s->next = w->reactors;
  w->reactors = r;
  w->refs++;
  w->idle_since = 0;
  pthread_cond_signal(&w->news);
  pthread_mutex_unlock(&w->lock);
  return s->token;
}

void lc_watch_remove(lc_reactor *r)
{
  lc_watch *w = r->watched.watch;
  lc_reactor **link;

  if(!w)
    return;
  if(inherited(w)) {
    r->watched.watch = NULL;
    return;
  }
  pthread_mutex_lock(&w->lock);
  r->watched.watch = NULL; /* not sooner: the watcher's thread may be looking at it */
  if(r->watched.told && w->ended_count < ENDED) {
    lc_late *end = &w->ended[w->ended_count++];
    end->kind = LC_LATE_OVER;
    end->token = r->watched.token;
    end->thread = atomic_load_explicit(&r->thread, memory_order_relaxed);
    end->ns = r->watched.over ? r->watched.over : lc_now() - r->watched.since;
    r->watched.told = 0;
  }
  r->watched.since = 0;
  for(link = &w->reactors; *link; link = &(*link)->watched.next) {
    if(*link == r) {
      *link = r->watched.next;
      break;
    }
  }
  atomic_store_explicit(&r->noted, 0, memory_order_relaxed);
  atomic_store_explicit(&r->unwatched, 0, memory_order_relaxed);
  pthread_cond_signal(&w->news);
  pthread_mutex_unlock(&w->lock);
  lc_watch_unref(w);
}

int lc_watch_late_now(lc_watch *w, uint64_t token)
{
  const lc_reactor *r;
  int late = 0;
  pthread_mutex_lock(&w->lock);
  for(r = w->reactors; r; r = r->watched.next)
    if(r->watched.token == token)
      late = r->watched.told && !r->watched.over;
  pthread_mutex_unlock(&w->lock);
  return late;
}

unsigned lc_watch_count(lc_watch *w)
{
  unsigned count = 0;
  const lc_reactor *r;
  pthread_mutex_lock(&w->lock);
  for(r = w->reactors; r; r = r->watched.next)
    count++;
  pthread_mutex_unlock(&w->lock);
  return count;
}

void lc_watch_stop(lc_watch *w, int stop)
{
  pthread_mutex_lock(&w->lock);
  w->stop = stop ? 1 : 0;
  pthread_cond_signal(&w->news);
  pthread_mutex_unlock(&w->lock);
}

/* ---- the watcher's thread, with the lock ---- */

static int is_ready(const lc_reactor *r)
{
  struct pollfd p = {.fd = r->ev.epfd, .events = POLLIN};
  return poll(&p, 1, 0) > 0 && (p.revents & POLLIN);
}

/* Notes which sockets wait, and since when: to look takes nothing away, they are level-triggered. */
static void note_sockets(lc_reactor *r, int64_t now)
{
  lc_watched *s = &r->watched;
  uint64_t tags[LC_SEEN];
  int n = lc_evset_peek(&r->ev, tags, LC_SEEN - (int)s->seen_count);
  int i;

  for(i = 0; i < n; i++) {
    uint32_t k;
    for(k = 0; k < s->seen_count && s->seen[k].tag != tags[i]; k++)
      ;
    if(k == s->seen_count) {
      s->seen[k].tag = tags[i];
      s->seen[k].since = now;
      s->seen_count++;
    }
  }
}

static int look(lc_reactor *r, int64_t now, lc_late *out)
{
  lc_watched *s = &r->watched;
  uint64_t served = atomic_load_explicit(&r->served, memory_order_relaxed);

  if(s->over) {
    out->kind = LC_LATE_OVER;
    out->ns = s->over;
    s->over = 0;
    s->told = 0;
    return 1;
  }
  if(!atomic_load_explicit(&r->unfinished, memory_order_relaxed)) {
    s->served = served;
    return 0;
  }
  if(served != s->served) {
    s->served = served;
    s->since = 0; /* noted while that step was being made */
  }
  else if(s->since || is_ready(r)) {
    s->watch->late = 1;
    if(!s->since) {
      s->since = now;
      atomic_store_explicit(&r->noted, 1, memory_order_relaxed);
    }
    if(s->seen_count < LC_SEEN)
      note_sockets(r, now);
    if(now - s->since >= s->threshold && now >= s->tell_at) {
      out->kind = LC_LATE_NOW;
      out->ns = now - s->since;
      s->told = 1;
      s->tell_at = now + out->ns; /* twice as late, and again */
      return 1;
    }
    return 0;
  }
  if(!s->since && now >= s->pinged + TICK / 2) {
    s->pinged = s->since = now;
    atomic_store_explicit(&r->noted, 1, memory_order_relaxed);
    lc_evset_wake(&r->ev);
  }
  return 0;
}

/* Sleeps for a while; until there is something to do when no reactor has transfers. */
static void nap(lc_watch *w, int64_t now)
{
  struct timespec until;
  int64_t due = now + (w->late ? TICK_LATE : TICK);
  lc_reactor *r;
  int busy = 0;

  for(r = w->reactors; r; r = r->watched.next)
    busy |= atomic_load_explicit(&r->unfinished, memory_order_relaxed) != 0;
  if(busy || !w->idle_since)
    w->idle_since = now;
  else if(now - w->idle_since >= DROWSY) {
    for(r = w->reactors; r; r = r->watched.next)
      atomic_store_explicit(&r->unwatched, 1, memory_order_relaxed);
    due = now + DROWSY; /* and not for ever: a transfer may begin this very moment */
  }
  until.tv_sec = (time_t)(due / NSEC);
  until.tv_nsec = (long)(due % NSEC);
  (void)pthread_cond_timedwait(&w->news, &w->lock, &until);
}

int lc_watch_wait(lc_watch *w, lc_late *out)
{
  lc_reactor *r;
  int found = 0;

  lc_fdtable_grow(0); /* if the process had threads before: nobody waits for this one */
  pthread_mutex_lock(&w->lock);
  while(!found && (w->ended_count || (w->reactors && !w->stop))) {
    int64_t now = lc_now();
    w->late = 0;
    if(w->ended_count) {
      *out = w->ended[--w->ended_count];
      found = 1;
    }
    for(r = w->reactors; r && !found; r = r->watched.next) {
      found = look(r, now, out);
      if(found) {
        out->token = r->watched.token;
        out->thread = atomic_load_explicit(&r->thread, memory_order_relaxed);
      }
    }
    if(!found)
      nap(w, now);
  }
  pthread_mutex_unlock(&w->lock);
  return found;
}

/* ---- the reactor's thread ---- */

/* Four buckets an octave, from a microsecond on. */
static unsigned bucket_of(int64_t ns)
{
  uint64_t us = (uint64_t)(ns / 1000);
  unsigned octave, index;
  if(us < 4)
    return (unsigned)us;
  octave = 63 - (unsigned)__builtin_clzll(us);
  index = octave * 4 - 4 + (unsigned)((us >> (octave - 2)) & 3);
  return index < LC_LAGS ? index : LC_LAGS - 1;
}

static int64_t top_of(unsigned bucket)
{
  unsigned octave = bucket / 4 + 1;
  if(bucket < 4)
    return (bucket + 1) * 1000LL;
  return (int64_t)(((uint64_t)(bucket % 4) + 5) << (octave - 2)) * 1000;
}

void lc_watch_served(lc_reactor *r, int64_t now)
{
  lc_watched *s = &r->watched;
  lc_watch *w = s->watch;
  int64_t late;

  if(!w)
    return;
  pthread_mutex_lock(&w->lock);
  atomic_store_explicit(&r->noted, 0, memory_order_relaxed);
  late = s->since && now > s->since ? now - s->since : 0;
  if(s->since) {
    s->lags[bucket_of(late)]++;
    s->lag_count++;
    if(late > s->lag_max)
      s->lag_max = late;
  }
  if(s->told) {
    s->over = late > 0 ? late : 1;
    s->blocks++;
    pthread_cond_signal(&w->news);
  }
  s->since = s->tell_at = 0;
  memcpy(s->late, s->seen, s->seen_count * sizeof(*s->seen));
  s->late_count = s->seen_count;
  s->seen_count = 0;
  pthread_mutex_unlock(&w->lock);
}

void lc_watch_rouse(lc_reactor *r)
{
  lc_watch *w = r->watched.watch;
  lc_reactor *other;
  if(!w)
    return;
  pthread_mutex_lock(&w->lock);
  for(other = w->reactors; other; other = other->watched.next)
    atomic_store_explicit(&other->unwatched, 0, memory_order_relaxed);
  w->idle_since = 0;
  pthread_cond_signal(&w->news);
  pthread_mutex_unlock(&w->lock);
}

int64_t lc_watch_late(const lc_reactor *r, uint64_t tag)
{
  const lc_watched *s = &r->watched;
  uint32_t i;
  for(i = 0; i < s->late_count; i++)
    if(s->late[i].tag == tag)
      return r->now > s->late[i].since ? r->now - s->late[i].since : 0;
  return 0;
}

int64_t lc_watch_lag(const lc_reactor *r, double part)
{
  const lc_watched *s = &r->watched;
  double wanted = part * (double)s->lag_count;
  uint64_t sum = 0;
  unsigned i;

  if(!s->lag_count)
    return -1;
  if(part >= 1.0)
    return s->lag_max;
  for(i = 0; i < LC_LAGS; i++) {
    sum += s->lags[i];
    if((double)sum >= wanted)
      break;
  }
  return top_of(i) < s->lag_max ? top_of(i) : s->lag_max;
}
