/* lc_fault.h - makes one call after another fail, to see what becomes of it.
 *
 * Job: in a build with LLMCURL_FAULT=1 this header is put in front of every file
 * (-include). It replaces what can fail - our allocations, libcurl's functions,
 * system calls, OpenSSL's, CPython's C API - by macros that count the call and, when
 * it is the one that was asked for, fail as the real one would. Each place in
 * the source is a site of its own. Not its job: what is done with it, which is
 * tests/fault. Used by: all of csrc/core and csrc/py, in that build only.
 * Threads: any; the counters are atomic.
 *
 * What is left out: calls that cannot fail, calls whose result nobody could act
 * upon (close, curl_multi_cleanup, EPOLL_CTL_DEL), and curl_multi_info_read,
 * which has no failure.
 */
#ifndef LC_FAULT_H
#define LC_FAULT_H

#include "compat.h"

#define CURL_DISABLE_TYPECHECK 1
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <structmember.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>
#if LC_HAVE_OPENSSL
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#endif

#include "lc_alloc.h"

#undef _GNU_SOURCE /* Python's headers have defined it, the files do so again */

typedef struct lc_fault_site {
  const char *what, *file;
  int line;
  int known; /* in the list of sites */
  long hits; /* since the last lc_fault_arm */
  long fired; /* in all */
  struct lc_fault_site *next;
} lc_fault_site;

/* 1 when this call is to fail. */
int lc_fault_hit(lc_fault_site *site);
/* libcurl's allocator, see curl_global_init_mem(3). */
CURLcode lc_fault_global_init(long flags);

#define LC_FAULT(name) \
  ({ \
    static lc_fault_site here_ = {name, __FILE__, __LINE__, 0, 0, 0, NULL}; \
    lc_fault_hit(&here_); \
  })

/* The ways to fail. The arguments of a failing call are not evaluated. */
#define LC_FAIL_NULL(name, fn, ...) (LC_FAULT(name) ? NULL : fn(__VA_ARGS__))
#define LC_FAIL_WITH(name, value, fn, ...) (LC_FAULT(name) ? (value) : fn(__VA_ARGS__))
#define LC_FAIL_ERRNO(name, number, fn, ...) (LC_FAULT(name) ? (errno = (number), -1) : fn(__VA_ARGS__))
#define LC_FAIL_OBJECT(name, fn, ...) (LC_FAULT(name) ? PyErr_NoMemory() : fn(__VA_ARGS__))
#define LC_FAIL_PY(name, value, fn, ...) (LC_FAULT(name) ? ((void)PyErr_NoMemory(), (value)) : fn(__VA_ARGS__))
/* Code of others is run and raises at its end. */
#define LC_FAIL_AFTER(name, fn, ...) \
  ({ \
    PyObject *made_ = fn(__VA_ARGS__); \
    if(made_ && LC_FAULT(name)) { \
      Py_DECREF(made_); \
      made_ = PyErr_NoMemory(); \
    } \
    made_; \
  })

/* -- our heap -- */
#define lc_malloc(...) LC_FAIL_NULL("lc_malloc", lc_malloc, __VA_ARGS__)
#define lc_calloc(...) LC_FAIL_NULL("lc_calloc", lc_calloc, __VA_ARGS__)
#define lc_realloc(...) LC_FAIL_NULL("lc_realloc", lc_realloc, __VA_ARGS__)
#define lc_strndup(...) LC_FAIL_NULL("lc_strndup", lc_strndup, __VA_ARGS__)

/* -- libcurl -- */
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt
#undef curl_share_setopt
#define curl_global_init(flags) lc_fault_global_init(flags)
#define curl_easy_init() LC_FAIL_NULL("curl_easy_init", curl_easy_init, )
#define curl_multi_init() LC_FAIL_NULL("curl_multi_init", curl_multi_init, )
#define curl_share_init() LC_FAIL_NULL("curl_share_init", curl_share_init, )
#define curl_slist_append(...) LC_FAIL_NULL("curl_slist_append", curl_slist_append, __VA_ARGS__)
#define curl_easy_setopt(...) LC_FAIL_WITH("curl_easy_setopt", CURLE_OUT_OF_MEMORY, curl_easy_setopt, __VA_ARGS__)
#define curl_easy_getinfo(...) LC_FAIL_WITH("curl_easy_getinfo", CURLE_UNKNOWN_OPTION, curl_easy_getinfo, __VA_ARGS__)
#define curl_easy_pause(...) LC_FAIL_WITH("curl_easy_pause", CURLE_OUT_OF_MEMORY, curl_easy_pause, __VA_ARGS__)
#define curl_multi_setopt(...) LC_FAIL_WITH("curl_multi_setopt", CURLM_UNKNOWN_OPTION, curl_multi_setopt, __VA_ARGS__)
#define curl_share_setopt(...) LC_FAIL_WITH("curl_share_setopt", CURLSHE_NOMEM, curl_share_setopt, __VA_ARGS__)
#define curl_multi_add_handle(...) \
  LC_FAIL_WITH("curl_multi_add_handle", CURLM_OUT_OF_MEMORY, curl_multi_add_handle, __VA_ARGS__)
#define curl_multi_remove_handle(...) \
  LC_FAIL_WITH("curl_multi_remove_handle", CURLM_INTERNAL_ERROR, curl_multi_remove_handle, __VA_ARGS__)
#define curl_multi_socket_action(...) \
  LC_FAIL_WITH("curl_multi_socket_action", CURLM_OUT_OF_MEMORY, curl_multi_socket_action, __VA_ARGS__)
#define curl_multi_perform(...) LC_FAIL_WITH("curl_multi_perform", CURLM_INTERNAL_ERROR, curl_multi_perform, __VA_ARGS__)

/* -- the system -- */
#define epoll_create1(...) LC_FAIL_ERRNO("epoll_create1", EMFILE, epoll_create1, __VA_ARGS__)
#define timerfd_create(...) LC_FAIL_ERRNO("timerfd_create", EMFILE, timerfd_create, __VA_ARGS__)
#define eventfd(...) LC_FAIL_ERRNO("eventfd", ENFILE, eventfd, __VA_ARGS__)
#define socket(...) LC_FAIL_ERRNO("socket", EMFILE, socket, __VA_ARGS__)
#define epoll_ctl(epfd, op, fd, event) \
  ((op) != EPOLL_CTL_DEL && LC_FAULT("epoll_ctl") ? (errno = ENOMEM, -1) : epoll_ctl(epfd, op, fd, event))
#define open(...) LC_FAIL_ERRNO("open", EMFILE, open, __VA_ARGS__)
#define fcntl(...) LC_FAIL_ERRNO("fcntl", EMFILE, fcntl, __VA_ARGS__)
#define stat(...) LC_FAIL_ERRNO("stat", EACCES, stat, __VA_ARGS__)
#define getrlimit(...) LC_FAIL_ERRNO("getrlimit", EPERM, getrlimit, __VA_ARGS__)
#define epoll_wait(...) LC_FAIL_ERRNO("epoll_wait", EINTR, epoll_wait, __VA_ARGS__)
#define timerfd_settime(...) LC_FAIL_ERRNO("timerfd_settime", ENOMEM, timerfd_settime, __VA_ARGS__)
#define read(...) LC_FAIL_ERRNO("read", EINTR, read, __VA_ARGS__)
#define write(...) LC_FAIL_ERRNO("write", EINTR, write, __VA_ARGS__)
#define recv(...) LC_FAIL_ERRNO("recv", EINTR, recv, __VA_ARGS__)
#define getsockname(...) LC_FAIL_ERRNO("getsockname", ENOBUFS, getsockname, __VA_ARGS__)
#define getsockopt(...) LC_FAIL_ERRNO("getsockopt", ENOBUFS, getsockopt, __VA_ARGS__)
#define setsockopt(...) LC_FAIL_ERRNO("setsockopt", ENOBUFS, setsockopt, __VA_ARGS__)
#define pthread_mutex_init(...) LC_FAIL_WITH("pthread_mutex_init", ENOMEM, pthread_mutex_init, __VA_ARGS__)
#define pthread_condattr_init(...) LC_FAIL_WITH("pthread_condattr_init", ENOMEM, pthread_condattr_init, __VA_ARGS__)
#define pthread_condattr_setclock(...) LC_FAIL_WITH("pthread_condattr_setclock", EINVAL, pthread_condattr_setclock, __VA_ARGS__)
#define pthread_cond_init(...) LC_FAIL_WITH("pthread_cond_init", ENOMEM, pthread_cond_init, __VA_ARGS__)
#define pthread_atfork(...) LC_FAIL_WITH("pthread_atfork", ENOMEM, pthread_atfork, __VA_ARGS__)

/* -- OpenSSL -- */
#define X509_STORE_new() LC_FAIL_NULL("X509_STORE_new", X509_STORE_new, )
#define X509_STORE_add_cert(...) LC_FAIL_WITH("X509_STORE_add_cert", 0, X509_STORE_add_cert, __VA_ARGS__)
#define X509_STORE_set_default_paths(...) \
  LC_FAIL_WITH("X509_STORE_set_default_paths", 0, X509_STORE_set_default_paths, __VA_ARGS__)
#define X509_STORE_load_locations(...) LC_FAIL_WITH("X509_STORE_load_locations", 0, X509_STORE_load_locations, __VA_ARGS__)
#define BIO_new_mem_buf(...) LC_FAIL_NULL("BIO_new_mem_buf", BIO_new_mem_buf, __VA_ARGS__)

/* -- CPython: functions that make or look up an object -- */
#undef LC_TP_ALLOC
#define LC_TP_ALLOC(type) (LC_FAULT("tp_alloc") ? PyErr_NoMemory() : (type)->tp_alloc((type), 0))
#undef PyObject_GC_New
#undef PyObject_New
#define PyObject_GC_New(type, typeobj) ((type *)(LC_FAULT("PyObject_GC_New") ? PyErr_NoMemory() : (PyObject *)_PyObject_GC_New(typeobj)))
#define PyObject_New(type, typeobj) ((type *)(LC_FAULT("PyObject_New") ? PyErr_NoMemory() : (PyObject *)_PyObject_New(typeobj)))
#define PyBytes_FromStringAndSize(...) LC_FAIL_OBJECT("PyBytes_FromStringAndSize", PyBytes_FromStringAndSize, __VA_ARGS__)
#define PyContext_CopyCurrent() LC_FAIL_OBJECT("PyContext_CopyCurrent", PyContext_CopyCurrent, )
#define PyDict_New() LC_FAIL_OBJECT("PyDict_New", PyDict_New, )
#define PyDict_GetItemWithError(...) LC_FAIL_OBJECT("PyDict_GetItemWithError", PyDict_GetItemWithError, __VA_ARGS__)
#define PyFloat_FromDouble(...) LC_FAIL_OBJECT("PyFloat_FromDouble", PyFloat_FromDouble, __VA_ARGS__)
#define PyImport_ImportModule(...) LC_FAIL_OBJECT("PyImport_ImportModule", PyImport_ImportModule, __VA_ARGS__)
#define PyList_New(...) LC_FAIL_OBJECT("PyList_New", PyList_New, __VA_ARGS__)
#define PyLong_FromLong(...) LC_FAIL_OBJECT("PyLong_FromLong", PyLong_FromLong, __VA_ARGS__)
#define PyLong_FromLongLong(...) LC_FAIL_OBJECT("PyLong_FromLongLong", PyLong_FromLongLong, __VA_ARGS__)
#define PyLong_FromSsize_t(...) LC_FAIL_OBJECT("PyLong_FromSsize_t", PyLong_FromSsize_t, __VA_ARGS__)
#define PyLong_FromUnsignedLong(...) LC_FAIL_OBJECT("PyLong_FromUnsignedLong", PyLong_FromUnsignedLong, __VA_ARGS__)
#define PyLong_FromUnsignedLongLong(...) LC_FAIL_OBJECT("PyLong_FromUnsignedLongLong", PyLong_FromUnsignedLongLong, __VA_ARGS__)
#define PyObject_GetAttrString(...) LC_FAIL_OBJECT("PyObject_GetAttrString", PyObject_GetAttrString, __VA_ARGS__)
#define PyTuple_New(...) LC_FAIL_OBJECT("PyTuple_New", PyTuple_New, __VA_ARGS__)
#define PyTuple_Pack(...) LC_FAIL_OBJECT("PyTuple_Pack", PyTuple_Pack, __VA_ARGS__)
#define PyType_FromModuleAndSpec(...) LC_FAIL_OBJECT("PyType_FromModuleAndSpec", PyType_FromModuleAndSpec, __VA_ARGS__)
#define PyType_GetModuleByDef(...) LC_FAIL_OBJECT("PyType_GetModuleByDef", PyType_GetModuleByDef, __VA_ARGS__)
#define PyUnicode_DecodeUTF8(...) LC_FAIL_OBJECT("PyUnicode_DecodeUTF8", PyUnicode_DecodeUTF8, __VA_ARGS__)
#define PyUnicode_FromFormat(...) LC_FAIL_OBJECT("PyUnicode_FromFormat", PyUnicode_FromFormat, __VA_ARGS__)
#define PyUnicode_FromString(...) LC_FAIL_OBJECT("PyUnicode_FromString", PyUnicode_FromString, __VA_ARGS__)
#define PyUnicode_FromStringAndSize(...) LC_FAIL_OBJECT("PyUnicode_FromStringAndSize", PyUnicode_FromStringAndSize, __VA_ARGS__)
#define PyUnicode_InternFromString(...) LC_FAIL_OBJECT("PyUnicode_InternFromString", PyUnicode_InternFromString, __VA_ARGS__)
#define PyUnicode_New(...) LC_FAIL_OBJECT("PyUnicode_New", PyUnicode_New, __VA_ARGS__)
#ifdef Py_BuildValue /* up to 3.12 PY_SSIZE_T_CLEAN gives these another name */
#undef Py_BuildValue
#undef PyObject_CallFunction
#undef PyObject_CallMethod
#undef PyArg_ParseTuple
#undef PyArg_ParseTupleAndKeywords
#define LC_SIZED(name) _##name##_SizeT
#else
#define LC_SIZED(name) name
#endif
#define Py_BuildValue(...) LC_FAIL_OBJECT("Py_BuildValue", LC_SIZED(Py_BuildValue), __VA_ARGS__)
#define PyArg_ParseTuple(...) LC_FAIL_PY("PyArg_ParseTuple", 0, LC_SIZED(PyArg_ParseTuple), __VA_ARGS__)
#define PyArg_ParseTupleAndKeywords(...) \
  LC_FAIL_PY("PyArg_ParseTupleAndKeywords", 0, LC_SIZED(PyArg_ParseTupleAndKeywords), __VA_ARGS__)

/* -- CPython: calls of Python code. The loop's methods fail before they do
 * anything, as asyncio's do for want of memory; callbacks at their end. -- */
#define PyObject_CallFunction(...) LC_FAIL_OBJECT("PyObject_CallFunction", LC_SIZED(PyObject_CallFunction), __VA_ARGS__)
#define PyObject_CallMethod(...) LC_FAIL_OBJECT("PyObject_CallMethod", LC_SIZED(PyObject_CallMethod), __VA_ARGS__)
#define PyObject_CallMethodNoArgs(...) LC_FAIL_OBJECT("PyObject_CallMethodNoArgs", PyObject_CallMethodNoArgs, __VA_ARGS__)
#define PyObject_CallMethodOneArg(...) LC_FAIL_OBJECT("PyObject_CallMethodOneArg", PyObject_CallMethodOneArg, __VA_ARGS__)
#define PyObject_VectorcallMethod(...) LC_FAIL_OBJECT("PyObject_VectorcallMethod", PyObject_VectorcallMethod, __VA_ARGS__)
#define PyObject_CallOneArg(...) LC_FAIL_AFTER("PyObject_CallOneArg", PyObject_CallOneArg, __VA_ARGS__)
#define PyObject_CallNoArgs(...) LC_FAIL_AFTER("PyObject_CallNoArgs", PyObject_CallNoArgs, __VA_ARGS__)

/* -- CPython: a number or a pointer as the result -- */
#define PyContext_Enter(...) LC_FAIL_PY("PyContext_Enter", -1, PyContext_Enter, __VA_ARGS__)
#define PyDict_SetItemString(...) LC_FAIL_PY("PyDict_SetItemString", -1, PyDict_SetItemString, __VA_ARGS__)
#define PyErr_WarnFormat(...) LC_FAIL_PY("PyErr_WarnFormat", -1, PyErr_WarnFormat, __VA_ARGS__)
#define PyList_Append(...) LC_FAIL_PY("PyList_Append", -1, PyList_Append, __VA_ARGS__)
#define PyList_SetSlice(...) LC_FAIL_PY("PyList_SetSlice", -1, PyList_SetSlice, __VA_ARGS__)
#define PyLong_AsLong(...) LC_FAIL_PY("PyLong_AsLong", -1, PyLong_AsLong, __VA_ARGS__)
#define PyLong_AsLongLong(...) LC_FAIL_PY("PyLong_AsLongLong", -1, PyLong_AsLongLong, __VA_ARGS__)
#define PyLong_AsUnsignedLongLong(...) LC_FAIL_PY("PyLong_AsUnsignedLongLong", (unsigned long long)-1, PyLong_AsUnsignedLongLong, __VA_ARGS__)
#define PyMem_Calloc(...) LC_FAIL_NULL("PyMem_Calloc", PyMem_Calloc, __VA_ARGS__)
#define PyMem_Malloc(...) LC_FAIL_NULL("PyMem_Malloc", PyMem_Malloc, __VA_ARGS__)
#define PyModule_AddType(...) LC_FAIL_PY("PyModule_AddType", -1, PyModule_AddType, __VA_ARGS__)
#define PyObject_GetBuffer(...) LC_FAIL_PY("PyObject_GetBuffer", -1, PyObject_GetBuffer, __VA_ARGS__)
#define PyObject_IsTrue(...) LC_FAIL_PY("PyObject_IsTrue", -1, PyObject_IsTrue, __VA_ARGS__)
#define PyObject_RichCompareBool(...) LC_FAIL_PY("PyObject_RichCompareBool", -1, PyObject_RichCompareBool, __VA_ARGS__)
#define PyUnicode_AsUTF8(...) LC_FAIL_PY("PyUnicode_AsUTF8", NULL, PyUnicode_AsUTF8, __VA_ARGS__)
#define PyUnicode_AsUTF8AndSize(...) LC_FAIL_PY("PyUnicode_AsUTF8AndSize", NULL, PyUnicode_AsUTF8AndSize, __VA_ARGS__)
#define PyUnicode_Compare(...) LC_FAIL_PY("PyUnicode_Compare", -1, PyUnicode_Compare, __VA_ARGS__)

#endif
