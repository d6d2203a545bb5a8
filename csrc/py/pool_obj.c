/* pool_obj.c - Pool: the connections of one client in one loop; Target and
 * HeaderList: a URL and a header list made ready once, used by many calls.
 *
 * Job: `pool.call(...)`, the hot path from Python into the core. Not its job:
 * reading a configuration (pool_config.c). Used by: llmcurl._client.
 * Threads: the loop's; deallocation on any.
 */
#include "state.h"

#include "headers.h"
#include "lc_alloc.h"
#include "pool.h"
#include "pool_config.h"
#include "reactor.h"
#include "xfer.h"

#include <structmember.h>

enum { FLAG_STREAM = 1, FLAG_HTTP1 = 2, FLAG_REPLAY_UNSENT_ONLY = 4, FLAG_DESCRIBE = 8, FLAG_STAGES = 16, FLAG_WHOLE = 32 };

/* (connect, read, write, pool, total) in milliseconds, 0 = none. */
static int parse_timeouts(PyObject *value, lc_timeouts *t)
{
  int64_t ns[5];
  int i;
  if(!PyTuple_Check(value) || PyTuple_GET_SIZE(value) != 5) {
    PyErr_SetString(PyExc_TypeError, "timeouts must be a tuple of five ints (milliseconds)");
    return -1;
  }
  for(i = 0; i < 5; i++) {
    long long ms = PyLong_AsLongLong(PyTuple_GET_ITEM(value, i));
    if(ms == -1 && PyErr_Occurred())
      return -1;
    if(ms < 0 || ms > INT64_MAX / LC_MS / 4) {
      PyErr_SetString(PyExc_ValueError, "a time-out is out of range");
      return -1;
    }
    ns[i] = (int64_t)ms * LC_MS;
  }
  *t = (lc_timeouts){ns[0], ns[1], ns[2], ns[3], ns[4]};
  return 0;
}

/* Certificates are loaded when the first URL needs them: most of the cost of a
 * client that only speaks to plain HTTP would be theirs. */
static int load_trust(PoolObject *self)
{
  if(!self->config)
    return 0;
  if(lc_pool_configure_trust(self->reactor->st, self->core, self->config))
    return -1;
  Py_CLEAR(self->config);
  return 0;
}

static PyObject *Pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
  static char *names[] = {"reactor", "config", "timeouts", NULL};
  mod_state *st = lc_state_of_type(type);
  PyObject *reactor, *config, *timeouts;
  PoolObject *self;

  if(!st || !PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O:Pool", names, st->reactor_type, &reactor, &PyDict_Type, &config, &timeouts))
    return NULL;
  self = (PoolObject *)LC_TP_ALLOC(type);
  if(!self)
    return NULL;
  self->reactor = (ReactorObject *)Py_NewRef(reactor);
  if(parse_timeouts(timeouts, &self->timeouts))
    goto error;
  self->core = lc_pool_new(self->reactor->core);
  if(!self->core) {
    PyErr_NoMemory();
    goto error;
  }
  if(lc_pool_configure(self->core, config))
    goto error;
  self->config = Py_NewRef(config);
  if(self->core->config.proxy && load_trust(self))
    goto error;
  if(lc_pool_open(self->core)) {
    PyErr_NoMemory();
    goto error;
  }
  return (PyObject *)self;
error:
  Py_DECREF(self);
  return NULL;
}

static int Pool_traverse(PyObject *op, visitproc visit, void *arg)
{
  Py_VISIT(Py_TYPE(op));
  Py_VISIT(((PoolObject *)op)->reactor);
  Py_VISIT(((PoolObject *)op)->config);
  return 0;
}

static void Pool_dealloc(PyObject *op)
{
  PoolObject *self = (PoolObject *)op;
  PyTypeObject *type = Py_TYPE(op);
  PyObject_GC_UnTrack(op);
  if(self->core && !lc_reactor_forked(self->reactor)) {
    if(lc_reactor_foreign(self->reactor))
      lc_pool_release_foreign(self->core);
    else {
      lc_pool_close(self->core, 0);
      lc_pool_unref(self->core);
      lc_reactor_settle(self->reactor);
    }
  }
  Py_CLEAR(self->reactor);
  Py_CLEAR(self->config);
  type->tp_free(op);
  Py_DECREF(type);
}

/* None leaves *text alone. The text belongs to the str. */
static int get_text(PyObject *value, const char **text)
{
  Py_ssize_t len;
  if(value == Py_None)
    return 0;
  *text = PyUnicode_AsUTF8AndSize(value, &len);
  if(*text && memchr(*text, '\0', (size_t)len)) {
    PyErr_SetString(PyExc_ValueError, "a NUL byte in the URL");
    return -1;
  }
  return *text ? 0 : -1;
}

static PyObject *Pool_target(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
  PoolObject *self = (PoolObject *)op;
  mod_state *st = self->reactor->st;
  const char *url, *key;
  Py_ssize_t url_len, key_len;
  const char *request_target = NULL, *connect_to = NULL;
  TargetObject *target;
  int https, named;

  if((n != 4 && n != 6) || !PyUnicode_Check(args[0]) || !PyUnicode_Check(args[1])) {
    PyErr_SetString(PyExc_TypeError,
                    "target(url: str, key: str, https: bool, named: bool, request_target: str | None, connect_to: str | None)");
    return NULL;
  }
  if(n == 6 && (get_text(args[4], &request_target) || get_text(args[5], &connect_to)))
    return NULL;
  url = PyUnicode_AsUTF8AndSize(args[0], &url_len);
  key = url ? PyUnicode_AsUTF8AndSize(args[1], &key_len) : NULL;
  https = key ? PyObject_IsTrue(args[2]) : -1;
  named = https >= 0 ? PyObject_IsTrue(args[3]) : -1;
  if(named < 0 || (https && load_trust(self)))
    return NULL;
  if(memchr(url, '\0', (size_t)url_len)) {
    PyErr_SetString(PyExc_ValueError, "a NUL byte in the URL");
    return NULL;
  }
  target = PyObject_New(TargetObject, st->target_type);
  if(!target)
    return NULL;
  target->pool = (PoolObject *)Py_NewRef(op);
  target->url = Py_NewRef(args[0]);
  target->core = lc_target_new(self->core, url, (size_t)url_len, key, (size_t)key_len, https, named);
  if(!target->core || ((request_target || connect_to) && lc_target_route(target->core, request_target, connect_to))) {
    Py_DECREF(target);
    return PyErr_NoMemory();
  }
  return (PyObject *)target;
}

static void Target_dealloc(PyObject *op)
{
  TargetObject *self = (TargetObject *)op;
  PyTypeObject *type = Py_TYPE(op);
  lc_target_unref(self->core);
  Py_CLEAR(self->pool);
  Py_CLEAR(self->url);
  type->tp_free(op);
  Py_DECREF(type);
}

/* A header line as libcurl takes it: no control characters but a tab (RFC 9110 5.5). */
static int line_is_clean(const char *line, Py_ssize_t len)
{
  Py_ssize_t i;
  for(i = 0; i < len; i++) {
    unsigned char c = (unsigned char)line[i];
    if((c < 32 && c != '\t') || c == 127)
      return 0;
  }
  return 1;
}

/* 0, or -1 + exception: not bytes, or not clean. */
static int check_line(PyObject *line)
{
  if(PyBytes_Check(line) && line_is_clean(PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line)))
    return 0;
  PyErr_SetString(PyExc_ValueError, "a header line holds a control character");
  return -1;
}

/* Several lines as one: libcurl looks at each line of its list a dozen times in
 * each call, and sends what comes behind the first line end as it is. */
static int add_block(lc_headers *h, PyObject *lines)
{
  Py_ssize_t i, n = PyList_GET_SIZE(lines);
  size_t room = 1;
  char *text, *at;
  lc_rc rc;

  for(i = 0; i < n; i++) {
    if(check_line(PyList_GET_ITEM(lines, i)))
      return -1;
    room += (size_t)PyBytes_GET_SIZE(PyList_GET_ITEM(lines, i)) + 2;
  }
  text = at = lc_malloc(room);
  if(!text) {
    PyErr_NoMemory();
    return -1;
  }
  for(i = 0; i < n; i++) {
    PyObject *line = PyList_GET_ITEM(lines, i);
    size_t len = (size_t)PyBytes_GET_SIZE(line);
    if(i) {
      memcpy(at, "\r\n", 2);
      at += 2;
    }
    memcpy(at, PyBytes_AS_STRING(line), len);
    at += len;
  }
  *at = '\0';
  rc = lc_headers_add(h, text);
  lc_free(text);
  if(!rc)
    return 0;
  PyErr_NoMemory();
  return -1;
}

static PyObject *HeaderList_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
  HeadersObject *self;
  PyObject *lines, *source = Py_None;
  Py_ssize_t i;

  if((kwargs && PyDict_GET_SIZE(kwargs)) || !PyArg_ParseTuple(args, "O!|O:HeaderList", &PyList_Type, &lines, &source)) {
    if(!PyErr_Occurred())
      PyErr_SetString(PyExc_TypeError, "HeaderList(lines: list[bytes | list[bytes]], source: object = None)");
    return NULL;
  }
  self = (HeadersObject *)LC_TP_ALLOC(type);
  if(!self)
    return NULL;
  self->source = Py_NewRef(source);
  self->core = lc_headers_new();
  if(!self->core) {
    PyErr_NoMemory();
    goto error;
  }
  for(i = 0; i < PyList_GET_SIZE(lines); i++) {
    PyObject *line = PyList_GET_ITEM(lines, i);
    if(PyList_Check(line)) {
      if(add_block(self->core, line))
        goto error;
      continue;
    }
    if(check_line(line))
      goto error;
    if(lc_headers_add(self->core, PyBytes_AS_STRING(line))) {
      PyErr_NoMemory();
      goto error;
    }
  }
  return (PyObject *)self;
error:
  Py_DECREF(self);
  return NULL;
}

static void HeaderList_dealloc(PyObject *op)
{
  HeadersObject *self = (HeadersObject *)op;
  PyTypeObject *type = Py_TYPE(op);
  lc_headers_unref(self->core);
  Py_CLEAR(self->source);
  type->tp_free(op);
  Py_DECREF(type);
}

static int set_method(lc_xfer *x, const mod_state *st, PyObject *method)
{
  Py_ssize_t len;
  const char *name;
  int i;
  for(i = 0; i < LC_OTHER; i++) {
    if(method == st->str_method[i]) {
      lc_xfer_set_known_method(x, (lc_method)i);
      return 0;
    }
  }
  name = PyUnicode_AsUTF8AndSize(method, &len);
  if(!name)
    return -1;
  if(lc_xfer_set_method(x, name, (size_t)len)) {
    PyErr_Format(PyExc_ValueError, "not a method name: %R", method);
    return -1;
  }
  return 0;
}

/* Fills the transfer from call()'s arguments. */
static int fill(lc_xfer *x, PoolObject *self, PyObject *method, PyObject *body, PyObject *timeouts, long flags)
{
  if(set_method(x, self->reactor->st, method))
    return -1;
  if(timeouts == Py_None)
    x->timeouts = self->timeouts;
  else if(parse_timeouts(timeouts, &x->timeouts))
    return -1;
  if(PyBytes_Check(body)) {
    x->body = PyBytes_AS_STRING(body);
    x->body_len = (size_t)PyBytes_GET_SIZE(body);
    x->body_owner = Py_NewRef(body);
  }
  else if(PyLong_Check(body)) { /* fed later: its length, -1 = unknown */
    long long length = PyLong_AsLongLong(body);
    if(length == -1 && PyErr_Occurred())
      return -1;
    x->feeding = 1;
    x->up_len = length;
  }
  else if(body != Py_None) {
    PyErr_SetString(PyExc_TypeError, "body must be bytes, an int or None");
    return -1;
  }
  x->streaming = (flags & FLAG_STREAM) != 0;
  x->in_high = self->core->config.stream_high;
  x->http_version = (flags & FLAG_HTTP1) ? 1 : 0;
  x->replay_unsent_only = (flags & FLAG_REPLAY_UNSENT_ONLY) != 0;
  x->describe = (flags & FLAG_DESCRIBE) != 0;
  x->staged = (flags & FLAG_STAGES) != 0;
  return 0;
}

/* A Call for the request, queued. method: str. */
static PyObject *start(PoolObject *self, PyObject *method, TargetObject *target, HeadersObject *headers, PyObject *body,
                       PyObject *timeouts, long flags)
{
  ReactorObject *reactor = self->reactor;
  CallObject *call;
  lc_xfer *x;

  if(reactor->closed || lc_reactor_forked(reactor)) {
    PyErr_SetString(PyExc_RuntimeError, "this pool belongs to a closed reactor or to the parent of a fork");
    return NULL;
  }
  reactor->thread = PyThread_get_thread_ident(); /* the caller found its own running loop */
  call = lc_call_new(reactor->st, self, reactor);
  if(!call)
    return NULL;
  x = lc_xfer_new(target->core, headers->core);
  if(!x) {
    PyErr_NoMemory();
    goto error;
  }
  call->sent = Py_NewRef(headers);
  call->url = Py_NewRef(target->url);
  call->method = Py_NewRef(method);
  call->w.xfer = x;
  x->owner = call;
  call->stream = (flags & FLAG_STREAM) != 0;
  call->whole = (flags & FLAG_WHOLE) != 0;
  if(fill(x, self, method, body, timeouts, flags))
    goto error;
  if(lc_reactor_kick(reactor))
    goto error;
  if(lc_xfer_submit(x)) {
    PyErr_SetString(PyExc_RuntimeError, "the client is closed");
    goto error;
  }
  return (PyObject *)call;
error:
  call->touched = 1;
  lc_waiter_release_xfer(&call->w);
  Py_DECREF(call);
  return NULL;
}

/* call(method, target, headers, body, timeouts, flags) */
static PyObject *Pool_call(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
  PoolObject *self = (PoolObject *)op;
  const mod_state *st = self->reactor->st;
  long flags;

  if(n != 6 || !PyUnicode_Check(args[0]) || !Py_IS_TYPE(args[1], st->target_type) || !Py_IS_TYPE(args[2], st->headers_type)) {
    PyErr_SetString(PyExc_TypeError, "call(method, target, headers, body, timeouts, flags)");
    return NULL;
  }
  if(((TargetObject *)args[1])->pool != self) {
    PyErr_SetString(PyExc_ValueError, "the target belongs to another pool"); /* whose connections it would use */
    return NULL;
  }
  flags = PyLong_AsLong(args[5]);
  if(flags == -1 && PyErr_Occurred())
    return NULL;
  return start(self, args[0], (TargetObject *)args[1], (HeadersObject *)args[2], args[3], args[4], flags);
}

PyObject *lc_pool_post(TargetObject *target, lc_method method, HeadersObject *headers, PyObject *body)
{
  PoolObject *self = target->pool;
  return start(self, self->reactor->st->str_method[method], target, headers, body, Py_None, 0);
}

static PyObject *Pool_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  PoolObject *self = (PoolObject *)op;
  if(lc_reactor_forked(self->reactor) || self->core->closed)
    Py_RETURN_NONE;
  if(lc_reactor_foreign(self->reactor)) {
    lc_pool_close_foreign(self->core);
    Py_RETURN_NONE;
  }
  lc_pool_close(self->core, 1);
  if(self->core->reactor->news_head && lc_reactor_kick(self->reactor))
    PyErr_Clear(); /* the loop is closed: nobody is left to be told */
  Py_RETURN_NONE;
}

static PyObject *Pool_stats(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  const lc_pool *c = ((PoolObject *)op)->core;
  const uint64_t *out = c->outcomes;
  return Py_BuildValue("{s:I,s:I,s:I,s:I,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K}", "queued", lc_pool_waiting(c), "active", c->active,
                       "connections", c->conns, "idle", lc_pool_idle(c), "started", (unsigned long long)c->started_total,
                       "connections_opened", (unsigned long long)c->connections_total, "ok", (unsigned long long)out[LC_OUT_OK],
                       "client_errors", (unsigned long long)out[LC_OUT_CLIENT_ERROR], "server_errors",
                       (unsigned long long)out[LC_OUT_SERVER_ERROR], "timeouts", (unsigned long long)out[LC_OUT_TIMEOUT],
                       "cancelled", (unsigned long long)out[LC_OUT_CANCELLED], "failed", (unsigned long long)out[LC_OUT_FAILED],
                       "reused", (unsigned long long)c->reused, "bytes_sent", (unsigned long long)c->bytes_sent, "bytes_received",
                       (unsigned long long)c->bytes_received);
}

static PyObject *Pool_get_reactor(PyObject *op, void *Py_UNUSED(closure))
{
  return Py_NewRef((PyObject *)((PoolObject *)op)->reactor);
}

static PyMethodDef Pool_methods[] = {
  {"call", (PyCFunction)(void (*)(void))Pool_call, METH_FASTCALL, PyDoc_STR("Queues a request and returns its Call.")},
  {"target", (PyCFunction)(void (*)(void))Pool_target, METH_FASTCALL, PyDoc_STR("A URL made ready for this pool.")},
  {"close", Pool_close, METH_NOARGS, PyDoc_STR("Ends what runs and closes every connection. Needs no live loop.")},
  {"stats", Pool_stats, METH_NOARGS, PyDoc_STR("What is queued, active, connected and idle now.")},
  {NULL, NULL, 0, NULL},
};

static PyGetSetDef Pool_getset[] = {
  {"reactor", Pool_get_reactor, NULL, NULL, NULL},
  {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Pool_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("The connections of one client in one event loop.")},
  {Py_tp_new, Pool_new},
  {Py_tp_traverse, Pool_traverse},
  {Py_tp_dealloc, Pool_dealloc},
  {Py_tp_methods, Pool_methods},
  {Py_tp_getset, Pool_getset},
  {0, NULL},
};

PyType_Spec lc_pool_spec = {
  .name = "llmcurl._native.Pool",
  .basicsize = sizeof(PoolObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
  .slots = Pool_slots,
};

static PyType_Slot Target_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("A URL made ready for a pool.")},
  {Py_tp_dealloc, Target_dealloc},
  {0, NULL},
};

PyType_Spec lc_target_spec = {
  .name = "llmcurl._native.Target",
  .basicsize = sizeof(TargetObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
  .slots = Target_slots,
};

static PyMemberDef HeaderList_members[] = {
  {"source", T_OBJECT, offsetof(HeadersObject, source), READONLY, NULL},
  {NULL, 0, 0, 0, NULL},
};

static PyType_Slot HeaderList_slots[] = {
  {Py_tp_members, HeaderList_members},
  {Py_tp_doc, (void *)PyDoc_STR("HeaderList(lines: list[bytes | list[bytes]], source=None): request headers made ready.")},
  {Py_tp_new, HeaderList_new},
  {Py_tp_dealloc, HeaderList_dealloc},
  {0, NULL},
};

PyType_Spec lc_headers_spec = {
  .name = "llmcurl._native.HeaderList",
  .basicsize = sizeof(HeadersObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
  .slots = HeaderList_slots,
};
