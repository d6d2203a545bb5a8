/* slot.c - see slot.h. Options that stay for a slot's life are set in
 * slot_setup, those of one call in lc_slot_load. */
#define _GNU_SOURCE
#include "slot.h"

#include "headers.h"
#include "lc_alloc.h"
#include "lc_live.h"
#include "pool.h"
#include "reactor.h"
#include "socks.h"
#include "tls.h"
#include "xfer.h"

#include <errno.h>
#include <linux/tcp.h> /* netinet/tcp.h lacks the byte counters */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Every option's result counts: one that failed would be a silent change of
 * behaviour. */
#define SET(option, value) \
  do { \
    code = curl_easy_setopt(easy, option, value); \
    if(code) \
      goto done; \
  } while(0)

#define READS_AHEAD 0x080f00 /* the libcurl that does so by itself */
#define RECV_BUFFER 16384L /* one for each transfer */
#define RECV_BUFFER_SHARED 262144L /* one for each CURLM, libcurl 8.7 and newer; pages are taken as they are used */
/* libcurl keeps a request's send buffer until its answer is there: it is as large as the request, which then
   leaves in one piece. libcurl rounds sizes up to CURL_MAX_WRITE_SIZE, 16 KiB unless it was built with less, as
   ours is. */
#define UPLOAD_BUFFER 16384L /* for a body that is made while it is sent */
#define UPLOAD_BUFFER_MOST 65536L
#define UPLOAD_BUFFER_STEP 4096L
#define HEAD_ROOM 1024 /* for the request line and what libcurl adds */
#define SMALL_BODY 65536 /* libcurl asks "Expect: 100-continue" above 1 MiB (CURLOPT_EXPECT_100_TIMEOUT_MS(3)) */
#define NO_LIMIT_MS 0x7fffffffL /* libcurl's own connect limit of 300 s would come first */

enum { BODY_UNKNOWN = 0, BODY_NONE, BODY_BYTES, BODY_FED };

static size_t on_body(char *data, size_t size, size_t count, void *userp)
{
  lc_slot *slot = userp;
  size_t len = size * count;
  return lc_xfer_on_body(slot->xfer, data, len);
}

static size_t on_header(char *line, size_t size, size_t count, void *userp)
{
  lc_slot *slot = userp;
  size_t len = size * count;
  return lc_xfer_on_header(slot->xfer, line, len);
}

static size_t on_read(char *out, size_t size, size_t count, void *userp)
{
  lc_slot *slot = userp;
  return lc_xfer_on_read(slot->xfer, out, size * count);
}

/* libcurl wants to send the body again from its start. */
static int on_seek(void *userp, curl_off_t offset, int origin)
{
  lc_slot *slot = userp;
  if(origin == SEEK_SET && offset == 0 && !slot->xfer->up_started)
    return CURL_SEEKFUNC_OK;
  return CURL_SEEKFUNC_FAIL;
}

int lc_slot_nothing_sent(const lc_slot *slot)
{
  long size = 0;
  return !curl_easy_getinfo(slot->easy, CURLINFO_REQUEST_SIZE, &size) && size == 0;
}

static int local_port_of(int fd)
{
  struct sockaddr_storage name;
  socklen_t len = sizeof(name);
  if(getsockname(fd, (struct sockaddr *)&name, &len))
    return -1;
  if(name.ss_family == AF_INET)
    return ntohs(((struct sockaddr_in *)&name)->sin_port);
  if(name.ss_family == AF_INET6)
    return ntohs(((struct sockaddr_in6 *)&name)->sin6_port);
  return 0;
}

/* The socket with that local port; 0 = there is none any more. */
static int fd_of(const lc_pool *pool, int local_port)
{
  int fd = local_port > 0 ? pool->reactor->fd_of_port[(uint16_t)local_port] : 0;
  return fd > 0 && local_port_of(fd) == local_port ? fd : 0;
}

int64_t lc_slot_heard(const lc_slot *slot)
{
  int fd = fd_of(slot->pool, slot->local_port);
  struct tcp_info info = {0};
  socklen_t len = sizeof(info);
  if(!fd || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
    return 0;
  return lc_now() - info.tcpi_last_data_recv * LC_MS;
}

static uint64_t bytes_received(int fd)
{
  struct tcp_info info;
  socklen_t len = sizeof(info);
  memset(&info, 0, sizeof(info));
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) ? 0 : info.tcpi_bytes_received;
}

void lc_slot_settle(lc_slot *slot, int local_port)
{
  const lc_reactor *r = slot->pool->reactor;
  int i;
  for(i = 0; i < slot->opened; i++) {
    /* closed already, and the number opened again, maybe in the same run of
       libcurl by another transfer of the lane: that one is none of ours */
    if(r->socks[slot->fds[i]].gen != slot->gens[i])
      continue;
    if(local_port > 0 && local_port_of(slot->fds[i]) == local_port)
      slot->pool->reactor->fd_of_port[(uint16_t)local_port] = slot->fds[i];
    else if(local_port < 0 || slot->opened > 1)
      lc_sock_closing(slot->pool->reactor, slot->fds[i]);
  }
  slot->opened = 0;
}

static void copy_text(char *to, size_t room, const char *text)
{
  size_t len = strnlen(text, room - 1);
  memcpy(to, text, len);
  to[len] = '\0';
}

static void describe(lc_xfer *x, const char *ip, int port, const char *local_ip, int local_port)
{
  lc_peer *peer = &x->peer;
  copy_text(peer->ip, sizeof(peer->ip), ip ? ip : "");
  copy_text(peer->local_ip, sizeof(peer->local_ip), local_ip ? local_ip : "");
  peer->port = port;
  peer->local_port = local_port;
  peer->tls_version[0] = peer->cipher[0] = '\0';
  if(x->target->origin->https)
    lc_tls_describe(x->slot->easy, peer->tls_version, sizeof(peer->tls_version), peer->cipher, sizeof(peer->cipher));
  x->described = 1;
}

/* Called when the connection stands and the request is about to be sent; a
 * second time in one transfer when libcurl, having got no byte of an answer on
 * a kept connection, wants to send it again. That is stopped here: libcurl
 * would send a POST twice, and would try kept connections that are dead, too.
 * Where it is safe the transfer goes back to the queue for a fresh one. */
static int on_prereq(void *userp, char *ip, char *local_ip, int port, int local_port)
{
  lc_slot *slot = userp;
  lc_xfer *x = slot->xfer;
  int fresh = slot->opened > 0;
  lc_slot_settle(slot, local_port);
  if(slot->tries) {
    slot->replay = lc_xfer_may_replay(x) ? 1 : 0;
    if(!slot->replay || !fresh || lc_pool_crowded(x->pool)) {
      slot->refused = 1;
      return CURL_PREREQFUNC_ABORT;
    }
    x->pool->reactor->stats.replays++;
  }
  if(fresh && slot->http_version == CURL_HTTP_VERSION_2TLS) {
    if(lc_tls_refused_h2(slot->easy)) {
      lc_pool_learn(x->target->origin, LC_PROTO_H1);
      x->lane->regroup = 1;
    }
    else if(lc_tls_usable()) {
      lc_pool_learn(x->target->origin, LC_PROTO_H2); /* not with the first answer: there may be none, see lc_xfer_may_replay */
      if(lc_curl_version() >= READS_AHEAD) {
        lc_tls_read_ahead(slot->easy);
        x->lane->ahead = 1;
      }
    }
  }
  slot->received_before = UINT64_MAX;
  if(!fresh && !x->target->origin->https && x->target->origin->proto != LC_PROTO_H2 && lc_xfer_idempotent(x)) {
    /* should it die, did any byte of an answer come? Over TLS that cannot be told; of HTTP/2 libcurl
       passes on whole heads, and other frames are no answer */
    int fd = fd_of(x->pool, local_port);
    if(fd)
      slot->received_before = bytes_received(fd);
  }
  if(!slot->error[0])
    slot->error[1] = '\0'; /* from now on a mark, see lc_xfer_may_replay */
  slot->tries = 1;
  slot->local_port = local_port;
  if(x->describe)
    describe(x, ip, port, local_ip, local_port);
  lc_xfer_on_connected(x);
  return CURL_PREREQFUNC_OK;
}

static curl_socket_t on_open(void *userp, curlsocktype purpose, struct curl_sockaddr *address)
{
  lc_slot *slot = userp;
  lc_xfer *x = slot->xfer;
  int fd;
  (void)purpose;
  fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
  if(fd < 0) {
    x->os_errno = errno;
    if(errno == EMFILE || errno == ENFILE)
      slot->emfile = 1;
    return CURL_SOCKET_BAD;
  }
  if(lc_sock_opened(x->pool->reactor, fd, x->lane)) {
    x->no_memory = 1;
    close(fd);
    return CURL_SOCKET_BAD;
  }
  if(slot->opened < LC_CANDIDATES) {
    slot->gens[slot->opened] = x->pool->reactor->socks[fd].gen;
    slot->fds[slot->opened++] = fd;
  }
  lc_xfer_on_resolved(x);
  return fd;
}

/* After libcurl's own options, before the socket connects. */
static int on_sockopt(void *userp, curl_socket_t fd, curlsocktype purpose)
{
  lc_slot *slot = userp;
  const lc_pool_config *c = &slot->pool->config;
  uint32_t i;
  (void)purpose;
  for(i = 0; i < c->sockopt_count; i++) {
    const lc_sockopt *o = &c->sockopts[i];
    if(setsockopt(fd, o->level, o->name, o->null ? NULL : o->value, o->len)) {
      slot->xfer->os_errno = errno;
      return CURL_SOCKOPT_ERROR;
    }
  }
  return CURL_SOCKOPT_OK;
}

/* Notes what is known of a connection that is closed while in use, for the
 * question whether its request may be sent again. */
static void write_obituary(lc_reactor *r, int fd)
{
  lc_obituary *o = &r->dead[r->dead_next++ % LC_OBITUARIES];
  o->local_port = local_port_of(fd);
  o->received = bytes_received(fd);
  o->reset = r->socks[fd].reset;
}

static int on_close(void *userp, curl_socket_t fd)
{
  lc_reactor *r = userp;
  lc_sock *s = (uint32_t)fd < r->socks_cap ? &r->socks[fd] : NULL;
  if(s && s->lane && s->lane->active)
    write_obituary(r, fd);
  lc_sock_closing(r, fd);
  return close(fd);
}

static long oldest_version(unsigned tls_min)
{
  switch(tls_min) {
  case 10:
    return CURL_SSLVERSION_TLSv1_0;
  case 11:
    return CURL_SSLVERSION_TLSv1_1;
  case 13:
    return CURL_SSLVERSION_TLSv1_3;
  default:
    return CURL_SSLVERSION_TLSv1_2;
  }
}

static long newest_version(unsigned tls_max)
{
  switch(tls_max) {
  case 10:
    return CURL_SSLVERSION_MAX_TLSv1_0;
  case 11:
    return CURL_SSLVERSION_MAX_TLSv1_1;
  case 12:
    return CURL_SSLVERSION_MAX_TLSv1_2;
  default:
    return CURL_SSLVERSION_MAX_NONE;
  }
}

static CURLcode setup_tls(CURL *easy, lc_pool *pool)
{
  const lc_pool_config *c = &pool->config;
  CURLcode code;
  struct curl_blob blob;

  SET(CURLOPT_SSL_VERIFYPEER, (long)c->verify_peer);
  SET(CURLOPT_SSL_VERIFYHOST, c->verify_host ? 2L : 0L);
  if(c->proxy) {
    SET(CURLOPT_PROXY_SSL_VERIFYPEER, (long)c->verify_peer);
    SET(CURLOPT_PROXY_SSL_VERIFYHOST, c->verify_host ? 2L : 0L);
  }
  if(c->tls.store) {
    /* ours is put in by the callback: libcurl need not load any */
    SET(CURLOPT_CAINFO, NULL);
    SET(CURLOPT_CAPATH, NULL);
  }
  else {
    if(c->cainfo)
      SET(CURLOPT_CAINFO, c->cainfo);
    if(c->capath)
      SET(CURLOPT_CAPATH, c->capath);
    if(c->ca_blob) {
      blob.data = c->ca_blob;
      blob.len = c->ca_blob_len;
      blob.flags = CURL_BLOB_COPY;
      SET(CURLOPT_CAINFO_BLOB, &blob);
    }
  }
  if(lc_tls_usable()) {
    SET(CURLOPT_SSL_CTX_FUNCTION, (curl_ssl_ctx_callback)lc_tls_ctx_callback);
    SET(CURLOPT_SSL_CTX_DATA, &pool->config.tls);
  }
  if(c->cert) {
    SET(CURLOPT_SSLCERT, c->cert);
    SET(CURLOPT_SSLKEY, c->cert_key ? c->cert_key : c->cert);
    if(c->cert_password)
      SET(CURLOPT_KEYPASSWD, c->cert_password);
  }
  if(c->ciphers)
    SET(CURLOPT_SSL_CIPHER_LIST, c->ciphers);
  if(c->ciphersuites)
    SET(CURLOPT_TLS13_CIPHERS, c->ciphersuites);
  SET(CURLOPT_SSLVERSION, oldest_version(c->tls_min) | newest_version(c->tls_max));
done:
  return code;
}

static long recv_buffer(void)
{
  return lc_curl_version() >= 0x080700 ? RECV_BUFFER_SHARED : RECV_BUFFER;
}

static CURLcode slot_setup(lc_slot *slot, lc_pool *pool)
{
  CURL *easy = slot->easy;
  const lc_pool_config *c = &pool->config;
  CURLcode code;

  SET(CURLOPT_NOSIGNAL, 1L);
  SET(CURLOPT_ERRORBUFFER, slot->error);
  SET(CURLOPT_PRIVATE, slot);
#if LIBCURL_VERSION_NUM >= 0x075500
  SET(CURLOPT_PROTOCOLS_STR, "http,https");
#endif
  SET(CURLOPT_WRITEFUNCTION, on_body);
  SET(CURLOPT_WRITEDATA, slot);
  SET(CURLOPT_HEADERFUNCTION, on_header);
  SET(CURLOPT_HEADERDATA, slot);
  SET(CURLOPT_READFUNCTION, on_read);
  SET(CURLOPT_READDATA, slot);
  SET(CURLOPT_SEEKFUNCTION, on_seek);
  SET(CURLOPT_SEEKDATA, slot);
  SET(CURLOPT_PREREQFUNCTION, on_prereq);
  SET(CURLOPT_PREREQDATA, slot);
  SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
  SET(CURLOPT_OPENSOCKETDATA, slot);
  if(c->sockopt_count) {
    SET(CURLOPT_SOCKOPTFUNCTION, on_sockopt);
    SET(CURLOPT_SOCKOPTDATA, slot);
  }
  SET(CURLOPT_CLOSESOCKETFUNCTION, on_close);
  SET(CURLOPT_CLOSESOCKETDATA, pool->reactor);
  SET(CURLOPT_SHARE, pool->share);
  SET(CURLOPT_BUFFERSIZE, recv_buffer());
  SET(CURLOPT_CONNECTTIMEOUT_MS, NO_LIMIT_MS); /* deadlines are ours */
  SET(CURLOPT_TCP_NODELAY, 1L);
  SET(CURLOPT_TCP_KEEPALIVE, 1L);
  SET(CURLOPT_TCP_KEEPIDLE, (long)c->keepidle);
  SET(CURLOPT_TCP_KEEPINTVL, (long)c->keepintvl);
  SET(CURLOPT_PATH_AS_IS, 1L);
  SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
  SET(CURLOPT_HTTP09_ALLOWED, 0L);
  SET(CURLOPT_FOLLOWLOCATION, 0L);
  SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
  SET(CURLOPT_PIPEWAIT, 1L);
  SET(CURLOPT_QUICK_EXIT, 1L); /* a cancelled look-up is not waited for: it would block the loop */
  SET(CURLOPT_DNS_SHUFFLE_ADDRESSES, 0L);
  /* an empty string keeps libcurl from reading proxy variables itself */
  SET(CURLOPT_PROXY, c->proxy ? c->proxy : "");
  SET(CURLOPT_NOPROXY, "");
  if(c->proxy_userpwd) {
    SET(CURLOPT_PROXYUSERPWD, c->proxy_userpwd);
    SET(CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
  }
  SET(CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
  if(c->proxy_headers)
    SET(CURLOPT_PROXYHEADER, c->proxy_headers);
  if(c->interface_name)
    SET(CURLOPT_INTERFACE, c->interface_name);
  if(c->unix_socket)
    SET(CURLOPT_UNIX_SOCKET_PATH, c->unix_socket);
  if(c->keepalive_expiry) {
    long seconds = (long)((c->keepalive_expiry + 999 * LC_MS) / (1000 * LC_MS));
    SET(CURLOPT_MAXAGE_CONN, seconds);
  }
  else
    SET(CURLOPT_MAXAGE_CONN, 24L * 3600);
done:
  return code;
}

lc_slot *lc_slot_take(lc_pool *pool, CURLcode *code)
{
  lc_slot *slot = pool->slots;
  if(slot) {
    pool->slots = slot->next;
    slot->next = NULL;
    return slot;
  }
  *code = CURLE_OUT_OF_MEMORY;
  slot = lc_calloc(1, sizeof(*slot));
  if(!slot)
    return NULL;
  slot->pool = pool;
  slot->easy = curl_easy_init();
  if(!slot->easy) {
    lc_free(slot);
    return NULL;
  }
  lc_live_add(LC_LIVE_SLOT, 1);
  *code = slot_setup(slot, pool);
  if(*code) {
    lc_slot_free(slot);
    return NULL;
  }
  return slot;
}

/* Where HTTP/2 may come out of it, libcurl 8 makes a transfer wait until it
 * knows what the first connection speaks; without TLS, or with a server that
 * takes no part in ALPN, it only knows after the first answer. So it is not
 * asked for where it cannot be had. */
static long version_option(const lc_pool *pool, const lc_xfer *x)
{
  const lc_pool_config *c = &pool->config;
  const lc_origin *origin = x->target->origin;
  if(!c->http2 || x->http_version == 1)
    return CURL_HTTP_VERSION_1_1;
  if(!c->http1)
    return CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
  if(!origin->https || origin->proto == LC_PROTO_H1)
    return CURL_HTTP_VERSION_1_1;
  return CURL_HTTP_VERSION_2TLS;
}

/* Method and kind of body belong together in libcurl: POSTFIELDS turns any
 * request into a POST, CUSTOMREQUEST only changes the word. */
static CURLcode load_method(lc_slot *slot, lc_xfer *x, int kind)
{
  CURL *easy = slot->easy;
  CURLcode code = CURLE_OK;
  int plain_post = x->method == LC_POST;

  if(slot->method == x->method + 1 && slot->body_kind == kind && x->method != LC_OTHER)
    return CURLE_OK;
  slot->method = 0;
  if(x->method == LC_HEAD && kind == BODY_NONE) {
    SET(CURLOPT_NOBODY, 1L);
    SET(CURLOPT_CUSTOMREQUEST, NULL);
  }
  else if(kind == BODY_NONE) {
    SET(CURLOPT_NOBODY, 0L);
    SET(CURLOPT_HTTPGET, 1L);
    SET(CURLOPT_CUSTOMREQUEST, x->method == LC_GET ? NULL : x->method_name);
  }
  else {
    SET(CURLOPT_NOBODY, 0L);
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_CUSTOMREQUEST, plain_post ? NULL : x->method_name);
    if(kind == BODY_FED)
      SET(CURLOPT_POSTFIELDS, NULL);
  }
  slot->method = (uint8_t)(x->method + 1);
  slot->body_kind = (uint8_t)kind;
done:
  return code;
}

static long upload_buffer(const lc_xfer *x, int kind)
{
  size_t size = HEAD_ROOM + x->target->url_len + (x->headers ? x->headers->bytes : 0) + x->body_len;
  if(kind == BODY_FED)
    return UPLOAD_BUFFER;
  return size >= UPLOAD_BUFFER_MOST ? UPLOAD_BUFFER_MOST : (long)(size + UPLOAD_BUFFER_STEP - 1) / UPLOAD_BUFFER_STEP * UPLOAD_BUFFER_STEP;
}

CURLcode lc_slot_load(lc_slot *slot, lc_xfer *x)
{
  CURL *easy = slot->easy;
  CURLcode code;
  int kind = x->feeding ? BODY_FED : (x->body || x->method == LC_POST || x->method == LC_PUT || x->method == LC_PATCH) ? BODY_BYTES : BODY_NONE;
  long version = version_option(slot->pool, x);
  long upload = upload_buffer(x, kind);
  struct curl_slist *list = NULL;
  /* HTTP/2 has left the lane of the lost connection; where connections are few its calls share a new one */
  unsigned fresh = x->fresh && !(x->target->origin->proto == LC_PROTO_H2 && slot->pool->config.max_connections);

  slot->error[0] = slot->error[1] = '\0';
  slot->looked = 0;
  slot->tries = 0;
  slot->opened = 0;
  slot->local_port = 0;
  slot->emfile = slot->refused = slot->replay = 0;
  if(!slot->secured && (x->target->origin->https || slot->pool->config.proxy)) {
    code = setup_tls(easy, slot->pool);
    if(code)
      goto done;
    slot->secured = 1;
  }
  if(slot->target != x->target) {
    unsigned routed = x->target->request_target || x->target->connect_to;
    SET(CURLOPT_URL, x->target->url);
    if(routed || slot->routed) {
      SET(CURLOPT_REQUEST_TARGET, x->target->request_target);
      SET(CURLOPT_CONNECT_TO, x->target->connect_to);
      slot->routed = routed;
    }
    lc_target_unref(slot->target);
    slot->target = lc_target_ref(x->target);
  }
  if(x->headers)
    list = kind != BODY_FED && x->body_len <= SMALL_BODY ? x->headers->usual : x->headers->list;
  if(slot->headers != x->headers || slot->list != list) {
    SET(CURLOPT_HTTPHEADER, list);
    lc_headers_unref(slot->headers);
    slot->headers = lc_headers_ref(x->headers);
    slot->list = list;
  }
  code = load_method(slot, x, kind);
  if(code)
    goto done;
  if(kind == BODY_BYTES) {
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body_len);
    SET(CURLOPT_POSTFIELDS, x->body ? x->body : "");
  }
  else if(kind == BODY_FED)
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->up_len);
  if(slot->upload_buffer != (uint32_t)upload) {
    SET(CURLOPT_UPLOAD_BUFFERSIZE, upload);
    slot->upload_buffer = (uint32_t)upload;
  }
  if(slot->http_version != version) {
    SET(CURLOPT_HTTP_VERSION, version);
    slot->http_version = (uint8_t)version;
  }
  if(slot->one_shot != x->one_shot) {
    SET(CURLOPT_FORBID_REUSE, (long)x->one_shot);
    slot->one_shot = x->one_shot;
  }
  if(slot->fresh != fresh) {
    SET(CURLOPT_FRESH_CONNECT, (long)fresh);
    slot->fresh = fresh;
  }
  slot->xfer = x;
  x->slot = slot;
done:
  if(code)
    slot->spoiled = 1; /* a refused option has lost its old value as well */
  return code;
}

void lc_slot_give(lc_slot *slot)
{
  lc_xfer *x = slot->xfer;
  x->slot = NULL;
  slot->xfer = NULL;
  if(slot->spoiled) {
    lc_slot_free(slot); /* cleaning up takes it out of its CURLM as well */
    return;
  }
  slot->next = slot->pool->slots;
  slot->pool->slots = slot;
}

void lc_slot_free(lc_slot *slot)
{
  curl_easy_cleanup(slot->easy);
  lc_target_unref(slot->target);
  lc_headers_unref(slot->headers);
  lc_free(slot);
  lc_live_add(LC_LIVE_SLOT, -1);
}
