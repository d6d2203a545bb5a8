/* module.c - the extension module: its definition, its state, and little else.
 *
 * Job: types into the module, what libcurl can do, the live counters. Not its
 * job: any type's behaviour. Used by: the interpreter, once per interpreter.
 * Threads: the GIL of its interpreter; process-wide state is in core/global.c.
 */
#include "state.h"

#include "lc_live.h"
#include "parser_obj.h"
#include "reactor.h"
#include "xfer.h"

static struct PyModuleDef native_module;

mod_state *lc_state_of_module(PyObject *module)
{
  return (mod_state *)PyModule_GetState(module);
}

mod_state *lc_state_of_type(PyTypeObject *type)
{
  PyObject *module = PyType_GetModuleByDef(type, &native_module);
  return module ? lc_state_of_module(module) : NULL;
}

static PyObject *curl_info(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
  static const struct {
    int bit;
    const char *name;
  } known[] = {
    {CURL_VERSION_HTTP2, "HTTP2"},   {CURL_VERSION_BROTLI, "brotli"},     {CURL_VERSION_ZSTD, "zstd"},
    {CURL_VERSION_LIBZ, "libz"},     {CURL_VERSION_SSL, "SSL"},           {CURL_VERSION_ASYNCHDNS, "AsynchDNS"},
    {CURL_VERSION_IPV6, "IPv6"},     {CURL_VERSION_UNIX_SOCKETS, "UnixSockets"}, {CURL_VERSION_HTTPS_PROXY, "HTTPS-proxy"},
  };
  const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
  PyObject *features = PyList_New(0), *info;
  const char *ca_file, *ca_dir;
  size_t i;

  if(!features)
    return NULL;
  lc_tls_defaults(&ca_file, &ca_dir);
  for(i = 0; i < LC_ARRAY_LEN(known); i++) {
    PyObject *name;
    int rc;
    if(!(v->features & known[i].bit))
      continue;
    name = PyUnicode_FromString(known[i].name);
    rc = name ? PyList_Append(features, name) : -1;
    Py_XDECREF(name);
    if(rc) {
      Py_DECREF(features);
      return NULL;
    }
  }
  info = Py_BuildValue("{s:s,s:I,s:s,s:O,s:s,s:O,s:z,s:z,s:(ss)}", "version", v->version, "version_num", v->version_num, "ssl_version",
                       v->ssl_version ? v->ssl_version : "", "features", features, "built_with", LIBCURL_VERSION, "ssl_store",
                       lc_tls_usable() ? Py_True : Py_False, "cainfo", v->age >= CURLVERSION_SEVENTH ? v->cainfo : NULL, "capath",
                       v->age >= CURLVERSION_SEVENTH ? v->capath : NULL, "ca_defaults", ca_file,
                       ca_dir);
  Py_DECREF(features);
  return info;
}

static PyObject *live(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
  PyObject *counts = PyDict_New();
  int kind;
  if(!counts)
    return NULL;
  for(kind = 0; kind < LC_LIVE_KINDS; kind++) {
    PyObject *n = PyLong_FromLong(lc_live_get(kind));
    int rc = n ? PyDict_SetItemString(counts, lc_live_name(kind), n) : -1;
    Py_XDECREF(n);
    if(rc) {
      Py_DECREF(counts);
      return NULL;
    }
  }
  return counts;
}

static PyMethodDef native_methods[] = {
  {"curl_info", curl_info, METH_NOARGS, PyDoc_STR("What the libcurl in use is and can do.")},
  {"_live", live, METH_NOARGS, PyDoc_STR("How many native objects exist in this process, by kind.")},
  {NULL, NULL, 0, NULL},
};

static int import_from(const char *module_name, const char *name, PyObject **out)
{
  PyObject *module = PyImport_ImportModule(module_name);
  if(!module)
    return -1;
  *out = PyObject_GetAttrString(module, name);
  Py_DECREF(module);
  return *out ? 0 : -1;
}

static int native_exec(PyObject *module)
{
  mod_state *st = lc_state_of_module(module);
  int i;

  if(lc_global_init()) {
    PyErr_SetString(PyExc_ImportError, "libcurl cannot be started");
    return -1;
  }
#define TYPE(field, spec, public) \
  do { \
    st->field = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL); \
    if(!st->field || ((public) && PyModule_AddType(module, st->field))) \
      return -1; \
  } while(0)
  TYPE(response_type, lc_response_spec, 1);
  TYPE(anchor_type, lc_anchor_spec, 0);
  TYPE(reactor_type, lc_reactor_spec, 1);
  TYPE(pool_type, lc_pool_spec, 1);
  TYPE(call_type, lc_call_spec, 1);
  TYPE(stream_type, lc_stream_spec, 1);
  TYPE(target_type, lc_target_spec, 1);
  TYPE(headers_type, lc_headers_spec, 1);
  TYPE(client_type, lc_client_spec, 1);
  TYPE(watch_type, lc_watch_spec, 1);
#undef TYPE
  if(lc_parsers_add(module))
    return -1;
#define NAME(field, text) \
  do { \
    st->field = PyUnicode_InternFromString(text); \
    if(!st->field) \
      return -1; \
  } while(0)
  NAME(str_call_soon, "call_soon");
  NAME(str_call_soon_threadsafe, "call_soon_threadsafe");
  NAME(str_call_exception_handler, "call_exception_handler");
  NAME(str_context, "context");
  NAME(str_finish, "_finish");
  NAME(str_request, "request");
  NAME(str_content, "content");
  NAME(str_json, "json");
  NAME(str_decoded, "_decoded");
  for(i = 0; i < LC_OTHER; i++)
    NAME(str_method[i], lc_method_names[i]);
#undef NAME
  st->kw_context = PyTuple_Pack(1, st->str_context);
  if(!st->kw_context || import_from("asyncio", "CancelledError", &st->cancelled_error) ||
     import_from("asyncio", "InvalidStateError", &st->invalid_state_error) ||
     import_from("asyncio", "_get_running_loop", &st->running_loop))
    return -1;
  return 0;
}

/* One list of the state's members for traverse and clear. */
#define EACH_MEMBER(DO) \
  DO(anchor_type) \
  DO(reactor_type) \
  DO(pool_type) \
  DO(call_type) \
  DO(stream_type) \
  DO(response_type) \
  DO(target_type) \
  DO(headers_type) \
  DO(client_type) \
  DO(watch_type) \
  DO(cancelled_error) \
  DO(invalid_state_error) \
  DO(system_tls_key) \
  DO(build_error) \
  DO(mask_url) \
  DO(str_call_soon) \
  DO(str_call_soon_threadsafe) \
  DO(str_call_exception_handler) \
  DO(str_context) \
  DO(str_finish) \
  DO(str_request) \
  DO(str_content) \
  DO(str_json) \
  DO(str_decoded) \
  DO(running_loop) \
  DO(kw_context)

static int native_traverse(PyObject *module, visitproc visit, void *arg)
{
  mod_state *st = lc_state_of_module(module);
  int i;
#define VISIT(field) Py_VISIT(st->field);
  EACH_MEMBER(VISIT)
#undef VISIT
  for(i = 0; i < LC_OTHER; i++)
    Py_VISIT(st->str_method[i]);
  return 0;
}

static int native_clear(PyObject *module)
{
  mod_state *st = lc_state_of_module(module);
  int i;
#define CLEAR(field) Py_CLEAR(st->field);
  EACH_MEMBER(CLEAR)
#undef CLEAR
  for(i = 0; i < LC_OTHER; i++)
    Py_CLEAR(st->str_method[i]);
  lc_tls_unref(st->system_tls);
  st->system_tls = NULL;
  return 0;
}

static void native_free(void *module)
{
  (void)native_clear(module);
}

static PyModuleDef_Slot native_slots[] = {
  {Py_mod_exec, native_exec},
  LC_SLOT_INTERPRETERS
  LC_SLOT_GIL
  {0, NULL},
};

static struct PyModuleDef native_module = {
  PyModuleDef_HEAD_INIT,
  .m_name = "llmcurl._native",
  .m_doc = PyDoc_STR("The native part of llmcurl: a reactor on libcurl."),
  .m_size = sizeof(mod_state),
  .m_methods = native_methods,
  .m_slots = native_slots,
  .m_traverse = native_traverse,
  .m_clear = native_clear,
  .m_free = native_free,
};

PyMODINIT_FUNC PyInit__native(void)
{
  return PyModuleDef_Init(&native_module);
}
