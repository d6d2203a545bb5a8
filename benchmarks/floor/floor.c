/* floor.c - the floor: what libcurl costs when nothing stands above it.
 *
 * Job: a closed loop of N calls on the design of llmcurl without Python: lanes
 * of W transfers per CURLM, one epoll set, sticky registration, recycled easy
 * handles, request bodies without a copy, no deadlines in libcurl. Checks each
 * answer and prints one line of JSON.
 * Not its job: being a client; a failed call is counted, not retried.
 * Used by: benchmarks/run.py, profiling by hand. Threads: one.
 */
#include <curl/curl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "floor_opts.h"
#include "floor_stats.h"
#include "floor_timers.h"
#include "floor_tls.h"
#include "floor_watch.h"

#define SILENT_US 1000000u /* a lane this long without an event is looked at */

typedef struct lane {
  floor_timer timer; /* first: a timer is its lane */
  CURLM *multi;      /* owned */
  struct call *calls; /* that run */
  struct lane *next;      /* all lanes */
  struct lane *room_next; /* stack of lanes with room */
  struct lane *soon_next; /* lanes whose timer is due at once */
  long running;
  long added; /* calls that have not run yet */
  int fd;     /* of the last event, -1: none yet */
  uint64_t active_us;  /* last event */
  uint64_t patience;   /* silence that is tolerated */
  uint64_t progress;   /* bytes and results seen */
  int in_room, soon, in_soon;
} lane;

typedef struct call {
  CURL *easy;        /* owned, recycled */
  lane *lane;        /* borrowed while running */
  struct call *next, *prev; /* free list, or those of its lane */
  char *data;        /* owned: the answer */
  size_t len, cap;
  uint64_t start_us;
  char error[CURL_ERROR_SIZE];
  int tail;          /* the previous byte was a line end (SSE) */
} call;

static struct {
  floor_opts opts;
  lane *lanes, *room, *soon;
  call *free_calls;
  floor_timers timers;
  CURLSH *share;
  struct curl_slist *headers;
  uint64_t started, done, failed, wrong, running;
  uint64_t lanes_len, rescues, events;
  /* the measurement */
  int measuring, over;
  uint64_t m_start_us, m_end_us, m_cpu, m_done, m_failed, m_events;
  long base_rss_kb, busy_rss_kb;
  floor_hist hist;
  char first_error[CURL_ERROR_SIZE + 64];
} g;

static void check_multi(CURLMcode mc, const char *what)
{
  if(mc) {
    fprintf(stderr, "floor: %s: %s\n", what, curl_multi_strerror(mc));
    exit(2);
  }
}

/* --- lanes ------------------------------------------------------------- */

static int on_timer(CURLM *multi, long ms, void *user)
{
  lane *l = user;
  (void)multi;
  l->soon = 0;
  if(ms > 0) {
    if(floor_timers_set(&g.timers, &l->timer,
                        floor_now_us() + (uint64_t)ms * 1000u))
      floor_fatal("memory");
    return 0;
  }
  floor_timers_clear(&g.timers, &l->timer);
  if(!ms) {
    l->soon = 1;
    if(!l->in_soon) {
      l->in_soon = 1;
      l->soon_next = g.soon;
      g.soon = l;
    }
  }
  return 0;
}

static lane *lane_new(void)
{
  lane *l = calloc(1, sizeof(*l));
  if(!l || !(l->multi = curl_multi_init()))
    floor_fatal("memory");
  l->next = g.lanes;
  g.lanes = l;
  g.lanes_len++;
  curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, floor_watch_socket);
  curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
  curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_timer);
  curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
  curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, g.opts.width);
  curl_multi_setopt(l->multi, CURLMOPT_PIPELINING,
                    g.opts.http2 ? CURLPIPE_MULTIPLEX : CURLPIPE_NOTHING);
  l->fd = -1;
  return l;
}

static void room_push(lane *l)
{
  if(!l->in_room && l->running < g.opts.width) {
    l->in_room = 1;
    l->room_next = g.room;
    g.room = l;
  }
}

/* The lane that had room most recently, else a new one. */
static lane *lane_pick(void)
{
  lane *l = g.room;
  while(l && l->running >= g.opts.width) {
    g.room = l->room_next;
    l->in_room = 0;
    l = g.room;
  }
  if(!l) {
    l = lane_new();
    room_push(l);
  }
  return l;
}

/* --- calls ------------------------------------------------------------- */

static void count_events(call *c, const char *p, size_t len)
{
  const char *end = p + len;
  while(p < end) {
    if(*p == '\n') {
      if(c->tail)
        g.events++;
      c->tail = !c->tail;
      p++;
      continue;
    }
    c->tail = 0;
    p = memchr(p, '\n', (size_t)(end - p));
    if(!p)
      return;
  }
}

static size_t on_write(char *p, size_t size, size_t n, void *user)
{
  call *c = user;
  const size_t len = size * n;
  if(c->len + len > c->cap) {
    size_t cap = c->cap ? c->cap : 1024;
    char *data;
    while(cap < c->len + len)
      cap *= 2;
    data = realloc(c->data, cap);
    if(!data)
      return 0;
    c->data = data;
    c->cap = cap;
  }
  memcpy(c->data + c->len, p, len);
  c->len += len;
  c->lane->progress++;
  if(g.opts.sse)
    count_events(c, p, len);
  return len;
}

static call *call_new(void)
{
  call *c = calloc(1, sizeof(*c));
  CURL *e = curl_easy_init();
  if(!c || !e)
    floor_fatal("memory");
  c->easy = e;
  curl_easy_setopt(e, CURLOPT_URL, g.opts.url);
  curl_easy_setopt(e, CURLOPT_PRIVATE, c);
  curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_write);
  curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
  curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error);
  curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, floor_watch_open);
  curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, floor_watch_close);
  curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
  /* as csrc/core/slot.c: the request leaves in one piece */
  curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE,
                   g.opts.body_len > 60000
                     ? 65536L
                     : ((long)g.opts.body_len + 6143) / 4096 * 4096);
  curl_easy_setopt(e, CURLOPT_HTTPHEADER, g.headers);
  curl_easy_setopt(e, CURLOPT_SHARE, g.share);
  if(g.opts.http2) {
    const int tls = !strncmp(g.opts.url, "https:", 6);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
                     tls ? (long)CURL_HTTP_VERSION_2TLS
                         : (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
    curl_easy_setopt(e, CURLOPT_PIPEWAIT, 1L);
  }
  else
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  if(g.opts.ca)
    floor_tls_apply(e, g.opts.ca, g.opts.http2);
  return c;
}

static void call_start(void)
{
  call *c = g.free_calls;
  if(c)
    g.free_calls = c->next;
  else
    c = call_new();
  c->lane = lane_pick();
  c->len = 0;
  c->tail = 0;
  c->start_us = floor_now_us();
  if(g.opts.body) {
    curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, g.opts.body);
    curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     (curl_off_t)g.opts.body_len);
  }
  c->prev = NULL;
  c->next = c->lane->calls;
  if(c->next)
    c->next->prev = c;
  c->lane->calls = c;
  c->lane->running++;
  c->lane->added++;
  g.running++;
  g.started++;
  check_multi(curl_multi_add_handle(c->lane->multi, c->easy), "add_handle");
}

static void measure_begin(void)
{
  g.measuring = 1;
  g.m_done = g.done;
  g.m_failed = g.failed;
  g.m_events = g.events;
  memset(&g.hist, 0, sizeof(g.hist));
  g.m_cpu = floor_cpu_us();
  g.m_start_us = floor_now_us();
}

static void measure_end(void)
{
  if(g.over)
    return;
  g.over = 1;
  g.m_end_us = floor_now_us();
  g.m_cpu = floor_cpu_us() - g.m_cpu;
  g.m_done = g.done - g.m_done;
  g.m_failed = g.failed - g.m_failed;
  g.m_events = g.events - g.m_events;
  g.busy_rss_kb = floor_rss_kb();
}

static int answer_ok(call *c, CURLcode rc)
{
  long status = 0;
  if(rc) {
    if(!*g.first_error)
      snprintf(g.first_error, sizeof(g.first_error), "%d %s", (int)rc,
               *c->error ? c->error : curl_easy_strerror(rc));
    return 0;
  }
  curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
  if(status == 200 && !g.opts.expect && c->len) {
    g.opts.expect = malloc(c->len);
    if(!g.opts.expect)
      floor_fatal("memory");
    memcpy(g.opts.expect, c->data, c->len);
    g.opts.expect_len = c->len;
  }
  if(status == 200 && c->len == g.opts.expect_len &&
     !memcmp(c->data, g.opts.expect, c->len))
    return 1;
  if(!*g.first_error)
    snprintf(g.first_error, sizeof(g.first_error),
             "status %ld, %zu bytes, expected %zu", status, c->len,
             g.opts.expect_len);
  g.wrong++;
  return 0;
}

static void call_done(call *c, CURLcode rc)
{
  lane *l = c->lane;
  if(!answer_ok(c, rc))
    g.failed++;
  if(g.measuring && !g.over)
    floor_hist_add(&g.hist, floor_now_us() - c->start_us);
  check_multi(curl_multi_remove_handle(l->multi, c->easy), "remove_handle");
  if(c->next)
    c->next->prev = c->prev;
  if(c->prev)
    c->prev->next = c->next;
  else
    l->calls = c->next;
  l->running--;
  l->progress++;
  g.running--;
  room_push(l);
  c->next = g.free_calls;
  g.free_calls = c;
  g.done++;
  if(g.done == (uint64_t)g.opts.warmup)
    measure_begin();
  if(g.opts.calls && g.done == (uint64_t)(g.opts.warmup + g.opts.calls))
    measure_end();
}

static int want_start(void)
{
  return !g.over && g.running < (uint64_t)g.opts.inflight &&
         (!g.opts.calls ||
          g.started < (uint64_t)(g.opts.warmup + g.opts.calls));
}

static void lane_reap(lane *l)
{
  CURLMsg *m;
  int left;
  while((m = curl_multi_info_read(l->multi, &left))) {
    char *c = NULL;
    const CURLcode rc = m->data.result;
    if(m->msg != CURLMSG_DONE)
      continue;
    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
    call_done((call *)(void *)c, rc);
    if(want_start())
      call_start();
  }
}

static void lane_action(lane *l, curl_socket_t fd, int bits, uint64_t now)
{
  int running;
  /* the requests of one run in few segments, where streams share a connection */
  const int corked = fd == CURL_SOCKET_TIMEOUT && g.opts.http2 &&
                     l->added > 1 && l->fd >= 0 && !floor_watch_cork(l->fd, 1);
  l->active_us = now;
  l->patience = SILENT_US;
  if(fd == CURL_SOCKET_TIMEOUT)
    l->added = 0;
  else
    l->fd = fd;
  check_multi(curl_multi_socket_action(l->multi, fd, bits, &running),
              "socket_action");
  if(corked)
    floor_watch_cork(l->fd, 0);
  lane_reap(l);
  /* one connection a lane: the first call that has one tells of it */
  if(g.opts.http2 && g.opts.ca) {
    const call *c = l->calls;
    int unread = -1;
    for(; c && (unread = floor_tls_unread(c->easy)) < 0; c = c->next)
      ;
    if(c && unread && l->fd >= 0) {
      check_multi(curl_multi_socket_action(l->multi, l->fd, CURL_CSELECT_IN, &running),
                  "socket_action");
      lane_reap(l);
    }
  }
}

/* --- the loop ---------------------------------------------------------- */

static void run_timers(uint64_t now)
{
  floor_timer *t;
  lane *l = g.soon;
  g.soon = NULL;
  while(l) {
    lane *next = l->soon_next;
    l->in_soon = 0;
    if(l->soon) {
      l->soon = 0;
      lane_action(l, CURL_SOCKET_TIMEOUT, 0, now);
    }
    l = next;
  }
  while((t = floor_timers_first(&g.timers)) && t->at <= now) {
    floor_timers_clear(&g.timers, t);
    lane_action((lane *)(void *)t, CURL_SOCKET_TIMEOUT, 0, now);
  }
}

/* Lanes that went silent with calls running: one perform. Counted when it
 * brought something to light, which no correct libcurl should let happen. */
static void rescue(uint64_t now)
{
  lane *l;
  for(l = g.lanes; l; l = l->next) {
    const uint64_t before = l->progress;
    int running;
    if(!l->running || now < l->active_us + l->patience)
      continue;
    check_multi(curl_multi_perform(l->multi, &running), "perform");
    lane_reap(l);
    l->active_us = now;
    l->patience *= 2;
    if(l->progress != before)
      g.rescues++;
  }
}

static int wait_ms(uint64_t now)
{
  const floor_timer *t = floor_timers_first(&g.timers);
  uint64_t us = 250000;
  if(g.soon || want_start())
    return 0;
  if(t)
    us = t->at <= now ? 0 : t->at - now < us ? t->at - now : us;
  return (int)((us + 999) / 1000);
}

static void loop(void)
{
  struct epoll_event *evs;
  uint64_t next_rescue = floor_now_us() + SILENT_US;
  if(!g.opts.warmup)
    measure_begin();
  while(g.running || want_start()) {
    uint64_t now = floor_now_us();
    long n, i;
    for(i = 0; i < g.opts.ramp && want_start(); i++)
      call_start();
    n = floor_watch_wait(wait_ms(now), &evs);
    now = floor_now_us();
    for(i = 0; i < n; i++) {
      int fd, bits;
      lane *l = floor_watch_event(&evs[i], &fd, &bits);
      if(l)
        lane_action(l, fd, bits, now);
    }
    run_timers(now);
    if(now >= next_rescue) {
      rescue(now);
      next_rescue = now + SILENT_US / 4;
    }
    if(!g.opts.calls && g.measuring &&
       now > g.m_start_us &&
       (double)(now - g.m_start_us) >= g.opts.seconds * 1e6)
      measure_end();
  }
  measure_end();
}

/* --- set-up and report ------------------------------------------------- */

static void set_up(void)
{
  struct rlimit rl;
  const char **extra;
  if(!getrlimit(RLIMIT_NOFILE, &rl)) {
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
  }
  if(curl_global_init(CURL_GLOBAL_DEFAULT))
    floor_fatal("curl_global_init");
  floor_watch_init(g.opts.batch, g.opts.sticky);
  if(g.opts.ca && floor_tls_init(g.opts.ca))
    exit(2);
  g.share = curl_share_init();
  curl_share_setopt(g.share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
  curl_share_setopt(g.share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
  g.headers = curl_slist_append(NULL, "Content-Type: application/json");
  g.headers = curl_slist_append(g.headers, "Expect:");
  for(extra = g.opts.headers; *extra; extra++)
    g.headers = curl_slist_append(g.headers, *extra);
  g.base_rss_kb = floor_rss_kb();
}

static void tear_down(void)
{
  while(g.free_calls) {
    call *c = g.free_calls;
    g.free_calls = c->next;
    curl_easy_cleanup(c->easy);
    free(c->data);
    free(c);
  }
  while(g.lanes) {
    lane *l = g.lanes;
    g.lanes = l->next;
    curl_multi_cleanup(l->multi);
    free(l);
  }
  curl_share_cleanup(g.share);
  curl_slist_free_all(g.headers);
  floor_timers_free(&g.timers);
  floor_tls_free();
  curl_global_cleanup();
  floor_watch_free();
  free(g.opts.expect);
  free(g.opts.body);
}

static void print_json_string(const char *s)
{
  putchar('"');
  for(; *s; s++) {
    if(*s == '"' || *s == '\\')
      putchar('\\');
    if((unsigned char)*s >= 0x20)
      putchar(*s);
  }
  putchar('"');
}

static void report(void)
{
  const double seconds = (double)(g.m_end_us - g.m_start_us) / 1e6;
  const double calls = g.m_done ? (double)g.m_done : 1;
  const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
  printf("{\"client\":\"floor\",\"inflight\":%ld,\"width\":%ld,"
         "\"calls\":%llu,\"seconds\":%.4f,\"cpu_us_per_call\":%.3f,"
         "\"calls_per_s\":%.1f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,",
         g.opts.inflight, g.opts.width, (unsigned long long)g.m_done, seconds,
         (double)g.m_cpu / calls, (double)g.m_done / seconds,
         floor_hist_ms(&g.hist, 0.5), floor_hist_ms(&g.hist, 0.99));
  printf("\"rss_kb\":%ld,\"rss_base_kb\":%ld,\"rss_busy_kb\":%ld,"
         "\"connections\":%llu,\"lanes\":%llu,\"failures\":%llu,"
         "\"wrong\":%llu,\"rescues\":%llu,\"answer_bytes\":%zu,"
         "\"total_calls\":%llu,",
         floor_peak_rss_kb(), g.base_rss_kb, g.busy_rss_kb,
         (unsigned long long)floor_watch_opened(), (unsigned long long)g.lanes_len,
         (unsigned long long)g.failed, (unsigned long long)g.wrong,
         (unsigned long long)g.rescues, g.opts.expect_len,
         (unsigned long long)g.done);
  if(g.opts.sse)
    printf("\"events\":%llu,\"cpu_us_per_event\":%.3f,",
           (unsigned long long)g.m_events,
           g.m_events ? (double)g.m_cpu / (double)g.m_events : 0.0);
  printf("\"libcurl\":\"%s\",\"ssl\":", v->version);
  print_json_string(v->ssl_version ? v->ssl_version : "");
  printf(",\"error\":");
  print_json_string(g.first_error);
  printf("}\n");
}

int main(int argc, char **argv)
{
  if(floor_opts_parse(&g.opts, argc, argv))
    return 2;
  set_up();
  loop();
  report();
  tear_down();
  return g.failed ? 1 : 0;
}
