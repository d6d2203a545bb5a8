/* core.h - the structs of the core and who points at whom.
 *
 * Job: one place that shows reactor, pool, origin, lane, slot and transfer side
 * by side; each file's own header declares what it does with them. Not its job:
 * behaviour. Used by: all of csrc/core but the parsers; csrc/py reads fields.
 * Threads: everything belongs to the reactor's thread, but for `foreign`.
 *
 *   reactor 1-n pool 1-n origin 1-n lane (one CURLM) 1-n xfer 1-1 slot (one easy handle)
 */
#ifndef LC_CORE_H
#define LC_CORE_H

#include "buf.h"
#include "evset.h"
#include "head.h"
#include "lc_common.h"
#include "spares.h"
#include "timers.h"
#include "tls.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

typedef struct lc_reactor lc_reactor;
typedef struct lc_pool lc_pool;
typedef struct lc_origin lc_origin;
typedef struct lc_lane lc_lane;
typedef struct lc_slot lc_slot;
typedef struct lc_xfer lc_xfer;
typedef struct lc_watch lc_watch;

#define LC_MS 1000000LL
#define LC_WIDTH_H1 32 /* transfers a lane: libcurl scans its connections one by one */
#define LC_WIDTH_TLS 8 /* one run of a lane may do all of its handshakes, half a millisecond each */
#define LC_WIDTH_H2 64 /* streams a connection, one connection a lane */

#define LC_CANDIDATES 8 /* addresses libcurl may try for one connection */

enum { LC_TIMER_LANE = 1, LC_TIMER_WATCH, LC_TIMER_XFER };

/* Why a transfer ended, when libcurl's own code does not say it all. */
typedef enum lc_reason {
  LC_END_CURL = 0, /* as `code` says; CURLE_OK = answered */
  LC_END_CONNECT_TIMEOUT,
  LC_END_READ_TIMEOUT,
  LC_END_WRITE_TIMEOUT,
  LC_END_POOL_TIMEOUT,
  LC_END_TOTAL_TIMEOUT,
  LC_END_TOO_LARGE,
  LC_END_FD_LIMIT,
  LC_END_STALE, /* the kept connection died and sending again was not safe */
  LC_END_CLOSED, /* the pool was closed under it */
  LC_END_IDLE, /* the owner's own limit on the next bytes of a stream */
  LC_END_NO_MEMORY /* ours; libcurl has its code for more than its own lack of it */
} lc_reason;

/* What is new about a transfer; collected until the owner looks. */
enum {
  LC_NEWS_HEAD = 1, /* stream: the final header block is there */
  LC_NEWS_DATA = 2, /* stream: body bytes are there */
  LC_NEWS_WANT = 4, /* upload: room for more body bytes */
  LC_NEWS_DONE = 8
};

typedef enum lc_state {
  LC_XFER_NEW = 0, /* made, or recycled */
  LC_XFER_QUEUED,  /* in its pool's queue */
  LC_XFER_ACTIVE,  /* has a slot and a lane */
  LC_XFER_DONE     /* nothing of libcurl's is left in it */
} lc_state;

/* A request header list, shared by all calls that send the same. */
typedef struct lc_headers {
  struct curl_slist *list; /* owned */
  struct curl_slist *usual; /* borrowed from `list`: without the line that keeps libcurl from asking
                               "Expect: 100-continue", which it does for large bodies only */
  _Atomic uint32_t refs; /* the last may go on any thread */
  uint32_t bytes; /* on the wire, about */
} lc_headers;

/* A parsed request URL of a pool. */
typedef struct lc_target {
  char *url;         /* owned */
  char *request_target; /* owned; what the request line says instead of the URL's path, NULL = the path */
  struct curl_slist *connect_to; /* owned; another host to connect to than the URL's, NULL = that */
  lc_origin *origin; /* borrowed: origins live as long as their pool, which `pool` keeps */
  lc_pool *pool;     /* borrowed: whoever holds a target holds its pool */
  _Atomic uint32_t refs; /* the last may go on any thread */
  uint32_t url_len;
} lc_target;

/* Nanoseconds, 0 = none. */
typedef struct lc_timeouts {
  int64_t connect, read, write, pool, total;
} lc_timeouts;

typedef enum lc_method { LC_GET = 0, LC_HEAD, LC_POST, LC_PUT, LC_PATCH, LC_DELETE, LC_OPTIONS, LC_OTHER } lc_method;

/* Microseconds since the transfer was started in libcurl, -1 = did not happen. */
typedef struct lc_times {
  int64_t dns, connect, tls, sent, first_byte, done;
} lc_times;

/* Transfers that wait, first in first out. */
typedef struct lc_queue {
  lc_xfer *head, *tail; /* borrowed: a transfer leaves its queue before it goes */
  uint32_t count;
} lc_queue;

/* The connection a transfer went over. */
typedef struct lc_peer {
  char ip[48], local_ip[48]; /* "" = a Unix socket */
  int port, local_port;
  char tls_version[16], cipher[48]; /* OpenSSL's names, "" = none, or not known */
} lc_peer;

struct lc_xfer {
  lc_xfer *next, *prev; /* its queue, or its lane's list, or the reactor's free list */
  lc_queue *queue;      /* borrowed: the one it waits in, NULL = none */
  lc_xfer *news_next;   /* the reactor's news list */
  lc_xfer *drop_next;   /* the reactor's list of cancelled transfers */
  lc_pool *pool;        /* owned reference */
  lc_target *target;    /* owned reference */
  lc_headers *headers;  /* owned reference */
  lc_lane *lane;        /* borrowed while ACTIVE: a lane with transfers is never freed */
  lc_slot *slot;        /* owned while ACTIVE */
  void *owner;          /* borrowed: the owner cancels before it goes; NULL = nobody waits */
  void *body_owner;     /* opaque to the core: keeps `body` alive, csrc/py lets it go */
  const char *body;     /* borrowed from body_owner */
  size_t body_len;
  char method_name[24];
  lc_timeouts timeouts;
  lc_timer timer;
  int64_t created, started, connected, activity; /* ns, 0 = not yet */
  int64_t queued; /* ns, since when it waits for a connection */
  int64_t arrived; /* ns: when the oldest byte that nobody has taken came in */
  int64_t bytes_due; /* ns: until when the owner of a stream waits for its next bytes, 0 = as the time-outs say */
  lc_times times;
  lc_head head;
  lc_buf in;      /* body bytes that arrived */
  size_t in_high; /* stream: pause libcurl at this many */
  uint64_t received;
  lc_buf up;      /* body bytes to send, fed by the owner */
  int64_t up_len; /* of a fed body in all, -1 = unknown */
  uint64_t sent_seen;
  CURLcode code;
  uint32_t new_connections;
  int os_errno;
  uint8_t method;  /* lc_method */
  uint8_t state;   /* lc_state */
  uint8_t reason;  /* lc_reason */
  uint8_t news;    /* LC_NEWS_* */
  uint8_t phase_at_end;
  uint8_t foreign; /* on foreign_drops: not to be freed; a byte of its own, other threads write it */
  unsigned in_news : 1;
  unsigned dropped : 1;    /* on the drop list */
  unsigned streaming : 1;  /* body goes to the owner piece by piece */
  unsigned feeding : 1;    /* body comes from the owner piece by piece */
  unsigned up_eof : 1;
  unsigned up_paused : 1;
  unsigned up_started : 1;
  unsigned in_paused : 1;
  unsigned was_reset : 1; /* the kept connection, that is */
  unsigned counted_paused : 1; /* in lane->paused */
  unsigned bad_head : 1; /* it is none, or beyond its limit */
  unsigned no_memory : 1; /* for bytes of its answer, or its socket */
  unsigned unwatched : 1; /* its socket could not be put into the event set: os_errno */
  unsigned replay_unsent_only : 1; /* not even idempotent methods go out twice */
  unsigned retried : 1;            /* put back into the queue for want of descriptors */
  unsigned http_version : 2;       /* 0 = the pool's choice, 1 = 1.1 */
  unsigned one_shot : 1;           /* its connection is not kept */
  unsigned fresh : 1;              /* on a connection of its own: kept ones kept dying */
  unsigned describe : 1;           /* fill in `peer` */
  unsigned described : 1;          /* done */
  unsigned staged : 1;             /* LC_NEWS_WANT when a socket is opened and when the connection stands */
  unsigned opened : 1;             /* staged: a socket was opened */
  char error[CURL_ERROR_SIZE];     /* from here on nothing is cleared between uses */
  lc_peer peer;
};

/* An easy handle with what it was last told, so that only changes are set. */
struct lc_slot {
  CURL *easy; /* owned */
  lc_slot *next; /* the pool's free list */
  lc_pool *pool; /* borrowed: a pool frees its slots before it goes */
  lc_xfer *xfer; /* borrowed: the transfer being run, NULL when free */
  lc_target *target; /* owned reference: the URL it was set to */
  lc_headers *headers; /* owned reference: the list it was set to */
  struct curl_slist *list; /* borrowed from `headers`: the part of it */
  uint8_t method; /* lc_method + 1, 0 = unknown */
  uint8_t body_kind; /* 0 unknown, 1 none, 2 bytes, 3 fed */
  uint8_t http_version;
  uint32_t upload_buffer; /* bytes, 0 = unknown */
  unsigned one_shot : 1;
  unsigned secured : 1; /* TLS options are set */
  unsigned routed : 1; /* `target` has a request target or another host to connect to */
  unsigned fresh : 1;
  unsigned emfile : 1;
  unsigned looked : 1; /* its lane was run once more because of what `error` says */
  unsigned refused : 1; /* libcurl was kept from sending it a second time */
  unsigned replay : 1; /* though that would be safe */
  unsigned spoiled : 1; /* libcurl did not let go of it, or refused an option: freed after this use */
  uint8_t tries; /* 1 when the request was about to be sent */
  uint8_t opened; /* entries of `fds`: sockets opened for it that are not connected yet */
  int fds[LC_CANDIDATES];
  uint32_t gens[LC_CANDIDATES]; /* of these: their numbers may have a new life by now */
  int local_port;
  uint64_t received_before; /* bytes its kept connection had received, UINT64_MAX = not known */
  char error[CURL_ERROR_SIZE];
};

struct lc_lane {
  CURLM *multi; /* owned */
  lc_origin *origin; /* borrowed: an origin frees its lanes before it goes */
  lc_lane *next, *prev; /* the origin's list named by `where` */
  lc_lane *kick_next; /* the reactor's kick list */
  lc_xfer *xfers; /* the transfers in it */
  lc_timer timer; /* libcurl's time-out */
  lc_timer watch; /* the end of keep-alive; silence of a lane that has transfers */
  int64_t last_event; /* ns */
  int64_t heard; /* ns, the peer's last bytes, 0 = none yet */
  uint32_t active; /* transfers */
  uint32_t paused; /* of these: waiting for their owner, unwatched like an idle one */
  uint32_t socks; /* open sockets */
  uint32_t dead; /* of these: closed by the peer while idle */
  int fd; /* the youngest of them, -1 = closed: the only one where `socks` is 1 */
  uint32_t added; /* transfers that have not run yet */
  uint8_t where; /* 0 none, else index into origin->lanes + 1 */
  unsigned kicked : 1;
  unsigned unwatched : 1; /* a transfer in it is, see there */
  unsigned broken : 1; /* libcurl failed in it: nothing new, freed when empty */
  unsigned ahead : 1; /* OpenSSL reads ahead on a connection of it */
  unsigned regroup : 1; /* the server refused HTTP/2: see lc_pool_regroup */
};

enum { LC_LANES_IDLE = 0, LC_LANES_ROOM = 1, LC_LANES_FULL = 2 };

typedef enum lc_proto { LC_PROTO_UNKNOWN = 0, LC_PROTO_H1, LC_PROTO_H2 } lc_proto;

struct lc_origin {
  lc_origin *next; /* the pool's hash chain */
  lc_pool *pool; /* borrowed */
  lc_lane *lanes[3];
  char *key; /* owned: scheme://host:port */
  uint32_t width;
  uint8_t proto; /* lc_proto */
  unsigned https : 1;
  unsigned named : 1; /* the host needs a name server */
  int64_t resolved; /* ns of the last connection attempt whose name was known, 0 = never */
  lc_xfer *scout; /* borrowed: the transfer that resolves the name for the others */
  lc_queue waiting; /* for the scout */
};

/* How transfers end, for the statistics. */
enum { LC_OUT_OK = 0, LC_OUT_CLIENT_ERROR, LC_OUT_SERVER_ERROR, LC_OUT_TIMEOUT, LC_OUT_CANCELLED, LC_OUT_FAILED, LC_OUTCOMES };

enum { LC_FOREIGN_CLOSE = 1, LC_FOREIGN_RELEASE = 2 };

#define LC_ORIGIN_BUCKETS 64

#define LC_SOCKOPT_BYTES 64

/* One setsockopt(2) for each new socket. */
typedef struct lc_sockopt {
  int level, name;
  uint32_t len;
  unsigned null : 1; /* no value, only its length */
  unsigned char value[LC_SOCKOPT_BYTES];
} lc_sockopt;

/* What csrc/py sets before lc_pool_open. Strings are owned by the pool. */
typedef struct lc_pool_config {
  char *proxy, *proxy_userpwd, *cert, *cert_key, *cert_password, *cainfo, *capath;
  char *interface_name, *unix_socket;
  char *ciphers, *ciphersuites; /* OpenSSL's lists: TLS 1.2 and older; TLS 1.3 */
  lc_sockopt *sockopts; /* owned, set after libcurl's own */
  uint32_t sockopt_count;
  struct curl_slist *proxy_headers; /* owned */
  lc_tls_rules tls; /* its store: owned reference, NULL = libcurl's own loading */
  char *ca_blob; /* owned, NULL unless a store cannot be used */
  size_t ca_blob_len;
  unsigned verify_peer : 1;
  unsigned verify_host : 1;
  unsigned http1 : 1;
  unsigned http2 : 1;
  unsigned tls_min; /* 10 to 13 for TLS 1.0 to 1.3; 0 = 12 */
  unsigned tls_max; /* 0 = the newest */
  uint32_t max_connections; /* 0 = as many as descriptors allow */
  uint32_t max_keepalive; /* UINT32_MAX = all */
  uint32_t max_in_flight; /* 0 = no limit */
  int64_t keepalive_expiry; /* ns, 0 = none */
  size_t max_body; /* bytes of a buffered answer */
  size_t stream_high; /* bytes */
  size_t max_head; /* bytes */
  int keepidle, keepintvl; /* seconds */
} lc_pool_config;

struct lc_pool {
  lc_pool *next, *prev; /* the reactor's list */
  lc_pool *foreign_next; /* the reactor's list of pools with a request of another thread */
  uint8_t foreign_request; /* LC_FOREIGN_*, under the reactor's foreign_lock; not 0 = on that list */
  lc_reactor *reactor; /* owned reference */
  uint32_t refs; /* the owner's and one per transfer and target */
  unsigned opened : 1;
  unsigned closed : 1; /* nothing new; connections go as they fall idle */
  unsigned stalled : 1; /* out of descriptors: waits for a transfer to end */
  unsigned sweep : 1;   /* a lane may be freed at the end of the step */
  unsigned sweep_all : 1; /* descriptors are short: every idle lane goes */
  lc_pool_config config;
  CURLSH *share; /* owned */
  lc_slot *slots; /* free ones */
  lc_origin *origins[LC_ORIGIN_BUCKETS];
  lc_queue queue;
  uint32_t active; /* transfers */
  uint32_t keeping; /* transfers whose connection will be kept */
  uint32_t conns; /* open sockets, all lanes */
  uint32_t dead; /* of these: closed by the peer while idle */
  uint64_t started_total, connections_total;
  uint64_t outcomes[LC_OUTCOMES]; /* of ended transfers */
  uint64_t reused, bytes_sent, bytes_received; /* by them; bytes of bodies, as on the wire */
};

/* One entry per descriptor number. */
typedef struct lc_sock {
  lc_lane *lane; /* borrowed, NULL = free entry: cleared when the lane closes its sockets */
  uint32_t gen; /* tells a number's present life from its earlier ones */
  uint8_t want; /* LC_EV_* libcurl waits for */
  uint8_t mask; /* LC_EV_* registered */
  unsigned ours : 1; /* made by our open-socket callback: stays registered */
  unsigned registered : 1;
  unsigned dead : 1; /* its peer closed it while idle */
  unsigned reset : 1; /* an error was seen on it */
} lc_sock;

/* What is known of a connection that was closed while in use. */
typedef struct lc_obituary {
  int local_port;
  uint64_t received; /* bytes, all told */
  unsigned reset : 1; /* by the peer, rather than closed */
} lc_obituary;

#define LC_OBITUARIES 16

typedef struct lc_stats {
  uint64_t started, finished, cancelled, rescues, replays, connections, runs;
} lc_stats;

#define LC_SEEN 256
#define LC_LAGS 128

typedef struct lc_seen {
  uint64_t tag;
  int64_t since; /* ns */
} lc_seen;

/* A reactor as its watch sees it. `late` and the lags are the reactor's thread's; the rest is under the
 * watch's lock. */
typedef struct lc_watched {
  lc_watch *watch;   /* owned reference, NULL = not watched */
  lc_reactor *next;  /* the watch's list */
  uint64_t token;    /* its name: addresses come back */
  uint64_t served;   /* steps, when the watcher last looked */
  int64_t threshold; /* ns */
  int64_t since;     /* its events wait since then, 0 = they do not */
  int64_t pinged;    /* when the watcher last woke it */
  int64_t tell_at;   /* when the watcher speaks up again */
  int64_t over;      /* ns that the wait took whose end is to be told */
  lc_seen *seen, *late; /* owned: ready sockets; those of the wait that ended with this step */
  uint32_t seen_count, late_count;
  uint64_t blocks; /* waits beyond the threshold */
  uint64_t lag_count;
  int64_t lag_max;
  uint32_t lags[LC_LAGS];
  unsigned told : 1; /* of this wait the watcher has spoken */
} lc_watched;

struct lc_reactor {
  lc_evset ev;
  lc_timers timers;
  lc_sock *socks; /* owned, indexed by fd */
  uint32_t socks_cap;
  uint32_t gen;
  int *fd_of_port; /* owned: the socket with that local port, 65,536 entries */
  int64_t now; /* read once per step */
  lc_pool *pools;
  lc_lane *kick_head, *kick_tail;
  lc_xfer *news_head, *news_tail;
  lc_xfer *drop_head;
  lc_xfer *free_xfers;
  uint32_t free_count;
  lc_spares spares;
  uint32_t refs;
  int pid_gen; /* fork generation it was made in */
  unsigned start_wanted : 1; /* some pool may start something */
  lc_obituary dead[LC_OBITUARIES];
  uint32_t dead_next;
  pthread_mutex_t foreign_lock;
  lc_xfer *foreign_drops; /* under foreign_lock */
  lc_pool *foreign_pools; /* under foreign_lock: closed or released on another thread */
  lc_stats stats;
  int64_t late; /* ns that the socket being served was ready before this step, as far as the watcher saw */
  /* read or written by the watcher's thread; relaxed order will do */
  _Atomic uint64_t served;     /* steps */
  _Atomic uint32_t unfinished; /* transfers queued and active */
  _Atomic uint8_t noted;       /* the watcher saw something: lc_watch_served wanted */
  _Atomic uint8_t unwatched;   /* the watcher sleeps: lc_watch_rouse wanted */
  _Atomic unsigned long thread; /* pthread_self() of the last step */
  lc_watched watched;
};

#endif
