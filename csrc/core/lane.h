/* lane.h - one CURLM: a few transfers of one origin and one identity.
 *
 * Job: adding and removing transfers, running libcurl for a socket or a time-out,
 * and collecting what is done. Many small lanes instead of one big CURLM,
 * because libcurl scans a host's connections for each request. Not its job:
 * choosing a lane (pool). Used by: pool, xfer, reactor, socks.
 * Threads: the reactor's. Nothing here may be called from a libcurl callback but
 * lc_lane_relist and lc_lane_kick, which only move list entries.
 */
#ifndef LC_LANE_H
#define LC_LANE_H

#include "core.h"

/* Returns a lane owned by its origin; NULL = no memory, or no descriptor (`*no_fd` is set). */
lc_lane *lc_lane_new(lc_origin *origin, int *no_fd);
/* Closes its connections and frees it. It must have no transfer. */
void lc_lane_free(lc_lane *lane);
/* Puts a loaded transfer in; it runs at the next kick. */
CURLMcode lc_lane_add(lc_lane *lane, lc_xfer *x);
/* Takes it out; libcurl closes its connection unless the answer was whole. */
void lc_lane_remove(lc_lane *lane, lc_xfer *x);
/* To be run soon. */
void lc_lane_kick(lc_lane *lane);
/* Runs what libcurl has due. */
void lc_lane_run(lc_lane *lane);
/* Runs libcurl for a socket with LC_EV_* `events`. */
void lc_lane_event(lc_lane *lane, int fd, unsigned events);
/* Its watch timer fired: keep-alive is over, or it has been silent. */
void lc_lane_watch(lc_lane *lane);
/* libcurl keeps an HTTP/2 connection whose stream has failed, even if all of it has: its session in an
 * error, its peer silent. What runs on it may go on, nothing new may start. */
void lc_lane_forsake(lc_lane *lane);
/* A transfer has run out of time. If its HTTP/2 connection has been silent since then, others might wait there
 * in vain, too. */
void lc_lane_mistrust(lc_lane *lane, int64_t since);
/* Connections no transfer is on (HTTP/1.1: a transfer has one of its own). */
uint32_t lc_lane_idle(const lc_lane *lane);
/* Into the origin's list it belongs to now. */
void lc_lane_relist(lc_lane *lane);

#endif
