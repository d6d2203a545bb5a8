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
    inside: bool = False  # a part of the step above it


CALL_STEPS: tuple[Step, ...] = (
    Step("create a Call and queue it", ("Pool_call",)),
    Step("drain, with the tasks it wakes", ("Reactor_drain",)),
    Step("start: a lane and a handle", ("lc_pool_start",), True),
    Step("send: libcurl's first run", ("lc_lane_run", "run_kicked"), True),
    Step("receive: libcurl on an event", ("lc_lane_event", "poll_once"), True),
    Step("header lines", ("on_header",), True),
    Step("body bytes", ("on_body",), True),
    Step("end of the transfer", ("lc_xfer_finish",), True),
    Step("build the response", ("lc_response_of_xfer",), True),
    Step("wake, with the task up to its next await", ("lc_waiter_wake",), True),
    Step("free the Call", ("Call_dealloc",), True),
    Step("free the response", ("Response_dealloc",), True),
)

STREAM_STEPS: tuple[Step, ...] = (
    Step("drain, with the tasks it wakes", ("Reactor_drain",)),
    Step("receive: libcurl on an event", ("lc_lane_event", "poll_once"), True),
    Step("body bytes", ("on_body",), True),
)
