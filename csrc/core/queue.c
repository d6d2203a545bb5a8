/* queue.c - see queue.h. */
#include "queue.h"

void lc_queue_push(lc_queue *q, lc_xfer *x)
{
  LC_ASSERT(!x->queue);
  x->queue = q;
  x->next = NULL;
  x->prev = q->tail;
  if(q->tail)
    q->tail->next = x;
  else
    q->head = x;
  q->tail = x;
  q->count++;
}

void lc_queue_push_front(lc_queue *q, lc_xfer *x)
{
  LC_ASSERT(!x->queue);
  x->queue = q;
  x->prev = NULL;
  x->next = q->head;
  if(q->head)
    q->head->prev = x;
  else
    q->tail = x;
  q->head = x;
  q->count++;
}

void lc_queue_remove(lc_xfer *x)
{
  lc_queue *q = x->queue;
  if(!q)
    return;
  if(x->prev)
    x->prev->next = x->next;
  else
    q->head = x->next;
  if(x->next)
    x->next->prev = x->prev;
  else
    q->tail = x->prev;
  q->count--;
  x->queue = NULL;
  x->next = x->prev = NULL;
}
