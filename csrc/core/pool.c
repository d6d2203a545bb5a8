/* pool.c - see pool.h. */
#define _GNU_SOURCE
#include "pool.h"

#include "lane.h"
#include "lc_alloc.h"
#include "lc_live.h"
#include "queue.h"
#include "reactor.h"
#include "slot.h"
#include "socks.h"
#include "watch.h"
#include "xfer.h"

#include <string.h>
#include <sys/socket.h>

#define TLS_WEIGHT 16 /* libcurl starts the handshake in the same run: half a millisecond and more */
#define RESOLVED_FOR (50000 * LC_MS) /* libcurl keeps a name for 60 s */

/* ---- life ---- */

lc_pool *lc_pool_new(lc_reactor *r)
{
  lc_pool *pool = lc_calloc(1, sizeof(*pool));
  if(!pool)
    return NULL;
  pool->refs = 1;
  pool->reactor = lc_reactor_ref(r);
  pool->next = r->pools;
  if(pool->next)
    pool->next->prev = pool;
  r->pools = pool;
  lc_live_add(LC_LIVE_POOL, 1);
  return pool;
}

lc_rc lc_pool_open(lc_pool *pool)
{
  CURLSHcode code;
  pool->share = curl_share_init();
  if(!pool->share)
    return LC_ERR_NOMEM;
  /* one thread uses it, so it needs no locks */
  code = curl_share_setopt(pool->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
  if(!code)
    code = curl_share_setopt(pool->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
  if(code)
    return LC_ERR_CURL;
  pool->opened = 1;
  return LC_OK;
}

static void config_free(lc_pool_config *c)
{
  lc_free(c->proxy);
  lc_free(c->proxy_userpwd);
  lc_free(c->cert);
  lc_free(c->cert_key);
  lc_free(c->cert_password);
  lc_free(c->cainfo);
  lc_free(c->capath);
  lc_free(c->interface_name);
  lc_free(c->unix_socket);
  lc_free(c->ca_blob);
  lc_free(c->ciphers);
  lc_free(c->ciphersuites);
  lc_free(c->sockopts);
  curl_slist_free_all(c->proxy_headers);
  lc_tls_unref(c->tls.store);
}

static void origin_free(lc_origin *origin)
{
  int i;
  for(i = 0; i < 3; i++)
    while(origin->lanes[i])
      lc_lane_free(origin->lanes[i]);
  lc_free(origin->key);
  lc_free(origin);
  lc_live_add(LC_LIVE_ORIGIN, -1);
}

static void pool_free(lc_pool *pool)
{
  lc_reactor *r = pool->reactor;
  unsigned i;

  LC_ASSERT(!pool->queue.count && !pool->active);
  for(i = 0; i < LC_ORIGIN_BUCKETS; i++) {
    while(pool->origins[i]) {
      lc_origin *origin = pool->origins[i];
      pool->origins[i] = origin->next;
      origin_free(origin);
    }
  }
  while(pool->slots) {
    lc_slot *slot = pool->slots;
    pool->slots = slot->next;
    lc_slot_free(slot);
  }
  if(pool->share) {
    CURLSHcode code = curl_share_cleanup(pool->share);
    LC_ASSERT(!code);
    (void)code;
  }
  config_free(&pool->config);
  if(pool->prev)
    pool->prev->next = pool->next;
  else
    r->pools = pool->next;
  if(pool->next)
    pool->next->prev = pool->prev;
  lc_free(pool);
  lc_live_add(LC_LIVE_POOL, -1);
  lc_reactor_unref(r);
}

lc_pool *lc_pool_ref(lc_pool *pool)
{
  pool->refs++;
  return pool;
}

void lc_pool_unref(lc_pool *pool)
{
  if(--pool->refs == 0)
    pool_free(pool);
}

typedef void origin_fn(lc_origin *origin, void *arg);

static void each_origin(lc_pool *pool, origin_fn *fn, void *arg)
{
  unsigned i;
  lc_origin *origin;
  for(i = 0; i < LC_ORIGIN_BUCKETS; i++)
    for(origin = pool->origins[i]; origin; origin = origin->next)
      fn(origin, arg);
}

static void end_queue(lc_queue *q)
{
  while(q->head)
    lc_xfer_finish(q->head, LC_END_CLOSED, CURLE_ABORTED_BY_CALLBACK);
}

static void end_transfers(lc_origin *origin, void *arg)
{
  int i;
  (void)arg;
  end_queue(&origin->waiting);
  for(i = 0; i < 3; i++) {
    lc_lane *lane = origin->lanes[i];
    while(lane) {
      lc_lane *next = lane->next;
      if(!lane->xfers) {
        lane = next;
        continue;
      }
      lc_xfer_finish(lane->xfers, LC_END_CLOSED, CURLE_ABORTED_BY_CALLBACK);
      lane = origin->lanes[i]; /* the list has changed: from its start */
    }
  }
}

static void sweep_origin(lc_origin *origin, void *arg)
{
  int all = *(int *)arg;
  int i;
  for(i = 0; i < 3; i++) {
    lc_lane *lane = origin->lanes[i];
    while(lane) {
      lc_lane *next = lane->next;
      if(!lane->active && (all || lane->dead || lane->broken))
        lc_lane_free(lane);
      lane = next;
    }
  }
}

void lc_pool_sweep(lc_pool *pool, int all)
{
  each_origin(pool, sweep_origin, &all);
}

void lc_pool_close(lc_pool *pool, int abort)
{
  pool->closed = 1;
  lc_pool_ref(pool); /* ending a transfer may drop the last reference */
  if(abort) {
    end_queue(&pool->queue);
    each_origin(pool, end_transfers, NULL);
  }
  lc_pool_sweep(pool, 1);
  if(lc_reactor_over(pool->reactor))
    lc_watch_remove(pool->reactor); /* a Call that somebody keeps keeps its pool, but there is nothing to watch */
  lc_pool_unref(pool);
}

static void tell_foreign(lc_pool *pool, uint8_t request)
{
  lc_reactor *r = pool->reactor;
  pthread_mutex_lock(&r->foreign_lock);
  if(!pool->foreign_request) {
    pool->foreign_next = r->foreign_pools;
    r->foreign_pools = pool;
  }
  pool->foreign_request |= request;
  lc_evset_wake(&r->ev);
  pthread_mutex_unlock(&r->foreign_lock);
}

void lc_pool_close_foreign(lc_pool *pool)
{
  tell_foreign(pool, LC_FOREIGN_CLOSE);
}

void lc_pool_release_foreign(lc_pool *pool)
{
  tell_foreign(pool, LC_FOREIGN_RELEASE);
}

uint32_t lc_pool_waiting(const lc_pool *pool)
{
  uint32_t count = pool->queue.count;
  const lc_origin *origin;
  unsigned i;
  for(i = 0; i < LC_ORIGIN_BUCKETS; i++)
    for(origin = pool->origins[i]; origin; origin = origin->next)
      count += origin->waiting.count;
  return count;
}

/* ---- origins and targets ---- */

static unsigned bucket_of(const char *key, size_t len)
{
  unsigned hash = 2166136261u; /* FNV-1a */
  size_t i;
  for(i = 0; i < len; i++)
    hash = (hash ^ (unsigned char)key[i]) * 16777619u;
  return hash % LC_ORIGIN_BUCKETS;
}

static lc_origin *origin_get(lc_pool *pool, const char *key, size_t len, int https, int named)
{
  unsigned bucket = bucket_of(key, len);
  lc_origin *origin;

  for(origin = pool->origins[bucket]; origin; origin = origin->next)
    if(!strncmp(origin->key, key, len) && !origin->key[len])
      return origin;
  origin = lc_calloc(1, sizeof(*origin));
  if(!origin)
    return NULL;
  origin->key = lc_strndup(key, len);
  if(!origin->key) {
    lc_free(origin);
    return NULL;
  }
  origin->pool = pool;
  origin->https = https ? 1 : 0;
  origin->named = named && !pool->config.proxy && !pool->config.unix_socket;
  origin->width = https ? LC_WIDTH_TLS : LC_WIDTH_H1;
  if(pool->config.http2 && (https || !pool->config.http1))
    origin->width = LC_WIDTH_H2;
  else
    origin->proto = LC_PROTO_H1;
  origin->next = pool->origins[bucket];
  pool->origins[bucket] = origin;
  lc_live_add(LC_LIVE_ORIGIN, 1);
  return origin;
}

lc_target *lc_target_new(lc_pool *pool, const char *url, size_t url_len, const char *key, size_t key_len, int https, int named)
{
  lc_target *t = lc_calloc(1, sizeof(*t));
  if(!t)
    return NULL;
  t->url = lc_strndup(url, url_len);
  t->origin = origin_get(pool, key, key_len, https, named);
  if(!t->url || !t->origin) {
    lc_free(t->url);
    lc_free(t);
    return NULL;
  }
  t->url_len = (uint32_t)url_len;
  t->pool = pool;
  t->refs = 1;
  lc_live_add(LC_LIVE_TARGET, 1);
  return t;
}

lc_rc lc_target_route(lc_target *t, const char *request_target, const char *connect_to)
{
  if(request_target) {
    t->request_target = lc_strndup(request_target, strlen(request_target));
    if(!t->request_target)
      return LC_ERR_NOMEM;
  }
  if(connect_to) {
    size_t len = strlen(connect_to);
    char *rule = lc_malloc(len + 3);
    if(!rule)
      return LC_ERR_NOMEM;
    memcpy(rule, "::", 2); /* for any host and port: the URL names one */
    memcpy(rule + 2, connect_to, len + 1);
    t->connect_to = curl_slist_append(NULL, rule);
    lc_free(rule);
    if(!t->connect_to)
      return LC_ERR_NOMEM;
  }
  return LC_OK;
}

lc_target *lc_target_ref(lc_target *t)
{
  t->refs++;
  return t;
}

void lc_target_unref(lc_target *t)
{
  if(t && --t->refs == 0) {
    lc_free(t->url);
    lc_free(t->request_target);
    curl_slist_free_all(t->connect_to);
    lc_free(t);
    lc_live_add(LC_LIVE_TARGET, -1);
  }
}

/* ---- admission ---- */

/* An idle connection that has said something is no longer listened to: a goodbye after that shows only here. */
static int has_left(const lc_lane *lane)
{
  lc_reactor *r = lane->origin->pool->reactor;
  if(lane->origin->proto != LC_PROTO_H2 || !lane->origin->https || lane->active || lane->socks != 1 || lane->fd < 0 ||
     r->socks[lane->fd].mask != LC_EV_HUP || !lc_sock_alerted(lane->fd))
    return 0;
  lc_sock_died(r, lane->fd);
  return 1;
}

static lc_lane *pick_lane(lc_origin *origin, int *no_fd)
{
  while(origin->lanes[LC_LANES_IDLE]) {
    lc_lane *lane = origin->lanes[LC_LANES_IDLE];
    if(!has_left(lane))
      return lane;
    origin->pool->sweep = 1; /* it is in the list of the full ones now */
  }
  if(origin->lanes[LC_LANES_ROOM])
    return origin->lanes[LC_LANES_ROOM];
  return lc_lane_new(origin, no_fd);
}

static int has_idle(const lc_origin *origin)
{
  return origin->lanes[LC_LANES_IDLE] != NULL;
}

/* Closes one idle connection of the pool, of another origin than `except`.
 * shutdown() ends it for both sides now; libcurl finds it dead later. */
static int retire_one(lc_pool *pool, const lc_origin *except)
{
  lc_reactor *r = pool->reactor;
  uint32_t fd;
  for(fd = 0; fd < r->socks_cap; fd++) {
    lc_sock *s = &r->socks[fd];
    if(s->lane && s->ours && !s->want && !s->dead && !s->lane->paused && s->lane->origin->pool == pool && s->lane->origin != except &&
       lc_lane_idle(s->lane)) {
      lc_lane *lane = s->lane;
      lc_sock_died(r, (int)fd);
      if(!lane->active)
        lc_lane_free(lane); /* closes it as well */
      else
        (void)shutdown((int)fd, SHUT_RDWR);
      return 1;
    }
  }
  return 0;
}

uint32_t lc_pool_idle(const lc_pool *pool)
{
  uint32_t alive = pool->conns - pool->dead;
  return alive > pool->active ? alive - pool->active : 0;
}

/* How many connections the transfers and kept connections of the pool stand for. */
static uint32_t connections_taken(const lc_pool *pool)
{
  uint32_t open = pool->conns - pool->dead;
  return pool->active > open ? pool->active : open;
}

/* 1 when the transfer at the head of the queue may start now. */
static int admitted(lc_pool *pool, lc_xfer *x)
{
  const lc_pool_config *c = &pool->config;
  lc_origin *origin = x->target->origin;

  if(c->max_in_flight && pool->active >= c->max_in_flight)
    return 0;
  if(pool->stalled)
    return 0;
  if(!c->max_connections)
    return 1;
  if(origin->proto == LC_PROTO_H2)
    return has_idle(origin) || origin->lanes[LC_LANES_ROOM] || pool->conns < c->max_connections;
  if(pool->active >= c->max_connections)
    return 0;
  if(!has_idle(origin) && connections_taken(pool) >= c->max_connections)
    return retire_one(pool, origin);
  return 1;
}

/* Out of libcurl and to the front of the queue. */
static void put_back(lc_xfer *x)
{
  lc_pool *pool = x->pool;
  if(x->target->origin->scout == x)
    lc_pool_scout_done(x->target->origin, NULL);
  if(x->lane)
    lc_lane_remove(x->lane, x);
  lc_slot_settle(x->slot, -1);
  lc_slot_give(x->slot);
  x->state = LC_XFER_QUEUED;
  x->started = x->connected = 0;
  x->in_paused = x->up_paused = 0;
  lc_queue_push_front(&pool->queue, x);
  lc_xfer_rearm(x);
  pool->reactor->start_wanted = 1;
}

static void start_one(lc_pool *pool, lc_xfer *x)
{
  lc_origin *origin = x->target->origin;
  CURLcode code = CURLE_OUT_OF_MEMORY;
  lc_reason reason = LC_END_CURL;
  lc_lane *lane;
  lc_slot *slot;
  int reuse = has_idle(origin), no_fd = 0;

  slot = lc_slot_take(pool, &code);
  if(!slot)
    goto error;
  x->started = pool->reactor->now;
  x->one_shot = !reuse && pool->keeping + lc_pool_idle(pool) >= pool->config.max_keepalive;
  code = lc_slot_load(slot, x);
  if(code) {
    slot->xfer = x;
    x->slot = slot;
    goto error;
  }
  lane = pick_lane(origin, &no_fd);
  if(!lane && no_fd) {
    lc_pool_sweep(pool, 1); /* idle ones give theirs back */
    lane = pick_lane(origin, &no_fd);
  }
  if(!lane) {
    if(no_fd && pool->active) {
      put_back(x);
      pool->stalled = 1;
      return;
    }
    reason = no_fd ? LC_END_FD_LIMIT : LC_END_CURL;
    code = no_fd ? CURLE_COULDNT_CONNECT : CURLE_OUT_OF_MEMORY;
    goto error;
  }
  switch(lc_lane_add(lane, x)) {
  case CURLM_OK:
    return;
  case CURLM_OUT_OF_MEMORY:
    code = CURLE_OUT_OF_MEMORY;
    break;
  default:
    code = CURLE_FAILED_INIT;
    break;
  }
error:
  lc_xfer_finish(x, reason, code);
}

/* The first transfer to a name resolves it for all: 5,000 at once would make
 * libcurl ask 5,000 times. */
static int waits_for_scout(lc_pool *pool, lc_xfer *x)
{
  lc_origin *origin = x->target->origin;
  if(!origin->named || has_idle(origin))
    return 0;
  if(origin->resolved && pool->reactor->now < origin->resolved + RESOLVED_FOR)
    return 0;
  if(!origin->scout) {
    origin->scout = x;
    return 0;
  }
  return origin->scout != x;
}

int lc_pool_start(lc_pool *pool, unsigned most)
{
  unsigned count = 0;

  while(pool->queue.head) {
    lc_xfer *x = pool->queue.head;
    if(!admitted(pool, x))
      return 0;
    lc_queue_remove(x);
    if(waits_for_scout(pool, x)) {
      lc_queue_push(&x->target->origin->waiting, x);
      continue;
    }
    count += x->target->origin->https && !has_idle(x->target->origin) ? TLS_WEIGHT : 1;
    start_one(pool, x);
    if(count >= most)
      return pool->queue.head != NULL;
  }
  return 0;
}

void lc_pool_scout_done(lc_origin *origin, lc_xfer *failed)
{
  lc_queue *waiting = &origin->waiting;
  origin->scout = NULL;
  while(waiting->tail) {
    lc_xfer *x = waiting->tail;
    lc_queue_remove(x);
    if(failed) {
      memcpy(x->error, failed->error, sizeof(x->error));
      lc_xfer_finish(x, LC_END_CURL, failed->code);
    }
    else
      lc_queue_push_front(&origin->pool->queue, x);
  }
  origin->pool->reactor->start_wanted = 1;
}

int lc_pool_send_fresh(lc_xfer *x)
{
  if(x->fresh)
    return 0;
  x->fresh = 1;
  x->queued = x->pool->reactor->now; /* it begins anew */
  lc_lane_forsake(x->lane);
  put_back(x);
  x->pool->reactor->stats.replays++;
  return 1;
}

int lc_pool_requeue(lc_xfer *x)
{
  lc_pool *pool = x->pool;

  if(pool->active <= 1) {
    /* nobody whose end would help; idle connections might */
    if(x->retried || !lc_pool_idle(pool))
      return 0;
    x->retried = 1;
  }
  put_back(x);
  pool->stalled = pool->active > 0;
  pool->sweep = pool->sweep_all = 1;
  return 1;
}

void lc_pool_learn(lc_origin *origin, lc_proto proto)
{
  if(origin->proto != LC_PROTO_UNKNOWN)
    return;
  origin->proto = (uint8_t)proto;
  if(proto == LC_PROTO_H1)
    origin->width = LC_WIDTH_TLS; /* fuller lanes empty by themselves */
}

void lc_pool_regroup(lc_lane *lane)
{
  lc_xfer *x, *next;
  lane->regroup = 0;
  /* the newest is the first of the list; the oldest ends at the head of the queue */
  for(x = lane->xfers; x; x = next) {
    next = x->next;
    if(!x->connected && !x->slot->opened && !x->slot->tries)
      put_back(x);
  }
}

void lc_pool_lane_settled(lc_lane *lane)
{
  lc_pool *pool = lane->origin->pool;
  /* freed at the end of the step: libcurl may be running it now */
  if(pool->closed || lane->dead || lane->broken)
    pool->sweep = 1;
}
