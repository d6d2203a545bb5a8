/* lane.c - see lane.h. */
#include "lane.h"

#include "lc_alloc.h"
#include "lc_live.h"
#include "pool.h"
#include "slot.h"
#include "socks.h"
#include "tls.h"
#include "xfer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define SILENCE (5000 * LC_MS) /* a lane with transfers and no event for so long gets one perform */

/* The transfer that runs in this handle, NULL when it is none of ours. */
static lc_xfer *xfer_of(lc_lane *lane, CURL *easy)
{
  lc_xfer *x;
  char *private_data = NULL;
  if(!curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private_data) && private_data)
    return ((lc_slot *)(void *)private_data)->xfer;
  for(x = lane->xfers; x; x = x->next)
    if(x->slot->easy == easy)
      return x;
  return NULL;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp)
{
  lc_lane *lane = userp;
  unsigned want = 0;
  lc_rc rc;
  (void)socketp;
  if(what == CURL_POLL_IN || what == CURL_POLL_INOUT)
    want |= LC_EV_IN;
  if(what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
    want |= LC_EV_OUT;
  rc = lc_sock_want(lane->origin->pool->reactor, fd, lane, want);
  if(rc) {
    /* -1 would make libcurl abort all transfers of the lane; this one must not
       wait for an event that cannot come */
    lc_xfer *x = xfer_of(lane, easy);
    lane->unwatched = 1;
    if(x) {
      x->os_errno = rc == LC_ERR_NOMEM ? ENOMEM : errno;
      x->unwatched = 1;
    }
  }
  return 0;
}

static int on_timer(CURLM *multi, long ms, void *userp)
{
  lc_lane *lane = userp;
  lc_reactor *r = lane->origin->pool->reactor;
  (void)multi;
  if(ms < 0)
    lc_timer_clear(&lane->timer);
  else if(ms == 0) {
    lc_timer_clear(&lane->timer);
    lc_lane_kick(lane);
  }
  else
    lc_timer_set(&r->timers, &lane->timer, lc_now() + ms * LC_MS);
  return 0;
}

lc_lane *lc_lane_new(lc_origin *origin, int *no_fd)
{
  lc_lane *lane = lc_calloc(1, sizeof(*lane));
  lc_timers *timers = &origin->pool->reactor->timers;
  CURLMcode code;

  *no_fd = 0;
  if(!lane)
    return NULL;
  if(lc_timers_reserve(timers, 2)) {
    lc_free(lane);
    return NULL;
  }
  lane->origin = origin;
  lane->fd = -1;
  lc_timer_init(&lane->timer, LC_TIMER_LANE);
  lc_timer_init(&lane->watch, LC_TIMER_WATCH);
  errno = 0;
  lane->multi = curl_multi_init();
  if(!lane->multi) {
    *no_fd = errno == EMFILE || errno == ENFILE; /* libcurl 8 makes descriptors of its own */
    goto error;
  }
  code = curl_multi_setopt(lane->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  if(!code)
    code = curl_multi_setopt(lane->multi, CURLMOPT_SOCKETDATA, lane);
  if(!code)
    code = curl_multi_setopt(lane->multi, CURLMOPT_TIMERFUNCTION, on_timer);
  if(!code)
    code = curl_multi_setopt(lane->multi, CURLMOPT_TIMERDATA, lane);
  if(!code)
    code = curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS, (long)origin->width * 2);
  if(!code)
    code = curl_multi_setopt(lane->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)LC_WIDTH_H2);
  if(!code)
    code = curl_multi_setopt(lane->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
#if LIBCURL_VERSION_NUM >= 0x081400
  if(!code)
    code = curl_multi_setopt(lane->multi, CURLMOPT_QUICK_EXIT, 1L); /* never wait for a look-up */
#endif
  if(code)
    goto error;
  lc_live_add(LC_LIVE_LANE, 1);
  lc_lane_relist(lane);
  return lane;
error:
  if(lane->multi)
    curl_multi_cleanup(lane->multi);
  lc_timers_release(timers, 2);
  lc_free(lane);
  return NULL;
}

static void unlist(lc_lane *lane)
{
  if(!lane->where)
    return;
  if(lane->prev)
    lane->prev->next = lane->next;
  else
    lane->origin->lanes[lane->where - 1] = lane->next;
  if(lane->next)
    lane->next->prev = lane->prev;
  lane->next = lane->prev = NULL;
  lane->where = 0;
}

uint32_t lc_lane_idle(const lc_lane *lane)
{
  uint32_t alive = lane->socks - lane->dead;
  return alive > lane->active ? alive - lane->active : 0;
}

void lc_lane_relist(lc_lane *lane)
{
  lc_origin *origin = lane->origin;
  uint8_t where;

  /* libcurl may take a connection whose peer has left for a live one */
  if(lane->active >= origin->width || lane->dead || lane->broken)
    where = LC_LANES_FULL;
  else if(origin->proto == LC_PROTO_H2 ? lane->socks > 0 : lc_lane_idle(lane))
    where = LC_LANES_IDLE;
  else
    where = LC_LANES_ROOM;
  if(lane->where == where + 1)
    return;
  unlist(lane);
  lane->next = origin->lanes[where];
  if(lane->next)
    lane->next->prev = lane;
  origin->lanes[where] = lane;
  lane->where = (uint8_t)(where + 1);
}

static void unkick(lc_lane *lane)
{
  lc_reactor *r = lane->origin->pool->reactor;
  lc_lane **link = &r->kick_head;
  lc_lane *before = NULL;

  if(!lane->kicked)
    return;
  while(*link && *link != lane) {
    before = *link;
    link = &(*link)->kick_next;
  }
  *link = lane->kick_next;
  if(r->kick_tail == lane)
    r->kick_tail = before;
  lane->kicked = 0;
}

void lc_lane_free(lc_lane *lane)
{
  lc_reactor *r = lane->origin->pool->reactor;
  LC_ASSERT(!lane->active && !lane->xfers);
  curl_multi_cleanup(lane->multi); /* closes its sockets: the table forgets them */
  if(lane->socks)
    lc_socks_forget(r, lane);
  unkick(lane);
  unlist(lane);
  lc_timer_remove(&r->timers, &lane->timer);
  lc_timer_remove(&r->timers, &lane->watch);
  lc_timers_release(&r->timers, 2);
  lc_free(lane);
  lc_live_add(LC_LIVE_LANE, -1);
}

void lc_lane_kick(lc_lane *lane)
{
  lc_reactor *r = lane->origin->pool->reactor;
  if(lane->kicked)
    return;
  lane->kicked = 1;
  lane->kick_next = NULL;
  if(r->kick_tail)
    r->kick_tail->kick_next = lane;
  else
    r->kick_head = lane;
  r->kick_tail = lane;
}

CURLMcode lc_lane_add(lc_lane *lane, lc_xfer *x)
{
  lc_pool *pool = x->pool;
  lc_reactor *r = pool->reactor;
  CURLMcode code;

  x->lane = lane;
  x->started = r->now;
  x->state = LC_XFER_ACTIVE;
  code = curl_multi_add_handle(lane->multi, x->slot->easy);
  if(code) {
    x->lane = NULL;
    return code;
  }
  x->prev = NULL;
  x->next = lane->xfers;
  if(x->next)
    x->next->prev = x;
  lane->xfers = x;
  lane->active++;
  lane->added++;
  pool->active++;
  if(!x->one_shot)
    pool->keeping++;
  pool->started_total++;
  r->stats.started++;
  lc_lane_relist(lane);
  lc_lane_kick(lane);
  lc_xfer_rearm(x);
  lane->last_event = r->now;
  lc_timer_set(&r->timers, &lane->watch, r->now + SILENCE);
  return CURLM_OK;
}

void lc_lane_remove(lc_lane *lane, lc_xfer *x)
{
  lc_pool *pool = x->pool;

  if(curl_multi_remove_handle(lane->multi, x->slot->easy)) {
    /* freeing the handle leaves its connection, perhaps in the middle of an
       answer, with the CURLM: nobody else may get it */
    x->slot->spoiled = 1;
    lane->broken = 1;
    pool->sweep = 1;
  }
  if(x->prev)
    x->prev->next = x->next;
  else
    lane->xfers = x->next;
  if(x->next)
    x->next->prev = x->prev;
  x->next = x->prev = NULL;
  x->lane = NULL;
  lane->active--;
  pool->active--;
  pool->stalled = 0;
  if(!x->one_shot)
    pool->keeping--;
  if(x->counted_paused) {
    x->counted_paused = 0;
    lane->paused--;
  }
  if(!lane->active) {
    lc_reactor *r = pool->reactor;
    int64_t keep = pool->config.keepalive_expiry;
    lane->last_event = r->now;
    /* the timer is lazy: this moves nothing in the heap */
    lc_timer_set(&r->timers, &lane->watch, keep ? r->now + keep : LC_NEVER);
    lc_pool_lane_settled(lane);
  }
  lc_lane_relist(lane);
}

void lc_lane_forsake(lc_lane *lane)
{
  if(lane->origin->proto == LC_PROTO_H2) {
    lane->broken = 1;
    lane->origin->pool->sweep = 1;
  }
}

void lc_lane_mistrust(lc_lane *lane, int64_t since)
{
  const lc_pool *pool = lane->origin->pool;
  if(lane->active > 1 && pool->config.max_connections && pool->conns >= pool->config.max_connections)
    return; /* there is no other connection to be had as long as this one is in use */
  if(lane->heard < since)
    lc_lane_forsake(lane);
}

/* An error answer that came before all of the body was sent: libcurl 8 then resets the stream itself, and
 * may take that for a failure. It says these words only after the answer's end. */
static int whole_answer(const lc_xfer *x, CURLcode result)
{
  return result == CURLE_HTTP2_STREAM && x->head.complete && x->head.status >= 400 &&
         (x->head.content_length < 0 || (uint64_t)x->head.content_length == x->received) &&
         strstr(x->slot->error, "reset by curl (error 0x5 ");
}

/* Ends what libcurl says is done. */
static void harvest(lc_lane *lane)
{
  CURLMsg *msg;
  int left;

  if(lane->regroup)
    lc_pool_regroup(lane);
  while((msg = curl_multi_info_read(lane->multi, &left)) != NULL) {
    CURLcode result = msg->data.result; /* msg goes with remove_handle */
    lc_slot *slot;
    lc_xfer *x;

    if(msg->msg != CURLMSG_DONE)
      continue;
    x = xfer_of(lane, msg->easy_handle);
    if(!x)
      continue;
    slot = x->slot;
    if(!result && !x->head.complete)
      result = CURLE_PARTIAL_FILE; /* libcurl takes a head cut short for a whole one */
    if(whole_answer(x, result))
      result = CURLE_OK;
    if(result == CURLE_HTTP2 || result == CURLE_RECV_ERROR || result == CURLE_SEND_ERROR)
      lc_lane_forsake(lane);
    if(result && slot->emfile && lc_pool_requeue(x))
      continue;
    if(result && slot->refused && slot->replay && lc_pool_send_fresh(x))
      continue;
    if(result && lc_xfer_may_resend(x, result) && lc_pool_send_fresh(x))
      continue;
    if(result && x->bad_head) {
      result = CURLE_WEIRD_SERVER_REPLY;
      snprintf(slot->error, sizeof(slot->error), "%s",
               x->reason == LC_END_TOO_LARGE ? "the header of the answer is larger than allowed"
               : x->head.switching           ? "the server switched to another protocol (101), which llmcurl does not speak"
                                             : "the header of the answer is not one of HTTP");
    }
    if(result && x->no_memory) {
      slot->error[0] = '\0'; /* libcurl saw something else */
      lc_xfer_finish(x, LC_END_NO_MEMORY, CURLE_OUT_OF_MEMORY);
    }
    else if(result && (slot->refused || result == CURLE_SEND_FAIL_REWIND))
      lc_xfer_finish(x, LC_END_STALE, result);
    else if(result && slot->emfile)
      lc_xfer_finish(x, LC_END_FD_LIMIT, result);
    else
      lc_xfer_finish(x, (lc_reason)x->reason, result);
  }
}

/* Ends transfers of the lane: those whose socket is unwatched, or all. */
static void end_some(lc_lane *lane, int all, CURLcode code, const char *text)
{
  lc_xfer *x = lane->xfers;
  while(x) {
    lc_xfer *next = x->next;
    if(all || x->unwatched) {
      if(x->unwatched) {
        snprintf(x->slot->error, sizeof(x->slot->error), "the kernel cannot watch its socket, errno %d", x->os_errno);
        code = x->os_errno == ENOMEM ? CURLE_OUT_OF_MEMORY : CURLE_FAILED_INIT;
      }
      else
        snprintf(x->slot->error, sizeof(x->slot->error), "%s", text);
      lc_xfer_finish(x, code == CURLE_OUT_OF_MEMORY ? LC_END_NO_MEMORY : LC_END_CURL, code);
      next = lane->xfers; /* ending one may end others that waited for it */
    }
    x = next;
  }
}

/* After each call that lets libcurl work: what is done, and what has failed. */
static void settle(lc_lane *lane, CURLMcode code)
{
  harvest(lane);
  if(lane->unwatched) {
    lane->unwatched = 0;
    /* streams of one connection have one socket */
    end_some(lane, lane->origin->proto == LC_PROTO_H2, CURLE_FAILED_INIT, "the kernel cannot watch its connection's socket");
  }
  if(code) {
    /* libcurl says nothing about the state of the single transfers then */
    lane->broken = 1;
    lane->origin->pool->sweep = 1;
    end_some(lane, 1, code == CURLM_OUT_OF_MEMORY ? CURLE_OUT_OF_MEMORY : CURLE_FAILED_INIT, curl_multi_strerror(code));
  }
  lc_lane_relist(lane);
}

/* The transfer on whose connection bytes wait inside OpenSSL, NULL = there are none. */
static lc_xfer *unread(const lc_lane *lane)
{
  lc_xfer *x;
  for(x = lane->xfers; x; x = x->next) {
    int waits = lc_tls_unread(x->slot->easy);
    if(waits > 0)
      return x;
    if(!waits && lane->socks == 1)
      break; /* the others are on the same connection */
  }
  return NULL;
}

/* libcurl stops reading a connection when the stream that it reads for has ended, and counts on the socket
 * to show the rest: what OpenSSL has taken out already it does not show. Twice without news, and the rest
 * is the begin of a record, or for transfers that are paused. */
static void read_rest(lc_lane *lane)
{
  lc_reactor *r = lane->origin->pool->reactor;
  lc_xfer *x;
  int idle = 0;

  while(lane->ahead && idle < 2 && (x = unread(lane)) != NULL) {
    const lc_xfer *news = r->news_tail;
    const uint64_t finished = r->stats.finished;
    curl_socket_t fd = CURL_SOCKET_BAD;
    int running = 0;
    if(curl_easy_getinfo(x->slot->easy, CURLINFO_ACTIVESOCKET, &fd) || fd == CURL_SOCKET_BAD)
      break;
    settle(lane, curl_multi_socket_action(lane->multi, fd, CURL_CSELECT_IN, &running));
    if(r->stats.finished == finished && r->news_tail == news)
      idle++;
  }
}

/* libcurl sends each stream's request by itself. Corked (tcp(7)), the kernel puts those of one run into
 * few segments: most of what a small send costs is the way through the stack. Returns the life of the
 * socket that was corked, 0 = none. */
static uint32_t cork(lc_lane *lane)
{
  lc_reactor *r = lane->origin->pool->reactor;
  int on = 1;

  if(lane->added < 2 || lane->origin->proto != LC_PROTO_H2 || lane->socks != 1 || lane->fd < 0)
    return 0;
  if(setsockopt(lane->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)))
    return 0; /* a Unix socket */
  return r->socks[lane->fd].gen;
}

static void uncork(lc_lane *lane, int fd, uint32_t gen)
{
  lc_reactor *r = lane->origin->pool->reactor;
  int off = 0;
  if(gen && r->socks[fd].lane == lane && r->socks[fd].gen == gen)
    (void)setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
}

/* libcurl has said what is wrong with a transfer, and lets it wait: it ended the HTTP/2 session for an error of
 * the peer's, and will fail its transfers when they are run again, which no event may ask for. It says things of
 * transfers that go on as well. `fresh`: something that was not said before. */
static int troubled(lc_lane *lane, int fresh)
{
  lc_xfer *x;
  if(lane->origin->proto != LC_PROTO_H2)
    return 0;
  for(x = lane->xfers; x && (!x->slot->error[0] || (fresh && x->slot->looked)); x = x->next)
    ;
  if(x)
    x->slot->looked = 1;
  return x != NULL;
}

/* After each run that settle() has seen. `finished` and `news` are from before it: a run with either has moved on. */
static void look_after(lc_lane *lane, uint64_t finished, const lc_xfer *news)
{
  const lc_reactor *r = lane->origin->pool->reactor;
  int running = 0;
  read_rest(lane);
  if(r->stats.finished == finished && r->news_tail == news && troubled(lane, 1))
    settle(lane, curl_multi_perform(lane->multi, &running));
}

void lc_lane_run(lc_lane *lane)
{
  const lc_reactor *r = lane->origin->pool->reactor;
  const lc_xfer *news = r->news_tail;
  const uint64_t finished = r->stats.finished;
  int running = 0;
  int fd = lane->fd;
  uint32_t corked = cork(lane);
  CURLMcode code;

  lane->added = 0;
  code = curl_multi_socket_action(lane->multi, CURL_SOCKET_TIMEOUT, 0, &running);
  uncork(lane, fd, corked);
  settle(lane, code);
  look_after(lane, finished, news);
}

void lc_lane_event(lc_lane *lane, int fd, unsigned events)
{
  lc_reactor *r = lane->origin->pool->reactor;
  const lc_xfer *news = r->news_tail;
  const uint64_t finished = r->stats.finished;
  int running = 0, bits = 0;

  if(events & (LC_EV_IN | LC_EV_HUP))
    bits |= CURL_CSELECT_IN;
  if(events & LC_EV_OUT)
    bits |= CURL_CSELECT_OUT;
  if(events & LC_EV_ERR)
    bits |= CURL_CSELECT_ERR;
  lane->last_event = r->now;
  if(events & LC_EV_IN)
    lane->heard = r->now;
  if(events & LC_EV_ERR)
    r->socks[fd].reset = 1;
  settle(lane, curl_multi_socket_action(lane->multi, fd, bits, &running));
  look_after(lane, finished, news);
}

void lc_lane_watch(lc_lane *lane)
{
  lc_pool *pool = lane->origin->pool;
  lc_reactor *r = pool->reactor;

  if(!lane->active) {
    lc_lane_free(lane); /* keep-alive is over */
    return;
  }
  if((r->now >= lane->last_event + SILENCE && lane->timer.want == LC_NEVER && lane->origin->https) || troubled(lane, 0)) {
    uint64_t before = r->stats.finished;
    int running = 0;
    lc_xfer *news = r->news_tail;
    lane->last_event = r->now;
    settle(lane, curl_multi_perform(lane->multi, &running));
    if(r->stats.finished != before || r->news_tail != news)
      r->stats.rescues++; /* something had been left lying */
  }
  lc_timer_set(&r->timers, &lane->watch, r->now + SILENCE);
}
