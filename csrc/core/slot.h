/* slot.h - easy handles: made once per pool identity, recycled, told only what changed.
 *
 * Job: libcurl's options and the callbacks of a transfer. The callbacks touch
 * memory of the core only, run no Python and call nothing of libcurl. Not its
 * job: when a transfer starts or ends (xfer, lane). Used by: xfer, pool.
 * Threads: the reactor's.
 */
#ifndef LC_SLOT_H
#define LC_SLOT_H

#include "core.h"

/* Takes a free slot of the pool or makes one. NULL: out of memory, or libcurl
 * refused an option (`code`). */
lc_slot *lc_slot_take(lc_pool *pool, CURLcode *code);
/* Tells it what the transfer needs and ties the two. */
CURLcode lc_slot_load(lc_slot *slot, lc_xfer *x);
/* The connection stands on the socket with this local port (-1: there is none).
 * libcurl 7.88 closes the sockets of other attempts without telling. */
void lc_slot_settle(lc_slot *slot, int local_port);
/* 1 when not a byte of the request was given to the kernel. Reads a counter of
 * the handle, which libcurl allows in a callback, too. */
int lc_slot_nothing_sent(const lc_slot *slot);
/* When the kernel last got bytes from its connection's peer (ns, to a few ms); 0 = it cannot be told. */
int64_t lc_slot_heard(const lc_slot *slot);
/* Unties it from its transfer; back to the pool's free list. */
void lc_slot_give(lc_slot *slot);
void lc_slot_free(lc_slot *slot);

#endif
