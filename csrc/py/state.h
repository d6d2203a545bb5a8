/* state.h - module state, the Python structs, and what the files of csrc/py share.
 *
 * Job: declarations only. Used by: all of csrc/py.
 * Threads: the GIL; see reactor_obj.c for the one place that releases it.
 *
 * References: Call and BodyStream -> PoolObject -> ReactorObject -> loop. The
 * reactor lists (and visits) the waiters that must outlive their callers' own
 * references, so a closed loop and all that hangs on it is one collectable cycle.
 */
#ifndef LC_STATE_H
#define LC_STATE_H

#include "compat.h"

#include "core.h"

typedef struct {
  PyTypeObject *anchor_type, *reactor_type, *pool_type, *call_type, *stream_type, *response_type, *target_type, *headers_type,
    *client_type, *watch_type;
  PyObject *cancelled_error; /* asyncio.CancelledError */
  PyObject *invalid_state_error; /* asyncio.InvalidStateError */
  lc_tls *system_tls; /* owned: the system's certificates, made once */
  PyObject *system_tls_key;
  PyObject *build_error; /* llmcurl._exceptions.build_error, imported at first use */
  PyObject *mask_url; /* llmcurl._exceptions.mask_url, likewise */
  PyObject *str_call_soon, *str_call_soon_threadsafe, *str_context, *str_call_exception_handler, *str_finish, *kw_context;
  PyObject *str_request, *str_content, *str_json, *str_decoded;
  PyObject *str_method[LC_OTHER]; /* by lc_method */
  PyObject *running_loop; /* asyncio._get_running_loop */
} mod_state;

mod_state *lc_state_of_module(PyObject *module);
/* Of a type made by this module (or a subclass of one). Borrowed, NULL + exception. */
mod_state *lc_state_of_type(PyTypeObject *type);

typedef struct waiter waiter;

typedef struct {
  PyObject_HEAD
  lc_reactor *core; /* owned */
  mod_state *st; /* borrowed: the type keeps its module */
  PyObject *loop; /* owned */
  PyObject *kick; /* owned: the bound method given to call_soon (a cycle, broken by tp_clear) */
  PyObject *response_type; /* owned: what a Call's result is made of */
  waiter *kept; /* waiters with callbacks: each holds one reference through this list */
  unsigned long thread;
  PyObject *weakrefs;
  int fd; /* registered with the loop, -1 = not */
  unsigned kick_scheduled : 1;
  unsigned late : 1; /* a kept waiter is, see there */
  unsigned draining : 1;
  unsigned closed : 1;
} ReactorObject;

typedef struct {
  PyObject_HEAD
  lc_pool *core; /* owned */
  ReactorObject *reactor; /* owned */
  PyObject *config; /* owned: a dict, until the certificates it names are loaded; then NULL */
  lc_timeouts timeouts; /* of calls that give none */
} PoolObject;

typedef struct {
  PyObject_HEAD
  lc_target *core; /* owned */
  PoolObject *pool; /* owned: a target must not outlive its pool */
  PyObject *url; /* owned: str */
} TargetObject;

typedef struct {
  PyObject_HEAD
  lc_headers *core; /* owned */
  PyObject *source; /* owned: the Headers it was made of, for response.request */
} HeadersObject;

/* The part of a Call and a BodyStream that a task can wait for.
 *
 * Invariants: callback is set when context is; `more` holds further (callback,
 * context) pairs and is NULL or a list; kept is set exactly while the object
 * is in reactor->kept, that is, while it is pending and has a callback. */
struct waiter {
  PyObject_HEAD
  PoolObject *pool; /* owned, NULL for a detached Call that has no transfer yet */
  ReactorObject *reactor; /* owned */
  lc_xfer *xfer; /* owned by the core until DONE, then by us; NULL = none */
  PyObject *callback, *context; /* owned */
  PyObject *more; /* owned */
  PyObject *cancel_msg; /* owned */
  PyObject *on_want; /* owned: called when an upload has room */
  PyObject *exception; /* owned */
  waiter *kept_next, *kept_prev;
  unsigned kept : 1;
  unsigned late : 1; /* its callback is due: memory was short when it was to be scheduled */
  unsigned blocking : 1;
  unsigned cancelled : 1;
};

typedef struct {
  waiter w;
  PyObject *result; /* owned */
  PyObject *sent; /* owned: the HeaderList of the request */
  PyObject *url, *method; /* owned: str, of the request */
  PyObject *on_cancel; /* owned: a detached Call's way to stop its driver */
  PyObject *label; /* owned: str for repr and warnings, method and URL; NULL = ask the transfer */
  uint8_t done;
  uint8_t touched; /* somebody waits, or looked */
  uint8_t log_exception; /* nobody has looked at the exception */
  uint8_t stream;
  uint8_t whole; /* streamed, but an answer that is over when its head is handed out comes in one piece */
} CallObject;

typedef struct {
  waiter w;
  int64_t arrived; /* ns: when the oldest byte of the last piece given out came in */
  uint8_t ended; /* the end, or the error, was given to the reader */
  uint8_t closed;
} StreamObject;

typedef struct {
  PyObject_HEAD
  PyObject *head, *body, *url, *method, *extra, *stream; /* owned */
  PyObject *sent, *sent_body; /* owned: HeaderList and bytes of the request, NULL = unknown */
  PyObject *peer; /* owned: bytes of an lc_peer, NULL = was not asked for */
  int64_t queued; /* ns, -1 */
  lc_times times;
  double finished; /* s from creation to here */
  double late;     /* s that the last byte had been there by then */
  int status;
  int version;
  uint8_t reused;
  uint8_t plain; /* the body is what came: whole, and not encoded */
} ResponseObject;

/* reactor_obj.c */
extern PyType_Spec lc_reactor_spec, lc_anchor_spec;
/* Asks for a drain soon. 0, or -1 + exception (loop closed). */
int lc_reactor_kick(ReactorObject *self);
/* A pool went: with the last one the reactor's descriptors go too, until a client
 * asks for a new reactor. Raises nothing. */
void lc_reactor_settle(ReactorObject *self);
/* 1 when the calling thread is not the loop's. */
int lc_reactor_foreign(const ReactorObject *self);
/* 1 in a forked child: the core must not be touched. */
int lc_reactor_forked(const ReactorObject *self);

/* waiter.c */
int lc_waiter_traverse(waiter *w, visitproc visit, void *arg);
void lc_waiter_clear(waiter *w);
/* Stops the transfer, whatever thread this is; the waiter has none afterwards. */
void lc_waiter_drop(waiter *w);
/* DONE transfer: lets its Python references go and recycles it. */
void lc_waiter_release_xfer(waiter *w);
int lc_waiter_add_callback(waiter *w, PyObject *callback, PyObject *context);
Py_ssize_t lc_waiter_remove_callback(waiter *w, PyObject *callback);
/* Runs the callbacks: at once when `direct` (only from a drain), else through
 * call_soon. -1 + exception only for SystemExit and KeyboardInterrupt, or
 * when the loop is closed. */
int lc_waiter_wake(waiter *w, int direct);
/* In a drain: runs the callbacks that could not be scheduled. -1 as above. */
int lc_waiter_wake_late(ReactorObject *r);
void lc_waiter_keep(waiter *w);
void lc_waiter_unkeep(waiter *w);
/* tp_iternext in terms of am_send. */
PyObject *lc_waiter_next(PyObject *op, sendfunc send);
/* _asyncio_future_blocking, an attribute of both types. */
PyObject *lc_waiter_get_blocking(PyObject *op, void *closure);
int lc_waiter_set_blocking(PyObject *op, PyObject *value, void *closure);
/* News that an upload has room. */
void lc_waiter_want(waiter *w);
/* _feed(bytes, eof) and _set_on_want(fn), methods of both types. */
PyObject *lc_waiter_feed(PyObject *op, PyObject *const *args, Py_ssize_t n);
PyObject *lc_waiter_set_on_want(PyObject *op, PyObject *value);
/* Returns a new exception for the ended transfer; NULL + exception. */
PyObject *lc_error_of_xfer(mod_state *st, lc_xfer *x);
/* Raises asyncio.CancelledError with the waiter's message. */
PyObject *lc_waiter_raise_cancelled(waiter *w);
/* Returns llmcurl._exceptions.`name` (new reference), cached in *cache. */
PyObject *lc_from_exceptions(PyObject **cache, const char *name);

/* call_obj.c */
extern PyType_Spec lc_call_spec;
CallObject *lc_call_new(mod_state *st, PoolObject *pool, ReactorObject *reactor);
/* News of its transfer; -1 as lc_waiter_wake. */
int lc_call_news(CallObject *self, unsigned news);

/* stream_obj.c */
extern PyType_Spec lc_stream_spec;
StreamObject *lc_stream_new(mod_state *st, waiter *from);
int lc_stream_news(StreamObject *self, unsigned news);

/* response_obj.c */
extern PyType_Spec lc_response_spec;
/* Returns a new response of `type` from the head, body and times of the Call's transfer. */
PyObject *lc_response_of_call(PyTypeObject *type, CallObject *call);

/* watch_obj.c */
extern PyType_Spec lc_watch_spec;

/* pool_obj.c */
extern PyType_Spec lc_pool_spec, lc_target_spec, lc_headers_spec;
/* Queues a request (known method, the pool's time-outs) and returns its Call. body: bytes or None. */
PyObject *lc_pool_post(TargetObject *target, lc_method method, HeadersObject *headers, PyObject *body);

/* client_obj.c */
extern PyType_Spec lc_client_spec;

#endif
