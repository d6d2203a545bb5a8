/* compat.h - every test of a Python or libcurl version number lives here.
 *
 * Job: one spelling for what differs between versions. Used by: csrc/py.
 * Threads: no state.
 */
#ifndef LC_COMPAT_H
#define LC_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030B0000
#error "llmcurl needs Python 3.11 or newer"
#endif

#if PY_VERSION_HEX >= 0x030C0000
#define LC_SLOT_INTERPRETERS {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#define LC_SLOT_INTERPRETERS
#endif

/* Said aloud, although it is what is assumed of a module that says nothing: a free-threaded Python
   switches the GIL on when it loads us. What several threads may touch is in ownership.md. */
#if PY_VERSION_HEX >= 0x030D0000
#define LC_SLOT_GIL {Py_mod_gil, Py_MOD_GIL_USED},
#else
#define LC_SLOT_GIL
#endif

/* A new, zeroed object of a heap type; NULL + exception. */
#ifndef LC_TP_ALLOC
#define LC_TP_ALLOC(type) ((type)->tp_alloc((type), 0))
#endif

/* The exception being handled is set aside around code that may raise. */
#if PY_VERSION_HEX >= 0x030C0000
#define LC_SAVE_ERROR(name) PyObject *name = PyErr_GetRaisedException()
#define LC_RESTORE_ERROR(name) PyErr_SetRaisedException(name)
#else
#define LC_SAVE_ERROR(name) \
  PyObject *name##_type, *name, *name##_tb; \
  PyErr_Fetch(&name##_type, &name, &name##_tb)
#define LC_RESTORE_ERROR(name) PyErr_Restore(name##_type, name, name##_tb)
#endif

/* Returns the raised exception (new reference), with its traceback, and clears it. */
static inline PyObject *lc_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
  return PyErr_GetRaisedException();
#else
  PyObject *type, *value, *tb;
  PyErr_Fetch(&type, &value, &tb);
  PyErr_NormalizeException(&type, &value, &tb);
  if(tb)
    PyException_SetTraceback(value, tb);
  Py_XDECREF(type);
  Py_XDECREF(tb);
  return value;
#endif
}

#endif
