/* reactor_obj.c - Reactor: one event loop's share of the core.
 *
 * Job: the drain, the one callback the loop knows. It runs a step of the core
 * without the GIL, hands out the news with it, and gives the loop back after
 * about two milliseconds. Not its job: what the news mean (call_obj,
 * stream_obj). Used by: llmcurl._client through pool_obj.
 * Threads: the loop's. While the GIL is released other threads may deallocate
 * Calls and pools: those only queue under the core's foreign lock.
 */
#include "state.h"

#include "evset.h"
#include "pool.h"
#include "reactor.h"
#include "watch.h"
#include "xfer.h"

#include <structmember.h>

#define BUDGET (2 * LC_MS)
#define CLOCK_EVERY 8 /* news delivered between two looks at the clock */

int lc_reactor_foreign(const ReactorObject *self)
{
  return PyThread_get_thread_ident() != self->thread;
}

int lc_reactor_forked(const ReactorObject *self)
{
  return self->core->pid_gen != lc_fork_generation();
}

int lc_reactor_kick(ReactorObject *self)
{
  PyObject *handle;
  if(self->kick_scheduled || self->draining || self->closed || !self->kick)
    return 0;
  handle = PyObject_CallMethodOneArg(self->loop, self->st->str_call_soon, self->kick);
  if(!handle) {
    if(!PyErr_ExceptionMatches(PyExc_MemoryError))
      return -1;
    PyErr_Clear();
    lc_evset_wake(&self->core->ev); /* the loop calls its reader instead: the anchor */
    return 0;
  }
  Py_DECREF(handle);
  self->kick_scheduled = 1;
  return 0;
}

static void free_dropped(lc_xfer *x)
{
  PyObject *body = x->body_owner;
  x->body_owner = NULL;
  x->news = 0;
  if(x->state == LC_XFER_DONE || x->state == LC_XFER_NEW)
    lc_xfer_free(x);
  Py_XDECREF(body);
}

/* Hands out news until `until`. 1 when some are left, 0 when not, -1 + exception. */
static int deliver(ReactorObject *self, int64_t until)
{
  lc_xfer *x;
  unsigned count = 0;

  while((x = lc_reactor_next_news(self->core)) != NULL) {
    unsigned news = x->news;
    PyObject *owner = x->owner;
    int rc;

    x->news = 0;
    if(!owner) {
      if(!x->dropped && !x->foreign)
        free_dropped(x);
      continue;
    }
    Py_INCREF(owner); /* its callbacks may drop it */
    if(Py_IS_TYPE(owner, self->st->call_type))
      rc = lc_call_news((CallObject *)owner, news);
    else
      rc = lc_stream_news((StreamObject *)owner, news);
    Py_DECREF(owner);
    if(rc)
      return -1;
    if(++count % CLOCK_EVERY == 0 && lc_now() >= until)
      return self->core->news_head != NULL;
  }
  return 0;
}

void lc_reactor_settle(ReactorObject *self)
{
  PyObject *ignored;
  LC_SAVE_ERROR(saved);

  if(self->closed || self->draining)
    ;
  else if(self->core->pools || self->core->news_head) {
    if(lc_reactor_kick(self))
      PyErr_Clear(); /* the loop is closed: nobody is left to be told */
  }
  else {
    self->closed = 1;
    ignored = PyObject_CallMethod(self->loop, "remove_reader", "i", self->fd);
    if(!ignored)
      PyErr_Clear(); /* a closed loop has let go of it already */
    Py_XDECREF(ignored);
    self->fd = -1;
    lc_watch_remove(self->core);
    lc_evset_close(&self->core->ev);
    Py_CLEAR(self->kick);
  }
  LC_RESTORE_ERROR(saved);
}

static PyObject *drain(ReactorObject *self)
{
  PyObject *op = (PyObject *)self;
  lc_reactor *core = self->core;
  int64_t begin = lc_now();
  int more, rc;

  if(self->closed || lc_reactor_forked(self))
    Py_RETURN_NONE;
  self->thread = PyThread_get_thread_ident();
  atomic_store_explicit(&core->thread, self->thread, memory_order_relaxed);
  Py_INCREF(op);
  self->draining = 1;
  Py_BEGIN_ALLOW_THREADS
  more = lc_reactor_step(core, BUDGET);
  Py_END_ALLOW_THREADS
  rc = self->late ? lc_waiter_wake_late(self) : 0;
  if(!rc)
    rc = deliver(self, begin + 2 * BUDGET);
  if(rc == 0 && !self->closed && lc_reactor_pending(core) && lc_now() < begin + BUDGET) {
    /* what the callbacks started goes out now, not after another turn of the loop */
    Py_BEGIN_ALLOW_THREADS
    more = lc_reactor_step(core, BUDGET);
    Py_END_ALLOW_THREADS
  }
  more |= lc_reactor_pending(core);
  self->draining = 0;
  if(rc < 0) {
    LC_SAVE_ERROR(error);
    if(lc_reactor_kick(self))
      PyErr_Clear();
    LC_RESTORE_ERROR(error);
    Py_DECREF(op);
    return NULL;
  }
  if(rc || more || core->news_head)
    rc = lc_reactor_kick(self);
  else {
    rc = 0;
    if(!core->pools)
      lc_reactor_settle(self);
  }
  Py_DECREF(op);
  if(rc)
    return NULL;
  Py_RETURN_NONE;
}

static void shut_down(ReactorObject *self);

/* The loop's reader callback. It keeps the reactor while the loop has it; a loop
 * that is closed lets go of it, and that is how the reactor learns of the end. */
typedef struct {
  PyObject_HEAD
  ReactorObject *reactor; /* owned */
} AnchorObject;

/* A kick that is due in the same turn does the work instead: one drain a turn
 * keeps the stall within the budget. */
static PyObject *Anchor_call(PyObject *op, PyObject *args, PyObject *kwargs)
{
  ReactorObject *reactor = ((AnchorObject *)op)->reactor;
  (void)args;
  (void)kwargs;
  if(!reactor || reactor->kick_scheduled)
    Py_RETURN_NONE;
  return drain(reactor);
}

static int Anchor_traverse(PyObject *op, visitproc visit, void *arg)
{
  Py_VISIT(Py_TYPE(op));
  Py_VISIT(((AnchorObject *)op)->reactor);
  return 0;
}

static int Anchor_clear(PyObject *op)
{
  AnchorObject *self = (AnchorObject *)op;
  if(self->reactor) {
    LC_SAVE_ERROR(saved);
    shut_down(self->reactor);
    LC_RESTORE_ERROR(saved);
  }
  Py_CLEAR(self->reactor);
  return 0;
}

static void Anchor_dealloc(PyObject *op)
{
  PyTypeObject *type = Py_TYPE(op);
  PyObject_GC_UnTrack(op);
  (void)Anchor_clear(op);
  type->tp_free(op);
  Py_DECREF(type);
}

static PyType_Slot Anchor_slots[] = {
  {Py_tp_call, Anchor_call},
  {Py_tp_traverse, Anchor_traverse},
  {Py_tp_clear, Anchor_clear},
  {Py_tp_dealloc, Anchor_dealloc},
  {0, NULL},
};

PyType_Spec lc_anchor_spec = {
  .name = "llmcurl._native._Anchor",
  .basicsize = sizeof(AnchorObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
  .slots = Anchor_slots,
};

static PyObject *Reactor_kick(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  ReactorObject *self = (ReactorObject *)op;
  self->kick_scheduled = 0;
  return drain(self);
}

static PyObject *Reactor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
  static char *names[] = {"loop", "response_type", NULL};
  PyObject *loop, *response_type, *ignored = NULL;
  ReactorObject *self;
  AnchorObject *anchor;
  mod_state *st = lc_state_of_type(type);

  if(!st || !PyArg_ParseTupleAndKeywords(args, kwargs, "OO!:Reactor", names, &loop, &PyType_Type, &response_type))
    return NULL;
  if(!PyType_IsSubtype((PyTypeObject *)response_type, st->response_type)) {
    PyErr_SetString(PyExc_TypeError, "response_type must be a subclass of RawResponse");
    return NULL;
  }
  self = (ReactorObject *)LC_TP_ALLOC(type);
  if(!self)
    return NULL;
  self->fd = -1;
  self->st = st;
  self->thread = PyThread_get_thread_ident();
  self->loop = Py_NewRef(loop);
  self->response_type = Py_NewRef(response_type);
  self->core = lc_reactor_new();
  if(!self->core) {
    PyErr_SetFromErrno(PyExc_OSError);
    goto error;
  }
  atomic_store_explicit(&self->core->thread, self->thread, memory_order_relaxed);
  self->kick = PyObject_GetAttrString((PyObject *)self, "_kick");
  if(!self->kick)
    goto error;
  anchor = PyObject_GC_New(AnchorObject, st->anchor_type);
  if(!anchor)
    goto error;
  anchor->reactor = (ReactorObject *)Py_NewRef((PyObject *)self);
  PyObject_GC_Track(anchor);
  ignored = PyObject_CallMethod(loop, "add_reader", "iO", self->core->ev.epfd, anchor);
  Py_DECREF(anchor);
  if(!ignored)
    goto error;
  Py_DECREF(ignored);
  self->fd = self->core->ev.epfd;
  return (PyObject *)self;
error:
  Py_CLEAR(self->kick); /* a cycle: its descriptors would wait for a collection */
  Py_DECREF(self);
  return NULL;
}

static int Reactor_traverse(PyObject *op, visitproc visit, void *arg)
{
  ReactorObject *self = (ReactorObject *)op;
  waiter *w;
  Py_VISIT(Py_TYPE(op));
  Py_VISIT(self->loop);
  Py_VISIT(self->kick);
  Py_VISIT(self->response_type);
  for(w = self->kept; w; w = w->kept_next)
    Py_VISIT(w);
  return 0;
}

/* Ends all transfers and lets go of what they hold. Nobody is told: either the
 * owners are gone, or their loop is. */
static void shut_down(ReactorObject *self)
{
  lc_xfer *x;
  self->closed = 1;
  if(!self->core || lc_reactor_forked(self))
    return;
  lc_reactor_shutdown(self->core);
  while((x = lc_reactor_next_news(self->core)) != NULL) {
    x->news = 0;
    if(!x->owner && !x->dropped && !x->foreign)
      free_dropped(x);
  }
}

static int Reactor_clear(PyObject *op)
{
  ReactorObject *self = (ReactorObject *)op;
  while(self->kept)
    lc_waiter_unkeep(self->kept);
  Py_CLEAR(self->kick);
  Py_CLEAR(self->response_type);
  return 0;
}

static void Reactor_dealloc(PyObject *op)
{
  ReactorObject *self = (ReactorObject *)op;
  PyTypeObject *type = Py_TYPE(op);
  LC_SAVE_ERROR(saved);

  PyObject_GC_UnTrack(op);
  if(self->weakrefs)
    PyObject_ClearWeakRefs(op);
  shut_down(self);
  (void)Reactor_clear(op);
  if(self->core) {
    if(lc_reactor_forked(self))
      lc_reactor_abandon(self->core);
    else
      lc_reactor_unref(self->core);
  }
  Py_CLEAR(self->loop);
  LC_RESTORE_ERROR(saved);
  type->tp_free(op);
  Py_DECREF(type);
}

static PyObject *Reactor_stats(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  const lc_stats *s = &((ReactorObject *)op)->core->stats;
  return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K,s:K}", "started", (unsigned long long)s->started, "finished",
                       (unsigned long long)s->finished, "cancelled", (unsigned long long)s->cancelled, "rescues",
                       (unsigned long long)s->rescues, "replays", (unsigned long long)s->replays, "connections",
                       (unsigned long long)s->connections, "steps", (unsigned long long)s->runs);
}

static PyObject *Reactor_lag(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  const lc_reactor *core = ((ReactorObject *)op)->core;
  const lc_watched *s = &core->watched;
  if(!s->lag_count)
    Py_RETURN_NONE;
  return Py_BuildValue("(dddKK)", (double)lc_watch_lag(core, 0.5) / 1e9, (double)lc_watch_lag(core, 0.99) / 1e9,
                       (double)lc_watch_lag(core, 1.0) / 1e9, (unsigned long long)s->lag_count, (unsigned long long)s->blocks);
}

static PyObject *Reactor_get_loop(PyObject *op, void *Py_UNUSED(closure))
{
  return Py_NewRef(((ReactorObject *)op)->loop);
}

static PyObject *Reactor_get_closed(PyObject *op, void *Py_UNUSED(closure))
{
  return PyBool_FromLong(((ReactorObject *)op)->closed);
}

static PyObject *Reactor_detached(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  ReactorObject *self = (ReactorObject *)op;
  return (PyObject *)lc_call_new(self->st, NULL, self);
}

static PyMethodDef Reactor_methods[] = {
  {"_kick", Reactor_kick, METH_NOARGS, NULL},
  {"stats", Reactor_stats, METH_NOARGS, PyDoc_STR("Counters since the reactor was made.")},
  {"lag", Reactor_lag, METH_NOARGS,
   PyDoc_STR("(p50, p99, max, samples, blocks): seconds that ready events waited for the loop. None before the first sample.")},
  {"detached_call", Reactor_detached, METH_NOARGS, PyDoc_STR("A Call without a transfer, for the Python layer.")},
  {NULL, NULL, 0, NULL},
};

static PyMemberDef Reactor_members[] = {
  {"__weaklistoffset__", T_PYSSIZET, offsetof(ReactorObject, weakrefs), READONLY, NULL},
  {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef Reactor_getset[] = {
  {"closed", Reactor_get_closed, NULL, PyDoc_STR("True when it serves nobody any more."), NULL},
  {"loop", Reactor_get_loop, NULL, PyDoc_STR("The event loop it serves."), NULL},
  {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Reactor_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("The native event set of one asyncio event loop.")},
  {Py_tp_new, Reactor_new},
  {Py_tp_traverse, Reactor_traverse},
  {Py_tp_clear, Reactor_clear},
  {Py_tp_dealloc, Reactor_dealloc},
  {Py_tp_methods, Reactor_methods},
  {Py_tp_members, Reactor_members},
  {Py_tp_getset, Reactor_getset},
  {0, NULL},
};

PyType_Spec lc_reactor_spec = {
  .name = "llmcurl._native.Reactor",
  .basicsize = sizeof(ReactorObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
  .slots = Reactor_slots,
};
