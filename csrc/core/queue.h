/* queue.h - transfers that wait, first in first out.
 *
 * Job: O(1) at both ends and for one that leaves from the middle. Not its job:
 * when anything starts. Used by: pool, xfer. Threads: the reactor's.
 */
#ifndef LC_QUEUE_H
#define LC_QUEUE_H

#include "core.h"

void lc_queue_push(lc_queue *q, lc_xfer *x);
void lc_queue_push_front(lc_queue *q, lc_xfer *x);
/* Out of the queue it is in, if any. */
void lc_queue_remove(lc_xfer *x);

#endif
