/* call_obj.c - Call: one request as a Future-like object.
 *
 * Job: asyncio's future protocol over a transfer, so that gather, wait, shield,
 * as_completed take a Call as it is and gather makes no Task for it. A Call
 * without a transfer is "detached": Python code sets its result (redirects,
 * hooks). Not its job: running the transfer. Used by: pool_obj, reactor_obj.
 * Threads: the loop's; deallocation on any.
 */
#include "state.h"

#include "lc_live.h"
#include "xfer.h"

CallObject *lc_call_new(mod_state *st, PoolObject *pool, ReactorObject *reactor)
{
  CallObject *self = PyObject_GC_New(CallObject, st->call_type);
  if(!self)
    return NULL;
  memset((char *)self + sizeof(PyObject), 0, sizeof(*self) - sizeof(PyObject));
  self->w.pool = (PoolObject *)Py_XNewRef((PyObject *)pool);
  self->w.reactor = (ReactorObject *)Py_NewRef((PyObject *)reactor);
  lc_live_add(LC_LIVE_CALL, 1);
  PyObject_GC_Track(self);
  return self;
}

static int Call_traverse(PyObject *op, visitproc visit, void *arg)
{
  CallObject *self = (CallObject *)op;
  Py_VISIT(self->result);
  Py_VISIT(self->sent);
  Py_VISIT(self->on_cancel);
  return lc_waiter_traverse(&self->w, visit, arg);
}

static int Call_clear(PyObject *op)
{
  CallObject *self = (CallObject *)op;
  lc_waiter_clear(&self->w);
  Py_CLEAR(self->result);
  Py_CLEAR(self->sent);
  Py_CLEAR(self->url);
  Py_CLEAR(self->method);
  Py_CLEAR(self->on_cancel);
  Py_CLEAR(self->label);
  return 0;
}

/* "POST https://host/path", without secrets. */
static PyObject *label_of(CallObject *self)
{
  mod_state *st = self->w.reactor ? self->w.reactor->st : NULL;
  PyObject *mask, *masked;

  if(self->label)
    return Py_NewRef(self->label);
  if(!st || !self->w.xfer)
    return PyUnicode_FromString("request");
  mask = lc_from_exceptions(&st->mask_url, "mask_url");
  if(!mask)
    return NULL;
  masked = PyObject_CallFunction(mask, "s", self->w.xfer->target->url);
  Py_DECREF(mask);
  if(!masked)
    return NULL;
  self->label = PyUnicode_FromFormat("%s %U", self->w.xfer->method_name, masked);
  Py_DECREF(masked);
  return Py_XNewRef(self->label);
}

/* A Call that nobody waited for warns like a coroutine; one that failed
 * unseen is reported like a Future. */
static void Call_finalize(PyObject *op)
{
  CallObject *self = (CallObject *)op;
  LC_SAVE_ERROR(saved);

  if(!self->touched && self->w.reactor) {
    PyObject *label = label_of(self);
    if(!label || PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "Call <%U> was never awaited", label))
      PyErr_WriteUnraisable(op);
    Py_XDECREF(label);
  }
  else if(self->log_exception && self->w.exception) {
    PyObject *info = Py_BuildValue("{s:s,s:O,s:O}", "message", "Call exception was never retrieved", "exception",
                                   self->w.exception, "future", op);
    PyObject *ignored = NULL;
    self->log_exception = 0;
    if(info)
      ignored = PyObject_CallMethodOneArg(self->w.reactor->loop, self->w.reactor->st->str_call_exception_handler, info);
    if(!ignored)
      PyErr_WriteUnraisable(op);
    Py_XDECREF(ignored);
    Py_XDECREF(info);
  }
  LC_RESTORE_ERROR(saved);
}

static void Call_dealloc(PyObject *op)
{
  PyTypeObject *type = Py_TYPE(op);
  if(PyObject_CallFinalizerFromDealloc(op))
    return; /* alive again */
  PyObject_GC_UnTrack(op);
  lc_live_add(LC_LIVE_CALL, -1);
  (void)Call_clear(op);
  type->tp_free(op);
  Py_DECREF(type);
}

/* ---- ending ---- */

/* Sets the outcome (steals both) and wakes those who wait. */
static int finish(CallObject *self, PyObject *result, PyObject *exception, int direct)
{
  self->done = 1;
  self->result = result;
  self->w.exception = exception;
  self->log_exception = exception != NULL;
  Py_CLEAR(self->on_cancel);
  return lc_waiter_wake(&self->w, direct);
}

static int finish_with_error(CallObject *self, int direct)
{
  return finish(self, NULL, lc_take_exception(), direct);
}

/* Buffered answer: head, body and times become the response. */
static int finish_buffered(CallObject *self)
{
  mod_state *st = self->w.reactor->st;
  lc_xfer *x = self->w.xfer;
  PyObject *response;
  size_t most;
  int encoded;

  if(x->reason || x->code) {
    PyObject *error = lc_error_of_xfer(st, x);
    lc_waiter_release_xfer(&self->w);
    return error ? finish(self, NULL, error, 1) : finish_with_error(self, 1);
  }
  encoded = x->head.has_encoding && lc_buf_len(&x->in);
  most = x->in.max;
  response = lc_response_of_call((PyTypeObject *)self->w.reactor->response_type, self);
  if(response) {
    ((ResponseObject *)response)->sent_body = Py_XNewRef(x->body_owner);
    ((ResponseObject *)response)->plain = !encoded;
  }
  lc_waiter_release_xfer(&self->w);
  if(response && encoded) {
    PyObject *limit = PyLong_FromUnsignedLongLong(most);
    PyObject *ignored = limit ? PyObject_CallMethodOneArg(response, st->str_finish, limit) : NULL;
    if(!ignored)
      Py_CLEAR(response);
    Py_XDECREF(ignored);
    Py_XDECREF(limit);
  }
  return response ? finish(self, response, NULL, 1) : finish_with_error(self, 1);
}

/* Streamed answer that came at once: no stream is made for it. */
static int finish_whole(CallObject *self)
{
  PyObject *response;
  self->w.xfer->streaming = 0; /* the response takes the body */
  response = lc_response_of_call((PyTypeObject *)self->w.reactor->response_type, self);
  lc_waiter_release_xfer(&self->w);
  return response ? finish(self, response, NULL, 1) : finish_with_error(self, 1);
}

/* Streamed answer: its head is there; the body's owner is a BodyStream now. */
static int finish_streamed(CallObject *self)
{
  mod_state *st = self->w.reactor->st;
  ResponseObject *response;
  StreamObject *stream;

  if(self->w.xfer->slot)
    lc_xfer_collect_times(self->w.xfer);
  response = (ResponseObject *)lc_response_of_call((PyTypeObject *)self->w.reactor->response_type, self);
  if(!response) {
    lc_waiter_drop(&self->w);
    return finish_with_error(self, 1);
  }
  stream = lc_stream_new(st, &self->w); /* takes the transfer over */
  if(!stream) {
    Py_DECREF(response);
    lc_waiter_drop(&self->w);
    return finish_with_error(self, 1);
  }
  response->stream = (PyObject *)stream;
  return finish(self, (PyObject *)response, NULL, 1);
}

int lc_call_news(CallObject *self, unsigned news)
{
  if(self->done)
    return 0;
  if(self->stream && (news & LC_NEWS_HEAD)) {
    if((news & LC_NEWS_DONE) && self->whole && !self->w.xfer->reason && !self->w.xfer->code)
      return finish_whole(self);
    if(news & (LC_NEWS_DONE | LC_NEWS_WANT))
      lc_xfer_tell(self->w.xfer, news & (LC_NEWS_DONE | LC_NEWS_WANT)); /* for its new owner */
    return finish_streamed(self);
  }
  if(news & LC_NEWS_DONE)
    return finish_buffered(self);
  if(news & LC_NEWS_WANT)
    lc_waiter_want(&self->w);
  return 0;
}

/* ---- the future protocol ---- */

static int wrong_thread(CallObject *self, const char *what)
{
  if(!lc_reactor_foreign(self->w.reactor))
    return 0;
  PyErr_Format(PyExc_RuntimeError, "Call.%s() must run in the thread of the Call's event loop; use loop.call_soon_threadsafe(call.%s)",
               what, what);
  return -1;
}

static PyObject *invalid_state(CallObject *self, const char *text)
{
  PyErr_SetString(self->w.reactor->st->invalid_state_error, text);
  return NULL;
}

static PyObject *outcome(CallObject *self)
{
  self->touched = 1;
  if(self->w.cancelled)
    return lc_waiter_raise_cancelled(&self->w);
  if(!self->done)
    return invalid_state(self, "Result is not ready.");
  if(self->w.exception) {
    self->log_exception = 0;
    PyErr_SetObject((PyObject *)Py_TYPE(self->w.exception), self->w.exception);
    return NULL;
  }
  return Py_NewRef(self->result);
}

static PyObject *Call_result(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  return outcome((CallObject *)op);
}

static PyObject *Call_exception(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  CallObject *self = (CallObject *)op;
  self->touched = 1;
  if(self->w.cancelled)
    return lc_waiter_raise_cancelled(&self->w);
  if(!self->done)
    return invalid_state(self, "Exception is not set.");
  self->log_exception = 0;
  return Py_NewRef(self->w.exception ? self->w.exception : Py_None);
}

static PyObject *Call_done(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  return PyBool_FromLong(((CallObject *)op)->done);
}

static PyObject *Call_cancelled(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  return PyBool_FromLong(((CallObject *)op)->w.cancelled);
}

static PyObject *Call_get_loop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  return Py_NewRef(((CallObject *)op)->w.reactor->loop);
}

static PyObject *Call_cancel(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
  CallObject *self = (CallObject *)op;
  PyObject *msg = n ? args[0] : names && PyTuple_GET_SIZE(names) ? args[n] : NULL;
  PyObject *on_cancel;

  if(n + (names ? PyTuple_GET_SIZE(names) : 0) > 1) {
    PyErr_SetString(PyExc_TypeError, "cancel() takes at most one argument: msg");
    return NULL;
  }
  self->touched = 1;
  if(self->done)
    Py_RETURN_FALSE;
  if(wrong_thread(self, "cancel"))
    return NULL;
  on_cancel = self->on_cancel;
  self->on_cancel = NULL;
  Py_XSETREF(self->w.cancel_msg, Py_XNewRef(msg));
  self->w.cancelled = 1;
  lc_waiter_drop(&self->w);
  if(finish(self, NULL, NULL, 0)) {
    Py_XDECREF(on_cancel);
    return NULL;
  }
  if(on_cancel) {
    PyObject *ignored = PyObject_CallNoArgs(on_cancel);
    Py_DECREF(on_cancel);
    if(!ignored)
      return NULL;
    Py_DECREF(ignored);
  }
  Py_RETURN_TRUE;
}

static PyObject *Call_add_done_callback(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
  CallObject *self = (CallObject *)op;
  PyObject *context = NULL;
  int rc;

  if(n != 1 || (names && (PyTuple_GET_SIZE(names) != 1 || !PyUnicode_Check(PyTuple_GET_ITEM(names, 0)) ||
                          PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "context")))) {
    PyErr_SetString(PyExc_TypeError, "add_done_callback(fn, *, context=None)");
    return NULL;
  }
  if(wrong_thread(self, "add_done_callback"))
    return NULL;
  if(names && args[1] != Py_None)
    context = Py_NewRef(args[1]);
  else
    context = PyContext_CopyCurrent();
  if(!context)
    return NULL;
  self->touched = 1;
  rc = lc_waiter_add_callback(&self->w, args[0], context);
  Py_DECREF(context);
  if(!rc && self->done)
    rc = lc_waiter_wake(&self->w, 0);
  if(rc)
    return NULL;
  Py_RETURN_NONE;
}

static PyObject *Call_remove_done_callback(PyObject *op, PyObject *callback)
{
  Py_ssize_t removed;
  Py_INCREF(op); /* the reactor's reference may be the last */
  removed = lc_waiter_remove_callback((waiter *)op, callback);
  Py_DECREF(op);
  return removed < 0 ? NULL : PyLong_FromSsize_t(removed);
}

static PyObject *Call_make_cancelled_error(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  (void)lc_waiter_raise_cancelled((waiter *)op);
  return lc_take_exception();
}

static PyObject *Call_await(PyObject *op)
{
  ((CallObject *)op)->touched = 1;
  return Py_NewRef(op);
}

/* One step of `await call`: the call itself while it is pending (the task then
 * waits for it), its outcome afterwards. */
static PySendResult Call_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **result)
{
  CallObject *self = (CallObject *)op;
  if(!self->done) {
    self->touched = 1;
    self->w.blocking = 1;
    *result = Py_NewRef(op);
    return PYGEN_NEXT;
  }
  *result = outcome(self);
  return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PyObject *Call_next(PyObject *op)
{
  return lc_waiter_next(op, Call_send);
}

static PyObject *Call_repr(PyObject *op)
{
  CallObject *self = (CallObject *)op;
  const char *state = self->w.cancelled ? "cancelled" : !self->done ? "pending" : self->w.exception ? "failed" : "finished";
  PyObject *label = label_of(self), *text;
  if(!label)
    return NULL;
  text = PyUnicode_FromFormat("<Call %U %s>", label, state);
  Py_DECREF(label);
  return text;
}

/* ---- for the Python layer: uploads and detached calls ---- */

static PyObject *Call_set_result(PyObject *op, PyObject *value)
{
  CallObject *self = (CallObject *)op;
  if(self->done || self->w.xfer)
    return invalid_state(self, "the Call is done, or has a transfer");
  if(wrong_thread(self, "_set_result"))
    return NULL;
  if(finish(self, Py_NewRef(value), NULL, 0))
    return NULL;
  Py_RETURN_NONE;
}

static PyObject *Call_set_exception(PyObject *op, PyObject *value)
{
  CallObject *self = (CallObject *)op;
  if(self->done || self->w.xfer)
    return invalid_state(self, "the Call is done, or has a transfer");
  if(!PyExceptionInstance_Check(value)) {
    PyErr_SetString(PyExc_TypeError, "an exception instance is needed");
    return NULL;
  }
  if(finish(self, NULL, Py_NewRef(value), 0))
    return NULL;
  Py_RETURN_NONE;
}

static PyObject *Call_attach(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
  CallObject *self = (CallObject *)op;
  if(n != 2 || !PyUnicode_Check(args[1])) {
    PyErr_SetString(PyExc_TypeError, "_attach(on_cancel, label)");
    return NULL;
  }
  Py_XSETREF(self->on_cancel, Py_NewRef(args[0]));
  Py_XSETREF(self->label, Py_NewRef(args[1]));
  Py_RETURN_NONE;
}

/* asyncio reads these of a Future, too: gather the message, futures the loop. */
static PyObject *Call_get_cancel_message(PyObject *op, void *Py_UNUSED(closure))
{
  PyObject *msg = ((CallObject *)op)->w.cancel_msg;
  return Py_NewRef(msg ? msg : Py_None);
}

static PyObject *Call_get_loop_attribute(PyObject *op, void *Py_UNUSED(closure))
{
  return Py_NewRef(((CallObject *)op)->w.reactor->loop);
}

static PyObject *Call_get_log_traceback(PyObject *op, void *Py_UNUSED(closure))
{
  return PyBool_FromLong(((CallObject *)op)->log_exception);
}

static int Call_set_log_traceback(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
  int flag = value ? PyObject_IsTrue(value) : -1;
  if(flag) {
    if(!PyErr_Occurred())
      PyErr_SetString(PyExc_ValueError, "_log_traceback can only be set to False");
    return -1;
  }
  ((CallObject *)op)->log_exception = 0;
  return 0;
}

/* 0 waits, 1 a socket was opened, 2 a new connection stands, 3 a kept one is used. */
static PyObject *Call_stage(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  const lc_xfer *x = ((CallObject *)op)->w.xfer;
  if(!x || lc_reactor_foreign(((CallObject *)op)->w.reactor))
    return PyLong_FromLong(0);
  return PyLong_FromLong(x->connected ? (x->opened ? 2 : 3) : x->opened);
}

static PyMethodDef Call_methods[] = {
  {"result", Call_result, METH_NOARGS, PyDoc_STR("The Response. Raises what the call raised, CancelledError, or InvalidStateError.")},
  {"exception", Call_exception, METH_NOARGS, PyDoc_STR("The exception of the call, or None.")},
  {"done", Call_done, METH_NOARGS, PyDoc_STR("True when there is an outcome.")},
  {"cancelled", Call_cancelled, METH_NOARGS, PyDoc_STR("True when the call was cancelled.")},
  {"cancel", (PyCFunction)(void (*)(void))Call_cancel, METH_FASTCALL | METH_KEYWORDS,
   PyDoc_STR("Stops the call: its connection is closed, its place is free. False when it was done.")},
  {"get_loop", Call_get_loop, METH_NOARGS, PyDoc_STR("The event loop of the call.")},
  {"add_done_callback", (PyCFunction)(void (*)(void))Call_add_done_callback, METH_FASTCALL | METH_KEYWORDS,
   PyDoc_STR("Calls fn(call) when it is done.")},
  {"remove_done_callback", Call_remove_done_callback, METH_O, PyDoc_STR("Returns how many were removed.")},
  {"_make_cancelled_error", Call_make_cancelled_error, METH_NOARGS, NULL},
  {"_set_result", Call_set_result, METH_O, NULL},
  {"_set_exception", Call_set_exception, METH_O, NULL},
  {"_attach", (PyCFunction)(void (*)(void))Call_attach, METH_FASTCALL, NULL},
  {"_feed", (PyCFunction)(void (*)(void))lc_waiter_feed, METH_FASTCALL, NULL},
  {"_set_on_want", lc_waiter_set_on_want, METH_O, NULL},
  {"_stage", Call_stage, METH_NOARGS, NULL},
  {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
  {NULL, NULL, 0, NULL},
};

static PyGetSetDef Call_getset[] = {
  {"_asyncio_future_blocking", lc_waiter_get_blocking, lc_waiter_set_blocking, NULL, NULL},
  {"_cancel_message", Call_get_cancel_message, NULL, NULL, NULL},
  {"_loop", Call_get_loop_attribute, NULL, NULL, NULL},
  {"_log_traceback", Call_get_log_traceback, Call_set_log_traceback, NULL, NULL},
  {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Call_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("A request that has been started. Awaitable; a Future in all but the class.")},
  {Py_tp_traverse, Call_traverse},
  {Py_tp_clear, Call_clear},
  {Py_tp_finalize, Call_finalize},
  {Py_tp_dealloc, Call_dealloc},
  {Py_tp_repr, Call_repr},
  {Py_tp_iter, Call_await},
  {Py_tp_iternext, Call_next},
  {Py_am_await, Call_await},
  {Py_am_send, Call_send},
  {Py_tp_methods, Call_methods},
  {Py_tp_getset, Call_getset},
  {0, NULL},
};

PyType_Spec lc_call_spec = {
  .name = "llmcurl._native.Call",
  .basicsize = sizeof(CallObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
  .slots = Call_slots,
};
