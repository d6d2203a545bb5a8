"""Traffic control: one deadline, safe retries, time-outs of streams, shared limits, several models.

All of it is given to a client (`AsyncClient(retry=...)`, `OpenAI(limit=...)`) or to a call, or
is made of clients (`Fallback`, `Hedge`); it costs nothing where it is not. docs/traffic.md
tells how it works.
"""

from .._waits import retry_after_of
from ._batch import Batch, BatchResult, BatchStats, batch
from ._breaker import Breaker, BreakerStats
from ._control import Control, conduct
from ._deadline import Deadline, DeadlineTypes, build_deadline
from ._errors import DeadlineExceeded
from ._fallback import CircuitOpen, Endpoint, EndpointStats, Fallback, NoContentInTime, Tried
from ._hedge import Hedge, HedgeStats
from ._limit import LimitTypes, RateLimit
from ._race import best_of, first_of
from ._record import Attempt, CallRecord, Observer
from ._records import FailedBefore
from ._redis import LimitUnavailable
from ._retry import Retry, RetryBudget
from ._watch import StreamTimeout

__all__ = [
    "Attempt",
    "Batch",
    "BatchResult",
    "BatchStats",
    "Breaker",
    "BreakerStats",
    "CallRecord",
    "CircuitOpen",
    "Control",
    "Deadline",
    "DeadlineExceeded",
    "DeadlineTypes",
    "Endpoint",
    "EndpointStats",
    "FailedBefore",
    "Fallback",
    "Hedge",
    "HedgeStats",
    "LimitTypes",
    "LimitUnavailable",
    "NoContentInTime",
    "Observer",
    "RateLimit",
    "Retry",
    "RetryBudget",
    "StreamTimeout",
    "Tried",
    "batch",
    "best_of",
    "build_deadline",
    "conduct",
    "retry_after_of",
    "first_of",
]
