/* deadlines.c - the time-outs of one transfer: when to look next, and what has run
 * out. Declared in xfer.h; lc_xfer_rearm and lc_xfer_expired are two sides of one
 * rule and change together. */
#include "xfer.h"

#include "lane.h"
#include "slot.h"
#include "timers.h"

#define LATE (20 * LC_MS)
#define CLOCK (10 * LC_MS) /* how finely the kernel tells when bytes came */
#define SENT_AT_ONCE 65536 /* a body up to this size counts as sent with its head */

static int64_t sooner(int64_t a, int64_t b)
{
  return a < b ? a : b;
}

/* The body is large and part of it may still be with libcurl. */
static int still_sending(const lc_xfer *x)
{
  if(x->head.status)
    return 0;
  if(x->feeding)
    return !(x->up_eof && !lc_buf_len(&x->up));
  return x->body_len > SENT_AT_ONCE && x->sent_seen < x->body_len;
}

void lc_xfer_rearm(lc_xfer *x)
{
  const lc_timeouts *t = &x->timeouts;
  int64_t due = t->total ? x->created + t->total : LC_NEVER;

  if(x->bytes_due)
    due = sooner(due, x->bytes_due);
  if(x->state == LC_XFER_QUEUED) {
    if(t->pool)
      due = sooner(due, x->queued + t->pool);
  }
  else if(!x->connected) {
    if(t->connect)
      due = sooner(due, x->started + t->connect);
  }
  else if(x->in_paused || (x->up_paused && !x->head.status))
    ; /* it is the caller who lags */
  else if(still_sending(x)) {
    /* libcurl does not say when bytes leave: look four times per time-out */
    int64_t step = t->write && t->read ? sooner(t->write, t->read) : t->write + t->read;
    if(step)
      due = sooner(due, x->pool->reactor->now + step / 4 + 1);
  }
  else if(t->read)
    due = sooner(due, x->activity + t->read);
  lc_timer_set(&x->pool->reactor->timers, &x->timer, due);
}

int lc_xfer_await_bytes(lc_xfer *x, int64_t wait, int64_t read)
{
  lc_timers *timers = &x->pool->reactor->timers;
  int64_t before = lc_timers_next(timers);

  if(x->state != LC_XFER_ACTIVE)
    return 0;
  x->bytes_due = wait ? lc_now() + wait : 0;
  if(read >= 0)
    x->timeouts.read = read;
  lc_xfer_rearm(x);
  return lc_timers_next(timers) < before;
}

/* libcurl hands on whole lines of a head and whole records of TLS: the bytes of one that comes slowly are
 * signs of life as well. Those of an HTTP/2 connection may be another stream's. */
static int trickles(lc_xfer *x)
{
  int64_t heard = x->target->origin->proto == LC_PROTO_H2 ? 0 : lc_slot_heard(x->slot);
  if(heard <= x->activity + CLOCK)
    return 0;
  x->activity = heard;
  return x->pool->reactor->now < heard + x->timeouts.read;
}

void lc_xfer_expired(lc_xfer *x)
{
  const lc_timeouts *t = &x->timeouts;
  int64_t now = x->pool->reactor->now;
  lc_reason why = LC_END_CURL;

  if(x->state != LC_XFER_QUEUED && x->state != LC_XFER_ACTIVE)
    return;
  if(x->state == LC_XFER_ACTIVE && !x->feeding && x->body_len > SENT_AT_ONCE) {
    curl_off_t sent = 0;
    if(!curl_easy_getinfo(x->slot->easy, CURLINFO_SIZE_UPLOAD_T, &sent) && (uint64_t)sent > x->sent_seen) {
      x->sent_seen = (uint64_t)sent;
      x->activity = now;
    }
  }
  if(t->total && now >= x->created + t->total)
    why = LC_END_TOTAL_TIMEOUT;
  else if(x->bytes_due && now >= x->bytes_due) {
    if(now - x->bytes_due > LATE)
      x->bytes_due = now + LATE; /* the loop was held: bytes may lie unread in the socket */
    else
      why = LC_END_IDLE;
  }
  else if(x->state == LC_XFER_QUEUED) {
    if(t->pool && now >= x->queued + t->pool)
      why = LC_END_POOL_TIMEOUT;
  }
  else if(!x->connected) {
    if(t->connect && now >= x->started + t->connect)
      why = LC_END_CONNECT_TIMEOUT;
  }
  else if(x->in_paused || (x->up_paused && !x->head.status))
    ;
  else if(still_sending(x)) {
    if(t->write && now >= x->activity + t->write)
      why = LC_END_WRITE_TIMEOUT;
  }
  else if(t->read && now >= x->activity + t->read && !trickles(x))
    why = LC_END_READ_TIMEOUT;
  if(why && x->connected && !x->in_paused && !x->up_paused)
    lc_lane_mistrust(x->lane, x->activity);
  if(why)
    lc_xfer_finish(x, why, CURLE_OPERATION_TIMEDOUT);
  else
    lc_xfer_rearm(x);
}
