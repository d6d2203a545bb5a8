"""`AsyncCurlTransport`: an `httpx.AsyncBaseTransport` on llmcurl.

client = httpx.AsyncClient(transport=AsyncCurlTransport())
"""

from __future__ import annotations

import httpx

from ._package import Package
from ._shared import CurlTransport, ResponseStream, WholeStream

__all__ = ["AsyncCurlTransport"]

_PACKAGE = Package(httpx, certifi=True)


class _Stream(ResponseStream, httpx.AsyncByteStream):
    _package = _PACKAGE


class _Whole(WholeStream, httpx.AsyncByteStream):
    pass


class AsyncCurlTransport(CurlTransport, httpx.AsyncBaseTransport):
    __doc__ = CurlTransport.__doc__

    _package = _PACKAGE
    _stream_class = _Stream
    _whole_class = _Whole
