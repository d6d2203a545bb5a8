"""Traffic control of LLM calls: `Fallback`, `Hedge`, `first_of`, `best_of`."""

from ._breaker import Breaker, BreakerStats
from ._fallback import CircuitOpen, Endpoint, EndpointStats, Fallback, NoContentInTime, Tried
from ._hedge import Hedge, HedgeStats
from ._race import best_of, first_of

__all__ = [
    "Breaker",
    "BreakerStats",
    "CircuitOpen",
    "Endpoint",
    "EndpointStats",
    "Fallback",
    "Hedge",
    "HedgeStats",
    "NoContentInTime",
    "Tried",
    "best_of",
    "first_of",
]
