/* waiter.c - what a Call and a BodyStream have in common: callbacks, the hold on
 * a transfer, the list of those a reactor keeps alive.
 *
 * Not its job: results. Used by: call_obj, stream_obj, reactor_obj.
 * Threads: GIL held; lc_waiter_drop from any thread, the rest from the loop's.
 */
#include "state.h"

#include "evset.h"
#include "reactor.h"
#include "xfer.h"

int lc_waiter_traverse(waiter *w, visitproc visit, void *arg)
{
  Py_VISIT(Py_TYPE(w));
  Py_VISIT(w->pool);
  Py_VISIT(w->reactor);
  Py_VISIT(w->callback);
  Py_VISIT(w->context);
  Py_VISIT(w->more);
  Py_VISIT(w->cancel_msg);
  Py_VISIT(w->on_want);
  Py_VISIT(w->exception);
  return 0;
}

void lc_waiter_clear(waiter *w)
{
  if(w->reactor)
    lc_waiter_unkeep(w); /* only from tp_clear: what is being freed is not in the list */
  lc_waiter_drop(w);
  Py_CLEAR(w->callback);
  Py_CLEAR(w->context);
  Py_CLEAR(w->more);
  Py_CLEAR(w->cancel_msg);
  Py_CLEAR(w->on_want);
  Py_CLEAR(w->exception);
  Py_CLEAR(w->pool);
  Py_CLEAR(w->reactor);
}

void lc_waiter_keep(waiter *w)
{
  ReactorObject *r = w->reactor;
  if(w->kept)
    return;
  w->kept = 1;
  w->kept_prev = NULL;
  w->kept_next = r->kept;
  if(w->kept_next)
    w->kept_next->kept_prev = w;
  r->kept = w;
  Py_INCREF(w); /* the list's */
}

void lc_waiter_unkeep(waiter *w)
{
  if(!w->kept)
    return;
  w->kept = w->late = 0;
  if(w->kept_prev)
    w->kept_prev->kept_next = w->kept_next;
  else
    w->reactor->kept = w->kept_next;
  if(w->kept_next)
    w->kept_next->kept_prev = w->kept_prev;
  w->kept_next = w->kept_prev = NULL;
  Py_DECREF(w);
}

void lc_waiter_release_xfer(waiter *w)
{
  lc_xfer *x = w->xfer;
  PyObject *body;
  if(!x)
    return;
  if(lc_reactor_foreign(w->reactor)) {
    lc_waiter_drop(w);
    return;
  }
  w->xfer = NULL;
  x->owner = NULL;
  body = x->body_owner;
  x->body_owner = NULL;
  x->body = NULL;
  if(x->in_news || x->dropped)
    ; /* comes out of the news list, to be freed there */
  else
    lc_xfer_free(x);
  Py_XDECREF(body);
}

void lc_waiter_drop(waiter *w)
{
  lc_xfer *x = w->xfer;
  if(!x)
    return;
  w->xfer = NULL;
  if(lc_reactor_forked(w->reactor))
    return; /* the parent's: left alone */
  if(lc_reactor_foreign(w->reactor))
    lc_xfer_drop_foreign(x);
  else {
    lc_xfer_drop(x);
    if(lc_reactor_kick(w->reactor))
      PyErr_Clear(); /* the loop is closed: the reactor's end frees it */
  }
}

int lc_waiter_add_callback(waiter *w, PyObject *callback, PyObject *context)
{
  PyObject *pair;
  int rc;

  if(!w->callback) {
    w->callback = Py_NewRef(callback);
    w->context = Py_NewRef(context);
    lc_waiter_keep(w);
    return 0;
  }
  if(!w->more) {
    w->more = PyList_New(0);
    if(!w->more)
      return -1;
  }
  pair = PyTuple_Pack(2, callback, context);
  if(!pair)
    return -1;
  rc = PyList_Append(w->more, pair);
  Py_DECREF(pair);
  return rc;
}

Py_ssize_t lc_waiter_remove_callback(waiter *w, PyObject *callback)
{
  Py_ssize_t removed = 0, i;
  PyObject *more = w->more;
  int same;

  /* comparing may run Python code: the list is taken out while it does */
  w->more = NULL;
  if(w->callback) {
    PyObject *held = Py_NewRef(w->callback);
    same = PyObject_RichCompareBool(held, callback, Py_EQ);
    Py_DECREF(held);
    if(same < 0)
      goto error;
    if(same) {
      Py_CLEAR(w->callback);
      Py_CLEAR(w->context);
      removed++;
    }
  }
  for(i = 0; more && i < PyList_GET_SIZE(more);) {
    PyObject *pair = Py_NewRef(PyList_GET_ITEM(more, i));
    same = PyObject_RichCompareBool(PyTuple_GET_ITEM(pair, 0), callback, Py_EQ);
    Py_DECREF(pair);
    if(same < 0)
      goto error;
    if(!same) {
      i++;
      continue;
    }
    if(PyList_SetSlice(more, i, i + 1, NULL))
      goto error;
    removed++;
  }
  if(more && !PyList_GET_SIZE(more))
    Py_CLEAR(more);
  w->more = more;
  if(!w->callback && w->more) {
    PyObject *pair = PyList_GET_ITEM(w->more, 0);
    w->callback = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
    w->context = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
    if(PyList_SetSlice(w->more, 0, 1, NULL))
      return -1;
  }
  if(!w->callback)
    lc_waiter_unkeep(w);
  return removed;
error:
  Py_XSETREF(w->more, more);
  return -1;
}

/* 0, -1 + exception, or 1: out of memory, nothing was scheduled. */
static int call_soon(waiter *w, PyObject *callback, PyObject *context)
{
  mod_state *st = w->reactor->st;
  PyObject *args[4] = {w->reactor->loop, callback, (PyObject *)w, context};
  PyObject *how = lc_reactor_foreign(w->reactor) ? st->str_call_soon_threadsafe : st->str_call_soon;
  PyObject *handle = PyObject_VectorcallMethod(how, args, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, st->kw_context);
  Py_XDECREF(handle);
  if(handle)
    return 0;
  if(!PyErr_ExceptionMatches(PyExc_MemoryError))
    return -1;
  PyErr_Clear();
  return 1;
}

/* Puts a callback back that could not be scheduled: a task must not sleep for
 * ever for want of a moment's memory. The next drain runs it. */
static void wake_later(waiter *w, PyObject *callback, PyObject *context)
{
  if(w->callback) {
    if(lc_waiter_add_callback(w, callback, context))
      PyErr_WriteUnraisable(callback);
  }
  else {
    w->callback = Py_NewRef(callback);
    w->context = Py_NewRef(context);
    lc_waiter_keep(w);
  }
  w->late = 1;
  w->reactor->late = 1;
  lc_evset_wake(&w->reactor->core->ev);
}

int lc_waiter_wake_late(ReactorObject *r)
{
  unsigned left = 0;
  waiter *w;

  r->late = 0;
  for(w = r->kept; w; w = w->kept_next)
    left += w->late;
  for(w = r->kept; w && left;) {
    if(!w->late) {
      w = w->kept_next;
      continue;
    }
    w->late = 0;
    left--;
    if(lc_waiter_wake(w, 1))
      return -1;
    w = r->kept; /* what the callback did to the list is not known */
  }
  return 0;
}

/* An exception of a callback goes where the loop sends such: its handler. */
static void report(waiter *w, PyObject *callback)
{
  mod_state *st = w->reactor->st;
  PyObject *error = lc_take_exception();
  PyObject *info, *ignored = NULL;

  info = Py_BuildValue("{s:s,s:O,s:O}", "message", "Exception in a callback of a Call", "exception", error, "callback", callback);
  if(info)
    ignored = PyObject_CallMethodOneArg(w->reactor->loop, st->str_call_exception_handler, info);
  if(!ignored)
    PyErr_WriteUnraisable(callback);
  Py_XDECREF(ignored);
  Py_XDECREF(info);
  Py_XDECREF(error);
}

static int run_direct(waiter *w, PyObject *callback, PyObject *context)
{
  PyObject *result;
  if(PyContext_Enter(context)) {
    PyErr_Clear(); /* it is in use further up this thread's stack */
    return call_soon(w, callback, context);
  }
  result = PyObject_CallOneArg(callback, (PyObject *)w);
  if(result) {
    Py_DECREF(result);
    return PyContext_Exit(context);
  }
  if(PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
    LC_SAVE_ERROR(error);
    (void)PyContext_Exit(context);
    LC_RESTORE_ERROR(error);
    return -1;
  }
  report(w, callback);
  return PyContext_Exit(context);
}

int lc_waiter_wake(waiter *w, int direct)
{
  /* moved out first: a callback may add, remove or wait anew */
  PyObject *callback = w->callback, *context = w->context, *more = w->more;
  Py_ssize_t i;
  int rc = 0;

  if(!callback)
    return 0;
  w->callback = w->context = w->more = NULL;
  Py_INCREF(w);
  lc_waiter_unkeep(w);
  rc = direct ? run_direct(w, callback, context) : call_soon(w, callback, context);
  if(rc > 0)
    wake_later(w, callback, context);
  for(i = 0; more && i < PyList_GET_SIZE(more); i++) {
    PyObject *pair = PyList_GET_ITEM(more, i);
    int one = call_soon(w, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    if(one > 0)
      wake_later(w, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    else if(one)
      rc = -1;
  }
  Py_DECREF(callback);
  Py_DECREF(context);
  Py_XDECREF(more);
  Py_DECREF(w);
  return rc < 0 ? -1 : 0;
}

PyObject *lc_waiter_raise_cancelled(waiter *w)
{
  PyObject *type = w->reactor->st->cancelled_error;
  if(w->cancel_msg && w->cancel_msg != Py_None)
    PyErr_SetObject(type, w->cancel_msg);
  else
    PyErr_SetNone(type);
  return NULL;
}

PyObject *lc_waiter_next(PyObject *op, sendfunc send)
{
  PyObject *value = NULL, *stop;
  switch(send(op, Py_None, &value)) {
  case PYGEN_NEXT:
    return value;
  case PYGEN_RETURN:
    /* made by hand: a tuple or an exception as the value would be unpacked */
    stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    Py_DECREF(value);
    if(stop) {
      PyErr_SetObject(PyExc_StopIteration, stop);
      Py_DECREF(stop);
    }
    return NULL;
  default:
    return NULL;
  }
}

PyObject *lc_waiter_get_blocking(PyObject *op, void *Py_UNUSED(closure))
{
  return PyBool_FromLong(((waiter *)op)->blocking);
}

int lc_waiter_set_blocking(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
  int flag = value == Py_True;
  if(value && value != Py_True && value != Py_False) {
    flag = PyObject_IsTrue(value);
    if(flag < 0)
      return -1;
  }
  ((waiter *)op)->blocking = flag ? 1 : 0;
  return 0;
}

void lc_waiter_want(waiter *w)
{
  PyObject *on_want = Py_XNewRef(w->on_want), *ignored;
  if(!on_want)
    return;
  ignored = PyObject_CallNoArgs(on_want);
  if(!ignored)
    PyErr_WriteUnraisable(on_want);
  Py_XDECREF(ignored);
  Py_DECREF(on_want);
}

/* True: fed. None: nobody takes it any more. */
PyObject *lc_waiter_feed(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
  waiter *w = (waiter *)op;
  lc_xfer *x = w->xfer;
  int eof;

  if(n != 2 || !PyBytes_Check(args[0])) {
    PyErr_SetString(PyExc_TypeError, "_feed(bytes, eof)");
    return NULL;
  }
  eof = PyObject_IsTrue(args[1]);
  if(eof < 0)
    return NULL;
  if(lc_reactor_foreign(w->reactor) || lc_reactor_forked(w->reactor)) {
    PyErr_SetString(PyExc_RuntimeError, "a body must be fed in the thread and process of its event loop");
    return NULL;
  }
  if(!x || x->state == LC_XFER_DONE)
    Py_RETURN_NONE;
  switch(lc_xfer_feed(x, PyBytes_AS_STRING(args[0]), (size_t)PyBytes_GET_SIZE(args[0]), eof)) {
  case LC_OK:
    break;
  case LC_ERR_STATE:
    Py_RETURN_NONE;
  default:
    return PyErr_NoMemory();
  }
  if(lc_reactor_kick(w->reactor))
    return NULL;
  Py_RETURN_TRUE;
}

PyObject *lc_waiter_set_on_want(PyObject *op, PyObject *value)
{
  waiter *w = (waiter *)op;
  Py_XSETREF(w->on_want, Py_NewRef(value));
  if(w->xfer && w->xfer->up_paused) /* asked before there was anybody to tell */
    lc_waiter_want(w);
  Py_RETURN_NONE;
}

PyObject *lc_from_exceptions(PyObject **cache, const char *name)
{
  if(!*cache) {
    PyObject *module = PyImport_ImportModule("llmcurl._exceptions");
    if(!module)
      return NULL;
    *cache = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    if(!*cache)
      return NULL;
  }
  return Py_NewRef(*cache);
}

static const char *const reasons[] = {"curl", "connect_timeout", "read_timeout", "write_timeout", "pool_timeout",
                                      "total_timeout", "too_large", "fd_limit", "stale", "closed", "idle_timeout", "no_memory"};
static const char *const phases[] = {"queue", "resolve", "connect", "tls", "send", "wait", "receive"};

PyObject *lc_error_of_xfer(mod_state *st, lc_xfer *x)
{
  PyObject *build = lc_from_exceptions(&st->build_error, "build_error");
  PyObject *error;
  const char *text = x->error[0] ? x->error : curl_easy_strerror(x->code);

  if(!build)
    return NULL;
  error = PyObject_CallFunction(build, "sissssd{s:i,s:O,s:K,s:i,s:O}", reasons[x->reason], (int)x->code, text, phases[x->phase_at_end],
                                x->target->url, x->method_name, (double)(lc_now() - x->created) / 1e9, "os_errno", x->os_errno, "reused",
                                x->connected && !x->new_connections ? Py_True : Py_False, "bytes_received",
                                (unsigned long long)x->received, "status", x->head.status, "reset",
                                x->was_reset ? Py_True : Py_False);
  Py_DECREF(build);
  if(error && !PyExceptionInstance_Check(error)) {
    PyErr_Format(PyExc_TypeError, "build_error returned %R", error);
    Py_CLEAR(error);
  }
  return error;
}
