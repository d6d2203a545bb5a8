/* watch_obj.c - Watch: the native half of the thread that notices a blocked loop.
 *
 * Job: `wait()` sleeps without the GIL until a loop is late, and says which and for how long. Not its job:
 * looking (core/watch.c), finding out who is to blame (llmcurl._watch). Used by: llmcurl._watch.
 * Threads: `wait` in the watcher's, the rest in any.
 */
#include "state.h"

#include "watch.h"

typedef struct {
  PyObject_HEAD
  lc_watch *core; /* owned */
} WatchObject;

static PyObject *Watch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
  static char *names[] = {NULL};
  WatchObject *self;
  if(!PyArg_ParseTupleAndKeywords(args, kwargs, ":Watch", names))
    return NULL;
  self = (WatchObject *)LC_TP_ALLOC(type);
  if(!self)
    return NULL;
  self->core = lc_watch_new();
  if(!self->core) {
    Py_DECREF(self);
    return PyErr_NoMemory();
  }
  return (PyObject *)self;
}

static void Watch_dealloc(PyObject *op)
{
  PyTypeObject *type = Py_TYPE(op);
  if(((WatchObject *)op)->core)
    lc_watch_unref(((WatchObject *)op)->core);
  type->tp_free(op);
  Py_DECREF(type);
}

static PyObject *Watch_add(PyObject *op, PyObject *args)
{
  mod_state *st = lc_state_of_type(Py_TYPE(op));
  PyObject *reactor;
  double seconds;
  uint64_t token;

  if(!st || !PyArg_ParseTuple(args, "O!d:add", st->reactor_type, &reactor, &seconds))
    return NULL;
  if(!(seconds > 0 && seconds < 1e6)) {
    PyErr_SetString(PyExc_ValueError, "the threshold must be seconds above 0");
    return NULL;
  }
  if(PyInterpreterState_Get() != PyInterpreterState_Main())
    return PyLong_FromLong(0); /* one that has a second thread cannot be ended */
  if(((ReactorObject *)reactor)->closed || lc_reactor_forked((ReactorObject *)reactor))
    return PyLong_FromLong(0);
  token = lc_watch_add(((WatchObject *)op)->core, ((ReactorObject *)reactor)->core, (int64_t)(seconds * 1e9));
  return PyLong_FromUnsignedLongLong(token);
}

static PyObject *Watch_wait(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  lc_watch *core = ((WatchObject *)op)->core;
  lc_late late;
  int found;

  Py_BEGIN_ALLOW_THREADS
  found = lc_watch_wait(core, &late);
  Py_END_ALLOW_THREADS
  if(!found)
    Py_RETURN_NONE;
  return Py_BuildValue("KOdk", (unsigned long long)late.token, late.kind == LC_LATE_OVER ? Py_True : Py_False, (double)late.ns / 1e9,
                       late.thread);
}

static PyObject *Watch_late(PyObject *op, PyObject *number)
{
  unsigned long long token = PyLong_AsUnsignedLongLong(number);
  if(token == (unsigned long long)-1 && PyErr_Occurred())
    return NULL;
  return PyBool_FromLong(lc_watch_late_now(((WatchObject *)op)->core, token));
}

static PyObject *Watch_count(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  return PyLong_FromUnsignedLong(lc_watch_count(((WatchObject *)op)->core));
}

static PyObject *Watch_stop(PyObject *op, PyObject *value)
{
  int stop = PyObject_IsTrue(value);
  if(stop < 0)
    return NULL;
  lc_watch_stop(((WatchObject *)op)->core, stop);
  Py_RETURN_NONE;
}

static PyMethodDef Watch_methods[] = {
  {"add", Watch_add, METH_VARARGS, PyDoc_STR("Watches a reactor; seconds that its events may wait untold. Returns its number, 0 if it cannot be watched.")},
  {"wait", Watch_wait, METH_NOARGS,
   PyDoc_STR("Sleeps until a reactor is late or served again: (number, over, seconds, thread). None at the end.")},
  {"late", Watch_late, METH_O, PyDoc_STR("Whether the reactor with this number is still late.")},
  {"count", Watch_count, METH_NOARGS, PyDoc_STR("How many reactors are watched.")},
  {"stop", Watch_stop, METH_O, PyDoc_STR("Ends wait(), until it is called with False.")},
  {NULL, NULL, 0, NULL},
};

static PyType_Slot Watch_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("Looks at reactors, and says which is not served.")},
  {Py_tp_new, Watch_new},
  {Py_tp_dealloc, Watch_dealloc},
  {Py_tp_methods, Watch_methods},
  {0, NULL},
};

PyType_Spec lc_watch_spec = {
  .name = "llmcurl._native.Watch",
  .basicsize = sizeof(WatchObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
  .slots = Watch_slots,
};
