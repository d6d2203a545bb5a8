/* response_obj.c - RawResponse: what came back, before anybody asks for more.
 *
 * Job: status, head and body as bytes, times; the base of llmcurl.Response,
 * which parses headers and decodes lazily in Python. Not its job: either of
 * these, but for `_split`, which gives the transports raw pairs. Used by:
 * call_obj. Threads: any, as any Python object.
 *
 * Not a GC type: nothing it holds refers back to it (a subclass without a
 * __dict__ keeps it so), and it is made once per call.
 */
#include "state.h"

#include <structmember.h>

static PyObject *moved(PyObject **from)
{
  PyObject *it = *from;
  *from = NULL;
  return it;
}

PyObject *lc_response_of_call(PyTypeObject *type, CallObject *call)
{
  const lc_xfer *x = call->w.xfer;
  ResponseObject *self = (ResponseObject *)LC_TP_ALLOC(type);
  int64_t now;
  if(!self)
    return NULL;
  self->head = PyBytes_FromStringAndSize(lc_buf_data(&x->head.block), (Py_ssize_t)lc_buf_len(&x->head.block));
  if(x->streaming)
    self->body = PyBytes_FromStringAndSize(NULL, 0);
  else
    self->body = PyBytes_FromStringAndSize(lc_buf_data(&x->in), (Py_ssize_t)lc_buf_len(&x->in));
  if(!self->head || !self->body) {
    Py_DECREF(self);
    return NULL;
  }
  self->url = moved(&call->url);
  self->method = moved(&call->method);
  self->sent = moved(&call->sent);
  if(x->described) {
    self->peer = PyBytes_FromStringAndSize((const char *)&x->peer, (Py_ssize_t)sizeof(x->peer));
    if(!self->peer) {
      Py_DECREF(self);
      return NULL;
    }
  }
  self->queued = x->started - x->created;
  self->times = x->times;
  if(x->streaming)
    self->times.done = -1;
  now = lc_now();
  self->finished = (double)(now - x->created) / 1e9;
  self->late = (double)(now - x->arrived) / 1e9;
  self->status = x->head.status;
  self->version = x->head.version;
  self->reused = x->connected && !x->new_connections;
  return (PyObject *)self;
}

static int Response_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
  static char *names[] = {"status_code", "head", "body", "url", "method", "http_version", NULL};
  ResponseObject *self = (ResponseObject *)op;
  PyObject *head = NULL, *body = NULL, *url = NULL, *method = NULL;
  const char *version = "HTTP/1.1";

  if(!PyArg_ParseTupleAndKeywords(args, kwargs, "i|$SSUUs:RawResponse", names, &self->status, &head, &body, &url, &method, &version))
    return -1;
  self->version = !strcmp(version, "HTTP/1.0") ? 10 : !strcmp(version, "HTTP/2") ? 20 : 11;
  Py_XSETREF(self->head, head ? Py_NewRef(head) : PyBytes_FromStringAndSize(NULL, 0));
  Py_XSETREF(self->body, body ? Py_NewRef(body) : PyBytes_FromStringAndSize(NULL, 0));
  Py_XSETREF(self->url, url ? Py_NewRef(url) : PyUnicode_FromString(""));
  Py_XSETREF(self->method, method ? Py_NewRef(method) : PyUnicode_FromString(""));
  if(!self->head || !self->body || !self->url || !self->method)
    return -1;
  self->queued = 0;
  self->times = (lc_times){-1, -1, -1, -1, -1, -1};
  return 0;
}

static void Response_dealloc(PyObject *op)
{
  ResponseObject *self = (ResponseObject *)op;
  PyTypeObject *type = Py_TYPE(op);
  Py_CLEAR(self->head);
  Py_CLEAR(self->body);
  Py_CLEAR(self->url);
  Py_CLEAR(self->method);
  Py_CLEAR(self->extra);
  Py_CLEAR(self->stream);
  Py_CLEAR(self->sent);
  Py_CLEAR(self->sent_body);
  Py_CLEAR(self->peer);
  type->tp_free(op);
  Py_DECREF(type);
}

/* The body, decoded. Usually that is what came; `_decoded` knows the other cases. */
static PyObject *Response_get_content(PyObject *op, void *Py_UNUSED(closure))
{
  const ResponseObject *self = (const ResponseObject *)op;
  mod_state *st;
  if(self->plain)
    return Py_NewRef(self->body);
  st = lc_state_of_type(Py_TYPE(op));
  return st ? PyObject_CallMethodNoArgs(op, st->str_decoded) : NULL;
}

static PyObject *Response_get_version(PyObject *op, void *Py_UNUSED(closure))
{
  switch(((ResponseObject *)op)->version) {
  case 10:
    return PyUnicode_FromString("HTTP/1.0");
  case 20:
    return PyUnicode_FromString("HTTP/2");
  case 30:
    return PyUnicode_FromString("HTTP/3");
  default:
    return PyUnicode_FromString("HTTP/1.1");
  }
}

/* Seconds since the call was made; libcurl counts from the start. */
static double since_call(const ResponseObject *self, int64_t us)
{
  return us < 0 ? -1.0 : (double)self->queued / 1e9 + (double)us / 1e6;
}

static PyObject *Response_get_timings(PyObject *op, void *Py_UNUSED(closure))
{
  const ResponseObject *self = (const ResponseObject *)op;
  const lc_times *t = &self->times;
  return Py_BuildValue("(ddddddddd)", (double)self->queued / 1e9, since_call(self, t->dns), since_call(self, t->connect),
                       since_call(self, t->tls), since_call(self, t->sent), since_call(self, t->first_byte), since_call(self, t->done),
                       self->finished, self->late);
}

static PyObject *Response_get_peer(PyObject *op, void *Py_UNUSED(closure))
{
  const ResponseObject *self = (const ResponseObject *)op;
  lc_peer peer;
  if(!self->peer)
    Py_RETURN_NONE;
  memcpy(&peer, PyBytes_AS_STRING(self->peer), sizeof(peer));
  return Py_BuildValue("(sisiss)", peer.ip, peer.port, peer.local_ip, peer.local_port, peer.tls_version, peer.cipher);
}

static const char *skip_blanks(const char *at, const char *end)
{
  while(at < end && (*at == ' ' || *at == '\t'))
    at++;
  return at;
}

/* One line of the head, without its end, as (name, value). */
static int add_pair(PyObject *pairs, const char *line, const char *end)
{
  const char *colon = memchr(line, ':', (size_t)(end - line));
  const char *value = colon ? skip_blanks(colon + 1, end) : end;
  PyObject *name, *content, *pair = NULL;
  int rc = -1;

  while(end > value && (end[-1] == ' ' || end[-1] == '\t'))
    end--;
  name = PyBytes_FromStringAndSize(line, (colon ? colon : end) - line);
  content = PyBytes_FromStringAndSize(value, end - value);
  if(name && content)
    pair = PyTuple_Pack(2, name, content);
  Py_XDECREF(name);
  Py_XDECREF(content);
  if(pair) {
    rc = PyList_Append(pairs, pair);
    Py_DECREF(pair);
  }
  return rc;
}

/* The reason phrase: what stands behind the second space of the status line. */
static PyObject *reason_of(const char *line, const char *end)
{
  const char *at = memchr(line, ' ', (size_t)(end - line));
  if(at)
    at = memchr(at + 1, ' ', (size_t)(end - at - 1));
  at = at ? at + 1 : end;
  return PyBytes_FromStringAndSize(at, end - at);
}

static PyObject *Response_split(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  const ResponseObject *self = (const ResponseObject *)op;
  PyObject *reason = NULL, *pairs = NULL, *result = NULL;
  const char *line, *stop;

  if(!self->head || !PyBytes_Check(self->head)) {
    PyErr_SetString(PyExc_TypeError, "the head is not bytes");
    return NULL;
  }
  line = PyBytes_AS_STRING(self->head);
  stop = line + PyBytes_GET_SIZE(self->head);
  pairs = PyList_New(0);
  while(pairs && line < stop) {
    const char *end = memchr(line, '\n', (size_t)(stop - line));
    const char *next = end ? end + 1 : stop;
    if(!end)
      end = stop;
    if(end > line && end[-1] == '\r')
      end--;
    if(!reason) {
      reason = reason_of(line, end);
      if(!reason)
        goto done;
    }
    else if(add_pair(pairs, line, end))
      goto done;
    line = next;
  }
  if(pairs)
    result = Py_BuildValue("iOO", self->version, reason ? reason : Py_None, pairs);
done:
  Py_XDECREF(reason);
  Py_XDECREF(pairs);
  return result;
}

static PyMethodDef Response_methods[] = {
  {"_split", Response_split, METH_NOARGS, PyDoc_STR("(version as 10, 11, 20 or 30, reason phrase, [(name, value), ...]) of the head.")},
  {NULL, NULL, 0, NULL},
};

static PyMemberDef Response_members[] = {
  {"status_code", T_INT, offsetof(ResponseObject, status), READONLY, NULL},
  {"reused", T_BOOL, offsetof(ResponseObject, reused), READONLY, NULL},
  {"_head", T_OBJECT, offsetof(ResponseObject, head), 0, NULL},
  {"_body", T_OBJECT, offsetof(ResponseObject, body), 0, NULL},
  {"_url", T_OBJECT, offsetof(ResponseObject, url), 0, NULL},
  {"_method", T_OBJECT, offsetof(ResponseObject, method), 0, NULL},
  {"_extra", T_OBJECT, offsetof(ResponseObject, extra), 0, NULL},
  {"_stream", T_OBJECT, offsetof(ResponseObject, stream), 0, NULL},
  {"_sent", T_OBJECT, offsetof(ResponseObject, sent), READONLY, NULL},
  {"_sent_body", T_OBJECT, offsetof(ResponseObject, sent_body), READONLY, NULL},
  {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef Response_getset[] = {
  {"content", Response_get_content, NULL,
   PyDoc_STR("The body, decoded.\n\nRaises:\n    ResponseNotRead: streamed, and `aread` was not called.\n"
             "    DecodingError, ResponseTooLarge: it cannot be decoded; the await normally raised it."),
   NULL},
  {"http_version", Response_get_version, NULL, NULL, NULL},
  {"_timings", Response_get_timings, NULL, NULL, NULL},
  {"_peer", Response_get_peer, NULL, NULL, NULL},
  {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Response_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("An answer as it came: the base of llmcurl.Response.")},
  {Py_tp_init, Response_init},
  {Py_tp_new, PyType_GenericNew},
  {Py_tp_dealloc, Response_dealloc},
  {Py_tp_methods, Response_methods},
  {Py_tp_members, Response_members},
  {Py_tp_getset, Response_getset},
  {0, NULL},
};

PyType_Spec lc_response_spec = {
  .name = "llmcurl._native.RawResponse",
  .basicsize = sizeof(ResponseObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
  .slots = Response_slots,
};
