/* stream_obj.c - BodyStream: the body of a streamed answer, read piece by piece.
 *
 * Job: `await stream.read()` gives what has arrived, b"" at the end; the object
 * waits for itself (no Future per read), and all that came in one drain wakes
 * the reader once. A reader that lags pauses the transfer. Not its job:
 * decoding. Used by: llmcurl.Response. Threads: the loop's; deallocation on any.
 */
#include "state.h"

#include "lc_live.h"
#include "xfer.h"

#define KEEP_BUFFER 65536

StreamObject *lc_stream_new(mod_state *st, waiter *from)
{
  StreamObject *self = PyObject_GC_New(StreamObject, st->stream_type);
  if(!self)
    return NULL;
  memset((char *)self + sizeof(PyObject), 0, sizeof(*self) - sizeof(PyObject));
  self->w.pool = (PoolObject *)Py_XNewRef((PyObject *)from->pool);
  self->w.reactor = (ReactorObject *)Py_NewRef((PyObject *)from->reactor);
  self->w.xfer = from->xfer;
  self->w.xfer->owner = self;
  from->xfer = NULL;
  lc_live_add(LC_LIVE_STREAM, 1);
  self->w.on_want = from->on_want;
  from->on_want = NULL;
  PyObject_GC_Track(self);
  return self;
}

static int Stream_traverse(PyObject *op, visitproc visit, void *arg)
{
  return lc_waiter_traverse((waiter *)op, visit, arg);
}

static int Stream_clear(PyObject *op)
{
  lc_waiter_clear((waiter *)op);
  return 0;
}

static void Stream_dealloc(PyObject *op)
{
  PyTypeObject *type = Py_TYPE(op);
  PyObject_GC_UnTrack(op);
  lc_live_add(LC_LIVE_STREAM, -1);
  (void)Stream_clear(op);
  type->tp_free(op);
  Py_DECREF(type);
}

int lc_stream_news(StreamObject *self, unsigned news)
{
  if(news & LC_NEWS_WANT)
    lc_waiter_want(&self->w);
  if(news & (LC_NEWS_DATA | LC_NEWS_DONE))
    return lc_waiter_wake(&self->w, 1);
  return 0;
}

static PyObject *Stream_read(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  return Py_NewRef(op);
}

/* What can be given now: 1 and *result, 0 nothing yet, -1 an exception. */
static int take(StreamObject *self, PyObject **result)
{
  lc_xfer *x = self->w.xfer;
  size_t len;

  *result = NULL;
  if(self->w.cancelled) {
    self->w.cancelled = 0;
    (void)lc_waiter_raise_cancelled(&self->w);
    return -1;
  }
  if(self->closed || self->ended || !x) {
    *result = PyBytes_FromStringAndSize(NULL, 0);
    return *result ? 1 : -1;
  }
  len = lc_buf_len(&x->in);
  if(len) {
    *result = PyBytes_FromStringAndSize(lc_buf_data(&x->in), (Py_ssize_t)len);
    if(!*result)
      return -1;
    self->arrived = x->arrived;
    lc_buf_reset(&x->in, KEEP_BUFFER);
    x->bytes_due = 0;
    if(x->in_paused) {
      lc_xfer_resume(x);
      if(lc_reactor_kick(self->w.reactor))
        PyErr_Clear(); /* the loop is closed: nothing more will come */
    }
    return 1;
  }
  if(x->state != LC_XFER_DONE)
    return 0;
  self->ended = 1;
  if(x->reason || x->code) {
    PyObject *error = lc_error_of_xfer(self->w.reactor->st, x);
    lc_waiter_release_xfer(&self->w);
    if(error) {
      PyErr_SetObject((PyObject *)Py_TYPE(error), error);
      Py_DECREF(error);
    }
    return -1;
  }
  lc_waiter_release_xfer(&self->w);
  *result = PyBytes_FromStringAndSize(NULL, 0);
  return *result ? 1 : -1;
}

static PySendResult Stream_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **result)
{
  StreamObject *self = (StreamObject *)op;
  if(lc_reactor_foreign(self->w.reactor) || lc_reactor_forked(self->w.reactor)) {
    PyErr_SetString(PyExc_RuntimeError, "a streamed body must be read in the thread and process of its event loop");
    *result = NULL;
    return PYGEN_ERROR;
  }
  if(self->w.callback) {
    PyErr_SetString(PyExc_RuntimeError, "another task is reading this body");
    *result = NULL;
    return PYGEN_ERROR;
  }
  switch(take(self, result)) {
  case 1:
    return PYGEN_RETURN;
  case 0:
    self->w.blocking = 1;
    *result = Py_NewRef(op);
    return PYGEN_NEXT;
  default:
    return PYGEN_ERROR;
  }
}

static PyObject *Stream_next(PyObject *op)
{
  return lc_waiter_next(op, Stream_send);
}

/* The task asks only whether it may go on; the bytes come from the next step. */
static PyObject *Stream_result(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  StreamObject *self = (StreamObject *)op;
  if(self->w.cancelled) {
    self->w.cancelled = 0;
    return lc_waiter_raise_cancelled(&self->w);
  }
  Py_RETURN_NONE;
}

/* Cancels the wait, not the transfer. */
static PyObject *Stream_cancel(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
  StreamObject *self = (StreamObject *)op;
  PyObject *msg = n ? args[0] : names && PyTuple_GET_SIZE(names) ? args[n] : NULL;
  if(!self->w.callback)
    Py_RETURN_FALSE;
  Py_XSETREF(self->w.cancel_msg, Py_XNewRef(msg));
  self->w.cancelled = 1;
  if(lc_waiter_wake(&self->w, 0))
    return NULL;
  Py_RETURN_TRUE;
}

static PyObject *Stream_add_done_callback(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
  PyObject *context = names && PyTuple_GET_SIZE(names) ? Py_NewRef(args[n]) : PyContext_CopyCurrent();
  int rc;
  if(!context)
    return NULL;
  rc = n == 1 ? lc_waiter_add_callback((waiter *)op, args[0], context) : -1;
  Py_DECREF(context);
  if(rc) {
    if(!PyErr_Occurred())
      PyErr_SetString(PyExc_TypeError, "add_done_callback(fn, *, context=None)");
    return NULL;
  }
  Py_RETURN_NONE;
}

static PyObject *Stream_remove_done_callback(PyObject *op, PyObject *callback)
{
  Py_ssize_t removed;
  Py_INCREF(op);
  removed = lc_waiter_remove_callback((waiter *)op, callback);
  Py_DECREF(op);
  return removed < 0 ? NULL : PyLong_FromSsize_t(removed);
}

static PyObject *Stream_get_loop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  return Py_NewRef(((StreamObject *)op)->w.reactor->loop);
}

static PyObject *Stream_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  StreamObject *self = (StreamObject *)op;
  if(self->closed)
    Py_RETURN_NONE;
  self->closed = 1;
  if(self->w.xfer && !lc_reactor_forked(self->w.reactor) && self->w.xfer->state == LC_XFER_DONE)
    lc_waiter_release_xfer(&self->w);
  else
    lc_waiter_drop(&self->w);
  if(lc_waiter_wake(&self->w, 0))
    return NULL;
  Py_RETURN_NONE;
}

/* Who leaves early keeps what has come in until then. */
static PyObject *Stream_unread(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  StreamObject *self = (StreamObject *)op;
  lc_xfer *x = self->w.xfer;
  PyObject *data;
  if(self->closed || self->ended || !x || lc_reactor_foreign(self->w.reactor) || lc_reactor_forked(self->w.reactor))
    return PyBytes_FromStringAndSize(NULL, 0);
  data = PyBytes_FromStringAndSize(lc_buf_data(&x->in), (Py_ssize_t)lc_buf_len(&x->in));
  if(data)
    lc_buf_reset(&x->in, KEEP_BUFFER);
  return data;
}

/* _expect(wait, read): see lc_xfer_await_bytes; milliseconds, read = -1 leaves the read time-out as it is. */
static PyObject *Stream_expect(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
  StreamObject *self = (StreamObject *)op;
  long wait, read;
  if(n != 2) {
    PyErr_SetString(PyExc_TypeError, "_expect(wait, read)");
    return NULL;
  }
  wait = PyLong_AsLong(args[0]);
  read = PyLong_AsLong(args[1]);
  if((wait == -1 || read == -1) && PyErr_Occurred())
    return NULL;
  if(wait < 0 || read < -1 || wait > INT32_MAX || read > INT32_MAX) {
    PyErr_SetString(PyExc_ValueError, "milliseconds from 0 to 2**31 - 1");
    return NULL;
  }
  if(!self->closed && self->w.xfer && !lc_reactor_foreign(self->w.reactor) && !lc_reactor_forked(self->w.reactor)) {
    if(lc_xfer_await_bytes(self->w.xfer, wait * LC_MS, read < 0 ? -1 : read * LC_MS) && lc_reactor_kick(self->w.reactor))
      return NULL;
  }
  Py_RETURN_NONE;
}

static PyObject *Stream_get_received(PyObject *op, void *Py_UNUSED(closure))
{
  lc_xfer *x = ((StreamObject *)op)->w.xfer;
  return PyLong_FromUnsignedLongLong(x ? x->received : 0);
}

static PyObject *Stream_get_arrived(PyObject *op, void *Py_UNUSED(closure))
{
  return PyFloat_FromDouble((double)((StreamObject *)op)->arrived / 1e9);
}

static PyMethodDef Stream_methods[] = {
  {"read", Stream_read, METH_NOARGS, PyDoc_STR("Awaitable of the bytes that have arrived; b'' at the end.")},
  {"close", Stream_close, METH_NOARGS, PyDoc_STR("Drops the connection unless the body is whole. Idempotent, needs no loop.")},
  {"unread", Stream_unread, METH_NOARGS, PyDoc_STR("Takes what has arrived and was not read, without waiting.")},
  {"result", Stream_result, METH_NOARGS, NULL},
  {"_expect", (PyCFunction)(void (*)(void))Stream_expect, METH_FASTCALL, PyDoc_STR("Sets the limit on the wait for the next bytes.")},
  {"_feed", (PyCFunction)(void (*)(void))lc_waiter_feed, METH_FASTCALL, NULL},
  {"_set_on_want", lc_waiter_set_on_want, METH_O, NULL},
  {"cancel", (PyCFunction)(void (*)(void))Stream_cancel, METH_FASTCALL | METH_KEYWORDS, NULL},
  {"add_done_callback", (PyCFunction)(void (*)(void))Stream_add_done_callback, METH_FASTCALL | METH_KEYWORDS, NULL},
  {"remove_done_callback", Stream_remove_done_callback, METH_O, NULL},
  {"get_loop", Stream_get_loop, METH_NOARGS, NULL},
  {NULL, NULL, 0, NULL},
};

static PyGetSetDef Stream_getset[] = {
  {"_asyncio_future_blocking", lc_waiter_get_blocking, lc_waiter_set_blocking, NULL, NULL},
  {"arrived", Stream_get_arrived, NULL,
   PyDoc_STR("When the piece read last came in, by time.monotonic(): into the kernel, if the watcher saw that it lay there."), NULL},
  {"received", Stream_get_received, NULL, PyDoc_STR("Bytes of the body so far."), NULL},
  {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Stream_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("The body of a streamed answer.")},
  {Py_tp_traverse, Stream_traverse},
  {Py_tp_clear, Stream_clear},
  {Py_tp_dealloc, Stream_dealloc},
  {Py_tp_iter, PyObject_SelfIter},
  {Py_tp_iternext, Stream_next},
  {Py_am_await, PyObject_SelfIter},
  {Py_am_send, Stream_send},
  {Py_tp_methods, Stream_methods},
  {Py_tp_getset, Stream_getset},
  {0, NULL},
};

PyType_Spec lc_stream_spec = {
  .name = "llmcurl._native.BodyStream",
  .basicsize = sizeof(StreamObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
  .slots = Stream_slots,
};
