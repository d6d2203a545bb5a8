"""How far did a failed attempt get? Three classes decide what may be sent again.

never_sent  No byte of the request can have reached the server: it waited for its turn or a
            connection, the name, the connection or the TLS handshake failed.
maybe_sent  The request was, or may have been, sent, and no answer came, or it broke off.
answered    The server has answered; its status says whether to try again.
""          None of it: our own mistake, or a failure that another attempt will not change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _exceptions as exc

if TYPE_CHECKING:
    from ._record import CallRecord

__all__ = ["ANSWERED", "MAYBE_SENT", "NEVER_SENT", "classify", "status_of"]

NEVER_SENT = "never_sent"
MAYBE_SENT = "maybe_sent"
ANSWERED = "answered"

_BEFORE_SENDING = frozenset({"queue", "resolve", "connect", "tls"})
#: What is wrong with the request, or with us, stays wrong.
_PERMANENT = (
    exc.UnsupportedProtocol,
    exc.LocalProtocolError,
    exc.TooManyRedirects,
    exc.ResponseTooLarge,
    exc.DecodingError,
)
#: libcurl-errors(3): certificates and their files; the next handshake ends the same way.
_PERMANENT_CODES = frozenset({53, 54, 58, 59, 60, 66, 77, 82, 83, 90, 91, 98})


def classify(error: BaseException, call: CallRecord) -> str:
    """The class of a failed attempt: see the module."""
    if isinstance(error, exc.RequestError):
        if isinstance(error, _PERMANENT) or error.code in _PERMANENT_CODES:
            return ""
        if isinstance(error, exc.TransportError):
            if error.phase in _BEFORE_SENDING and not call.sent_before:
                return NEVER_SENT
            return MAYBE_SENT
        return ""
    if isinstance(error, exc.HTTPError):
        # The provider's errors; their module is loaded if there is one.
        from ..llm._errors import InvalidReply, LLMError, StreamInterrupted

        if isinstance(error, StreamInterrupted):
            return MAYBE_SENT
        if isinstance(error, LLMError) and not isinstance(error, InvalidReply):
            return ANSWERED
    return ""


def status_of(error: BaseException) -> int | None:
    """The status that an error means: an error inside of a stream, or of an answer with the
    status 200, has that of its class."""
    from ..llm import _errors as llm

    if not isinstance(error, llm.LLMError):
        return None
    if error.status is not None and error.status >= 400:
        return error.status
    for cls, status in (
        (llm.RateLimitError, 429),
        (llm.OverloadedError, 529),
        (llm.ServerError, 500),
    ):
        if isinstance(error, cls):
            return status
    return None
