/* parser_obj.c - EventParser, LineParser, DeltaParser: bytes in, lists of what is complete out.
 *
 * Job: the core's push parsers as Python types, without I/O. A DeltaParser
 * gives a chat stream's text deltas as str and every other event as bytes, to
 * be decoded in full by the caller. Not its job: JSON, UTF-8 of what is not a
 * delta, reading. Used by: llmcurl.llm. Threads: any, one call at a time.
 *
 * Not GC types: they hold bytes and atomic objects only.
 *
 * Nothing that is complete is lost to what follows it: when a ceiling is
 * crossed in the middle of the input, the events before it are returned, and
 * the next call raises.
 */
#include "parser_obj.h"

#include "delta.h"
#include "ndjson.h"
#include "sse.h"

#define MAX_EVENT ((Py_ssize_t)16 << 20)
#define KEEP_BUFFER 65536

/* What the three types have in common; the list is the sink's, during a call. */
typedef struct {
  PyObject_HEAD
  PyObject *out; /* borrowed */
  size_t max;
  lc_rc error; /* told at the next call */
  unsigned busy : 1;
} ParserObject;

typedef struct {
  ParserObject p;
  lc_sse sse;
  PyObject *type; /* owned: str, of the last event that named one */
  PyObject *id; /* owned: str, the last event id */
  lc_buf type_bytes, id_bytes;
} EventParserObject;

typedef struct {
  ParserObject p;
  lc_ndjson lines;
} LineParserObject;

typedef struct {
  ParserObject p;
  union {
    lc_sse sse;
    lc_ndjson lines;
  } framing;
  lc_buf scratch;
  lc_buf usage; /* the last chunk that had text and a usage */
  lc_delta_kind kind;
  int index; /* Anthropic's block that the last text belonged to */
  unsigned begun : 1; /* the first event was handed out */
} DeltaParserObject;

static int set_max(PyObject *self, Py_ssize_t max)
{
  if(max < 1) {
    PyErr_SetString(PyExc_ValueError, "the ceiling of an event must be at least 1 byte");
    return -1;
  }
  ((ParserObject *)self)->max = (size_t)max;
  return 0;
}

static int append(PyObject *list, PyObject *item)
{
  int rc = item ? PyList_Append(list, item) : -1;
  Py_XDECREF(item);
  return rc;
}

/* The sinks' own failure: a Python exception is set. */
#define SINK_RAISED LC_ERR_SYS

static PyObject *raise_rc(const ParserObject *p, lc_rc rc)
{
  switch(rc) {
  case LC_ERR_NOMEM:
    return PyErr_NoMemory();
  case LC_ERR_LIMIT:
    PyErr_Format(PyExc_ValueError, "an event is larger than %zu bytes", p->max);
    return NULL;
  default:
    PyErr_SetString(PyExc_ValueError, "the parser has ended");
    return NULL;
  }
}

/* Before a feed or finish: a list for the sink, NULL + exception. */
static PyObject *begin(ParserObject *p)
{
  PyObject *list;
  /* making an event may run the garbage collector, and that any code */
  if(p->busy) {
    PyErr_SetString(PyExc_RuntimeError, "the parser is in use");
    return NULL;
  }
  if(p->error)
    return raise_rc(p, p->error);
  list = PyList_New(0);
  if(!list)
    return NULL;
  p->out = list;
  p->busy = 1;
  return list;
}

/* After it: the list, or NULL + exception. */
static PyObject *end(ParserObject *p, PyObject *list, lc_rc rc)
{
  p->busy = 0;
  p->out = NULL;
  if(rc == LC_OK)
    return list;
  p->error = rc == LC_ERR_LIMIT ? rc : LC_ERR_STATE;
  if(rc == LC_ERR_LIMIT && PyList_GET_SIZE(list))
    return list;
  Py_DECREF(list);
  return rc == SINK_RAISED ? NULL : raise_rc(p, rc);
}

/* The bytes of an argument. 0, or -1 + exception; PyBuffer_Release afterwards. */
static int bytes_of(PyObject *arg, Py_buffer *view)
{
  return PyObject_GetBuffer(arg, view, PyBUF_SIMPLE);
}

static void free_object(PyObject *op)
{
  PyTypeObject *type = Py_TYPE(op);
  type->tp_free(op);
  Py_DECREF(type);
}

/* -- EventParser ------------------------------------------------------------------------------ */

/* The str of some bytes; the last one is kept, since streams repeat themselves. */
static PyObject *cached_text(PyObject **cache, lc_buf *key, const char *bytes, size_t len)
{
  PyObject *text;
  if(*cache && lc_buf_len(key) == len && !memcmp(lc_buf_data(key), bytes, len))
    return Py_NewRef(*cache);
  text = PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)len, "replace");
  if(!text)
    return NULL;
  lc_buf_reset(key, KEEP_BUFFER);
  if(lc_buf_append(key, bytes, len)) {
    Py_CLEAR(*cache);
    return text;
  }
  Py_XSETREF(*cache, Py_NewRef(text));
  return text;
}

static int event_sink(void *ctx, const lc_sse_event *ev)
{
  EventParserObject *self = ctx;
  PyObject *tuple = PyTuple_New(4);
  PyObject *type, *data, *id, *retry;

  if(!tuple)
    return SINK_RAISED;
  if(ev->type_len)
    type = cached_text(&self->type, &self->type_bytes, ev->type, ev->type_len);
  else
    type = cached_text(&self->type, &self->type_bytes, "message", 7);
  data = PyBytes_FromStringAndSize(ev->data, (Py_ssize_t)ev->data_len);
  id = cached_text(&self->id, &self->id_bytes, ev->id, ev->id_len);
  retry = ev->retry < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(ev->retry);
  PyTuple_SET_ITEM(tuple, 0, type);
  PyTuple_SET_ITEM(tuple, 1, data);
  PyTuple_SET_ITEM(tuple, 2, id);
  PyTuple_SET_ITEM(tuple, 3, retry);
  if(!type || !data || !id || !retry) {
    Py_DECREF(tuple);
    return SINK_RAISED;
  }
  return append(self->p.out, tuple) ? SINK_RAISED : 0;
}

static PyObject *EventParser_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
  static char *names[] = {"max_event", "flush", NULL};
  EventParserObject *self;
  Py_ssize_t max = MAX_EVENT;
  int flush = 1;

  if(!PyArg_ParseTupleAndKeywords(args, kwargs, "|n$p:EventParser", names, &max, &flush))
    return NULL;
  self = (EventParserObject *)LC_TP_ALLOC(type);
  if(!self)
    return NULL;
  if(set_max((PyObject *)self, max)) {
    free_object((PyObject *)self);
    return NULL;
  }
  lc_sse_init(&self->sse, self->p.max, flush ? LC_SSE_FLUSH_AT_EOF : 0);
  lc_buf_init(&self->type_bytes, self->p.max);
  lc_buf_init(&self->id_bytes, self->p.max);
  return (PyObject *)self;
}

static void EventParser_dealloc(PyObject *op)
{
  EventParserObject *self = (EventParserObject *)op;
  Py_CLEAR(self->type);
  Py_CLEAR(self->id);
  lc_sse_free(&self->sse);
  lc_buf_free(&self->type_bytes);
  lc_buf_free(&self->id_bytes);
  free_object(op);
}

static PyObject *EventParser_feed(PyObject *op, PyObject *arg)
{
  EventParserObject *self = (EventParserObject *)op;
  PyObject *list;
  Py_buffer view;
  lc_rc rc;

  if(bytes_of(arg, &view))
    return NULL;
  list = begin(&self->p);
  if(list) {
    rc = lc_sse_feed(&self->sse, view.buf, (size_t)view.len, event_sink, self);
    list = end(&self->p, list, rc);
  }
  PyBuffer_Release(&view);
  return list;
}

static PyObject *EventParser_finish(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  EventParserObject *self = (EventParserObject *)op;
  PyObject *list = begin(&self->p);
  return list ? end(&self->p, list, lc_sse_finish(&self->sse, event_sink, self)) : NULL;
}

static PyObject *EventParser_get_retry(PyObject *op, void *Py_UNUSED(closure))
{
  int64_t retry = ((EventParserObject *)op)->sse.retry;
  if(retry < 0)
    Py_RETURN_NONE;
  return PyLong_FromLongLong(retry);
}

static PyMethodDef EventParser_methods[] = {
  {"feed", EventParser_feed, METH_O, PyDoc_STR("The events complete with these bytes: a list of (type, data, id, retry).")},
  {"finish", EventParser_finish, METH_NOARGS, PyDoc_STR("The input has ended: the event whose blank line is missing, if any.")},
  {NULL, NULL, 0, NULL},
};

static PyGetSetDef EventParser_getset[] = {
  {"retry", EventParser_get_retry, NULL, PyDoc_STR("Milliseconds to wait before a reconnect, as the stream said; None."), NULL},
  {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot EventParser_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("EventParser(max_event=16777216, *, flush=True)\n--\n\nA push parser of text/event-stream.")},
  {Py_tp_new, EventParser_new},
  {Py_tp_dealloc, EventParser_dealloc},
  {Py_tp_methods, EventParser_methods},
  {Py_tp_getset, EventParser_getset},
  {0, NULL},
};

static PyType_Spec event_parser_spec = {
  .name = "llmcurl._native.EventParser",
  .basicsize = sizeof(EventParserObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
  .slots = EventParser_slots,
};

/* -- LineParser ------------------------------------------------------------------------------- */

static int line_sink(void *ctx, const lc_ndjson_line *line)
{
  LineParserObject *self = ctx;
  PyObject *data = PyBytes_FromStringAndSize(line->data, (Py_ssize_t)line->data_len);
  return append(self->p.out, data) ? SINK_RAISED : 0;
}

static PyObject *LineParser_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
  static char *names[] = {"max_line", NULL};
  LineParserObject *self;
  Py_ssize_t max = MAX_EVENT;

  if(!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:LineParser", names, &max))
    return NULL;
  self = (LineParserObject *)LC_TP_ALLOC(type);
  if(!self)
    return NULL;
  if(set_max((PyObject *)self, max)) {
    free_object((PyObject *)self);
    return NULL;
  }
  lc_ndjson_init(&self->lines, self->p.max);
  return (PyObject *)self;
}

static void LineParser_dealloc(PyObject *op)
{
  lc_ndjson_free(&((LineParserObject *)op)->lines);
  free_object(op);
}

static PyObject *LineParser_feed(PyObject *op, PyObject *arg)
{
  LineParserObject *self = (LineParserObject *)op;
  PyObject *list;
  Py_buffer view;
  lc_rc rc;

  if(bytes_of(arg, &view))
    return NULL;
  list = begin(&self->p);
  if(list) {
    rc = lc_ndjson_feed(&self->lines, view.buf, (size_t)view.len, line_sink, self);
    list = end(&self->p, list, rc);
  }
  PyBuffer_Release(&view);
  return list;
}

static PyObject *LineParser_finish(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  LineParserObject *self = (LineParserObject *)op;
  PyObject *list = begin(&self->p);
  return list ? end(&self->p, list, lc_ndjson_finish(&self->lines, line_sink, self)) : NULL;
}

static PyMethodDef LineParser_methods[] = {
  {"feed", LineParser_feed, METH_O, PyDoc_STR("The lines complete with these bytes, without their ends; blank ones are left out.")},
  {"finish", LineParser_finish, METH_NOARGS, PyDoc_STR("The input has ended: the last line, if it has no end.")},
  {NULL, NULL, 0, NULL},
};

static PyType_Slot LineParser_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("LineParser(max_line=16777216)\n--\n\nA push parser of NDJSON lines.")},
  {Py_tp_new, LineParser_new},
  {Py_tp_dealloc, LineParser_dealloc},
  {Py_tp_methods, LineParser_methods},
  {0, NULL},
};

static PyType_Spec line_parser_spec = {
  .name = "llmcurl._native.LineParser",
  .basicsize = sizeof(LineParserObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
  .slots = LineParser_slots,
};

/* -- DeltaParser ------------------------------------------------------------------------------ */

/* The first event is always given raw, since it names the reply and its model;
 * so is the first text of each of Anthropic's blocks, which tells the block. */
static int delta(DeltaParserObject *self, const char *json, size_t len)
{
  PyObject *item;
  lc_delta d = {0};

  if(!self->begun) {
    self->begun = 1;
    return append(self->p.out, PyBytes_FromStringAndSize(json, (Py_ssize_t)len)) ? SINK_RAISED : 0;
  }
  switch(lc_delta_scan(self->kind, json, len, &self->scratch, &d)) {
  case LC_DELTA_EMPTY:
    return 0;
  case LC_DELTA_TEXT:
    if(d.index != self->index) {
      self->index = d.index;
      break;
    }
    if(d.has_usage) {
      lc_rc rc;
      lc_buf_reset(&self->usage, KEEP_BUFFER);
      rc = lc_buf_append(&self->usage, json, len);
      if(rc)
        return rc;
    }
    if(d.ascii) {
      item = PyUnicode_New((Py_ssize_t)d.len, 127);
      if(item)
        memcpy(PyUnicode_1BYTE_DATA(item), d.text, d.len);
    }
    else
      item = PyUnicode_DecodeUTF8(d.text, (Py_ssize_t)d.len, NULL);
    return append(self->p.out, item) ? SINK_RAISED : 0;
  default:
    break;
  }
  return append(self->p.out, PyBytes_FromStringAndSize(json, (Py_ssize_t)len)) ? SINK_RAISED : 0;
}

static int delta_event_sink(void *ctx, const lc_sse_event *ev)
{
  DeltaParserObject *self = ctx;
  /* an error whose data may look like anything: its name must not get lost */
  if(LC_UNLIKELY(ev->type_len == 5 && !memcmp(ev->type, "error", 5))) {
    PyObject *pair = Py_BuildValue("(sy#)", "error", ev->data, (Py_ssize_t)ev->data_len);
    return append(self->p.out, pair) ? SINK_RAISED : 0;
  }
  return delta(self, ev->data, ev->data_len);
}

static int delta_line_sink(void *ctx, const lc_ndjson_line *line)
{
  return delta(ctx, line->data, line->data_len);
}

static PyObject *DeltaParser_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
  static char *names[] = {"kind", "max_event", NULL};
  static const struct {
    const char *name;
    lc_delta_kind kind;
  } kinds[] = {
    {"openai", LC_DELTA_OPENAI},
    {"anthropic", LC_DELTA_ANTHROPIC},
    {"gemini", LC_DELTA_GEMINI},
    {"ollama", LC_DELTA_OLLAMA},
  };
  DeltaParserObject *self;
  Py_ssize_t max = MAX_EVENT;
  const char *kind;
  size_t i;

  if(!PyArg_ParseTupleAndKeywords(args, kwargs, "s|n:DeltaParser", names, &kind, &max))
    return NULL;
  for(i = 0; i < LC_ARRAY_LEN(kinds) && strcmp(kinds[i].name, kind); i++)
    ;
  if(i == LC_ARRAY_LEN(kinds)) {
    PyErr_Format(PyExc_ValueError, "no such kind of chat stream: %s", kind);
    return NULL;
  }
  self = (DeltaParserObject *)LC_TP_ALLOC(type);
  if(!self)
    return NULL;
  if(set_max((PyObject *)self, max)) {
    free_object((PyObject *)self);
    return NULL;
  }
  self->kind = kinds[i].kind;
  self->index = self->kind == LC_DELTA_ANTHROPIC ? -1 : 0;
  if(self->kind == LC_DELTA_OLLAMA)
    lc_ndjson_init(&self->framing.lines, self->p.max);
  else
    lc_sse_init(&self->framing.sse, self->p.max, LC_SSE_FLUSH_AT_EOF);
  lc_buf_init(&self->scratch, self->p.max);
  lc_buf_init(&self->usage, self->p.max);
  return (PyObject *)self;
}

static void DeltaParser_dealloc(PyObject *op)
{
  DeltaParserObject *self = (DeltaParserObject *)op;
  if(self->kind == LC_DELTA_OLLAMA)
    lc_ndjson_free(&self->framing.lines);
  else
    lc_sse_free(&self->framing.sse);
  lc_buf_free(&self->scratch);
  lc_buf_free(&self->usage);
  free_object(op);
}

static PyObject *DeltaParser_feed(PyObject *op, PyObject *arg)
{
  DeltaParserObject *self = (DeltaParserObject *)op;
  PyObject *list;
  Py_buffer view;
  lc_rc rc;

  if(bytes_of(arg, &view))
    return NULL;
  list = begin(&self->p);
  if(list) {
    if(self->kind == LC_DELTA_OLLAMA)
      rc = lc_ndjson_feed(&self->framing.lines, view.buf, (size_t)view.len, delta_line_sink, self);
    else
      rc = lc_sse_feed(&self->framing.sse, view.buf, (size_t)view.len, delta_event_sink, self);
    list = end(&self->p, list, rc);
  }
  PyBuffer_Release(&view);
  return list;
}

static PyObject *DeltaParser_finish(PyObject *op, PyObject *Py_UNUSED(ignored))
{
  DeltaParserObject *self = (DeltaParserObject *)op;
  PyObject *list = begin(&self->p);
  lc_rc rc;

  if(!list)
    return NULL;
  if(self->kind == LC_DELTA_OLLAMA)
    rc = lc_ndjson_finish(&self->framing.lines, delta_line_sink, self);
  else
    rc = lc_sse_finish(&self->framing.sse, delta_event_sink, self);
  return end(&self->p, list, rc);
}

static PyObject *DeltaParser_get_usage(PyObject *op, void *Py_UNUSED(closure))
{
  const lc_buf *usage = &((DeltaParserObject *)op)->usage;
  if(!lc_buf_len(usage))
    Py_RETURN_NONE;
  return PyBytes_FromStringAndSize(lc_buf_data(usage), (Py_ssize_t)lc_buf_len(usage));
}

static PyMethodDef DeltaParser_methods[] = {
  {"feed", DeltaParser_feed, METH_O,
   PyDoc_STR("What is complete with these bytes: str is a text delta, bytes any other event's data,\n"
             "('error', bytes) an event of that type.")},
  {"finish", DeltaParser_finish, METH_NOARGS, PyDoc_STR("The input has ended: what was not yet handed out.")},
  {NULL, NULL, 0, NULL},
};

static PyGetSetDef DeltaParser_getset[] = {
  {"usage", DeltaParser_get_usage, NULL, PyDoc_STR("The last event that gave a text and brought usage along; None."), NULL},
  {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot DeltaParser_slots[] = {
  {Py_tp_doc, (void *)PyDoc_STR("DeltaParser(kind, max_event=16777216)\n--\n\n"
                                "A push parser of a chat stream: kind is openai, anthropic, gemini or ollama.")},
  {Py_tp_new, DeltaParser_new},
  {Py_tp_dealloc, DeltaParser_dealloc},
  {Py_tp_methods, DeltaParser_methods},
  {Py_tp_getset, DeltaParser_getset},
  {0, NULL},
};

static PyType_Spec delta_parser_spec = {
  .name = "llmcurl._native.DeltaParser",
  .basicsize = sizeof(DeltaParserObject),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
  .slots = DeltaParser_slots,
};

int lc_parsers_add(PyObject *module)
{
  PyType_Spec *const specs[] = {&event_parser_spec, &line_parser_spec, &delta_parser_spec};
  size_t i;

  for(i = 0; i < LC_ARRAY_LEN(specs); i++) {
    PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
    int rc = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    if(rc)
      return -1;
  }
  return 0;
}
