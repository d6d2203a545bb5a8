/* client_obj.c - ClientCalls: get, post, ... of an AsyncClient.
 *
 * Job: a plain call, one URL known, a body of bytes, text or JSON and nothing else
 * asked for, goes straight to its pool; everything else goes through the
 * client's own `request`, which is Python. What is plain, and where it goes, the
 * client says in `_plain`. Not its job: checking arguments. Used by:
 * llmcurl._client. Threads: any; the running loop decides.
 */
#include "state.h"

#include <structmember.h>

#define FEW_ARGS 12

typedef struct {
  PyObject_HEAD
  /* owned: (ready, lists, encode) of the binding in use, or None: nothing is plain.
     ready: url -> (call function of a pool, Target). lists: is it JSON -> HeaderList.
     encode: object -> JSON as bytes. */
  PyObject *plain;
} ClientObject;

enum { PLAIN_READY = 0, PLAIN_LISTS, PLAIN_ENCODE, PLAIN_SIZE };

/* self.request(method, *args, **named) */
static PyObject *by_request(PyObject *op, const mod_state *st, lc_method method, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
  size_t given = (size_t)n + (names ? (size_t)PyTuple_GET_SIZE(names) : 0);
  PyObject *few[FEW_ARGS + 2], **all = few, *result;

  if(given > FEW_ARGS) {
    all = PyMem_New(PyObject *, given + 2);
    if(!all)
      return PyErr_NoMemory();
  }
  all[0] = op;
  all[1] = st->str_method[method];
  memcpy(all + 2, args, given * sizeof(*args));
  result = PyObject_VectorcallMethod(st->str_request, all, (size_t)n + 2, names);
  if(all != few)
    PyMem_Free(all);
  return result;
}

/* The Target of a URL that `plain` knows. Borrowed, NULL (without an exception) if it is not plain. */
static TargetObject *target_of(PyObject *plain, PyObject *url, const mod_state *st)
{
  PyObject *entry = PyDict_GetItemWithError(PyTuple_GET_ITEM(plain, PLAIN_READY), url);
  PyObject *start, *target;
  if(!entry || !PyTuple_CheckExact(entry) || PyTuple_GET_SIZE(entry) != 2)
    return NULL;
  start = PyTuple_GET_ITEM(entry, 0);
  target = PyTuple_GET_ITEM(entry, 1);
  if(!Py_IS_TYPE(target, st->target_type) || !PyCFunction_Check(start) ||
     PyCFunction_GET_SELF(start) != (PyObject *)((TargetObject *)target)->pool)
    return NULL; /* calls there are not started by the pool itself */
  return (TargetObject *)target;
}

/* 1 when the reactor's loop is the one that runs in this thread, -1 + exception. */
static int at_home(const ReactorObject *reactor, const mod_state *st)
{
  PyObject *loop;
  /* a task woken by the drain runs in it; asyncio's own answer costs a system call */
  if(reactor->draining && !lc_reactor_foreign(reactor) && !lc_reactor_forked(reactor))
    return 1;
  loop = PyObject_CallNoArgs(st->running_loop);
  if(!loop)
    return -1;
  Py_DECREF(loop); /* only compared */
  return loop == reactor->loop;
}

/* The Call, or NULL without an exception: not plain; *failed: with one. */
static PyObject *straight(ClientObject *self, const mod_state *st, lc_method method, PyObject *const *args, Py_ssize_t n,
                          PyObject *names, int *failed)
{
  PyObject *plain = self->plain, *content = NULL, *json = NULL, *body = NULL, *headers, *call = NULL;
  Py_ssize_t i, named = names ? PyTuple_GET_SIZE(names) : 0;
  TargetObject *target;
  int here;

  if(!plain || !PyTuple_CheckExact(plain) || PyTuple_GET_SIZE(plain) != PLAIN_SIZE || n != 1 || !PyUnicode_CheckExact(args[0]))
    return NULL;
  for(i = 0; i < named; i++) {
    PyObject *name = PyTuple_GET_ITEM(names, i);
    /* names are interned; one that is not takes the long way */
    if(name == st->str_json)
      json = args[n + i];
    else if(name == st->str_content)
      content = args[n + i];
    else
      return NULL;
  }
  if(json == Py_None)
    json = NULL;
  if(content == Py_None)
    content = NULL;
  if(content && (json || !PyBytes_CheckExact(content)))
    return NULL;
  target = target_of(plain, args[0], st);
  headers = target ? PyDict_GetItemWithError(PyTuple_GET_ITEM(plain, PLAIN_LISTS), json ? Py_True : Py_False) : NULL;
  here = headers && Py_IS_TYPE(headers, st->headers_type) ? at_home(target->pool->reactor, st) : 0;
  if(here <= 0) {
    *failed = PyErr_Occurred() != NULL;
    return NULL;
  }
  /* encoding may run Python code, which may change the client */
  Py_INCREF(plain);
  Py_INCREF(target);
  Py_INCREF(headers);
  if(json)
    body = PyObject_CallOneArg(PyTuple_GET_ITEM(plain, PLAIN_ENCODE), json);
  else
    body = Py_NewRef(content && PyBytes_GET_SIZE(content) ? content : Py_None);
  if(body)
    call = lc_pool_post(target, method, (HeadersObject *)headers, body);
  Py_XDECREF(body);
  Py_DECREF(headers);
  Py_DECREF(target);
  Py_DECREF(plain);
  *failed = !call;
  return call;
}

static PyObject *start(PyObject *op, lc_method method, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
  const mod_state *st = lc_state_of_type(Py_TYPE(op));
  PyObject *call;
  int failed = 0;
  if(!st)
    return NULL;
  call = straight((ClientObject *)op, st, method, args, n, names, &failed);
  return call || failed ? call : by_request(op, st, method, args, n, names);
}

#define METHOD(function, method) \
  static PyObject *function(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names) \
  { \
    return start(op, method, args, n, names); \
  }

METHOD(Client_get, LC_GET)
METHOD(Client_head, LC_HEAD)
METHOD(Client_post, LC_POST)
METHOD(Client_put, LC_PUT)
METHOD(Client_patch, LC_PATCH)
METHOD(Client_delete, LC_DELETE)
METHOD(Client_options, LC_OPTIONS)

static int Client_traverse(PyObject *op, visitproc visit, void *arg)
{
  Py_VISIT(Py_TYPE(op));
  Py_VISIT(((ClientObject *)op)->plain);
  return 0;
}

static int Client_clear(PyObject *op)
{
  Py_CLEAR(((ClientObject *)op)->plain);
  return 0;
}

static void Client_dealloc(PyObject *op)
{
  PyTypeObject *type = Py_TYPE(op);
  PyObject_GC_UnTrack(op);
  (void)Client_clear(op);
  type->tp_free(op);
  Py_DECREF(type);
}

#define ENTRY(name, function) \
  { \
    #name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS, \
      PyDoc_STR(#name "($self, url, **options)\n--\n\nStarts a request and returns its Call; see `request`.") \
  }

static PyMethodDef Client_methods[] = {
  ENTRY(get, Client_get),       ENTRY(head, Client_head),       ENTRY(post, Client_post),       ENTRY(put, Client_put),
  ENTRY(patch, Client_patch),   ENTRY(delete, Client_delete),   ENTRY(options, Client_options), {NULL, NULL, 0, NULL},
};

static PyMemberDef Client_members[] = {
  {"_plain", T_OBJECT, offsetof(ClientObject, plain), 0, NULL},
  {NULL, 0, 0, 0, NULL},
};

static PyType_Slot Client_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("get, post and the like of an AsyncClient.")},
  {Py_tp_new, PyType_GenericNew},
  {Py_tp_traverse, Client_traverse},
  {Py_tp_clear, Client_clear},
  {Py_tp_dealloc, Client_dealloc},
  {Py_tp_methods, Client_methods},
  {Py_tp_members, Client_members},
  {0, NULL},
};

PyType_Spec lc_client_spec = {
  .name = "llmcurl._native.ClientCalls",
  .basicsize = sizeof(ClientObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
  .slots = Client_slots,
};
