/* socks.c - see socks.h. */
#define _GNU_SOURCE
#include "socks.h"

#include "lane.h"
#include "lc_alloc.h"

#include <string.h>
#include <sys/socket.h>

#define FIRST_ENTRIES 64
#define PEEK 2048 /* bytes looked at */
#define TLS_HEAD 5 /* of a record: type, version, length (RFC 8446 5.1) */
#define TLS_ALERT 21
#define TLS_DATA 23

static uint64_t tag_of(int fd, const lc_sock *s)
{
  return ((uint64_t)s->gen << 32) | (uint32_t)fd;
}

lc_sock *lc_sock_at(lc_reactor *r, int fd)
{
  if((uint32_t)fd >= r->socks_cap) {
    uint32_t cap = r->socks_cap ? r->socks_cap : FIRST_ENTRIES;
    lc_sock *grown;
    while(cap <= (uint32_t)fd)
      cap *= 2;
    grown = lc_realloc(r->socks, cap * sizeof(*grown));
    if(!grown)
      return NULL;
    memset(grown + r->socks_cap, 0, (cap - r->socks_cap) * sizeof(*grown));
    r->socks = grown;
    r->socks_cap = cap;
  }
  return &r->socks[fd];
}

lc_sock *lc_sock_of_tag(lc_reactor *r, uint64_t tag, int *fd)
{
  uint32_t number = (uint32_t)tag;
  *fd = (int)number;
  if(number >= r->socks_cap || !r->socks[number].lane || r->socks[number].gen != (uint32_t)(tag >> 32))
    return NULL;
  return &r->socks[number];
}

static void start_life(lc_reactor *r, lc_sock *s, lc_lane *lane)
{
  memset(s, 0, sizeof(*s));
  s->lane = lane;
  /* the top values are the event set's own tags */
  if(++r->gen >= UINT32_MAX - 1)
    r->gen = 1;
  s->gen = r->gen;
}

static void set_dead(lc_sock *s, unsigned dead)
{
  if(s->dead == dead)
    return;
  s->dead = dead;
  if(dead) {
    s->lane->dead++;
    s->lane->origin->pool->dead++;
  }
  else {
    s->lane->dead--;
    s->lane->origin->pool->dead--;
  }
}

lc_rc lc_sock_opened(lc_reactor *r, int fd, lc_lane *lane)
{
  lc_sock *s = lc_sock_at(r, fd);
  if(!s)
    return LC_ERR_NOMEM;
  lc_sock_closing(r, fd); /* an earlier life that libcurl ended without a word */
  start_life(r, s, lane);
  s->ours = 1;
  lane->socks++;
  lane->fd = fd;
  lane->origin->pool->conns++;
  lane->origin->pool->connections_total++;
  r->stats.connections++;
  lc_lane_relist(lane);
  return LC_OK;
}

void lc_sock_closing(lc_reactor *r, int fd)
{
  lc_sock *s = (uint32_t)fd < r->socks_cap ? &r->socks[fd] : NULL;
  if(!s || !s->lane)
    return;
  if(s->registered)
    lc_evset_del(&r->ev, fd);
  set_dead(s, 0);
  if(s->ours) {
    s->lane->socks--;
    if(s->lane->fd == fd)
      s->lane->fd = -1;
    s->lane->origin->pool->conns--;
    r->start_wanted = 1;
    lc_lane_relist(s->lane);
  }
  s->lane = NULL;
}

void lc_socks_forget(lc_reactor *r, const lc_lane *lane)
{
  uint32_t fd;
  for(fd = 0; fd < r->socks_cap; fd++)
    if(r->socks[fd].lane == lane)
      lc_sock_closing(r, (int)fd);
}

static lc_rc register_mask(lc_reactor *r, int fd, lc_sock *s, unsigned mask)
{
  lc_rc rc;
  if(!s->registered)
    rc = lc_evset_add(&r->ev, fd, mask, tag_of(fd, s));
  else if(s->mask != mask)
    rc = lc_evset_mod(&r->ev, fd, mask, tag_of(fd, s));
  else
    return LC_OK;
  if(!rc) {
    s->registered = 1;
    s->mask = (uint8_t)mask;
  }
  return rc;
}

lc_rc lc_sock_want(lc_reactor *r, int fd, lc_lane *lane, unsigned want)
{
  lc_sock *s = lc_sock_at(r, fd);
  if(!s)
    return LC_ERR_NOMEM;
  if(!s->lane) {
    if(!want)
      return LC_OK;
    start_life(r, s, lane); /* libcurl's own: the resolver's wake-up */
  }
  if(want && !s->want)
    s->reset = 0; /* a new use of it */
  s->want = (uint8_t)want;
  if(want && s->ours && s->dead) {
    set_dead(s, 0); /* it was not idle after all */
    lc_lane_relist(lane);
  }
  if(!s->ours) {
    if(want)
      return register_mask(r, fd, s, want);
    if(s->registered)
      lc_evset_del(&r->ev, fd);
    s->lane = NULL;
    return LC_OK;
  }
  if(!want)
    return LC_OK; /* sticky */
  /* IN stays in the mask: the next answer needs no call to the kernel */
  return register_mask(r, fd, s, want | LC_EV_IN);
}

void lc_sock_mute(lc_reactor *r, int fd)
{
  lc_sock *s = &r->socks[fd];
  if(!s->registered)
    return;
  if(s->mask == LC_EV_HUP && !s->want) {
    /* an error is reported whatever the mask says: out with it */
    lc_evset_del(&r->ev, fd);
    s->registered = 0;
    return;
  }
  /* of an idle one the end is still news: TLS and HTTP/2 say things before it, and libcurl 8.22 takes
     an HTTP/2 connection that was closed in good order for a live one */
  (void)register_mask(r, fd, s, s->want ? s->want : LC_EV_HUP);
}

void lc_sock_rest(lc_reactor *r, int fd)
{
  lc_sock *s = &r->socks[fd];
  if(s->registered && register_mask(r, fd, s, LC_EV_IN)) {
    lc_evset_del(&r->ev, fd); /* or its room to send would show again and again */
    s->registered = 0;
  }
}

int lc_sock_alerted(int fd)
{
  unsigned char bytes[PEEK];
  ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
  ssize_t at = 0;

  while(at + TLS_HEAD <= got) {
    unsigned len = ((unsigned)bytes[at + 3] << 8) | bytes[at + 4];
    /* TLS 1.3 hides the type: two bytes, their type and a tag of 16 or 8 are too few for a frame of HTTP/2 */
    if(bytes[at] == TLS_ALERT || (bytes[at] == TLS_DATA && (len == 3 + 16 || len == 3 + 8)))
      return 1;
    at += TLS_HEAD + (ssize_t)len;
  }
  return !got;
}

void lc_sock_died(lc_reactor *r, int fd)
{
  lc_sock *s = &r->socks[fd];
  set_dead(s, 1);
  lc_lane_relist(s->lane);
  if(s->registered) {
    lc_evset_del(&r->ev, fd);
    s->registered = 0;
  }
}
