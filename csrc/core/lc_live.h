/* lc_live.h - how many of each long-lived thing exist now.
 *
 * Job: counters that tests compare before and after. Not its job: statistics
 * for users. Used by: whatever makes or frees one. Threads: atomic, any.
 */
#ifndef LC_LIVE_H
#define LC_LIVE_H

enum {
  LC_LIVE_REACTOR = 0,
  LC_LIVE_POOL,
  LC_LIVE_ORIGIN,
  LC_LIVE_LANE,
  LC_LIVE_SLOT,
  LC_LIVE_XFER,
  LC_LIVE_TARGET,
  LC_LIVE_HEADERS,
  LC_LIVE_CALL,   /* Python objects: csrc/py counts them */
  LC_LIVE_STREAM,
  LC_LIVE_KINDS
};

void lc_live_add(int kind, long change);
long lc_live_get(int kind);
/* Name of a kind, as tests print it. */
const char *lc_live_name(int kind);

#endif
