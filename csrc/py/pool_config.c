/* pool_config.c - see pool_config.h. */
#include "pool_config.h"

#include "lc_alloc.h"

#include <stdlib.h>
#include <string.h>

/* The value of `key` (borrowed), NULL if there is none. PyDict_GetItemString would
 * take "no memory" for "not there", and a proxy or a certificate would be left out
 * without a word. 0, or -1 + exception. */
static int lookup(PyObject *dict, const char *key, PyObject **value)
{
  PyObject *name = PyUnicode_FromString(key);
  *value = name ? PyDict_GetItemWithError(dict, name) : NULL;
  Py_XDECREF(name);
  return !*value && PyErr_Occurred() ? -1 : 0;
}

/* Copies a str or None. */
static int get_string(PyObject *dict, const char *key, char **out)
{
  PyObject *value;
  const char *text;
  Py_ssize_t len;

  if(lookup(dict, key, &value))
    return -1;
  if(!value || value == Py_None)
    return 0;
  if(!PyUnicode_Check(value)) {
    PyErr_Format(PyExc_TypeError, "%s must be a str", key);
    return -1;
  }
  text = PyUnicode_AsUTF8AndSize(value, &len);
  if(!text)
    return -1;
  if(memchr(text, '\0', (size_t)len)) {
    PyErr_Format(PyExc_ValueError, "a NUL byte in %s", key);
    return -1;
  }
  lc_free(*out);
  *out = lc_strndup(text, (size_t)len);
  if(!*out) {
    PyErr_NoMemory();
    return -1;
  }
  return 0;
}

static int get_int(PyObject *dict, const char *key, long long low, long long high, long long fallback, long long *out)
{
  PyObject *value;
  *out = fallback;
  if(lookup(dict, key, &value))
    return -1;
  if(!value || value == Py_None)
    return 0;
  *out = PyLong_AsLongLong(value);
  if(*out == -1 && PyErr_Occurred())
    return -1;
  if(*out < low || *out > high) {
    PyErr_Format(PyExc_ValueError, "%s is out of range", key);
    return -1;
  }
  return 0;
}

static int get_headers(PyObject *dict, const char *key, struct curl_slist **out)
{
  PyObject *list;
  Py_ssize_t i;

  if(lookup(dict, key, &list))
    return -1;
  if(!list || list == Py_None)
    return 0;
  if(!PyList_Check(list)) {
    PyErr_Format(PyExc_TypeError, "%s must be a list", key);
    return -1;
  }
  for(i = 0; i < PyList_GET_SIZE(list); i++) {
    const char *line = PyUnicode_AsUTF8(PyList_GET_ITEM(list, i));
    struct curl_slist *grown = line ? curl_slist_append(*out, line) : NULL;
    if(!grown) {
      if(line)
        PyErr_NoMemory();
      return -1;
    }
    *out = grown;
  }
  return 0;
}

/* Copies the str items of a list; the array is NULL-terminated and borrowed
 * from the list. Returns NULL + exception on failure. */
static const char **get_paths(PyObject *dict, const char *key)
{
  PyObject *list;
  Py_ssize_t n, i;
  const char **paths;

  if(lookup(dict, key, &list))
    return NULL;
  n = list && PyList_Check(list) ? PyList_GET_SIZE(list) : 0;
  paths = PyMem_Calloc((size_t)n + 1, sizeof(*paths));
  if(!paths) {
    PyErr_NoMemory();
    return NULL;
  }
  for(i = 0; i < n; i++) {
    paths[i] = PyUnicode_AsUTF8(PyList_GET_ITEM(list, i));
    if(!paths[i]) {
      PyMem_Free(paths);
      return NULL;
    }
  }
  return paths;
}

/* "socket_options": list of (level, name, bytes) or (level, name, length). */
static int get_socket_options(PyObject *dict, lc_pool_config *c)
{
  PyObject *list;
  Py_ssize_t i, n;

  if(lookup(dict, "socket_options", &list))
    return -1;
  n = list && PyList_Check(list) ? PyList_GET_SIZE(list) : 0;
  if(!n)
    return 0;
  c->sockopts = n > 64 ? NULL : lc_calloc((size_t)n, sizeof(*c->sockopts));
  if(!c->sockopts) {
    PyErr_SetString(n > 64 ? PyExc_ValueError : PyExc_MemoryError, "socket_options: too many");
    return -1;
  }
  for(i = 0; i < n; i++) {
    lc_sockopt *o = &c->sockopts[i];
    PyObject *value;
    if(!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "iiO;socket_options: (level, name, value)", &o->level, &o->name, &value))
      return -1;
    if(PyBytes_Check(value) && PyBytes_GET_SIZE(value) <= LC_SOCKOPT_BYTES) {
      o->len = (uint32_t)PyBytes_GET_SIZE(value);
      memcpy(o->value, PyBytes_AS_STRING(value), o->len);
    }
    else if(PyLong_Check(value)) {
      long len = PyLong_AsLong(value);
      if(len < 0 || len > INT32_MAX) {
        if(!PyErr_Occurred())
          PyErr_SetString(PyExc_ValueError, "socket_options: a length is out of range");
        return -1;
      }
      o->len = (uint32_t)len;
      o->null = 1;
    }
    else {
      PyErr_Format(PyExc_ValueError, "socket_options: a value must be at most %d bytes, or a length", LC_SOCKOPT_BYTES);
      return -1;
    }
    c->sockopt_count = (uint32_t)i + 1;
  }
  return 0;
}

/* The store of the system's certificates: parsing them takes 16 ms, so the
 * last one is kept as long as its places are the same. Returns a new reference. */
static lc_tls *system_tls(mod_state *st, PyObject *places, const char *const *files, const char *const *dirs, char *err, size_t errlen)
{
  int same = st->system_tls ? PyObject_RichCompareBool(places, st->system_tls_key, Py_EQ) : 0;
  lc_tls *made;

  if(same <= 0) {
    PyErr_Clear(); /* what cannot be compared is made anew */
    made = lc_tls_new(files, dirs, NULL, 0, !files[0] && !dirs[0], err, errlen);
    if(!made)
      return NULL;
    lc_tls_unref(st->system_tls);
    st->system_tls = made;
    Py_XSETREF(st->system_tls_key, Py_NewRef(places));
  }
  return lc_tls_ref(st->system_tls);
}

/* Both arrays in one; its items stay borrowed. */
static const char **join(const char *const *one, const char *const *other)
{
  size_t n = 0, i;
  const char **all;
  for(i = 0; one[i]; i++)
    n++;
  for(i = 0; other[i]; i++)
    n++;
  all = PyMem_Calloc(n + 1, sizeof(*all));
  if(!all) {
    PyErr_NoMemory();
    return NULL;
  }
  for(n = 0; one[n]; n++)
    all[n] = one[n];
  for(i = 0; other[i]; i++)
    all[n + i] = other[i];
  return all;
}

/* libcurl's own options know one file and one directory, and no "in addition". */
static int trust_by_libcurl(lc_pool_config *c, const char *const *files, const char *const *dirs, PyObject *pem, int added)
{
  if(added || (files[0] && files[1]) || (dirs[0] && dirs[1])) {
    PyErr_SetString(PyExc_ValueError, "verify: this libcurl does not run on our OpenSSL and can trust one CA file or directory, or the "
                                      "system's, not several together; put the certificates into one file");
    return -1;
  }
  if(files[0])
    c->cainfo = lc_strndup(files[0], strlen(files[0]));
  if(dirs[0])
    c->capath = lc_strndup(dirs[0], strlen(dirs[0]));
  if(pem) {
    c->ca_blob_len = (size_t)PyBytes_GET_SIZE(pem);
    c->ca_blob = lc_strndup(PyBytes_AS_STRING(pem), c->ca_blob_len);
  }
  if((files[0] && !c->cainfo) || (dirs[0] && !c->capath) || (pem && !c->ca_blob)) {
    PyErr_NoMemory(); /* never the system's certificates in their place */
    return -1;
  }
  return 0;
}

/* "ca_system": bool, and where that is: "ca_system_files", "ca_system_dirs"
 * (lists of str; without them OpenSSL's own paths). Further ones: "ca_files",
 * "ca_dirs", "ca_pem" (bytes). With our OpenSSL one store for all connections,
 * else libcurl's own options. */
int lc_pool_configure_trust(mod_state *st, lc_pool *pool, PyObject *dict)
{
  lc_pool_config *c = &pool->config;
  const char **files = NULL, **dirs = NULL, **os_files = NULL, **os_dirs = NULL, **all_files = NULL, **all_dirs = NULL;
  PyObject *pem, *system_default, *listed, *others;
  PyObject *places = NULL;
  char err[512];
  int rc = -1, use_system;

  if(!c->verify_peer)
    return 0;
  if(lookup(dict, "ca_pem", &pem) || lookup(dict, "ca_system", &system_default) || lookup(dict, "ca_system_files", &listed) ||
     lookup(dict, "ca_system_dirs", &others))
    return -1;
  if(!(files = get_paths(dict, "ca_files")) || !(dirs = get_paths(dict, "ca_dirs")) ||
     !(os_files = get_paths(dict, "ca_system_files")) || !(os_dirs = get_paths(dict, "ca_system_dirs")))
    goto done;
  if(pem && !PyBytes_Check(pem))
    pem = NULL;
  use_system = system_default ? PyObject_IsTrue(system_default) : 1;
  if(use_system < 0)
    goto done;
  if(!lc_tls_usable()) {
    int alone = use_system && !files[0] && !dirs[0] && !pem;
    rc = trust_by_libcurl(c, alone ? os_files : files, alone ? os_dirs : dirs, pem, use_system && !alone);
    goto done;
  }
  if(!use_system) {
    os_files[0] = NULL;
    os_dirs[0] = NULL;
  }
  if(use_system && !files[0] && !dirs[0] && !pem) {
    places = Py_BuildValue("(OO)", listed ? listed : Py_None, others ? others : Py_None);
    if(!places)
      goto done;
    c->tls.store = system_tls(st, places, os_files, os_dirs, err, sizeof(err));
  }
  else {
    if(!(all_files = join(os_files, files)) || !(all_dirs = join(os_dirs, dirs)))
      goto done;
    c->tls.store = lc_tls_new(all_files, all_dirs, pem ? PyBytes_AS_STRING(pem) : NULL, pem ? (size_t)PyBytes_GET_SIZE(pem) : 0,
                        use_system && !os_files[0] && !os_dirs[0], err, sizeof(err));
  }
  if(c->tls.store)
    rc = 0;
  else
    PyErr_SetString(PyExc_OSError, err);
done:
  Py_XDECREF(places);
  PyMem_Free(files);
  PyMem_Free(dirs);
  PyMem_Free(os_files);
  PyMem_Free(os_dirs);
  PyMem_Free(all_files);
  PyMem_Free(all_dirs);
  return rc;
}

static const char *const known[] = {
  "proxy", "proxy_userpwd", "proxy_headers", "cert", "cert_key", "cert_password", "interface", "unix_socket", "ca_files", "ca_dirs",
  "ca_pem", "ca_system", "ca_system_files", "ca_system_dirs", "verify", "verify_host", "http1", "http2", "tls_min", "max_connections", "max_keepalive", "max_in_flight",
  "keepalive_expiry_ms", "max_body", "stream_high", "max_head", "keepidle", "keepintvl", "socket_options", "tls_max", "tls_options",
  "verify_flags", "ciphers", "ciphersuites",
};

static int check_keys(PyObject *dict)
{
  PyObject *key, *value;
  Py_ssize_t pos = 0;
  size_t i;
  while(PyDict_Next(dict, &pos, &key, &value)) {
    for(i = 0; i < LC_ARRAY_LEN(known); i++)
      if(PyUnicode_Check(key) && !PyUnicode_CompareWithASCIIString(key, known[i]))
        break;
    if(i == LC_ARRAY_LEN(known)) {
      PyErr_Format(PyExc_ValueError, "unknown pool option %R", key);
      return -1;
    }
  }
  return 0;
}

int lc_pool_configure(lc_pool *pool, PyObject *dict)
{
  lc_pool_config *c = &pool->config;
  long long n;

  if(check_keys(dict))
    return -1;
  if(get_string(dict, "proxy", &c->proxy) || get_string(dict, "proxy_userpwd", &c->proxy_userpwd) || get_string(dict, "cert", &c->cert) ||
     get_string(dict, "cert_key", &c->cert_key) || get_string(dict, "cert_password", &c->cert_password) ||
     get_string(dict, "interface", &c->interface_name) || get_string(dict, "unix_socket", &c->unix_socket) ||
     get_string(dict, "ciphers", &c->ciphers) || get_string(dict, "ciphersuites", &c->ciphersuites) ||
     get_headers(dict, "proxy_headers", &c->proxy_headers) || get_socket_options(dict, c))
    return -1;
#define INT(key, low, high, fallback, field, type) \
  do { \
    if(get_int(dict, key, low, high, fallback, &n)) \
      return -1; \
    c->field = (type)n; \
  } while(0)
  INT("verify", 0, 1, 1, verify_peer, unsigned);
  INT("verify_host", 0, 1, 1, verify_host, unsigned);
  INT("http1", 0, 1, 1, http1, unsigned);
  INT("http2", 0, 1, 0, http2, unsigned);
  INT("tls_min", 0, 13, 0, tls_min, unsigned);
  INT("tls_max", 0, 13, 0, tls_max, unsigned);
  INT("tls_options", 0, INT64_MAX, 0, tls.options, uint64_t);
  INT("verify_flags", 0, INT32_MAX, 0, tls.verify_flags, unsigned long);
  INT("max_connections", 0, UINT32_MAX, 0, max_connections, uint32_t);
  INT("max_keepalive", 0, UINT32_MAX, UINT32_MAX, max_keepalive, uint32_t);
  INT("max_in_flight", 0, UINT32_MAX, 0, max_in_flight, uint32_t);
  INT("max_body", 1, INT64_MAX / 2, 1LL << 31, max_body, size_t);
  INT("stream_high", 1024, INT64_MAX / 2, 1LL << 18, stream_high, size_t);
  INT("max_head", 1024, 1LL << 26, 1LL << 18, max_head, size_t);
  INT("keepidle", 1, 32767, 60, keepidle, int);
  INT("keepintvl", 1, 32767, 60, keepintvl, int);
  INT("keepalive_expiry_ms", 0, INT64_MAX / LC_MS / 4, 0, keepalive_expiry, int64_t);
#undef INT
  c->keepalive_expiry *= LC_MS;
  if(!c->http1 && !c->http2) {
    PyErr_SetString(PyExc_ValueError, "http1 and http2 are both off");
    return -1;
  }
  return 0;
}
