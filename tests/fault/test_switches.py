"""csrc/fault makes everything fail that the extension calls and that can: a function new in the sources is not forgotten there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# They have no failure, or none that the caller could act upon; or they belong to the compiler and the C library.
CANNOT = """
PyBool_FromLong PyBuffer_Release PyContext_Exit PyDict_Next PyErr_\\w+ PyEval_\\w+ PyExc_\\w+ PyException_SetTraceback
PyInterpreterState_\\w+ PyMem_Free PyModuleDef_Init PyModule_GetState PyObject_CallFinalizerFromDealloc PyObject_ClearWeakRefs
PyObject_GC_Track PyObject_GC_UnTrack PyObject_SelfIter PyThread_get_thread_ident PyType_GenericNew PyType_IsSubtype
PyUnicode_CompareWithASCIIString Py_GenericAlias Py\\w*_Type _Py_\\w+ _ITM_\\w+ __\\w+
BIO_free ERR_\\w+ OpenSSL_version PEM_read_bio_X509 SSL_CTX_\\w+ SSL_get\\w+ SSL_has_pending SSL_set_read_ahead SSL_CIPHER_get_name X509_get_\\w+ X509_STORE_free X509_STORE_set_flags X509_VERIFY_PARAM_\\w+ X509_free
calloc malloc realloc free clock_gettime close getenv mem\\w+ str\\w+ snprintf poll shutdown
curl_easy_cleanup curl_easy_strerror curl_multi_cleanup curl_multi_info_read curl_multi_strerror curl_share_cleanup
curl_slist_free_all curl_version_info curl_global_init
pthread_\\w+_destroy pthread_\\w*mutex_lock pthread_mutex_unlock pthread_once pthread_cond_signal pthread_cond_timedwait pthread_self
""".split()


def test_every_function_that_can_fail_is_made_to_fail() -> None:
    native = pytest.importorskip("llmcurl._native")
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm here")
    out = subprocess.run(
        [nm, "-D", "--undefined-only", native.__file__], capture_output=True, text=True, check=True
    ).stdout
    called = {line.split()[-1].partition("@")[0] for line in out.splitlines() if line.strip()}
    if "curl_easy_init" not in called:
        pytest.skip("libcurl is inside of this extension, and calls the system, too")
    header = (ROOT / "csrc" / "fault" / "lc_fault.h").read_text()
    replaced = set(re.findall(r"#define (\w+)\(", header))
    renamed = {
        name.removeprefix("_").removesuffix("_SizeT"): name
        for name in called
        if name.endswith("_SizeT")
    }
    left = called - replaced - {renamed[name] for name in renamed if name in replaced}
    left -= (
        {"_PyObject_GC_New", "_PyObject_New"}
        if {"PyObject_GC_New", "PyObject_New"} <= replaced
        else set()
    )
    cannot = re.compile("|".join(CANNOT))
    sanitizer = re.compile(r"__(asan|ubsan|tsan|lsan|gcov|sanitizer)\w*")
    forgotten = sorted(
        name for name in left if not cannot.fullmatch(name) and not sanitizer.match(name)
    )
    assert not forgotten, (
        f"csrc/fault/lc_fault.h should have {' '.join(forgotten)}, or CANNOT above"
    )
