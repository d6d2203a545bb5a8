/* xfer.c - see xfer.h. */
#include "xfer.h"

#include "headers.h"
#include "lane.h"
#include "lc_alloc.h"
#include "lc_live.h"
#include "pool.h"
#include "queue.h"
#include "slot.h"
#include "watch.h"

#include <string.h>

#define SPARES 4096 /* recycled transfers kept */
#define BODY_KEEP 16384 /* bytes of buffer a recycled transfer keeps */
#define UPLOAD_LOW 65536

lc_xfer *lc_xfer_new(lc_target *target, lc_headers *headers)
{
  lc_pool *pool = target->pool;
  lc_reactor *r = pool->reactor;
  lc_xfer *x = r->free_xfers;

  if(x) {
    r->free_xfers = x->next;
    r->free_count--;
    x->next = NULL;
  }
  else {
    if(lc_timers_reserve(&r->timers, 1))
      return NULL;
    x = lc_calloc(1, sizeof(*x));
    if(!x) {
      lc_timers_release(&r->timers, 1);
      return NULL;
    }
    lc_timer_init(&x->timer, LC_TIMER_XFER);
  }
  lc_head_init(&x->head, pool->config.max_head); /* a recycled one holds no memory here: see lc_xfer_free */
  lc_buf_init(&x->in, pool->config.max_body);
  lc_buf_init(&x->up, SIZE_MAX / 2);
  x->pool = lc_pool_ref(pool);
  x->target = lc_target_ref(target);
  x->headers = lc_headers_ref(headers);
  x->up_len = -1;
  lc_live_add(LC_LIVE_XFER, 1);
  return x;
}

const char lc_method_names[LC_OTHER][8] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

void lc_xfer_set_known_method(lc_xfer *x, lc_method method)
{
  x->method = (uint8_t)method;
  memcpy(x->method_name, lc_method_names[method], sizeof(lc_method_names[method]));
}

lc_rc lc_xfer_set_method(lc_xfer *x, const char *name, size_t len)
{
  static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  size_t i;

  if(!len || len >= sizeof(x->method_name) || memchr(name, '\0', len))
    return LC_ERR_PARSE;
  memcpy(x->method_name, name, len);
  x->method_name[len] = '\0';
  if(strspn(x->method_name, token) != len)
    return LC_ERR_PARSE;
  x->method = LC_OTHER;
  for(i = 0; i < LC_OTHER; i++) {
    if(!strcmp(lc_method_names[i], x->method_name)) {
      x->method = (uint8_t)i;
      break;
    }
  }
  return LC_OK;
}

/* Only this thread writes it; the watcher reads it. */
static void count_unfinished(lc_reactor *r, int change)
{
  uint32_t now = atomic_load_explicit(&r->unfinished, memory_order_relaxed) + (uint32_t)change;
  atomic_store_explicit(&r->unfinished, now, memory_order_relaxed);
}

lc_rc lc_xfer_submit(lc_xfer *x)
{
  lc_pool *pool = x->pool;
  if(pool->closed)
    return LC_ERR_STATE;
  x->created = x->queued = lc_now();
  x->state = LC_XFER_QUEUED;
  lc_queue_push(&pool->queue, x);
  pool->reactor->start_wanted = 1;
  count_unfinished(pool->reactor, 1);
  if(LC_UNLIKELY(atomic_load_explicit(&pool->reactor->unwatched, memory_order_relaxed)))
    lc_watch_rouse(pool->reactor);
  if(x->timeouts.pool || x->timeouts.total)
    lc_xfer_rearm(x);
  return LC_OK;
}

void lc_xfer_tell(lc_xfer *x, unsigned news)
{
  lc_reactor *r = x->pool->reactor;
  x->news |= (uint8_t)news;
  if(x->in_news)
    return;
  x->in_news = 1;
  x->news_next = NULL;
  if(r->news_tail)
    r->news_tail->news_next = x;
  else
    r->news_head = x;
  r->news_tail = x;
}

void lc_xfer_drop(lc_xfer *x)
{
  lc_reactor *r = x->pool->reactor;
  x->owner = NULL;
  if(x->dropped)
    return;
  x->dropped = 1;
  x->drop_next = r->drop_head;
  r->drop_head = x;
}

void lc_xfer_drop_foreign(lc_xfer *x)
{
  lc_reactor *r = x->pool->reactor;
  x->owner = NULL;
  pthread_mutex_lock(&r->foreign_lock);
  x->foreign = 1;
  x->drop_next = r->foreign_drops;
  r->foreign_drops = x;
  lc_evset_wake(&r->ev);
  pthread_mutex_unlock(&r->foreign_lock);
}

void lc_xfer_collect_times(lc_xfer *x)
{
  CURL *easy = x->slot->easy;
  curl_off_t dns = 0, conn = 0, tls = 0, sent = 0, first = 0, done = 0;
  long fresh = 0;

  /* what libcurl does not tell counts as not having happened */
  (void)curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &fresh);
  x->new_connections = (uint32_t)fresh;
  if(fresh || !x->connected) {
    (void)curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &dns);
    (void)curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &conn);
    (void)curl_easy_getinfo(easy, CURLINFO_APPCONNECT_TIME_T, &tls);
  }
  (void)curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &sent);
  (void)curl_easy_getinfo(easy, CURLINFO_STARTTRANSFER_TIME_T, &first);
  (void)curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &done);
  x->times.dns = dns ? dns : -1;
  x->times.connect = conn ? conn : -1;
  x->times.tls = tls ? tls : -1;
  x->times.sent = sent ? sent : -1;
  x->times.first_byte = first ? first : -1;
  x->times.done = done;
}

static int is_tls_code(CURLcode code)
{
  switch(code) {
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CIPHER:
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_ISSUER_ERROR:
  case CURLE_SSL_CLIENTCERT:
    return 1;
  default:
    return 0;
  }
}

static uint8_t phase_of(const lc_xfer *x)
{
  if(!x->started)
    return LC_PHASE_QUEUE;
  if(!x->connected) {
    if(is_tls_code(x->code))
      return LC_PHASE_TLS;
    if(x->code == CURLE_COULDNT_CONNECT)
      return LC_PHASE_CONNECT; /* also what a proxy refused, which comes before the handshake */
    if(x->times.dns < 0 && x->target->origin->named)
      return LC_PHASE_RESOLVE;
    if(x->times.connect < 0 || !x->target->origin->https)
      return LC_PHASE_CONNECT;
    return LC_PHASE_TLS;
  }
  if(x->head.status)
    return LC_PHASE_RECEIVE;
  if(x->reason == LC_END_WRITE_TIMEOUT || (x->feeding && !x->up_eof))
    return LC_PHASE_SEND;
  return LC_PHASE_WAIT;
}

static void count_outcome(lc_xfer *x)
{
  lc_pool *pool = x->pool;
  unsigned out = LC_OUT_FAILED;

  if(!x->reason && !x->code)
    out = x->head.status >= 500 ? LC_OUT_SERVER_ERROR : x->head.status >= 400 ? LC_OUT_CLIENT_ERROR : LC_OUT_OK;
  else if(x->reason == LC_END_CLOSED || (!x->reason && x->code == CURLE_ABORTED_BY_CALLBACK))
    out = LC_OUT_CANCELLED;
  else if(x->code == CURLE_OPERATION_TIMEDOUT)
    out = LC_OUT_TIMEOUT;
  pool->outcomes[out]++;
  if(x->connected) {
    pool->reused += !x->new_connections;
    pool->bytes_sent += x->feeding ? x->sent_seen : x->body_len;
    pool->bytes_received += x->received;
  }
}

void lc_xfer_finish(lc_xfer *x, lc_reason reason, CURLcode code)
{
  lc_pool *pool = x->pool;
  lc_origin *origin = x->target->origin;

  LC_ASSERT(x->state == LC_XFER_QUEUED || x->state == LC_XFER_ACTIVE);
  x->times.dns = x->times.connect = x->times.tls = x->times.sent = x->times.first_byte = -1;
  x->times.done = 0;
  x->reason = (uint8_t)reason;
  x->code = code;
  lc_queue_remove(x);
  if(x->slot) {
    lc_xfer_collect_times(x);
    if(code && x->slot->error[0])
      memcpy(x->error, x->slot->error, sizeof(x->error));
    if(x->lane)
      lc_lane_remove(x->lane, x);
    lc_slot_settle(x->slot, -1); /* also after a first connection, when it was to be sent again */
    lc_slot_give(x->slot);
    pool->reactor->stats.finished++;
  }
  if(origin->scout == x)
    lc_pool_scout_done(origin, code == CURLE_COULDNT_RESOLVE_HOST ? x : NULL);
  x->phase_at_end = phase_of(x);
  x->state = LC_XFER_DONE;
  lc_timer_clear(&x->timer);
  count_unfinished(pool->reactor, -1);
  count_outcome(x);
  pool->reactor->start_wanted = 1;
  lc_xfer_tell(x, LC_NEWS_DONE);
}

static void free_for_good(lc_reactor *r, lc_xfer *x)
{
  lc_timer_remove(&r->timers, &x->timer);
  lc_timers_release(&r->timers, 1);
  lc_free(x);
}

void lc_xfer_free(lc_xfer *x)
{
  lc_pool *pool = x->pool;
  lc_reactor *r = pool->reactor;
  lc_timer timer;

  LC_ASSERT(x->state == LC_XFER_NEW || x->state == LC_XFER_DONE);
  LC_ASSERT(!x->in_news && !x->dropped && !x->queue && !x->body_owner && !x->slot);
  lc_target_unref(x->target);
  lc_headers_unref(x->headers);
  lc_head_free(&x->head);
  lc_spares_give(&r->spares, &x->in);
  if(r->spares.count && !atomic_load_explicit(&r->unfinished, memory_order_relaxed))
    lc_spares_trim(&r->spares, 0);
  lc_buf_free(&x->up);
  lc_live_add(LC_LIVE_XFER, -1);
  if(r->free_count >= SPARES)
    free_for_good(r, x);
  else {
    /* the timer keeps its place in the heap for its next use; the error text
       is left alone, its first byte is enough */
    timer = x->timer;
    memset(x, 0, offsetof(lc_xfer, error) + 1);
    x->timer = timer;
    lc_timer_clear(&x->timer);
    x->next = r->free_xfers;
    r->free_xfers = x;
    r->free_count++;
  }
  lc_pool_unref(pool);
}

void lc_xfer_free_spares(lc_reactor *r)
{
  while(r->free_xfers) {
    lc_xfer *x = r->free_xfers;
    r->free_xfers = x->next;
    free_for_good(r, x);
  }
  r->free_count = 0;
}

/* ---- body bytes in both directions ---- */

/* Keeps count, in its lane, of the transfers libcurl does not watch for us. */
static void note_paused(lc_xfer *x)
{
  unsigned paused = x->in_paused || x->up_paused;
  if(paused == x->counted_paused)
    return;
  x->counted_paused = paused;
  if(paused)
    x->lane->paused++;
  else
    x->lane->paused--;
}

/* Notes why bytes cannot be taken; the answer 0 makes libcurl give up. */
static size_t refuse(lc_xfer *x, lc_rc why)
{
  if(why == LC_ERR_LIMIT)
    x->reason = LC_END_TOO_LARGE;
  else if(why == LC_ERR_PARSE)
    x->bad_head = 1;
  else
    x->no_memory = 1;
  return 0;
}

size_t lc_xfer_on_body(lc_xfer *x, const char *data, size_t len)
{
  const lc_reactor *r = x->pool->reactor;
  size_t all = 0;
  lc_rc rc;
  x->activity = r->now;
  if(!x->streaming || !lc_buf_len(&x->in))
    x->arrived = r->now - r->late;
  x->bytes_due = 0; /* the timer is left alone: see lc_timer_set */
  if(x->streaming) {
    if(lc_buf_len(&x->in) >= x->in_high) {
      x->in_paused = 1; /* libcurl keeps these bytes and gives them again */
      note_paused(x);
      return CURL_WRITEFUNC_PAUSE;
    }
    rc = lc_buf_append(&x->in, data, len);
    if(rc)
      return refuse(x, rc);
    x->received += len;
    lc_xfer_tell(x, LC_NEWS_DATA);
    return len;
  }
  if(x->head.content_length > (int64_t)len && (uint64_t)x->head.content_length < x->in.max)
    all = (size_t)x->head.content_length;
  lc_spares_grow(&x->pool->reactor->spares, &x->in, len, all);
  if(!x->in.data)
    (void)lc_buf_reserve(&x->in, all); /* a hint: append reports what fails */
  rc = lc_buf_append(&x->in, data, len);
  if(rc)
    return refuse(x, rc);
  x->received += len;
  return len;
}

size_t lc_xfer_on_header(lc_xfer *x, const char *line, size_t len)
{
  const lc_reactor *r = x->pool->reactor;
  lc_rc rc;
  x->activity = r->now;
  x->arrived = r->now - r->late;
  rc = lc_head_line(&x->head, line, len);
  if(rc == LC_EOF) {
    lc_origin *origin = x->target->origin;
    lc_pool_learn(origin, x->head.version >= 20 ? LC_PROTO_H2 : LC_PROTO_H1);
    if(x->streaming)
      lc_xfer_tell(x, LC_NEWS_HEAD);
    return len;
  }
  if(rc >= 0)
    return len;
  x->bad_head = rc == LC_ERR_LIMIT;
  return refuse(x, rc);
}

size_t lc_xfer_on_read(lc_xfer *x, char *out, size_t room)
{
  size_t len = lc_buf_len(&x->up);
  x->activity = x->pool->reactor->now;
  if(!len) {
    if(x->up_eof)
      return 0;
    x->up_paused = 1;
    note_paused(x);
    lc_xfer_tell(x, LC_NEWS_WANT);
    return CURL_READFUNC_PAUSE;
  }
  if(len > room)
    len = room;
  memcpy(out, lc_buf_data(&x->up), len);
  lc_buf_consume(&x->up, len);
  x->sent_seen += len;
  x->up_started = 1;
  if(!x->up_eof && lc_buf_len(&x->up) < UPLOAD_LOW)
    lc_xfer_tell(x, LC_NEWS_WANT);
  return len;
}

/* Tells libcurl which directions are paused now. */
static void apply_pause(lc_xfer *x)
{
  CURLcode code;
  lc_lane *lane = x->lane;
  int mask = (x->in_paused ? CURLPAUSE_RECV : 0) | (x->up_paused ? CURLPAUSE_SEND : 0);
  x->activity = lc_now();
  note_paused(x);
  code = curl_easy_pause(x->slot->easy, mask);
  if(code == CURLE_BAD_FUNCTION_ARGUMENT) {
    /* it has no connection at the moment: libcurl is about to send it again, and a body that is fed cannot be */
    lc_xfer_finish(x, LC_END_STALE, CURLE_SEND_FAIL_REWIND);
    return;
  }
  if(code) {
    lc_xfer_finish(x, (lc_reason)x->reason, code);
    return;
  }
  lc_xfer_rearm(x);
  lc_lane_kick(lane);
}

void lc_xfer_resume(lc_xfer *x)
{
  if(!x->in_paused || x->state != LC_XFER_ACTIVE)
    return;
  x->in_paused = 0;
  apply_pause(x);
}

lc_rc lc_xfer_feed(lc_xfer *x, const char *bytes, size_t len, int eof)
{
  lc_rc rc;
  if(x->state == LC_XFER_DONE)
    return LC_ERR_STATE;
  rc = lc_buf_append(&x->up, bytes, len);
  if(rc)
    return rc;
  if(eof)
    x->up_eof = 1;
  if(x->up_paused && x->state == LC_XFER_ACTIVE && (len || eof)) {
    x->up_paused = 0;
    apply_pause(x);
  }
  return LC_OK;
}

/* ---- connection ---- */

void lc_xfer_on_resolved(lc_xfer *x)
{
  lc_origin *origin = x->target->origin;
  origin->resolved = x->pool->reactor->now;
  if(origin->scout == x)
    lc_pool_scout_done(origin, NULL);
  if(x->staged) {
    x->opened = 1;
    lc_xfer_tell(x, LC_NEWS_WANT);
  }
}

void lc_xfer_on_connected(lc_xfer *x)
{
  if(x->staged)
    lc_xfer_tell(x, LC_NEWS_WANT);
  x->connected = x->activity = x->pool->reactor->now;
  lc_xfer_rearm(x);
}

int lc_xfer_idempotent(const lc_xfer *x)
{
  switch((lc_method)x->method) {
  case LC_GET:
  case LC_HEAD:
  case LC_PUT:
  case LC_DELETE:
  case LC_OPTIONS:
    return 1;
  default:
    return 0;
  }
}

/* The kernel counts a FIN as a byte, too. */
static int answer_begun(const lc_slot *slot, const lc_obituary *found)
{
  return found && slot->received_before != UINT64_MAX && found->received > slot->received_before + !found->reset;
}

/* Its connection, which for the first of several streams to learn of it is not closed yet. */
static int was_reset(const lc_slot *slot, const lc_obituary *found)
{
  const lc_reactor *r = slot->pool->reactor;
  int fd = slot->local_port > 0 ? r->fd_of_port[(uint16_t)slot->local_port] : 0;
  return found ? found->reset : fd > 0 && r->socks[fd].lane && r->socks[fd].reset;
}

int lc_xfer_may_replay(lc_xfer *x)
{
  const lc_slot *slot = x->slot;
  const lc_reactor *r = x->pool->reactor;
  const lc_obituary *found = NULL;
  unsigned i;

  for(i = 0; i < LC_OBITUARIES && i < r->dead_next && !found; i++) {
    const lc_obituary *o = &r->dead[(r->dead_next - 1 - i) % LC_OBITUARIES];
    if(slot->local_port > 0 && o->local_port == slot->local_port)
      found = o;
  }
  if(found)
    x->was_reset = found->reset;
  if(x->head.status || x->up_started || answer_begun(slot, found))
    return 0;
  if(lc_slot_nothing_sent(slot))
    return 1;
  if(x->target->origin->proto == LC_PROTO_H2 && !slot->error[0] && !slot->error[1] && !was_reset(slot, found))
    return 1; /* the connection did not fail: the server refused the stream unseen, on its own or with GOAWAY
                 (RFC 9113 6.8 and 8.7). Of all that makes libcurl try again only this leaves no text in the
                 error buffer, and a TCP reset, which can be seen. When the new connection stands libcurl 8.22
                 empties the buffer by its first byte (Curl_reset_fail): the second one tells */
  if(x->replay_unsent_only)
    return 0;
  return lc_xfer_idempotent(x);
}

int lc_xfer_may_resend(lc_xfer *x, CURLcode code)
{
  int broke = code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR; /* bytes may be out that were not counted */
  if(x->head.status || x->up_started || x->target->origin->proto != LC_PROTO_H2)
    return 0;
  if(!broke && code != CURLE_HTTP2 && code != CURLE_PARTIAL_FILE)
    return 0;
  if(!broke && lc_slot_nothing_sent(x->slot))
    return 1;
  return !x->new_connections && !x->replay_unsent_only && lc_xfer_idempotent(x);
}
