/* test_threads.c - what several threads do to the core at once, for ThreadSanitizer.
 *
 * Three threads have a reactor each and make transfers; one HTTP peer answers
 * or stays silent. Two more give transfers up and close and release pools from
 * outside, as an interpreter's threads do when they deallocate; like these they
 * hold a lock (the GIL) that a reactor gives back while it steps. A watcher looks
 * at all reactors. scripts/test_c.py --tsan threads. */
#include "check.h"

#include "evset.h"
#include "headers.h"
#include "lc_live.h"
#include "pool.h"
#include "reactor.h"
#include "watch.h"
#include "xfer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#define REACTORS 3
#define ROUNDS 12
#define CALLS 24
#define HANDED 64

static pthread_mutex_t gil = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t handed = PTHREAD_COND_INITIALIZER;
static lc_xfer *drops[HANDED]; /* transfers for the outsiders to give up, under gil */
static lc_pool *pools[HANDED]; /* pools for them to release */
static int drop_count, pool_count, over;
static int port;
static _Atomic int answered, given_up;

/* ---- the peer ---- */

static void *serve_one(void *arg)
{
  static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  int fd = (int)(intptr_t)arg;
  char in[4096];
  ssize_t n;
  while((n = read(fd, in, sizeof(in))) > 0) {
    if(memmem(in, (size_t)n, "/stall", 6))
      continue;
    if(write(fd, answer, sizeof(answer) - 1) < 0)
      break;
  }
  close(fd);
  return NULL;
}

static void *serve(void *arg)
{
  int fd;
  while((fd = accept(*(int *)arg, NULL, NULL)) >= 0) {
    pthread_t t;
    if(pthread_create(&t, NULL, serve_one, (void *)(intptr_t)fd))
      abort();
    pthread_detach(t);
  }
  return NULL;
}

/* ---- outsiders ---- */

static void *outsider(void *arg)
{
  (void)arg;
  pthread_mutex_lock(&gil);
  for(;;) {
    if(drop_count)
      lc_xfer_drop_foreign(drops[--drop_count]);
    else if(pool_count) {
      lc_pool *pool = pools[--pool_count];
      lc_pool_close_foreign(pool);
      lc_pool_release_foreign(pool);
    }
    else if(over)
      break;
    else
      pthread_cond_wait(&handed, &gil);
    pthread_mutex_unlock(&gil);
    pthread_mutex_lock(&gil);
  }
  pthread_mutex_unlock(&gil);
  return NULL;
}

static void *watcher(void *arg)
{
  lc_late late;
  lc_watch *w = arg;
  while(lc_watch_wait(w, &late) || lc_watch_count(w))
    ;
  return NULL;
}

/* ---- a loop with its reactor ---- */

static lc_pool *new_pool(lc_reactor *r)
{
  lc_pool *pool = lc_pool_new(r);
  lc_pool_config *c = &pool->config;
  c->http1 = c->verify_peer = c->verify_host = 1;
  c->max_keepalive = UINT32_MAX;
  c->max_body = c->max_head = c->stream_high = 1 << 16;
  c->keepidle = c->keepintvl = 60;
  if(lc_pool_open(pool))
    abort();
  return pool;
}

static void submit(lc_pool *pool, lc_headers *headers, int stall, int *waiting)
{
  char url[64];
  lc_target *target;
  lc_xfer *x;
  int len = snprintf(url, sizeof(url), "http://127.0.0.1:%d/%s", port, stall ? "stall" : "ok");
  target = lc_target_new(pool, url, (size_t)len, url, strcspn(url + 7, "/") + 7, 0, 0);
  x = lc_xfer_new(target, headers);
  lc_xfer_set_known_method(x, LC_GET);
  x->owner = waiting;
  x->timeouts.total = 20000 * LC_MS;
  if(lc_xfer_submit(x))
    abort();
  lc_target_unref(target);
  (*waiting)++;
  if(stall) {
    /* its owner is "deallocated" by another thread */
    drops[drop_count++] = x;
    (*waiting)--;
    given_up++;
    pthread_cond_signal(&handed);
  }
}

/* The news, as reactor_obj.c delivers them: under the lock. */
static void deliver(lc_reactor *r)
{
  lc_xfer *x;
  while((x = lc_reactor_next_news(r)) != NULL) {
    unsigned news = x->news;
    x->news = 0;
    if(x->owner && !(news & LC_NEWS_DONE))
      continue;
    if(x->owner) {
      CHECK(x->code == CURLE_OK && x->head.status == 200 && lc_buf_len(&x->in) == 2);
      --*(int *)x->owner;
      x->owner = NULL;
      answered++;
    }
    if(!x->dropped && !x->foreign && (x->state == LC_XFER_DONE || x->state == LC_XFER_NEW))
      lc_xfer_free(x);
  }
}

static void turn(lc_reactor *r)
{
  struct pollfd p = {r->ev.epfd, POLLIN, 0};
  int more;
  pthread_mutex_unlock(&gil);
  more = lc_reactor_step(r, 2 * LC_MS);
  if(!more)
    (void)poll(&p, 1, 20);
  pthread_mutex_lock(&gil);
  deliver(r);
}

static void *loop(void *arg)
{
  lc_watch *w = arg;
  lc_reactor *r = lc_reactor_new();
  lc_headers *headers = lc_headers_new();
  int round, n;

  if(lc_headers_add(headers, "X-A: b"))
    abort();
  pthread_mutex_lock(&gil);
  CHECK(lc_watch_add(w, r, 50 * LC_MS) != 0);
  for(round = 0; round < ROUNDS; round++) {
    lc_pool *pool = new_pool(r);
    int waiting = 0;
    for(n = 0; n < CALLS; n++) {
      while(drop_count == HANDED)
        turn(r);
      submit(pool, headers, n % 6 == 5, &waiting);
    }
    while(waiting)
      turn(r);
    while(pool_count == HANDED)
      turn(r);
    pools[pool_count++] = pool;
    pthread_cond_signal(&handed);
  }
  for(n = 0; n < 2000 && r->pools; n++)
    turn(r);
  CHECK(!r->pools);
  lc_watch_remove(r);
  lc_headers_unref(headers);
  lc_reactor_unref(r);
  pthread_mutex_unlock(&gil);
  return NULL;
}

int main(void)
{
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof(at);
  pthread_t server, loops[REACTORS], others[2], watching;
  int listener = socket(AF_INET, SOCK_STREAM, 0), i, kind;
  lc_watch *w;

  if(lc_global_init() || bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 1024) ||
     getsockname(listener, (struct sockaddr *)&at, &len))
    abort();
  port = ntohs(at.sin_port);
  w = lc_watch_new();
  pthread_create(&server, NULL, serve, &listener);
  for(i = 0; i < 2; i++)
    pthread_create(&others[i], NULL, outsider, NULL);
  for(i = 0; i < REACTORS; i++)
    pthread_create(&loops[i], NULL, loop, w);
  usleep(1000); /* the watcher ends when nothing is left to be watched */
  pthread_create(&watching, NULL, watcher, w);
  for(i = 0; i < REACTORS; i++)
    pthread_join(loops[i], NULL);
  pthread_mutex_lock(&gil);
  over = 1;
  pthread_cond_broadcast(&handed);
  pthread_mutex_unlock(&gil);
  for(i = 0; i < 2; i++)
    pthread_join(others[i], NULL);
  lc_watch_stop(w, 1);
  pthread_join(watching, NULL);
  lc_watch_unref(w);
  shutdown(listener, SHUT_RDWR);
  pthread_join(server, NULL);
  close(listener);
  CHECK(answered == REACTORS * ROUNDS * CALLS / 6 * 5 && given_up == REACTORS * ROUNDS * CALLS / 6);
  for(kind = 0; kind < LC_LIVE_KINDS; kind++)
    CHECK(lc_live_get(kind) == 0);
  return check_done("threads");
}
