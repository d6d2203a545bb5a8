"""The steps of a call and the C functions that do them.

Job: the list. A step counts what a function executes, with all it calls. The compiler inlines across files: of the
names the first that is left is taken. Not its job: counting (run.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    name: str
    functions: tuple[str, ...]


CALL_STEPS: tuple[Step, ...] = (
    Step("create a Call and queue it", ("Client_post", "start", "Pool_call")),
    Step("drain: everything below", ("drain", "Reactor_drain")),
    Step("the core's pass, without the GIL", ("lc_reactor_step",)),
    Step("start, with the first run of libcurl", ("lc_pool_start", "start_pools")),
    Step("libcurl on a kick: sends the request", ("lc_lane_run", "run_kicked")),
    Step("libcurl on an event: receives the answer", ("lc_lane_event", "poll_once")),
    Step("header lines", ("on_header",)),
    Step("body bytes", ("on_body",)),
    Step("end of the transfer", ("lc_xfer_finish",)),
    Step("build the response", ("lc_response_of_call", "lc_call_news")),
    Step("wake, with the task up to its next await", ("lc_waiter_wake",)),
    Step("free the Call", ("Call_dealloc",)),
    Step("free the response", ("Response_dealloc",)),
)

STREAM_STEPS: tuple[Step, ...] = (
    Step("drain: everything below", ("drain", "Reactor_drain")),
    Step("the core's pass, without the GIL", ("lc_reactor_step",)),
    Step("body bytes", ("on_body",)),
    Step("events out of the body", ("lc_sse_feed",)),
)
