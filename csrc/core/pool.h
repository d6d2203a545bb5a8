/* pool.h - all connections of one identity: origins, lanes, and who may start.
 *
 * Job: admission (limits, descriptors, the first look-up of a name) as a queue
 * before libcurl, the choice of a lane, keep-alive. Connections are never shared
 * between pools, so credentials, certificates and proxies of different clients
 * cannot mix. Not its job: running transfers. Used by: csrc/py, reactor, lane.
 * Threads: the reactor's, but for the functions named *_foreign.
 */
#ifndef LC_POOL_H
#define LC_POOL_H

#include "core.h"

/* Returns an owned pool of the reactor, not yet open; NULL = no memory. */
lc_pool *lc_pool_new(lc_reactor *r);
/* After `config` was filled in. */
lc_rc lc_pool_open(lc_pool *pool);
lc_pool *lc_pool_ref(lc_pool *pool);
void lc_pool_unref(lc_pool *pool);
/* Nothing new may start; what runs or waits ends as LC_END_CLOSED when `abort`
 * is set; idle connections are closed now, the others as they end. */
void lc_pool_close(lc_pool *pool, int abort);
/* From any thread, done at the reactor's next step: lc_pool_close with abort; the
 * end of the owner's reference. The owner asks for the latter once, and last. */
void lc_pool_close_foreign(lc_pool *pool);
void lc_pool_release_foreign(lc_pool *pool);
/* Transfers that wait: in the queue, or for a name. */
uint32_t lc_pool_waiting(const lc_pool *pool);

/* Returns a new reference. `key` is scheme://host:port. NULL = no memory. */
lc_target *lc_target_new(lc_pool *pool, const char *url, size_t url_len, const char *key, size_t key_len, int https, int named);
/* Before its first use. `request_target` goes verbatim into the request line;
 * `connect_to` is "host:port", `key` must be another than without it. Either may be NULL. */
lc_rc lc_target_route(lc_target *t, const char *request_target, const char *connect_to);
lc_target *lc_target_ref(lc_target *t);
void lc_target_unref(lc_target *t);

/* Kept connections that no transfer uses. */
uint32_t lc_pool_idle(const lc_pool *pool);
/* Starts what may start, `most` at the most (a new TLS connection counts many times). Returns 1 when more are waiting. */
int lc_pool_start(lc_pool *pool, unsigned most);
/* The name of the origin is known, or `failed` could not be resolved. */
void lc_pool_scout_done(lc_origin *origin, lc_xfer *failed);
/* Out of descriptors: back to the front of the queue if that can help. Returns 0 if it cannot. */
int lc_pool_requeue(lc_xfer *x);
/* 1 when libcurl has opened more connections than are allowed. */
static inline int lc_pool_crowded(const lc_pool *pool)
{
  return pool->config.max_connections && pool->conns - pool->dead > pool->config.max_connections;
}

/* The kept connection died and sending again is safe: once more, on a fresh one.
 * Returns 0 when that was tried already. */
int lc_pool_send_fresh(lc_xfer *x);
/* What the server of an https origin speaks is known for the first time. */
void lc_pool_learn(lc_origin *origin, lc_proto proto);
/* Transfers that libcurl made wait for an HTTP/2 connection, which the lane will
 * not get, go back to the queue and each have a connection of their own. */
void lc_pool_regroup(lc_lane *lane);
/* A lane has no transfer left. */
void lc_pool_lane_settled(lc_lane *lane);
/* Frees lanes without transfers: all, or those with no usable connection left. */
void lc_pool_sweep(lc_pool *pool, int all);

#endif
