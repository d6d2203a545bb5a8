"""`AsyncCurlTransport`: an `httpx2.AsyncBaseTransport` on llmcurl.

client = httpx2.AsyncClient(transport=AsyncCurlTransport())
"""

from __future__ import annotations

import httpx2

from ._package import Package
from ._shared import CurlTransport, ResponseStream, WholeStream

__all__ = ["AsyncCurlTransport"]

_PACKAGE = Package(httpx2, certifi=False)


class _Stream(ResponseStream, httpx2.AsyncByteStream):
    _package = _PACKAGE


class _Whole(WholeStream, httpx2.AsyncByteStream):
    pass


class AsyncCurlTransport(CurlTransport, httpx2.AsyncBaseTransport):
    __doc__ = CurlTransport.__doc__

    _package = _PACKAGE
    _stream_class = _Stream
    _whole_class = _Whole
