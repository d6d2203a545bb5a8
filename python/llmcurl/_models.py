"""`Response`: what came back. (`Request` is in `_request.py`, `Timings` in `_status.py`.)

`Response` adds httpx's interface to the native `RawResponse` and no fields of its own:
everything is made when it is asked for. What has to be remembered lies in the dict
``_extra``, which most answers never get. Its keys:

    request      Request, or a function that makes it (so that most calls never do)
    history      list of Response        next_request  Request of a redirect not followed
    content      decoded body            text, headers, cookies, extensions   caches
    encoding     set by the user         default_encoding  str or function(bytes) -> str
    elapsed      timedelta, set          timings           Timings, unpickled
    max_body     ceiling in bytes for a body read as a whole
    max_decoded  ceiling in bytes for the decoded body, instead of `decoded_limit`
    stream       stands in for the native _stream (a response made by hand)
    received     bytes read of the stream
    attempts     tuple of Attempt
    delivered    time.monotonic() when a streamed response was handed out
    consumed, closed, unread             states of a stream, True or absent
"""

from __future__ import annotations

import datetime
import json as stdlib_json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

import msgspec

from ._content import encode_json, make_source
from ._cookies import Cookies
from ._decoders import ceiling_of, decode, make_decoder, parse_encodings
from ._exceptions import (
    HTTPStatusError,
    RequestError,
    ResponseNotRead,
    StreamClosed,
    StreamConsumed,
)
from ._headers import Headers, HeaderTypes
from ._links import parse_links
from ._native import RawResponse
from ._redact import mask_url
from ._request import Request, plain_request
from ._status import KINDS, REDIRECTS, StatusKind, Timings, reason_of
from ._streams import EventReaders, IterStream, LineIterator, collect, rechunk_bytes, rechunk_text
from ._text import TextDecoder, charset_of, decode_text, known_encoding
from ._urls import URL, parse_url

__all__ = ["Request", "Response", "Timings"]

_decode_json = msgspec.json.Decoder().decode


class Response(RawResponse, StatusKind, EventReaders):
    """An answer, as in httpx. The client makes them; tests may, too.

    Args:
        status_code: e.g. 200.
        headers: Content-Length and Content-Type are added as the body asks for.
        content: the raw body: bytes, str, or an (async) iterable of bytes, which gives a
            streamed response.
        text, html, json: other ways to give the body.
        request: what it answers.
        extensions: "http_version" and "reason_phrase", as bytes, are used.
        history: the redirects before it.
        default_encoding: for text without a charset: a name or a function of the body.

    Attributes:
        status_code: int.
        http_version: "HTTP/1.0", "HTTP/1.1" or "HTTP/2".
        reused: whether the connection had been used before.

    Raises:
        DecodingError: `content` does not fit the Content-Encoding in `headers`.
        InvalidHeader, TypeError: arguments that cannot be.
    """

    __slots__ = ()

    def __init__(
        self,
        status_code: int,
        *,
        headers: HeaderTypes | None = None,
        content: bytes | str | Iterable[bytes] | AsyncIterable[bytes] | None = None,
        text: str | None = None,
        html: str | None = None,
        json: Any = None,
        request: Request | None = None,
        extensions: dict[str, Any] | None = None,
        history: list[Response] | None = None,
        default_encoding: str | Callable[[bytes], str] = "utf-8",
    ) -> None:
        fields = Headers(headers)
        extra: dict[str, Any] = {"headers": fields, "timings": Timings()}
        body = b""
        if content is not None:
            source = make_source(content)
            if isinstance(source, bytes):
                body = source
            else:
                extra["stream"] = IterStream(source)
        elif text is not None:
            body = text.encode("utf-8")
            fields.setdefault("Content-Type", "text/plain; charset=utf-8")
        elif html is not None:
            body = html.encode("utf-8")
            fields.setdefault("Content-Type", "text/html; charset=utf-8")
        elif json is not None:
            body = encode_json(json)
            fields.setdefault("Content-Type", "application/json")
        if body and "transfer-encoding" not in fields:
            fields.setdefault("Content-Length", str(len(body)))
        given = extensions or {}
        version = given.get("http_version", b"HTTP/1.1").decode("ascii", "ignore")
        reason = given.get("reason_phrase", reason_of(status_code).encode("ascii"))
        head = b"%s %d %s\r\n" % (version.encode("ascii"), status_code, reason)
        head += b"".join(b"%s: %s\r\n" % field for field in fields.raw)
        super().__init__(
            status_code,
            head=head,
            body=body,
            url="" if request is None else str(request.url),
            method="" if request is None else request.method,
            http_version=version,
        )
        if request is not None:
            extra["request"] = request
        if history:
            extra["history"] = list(history)
        if extensions:
            extra["extensions"] = {"http_version": version.encode(), "reason_phrase": reason}
            extra["extensions"].update(extensions)
        if default_encoding != "utf-8":
            extra["default_encoding"] = default_encoding
        self._extra = extra
        if "stream" not in extra:
            self._finish()

    # What the client and the native side call -----------------------------------------

    def _attach(self, **values: Any) -> None:
        """Remembers what the client knows: request, history, next_request,
        default_encoding, max_body, max_decoded (see the module)."""
        if self._extra is None:
            self._extra = values
        else:
            self._extra.update(values)

    def _finish(self, max_body: int | None = None) -> None:
        """Decodes the body of a buffered response with a Content-Encoding; called once by
        the native side before it is delivered, so that the await raises.

        `max_body`: the client's ceiling of a body in bytes, which counts decoded, too.

        Raises:
            DecodingError: corrupt or truncated.
            ResponseTooLarge: it unpacks to too much.
        """
        encodings = self._encodings()
        body = self._body
        if not encodings or not body:
            return
        try:
            decoded = decode(encodings, body, ceiling_of(self._extra, len(body), max_body))
        except RequestError as error:
            self._explain(error)
            raise
        self._attach(content=decoded)

    def _explain(self, error: RequestError) -> None:
        """Puts into an error of a decoder or stream what it cannot know."""
        if self._get("request") is not None:
            error.request = self.request
        if not error.url:
            error.url = self.url.masked if self._url else ""
            error.method = self._method
            error.phase = error.phase or "receive"

    def _get(self, key: str) -> Any:
        extra = self._extra
        return None if extra is None else extra.get(key)

    def _encodings(self) -> tuple[str, ...]:
        """What Content-Encoding names; a quick look first: most answers have none."""
        if b"\ncontent-encoding:" not in self._head.lower():
            return ()
        return parse_encodings(self.headers.get("content-encoding"))

    # The head ---------------------------------------------------------------------------

    @property
    def headers(self) -> Headers:
        """The header fields as received."""
        found = self._get("headers")
        if found is None:
            found = Headers.from_block(self._head)
            self._attach(headers=found)
        return found  # type: ignore[no-any-return]

    @property
    def reason_phrase(self) -> str:
        """As received; HTTP/2 has none, then the standard one."""
        words = self._head.partition(b"\n")[0].rstrip(b"\r").split(b" ", 2)
        if len(words) > 2 and words[2]:
            return words[2].decode("latin-1")
        return "" if self.http_version.startswith("HTTP/1") else reason_of(self.status_code)

    @property
    def extensions(self) -> dict[str, Any]:
        """httpx's "http_version" and "reason_phrase" as bytes, and what users put here."""
        found = self._get("extensions")
        if found is None:
            found = {
                "http_version": self.http_version.encode("ascii"),
                "reason_phrase": self.reason_phrase.encode("latin-1"),
            }
            self._attach(extensions=found)
        return found  # type: ignore[no-any-return]

    @property
    def attempts(self) -> tuple[Any, ...]:
        """`llmcurl.Attempt`s of a call with retry, limit or deadline; of others ()."""
        return self._get("attempts") or ()

    @property
    def url(self) -> URL:
        """Where the answer came from: after redirects, the last one."""
        return parse_url(self._url) if self._url else self.request.url

    @property
    def request(self) -> Request:
        """The request that was answered.

        Raises:
            RuntimeError: the response was made by hand without one.
        """
        found = self._get("request")
        if found is None:
            if not self._url:
                raise RuntimeError("The request of this response has not been set.")
            found = plain_request(self._method, self._url, self._sent, self._sent_body)
            self._attach(request=found)
        elif not isinstance(found, Request):
            found = found()
            self._attach(request=found)
        return found  # type: ignore[no-any-return]

    @request.setter
    def request(self, request: Request) -> None:
        self._attach(request=request)

    @property
    def history(self) -> list[Response]:
        """The redirects that led here, first to last."""
        found = self._get("history")
        if found is None:
            found = []
            self._attach(history=found)
        return found  # type: ignore[no-any-return]

    @history.setter
    def history(self, history: list[Response]) -> None:
        self._attach(history=history)

    @property
    def next_request(self) -> Request | None:
        """What to send to follow this redirect, if it was not followed."""
        found = self._get("next_request")
        if found is None and self.has_redirect_location:
            from ._redirects import redirect_request  # which imports this module

            found = redirect_request(self.request, self)
            self._attach(next_request=found)
        return found  # type: ignore[no-any-return]

    @next_request.setter
    def next_request(self, request: Request | None) -> None:
        self._attach(next_request=request)

    @property
    def cookies(self) -> Cookies:
        """What the Set-Cookie headers of this answer set."""
        found = self._get("cookies")
        if found is None:
            found = Cookies()
            found.extract_cookies(self)
            self._attach(cookies=found)
        return found  # type: ignore[no-any-return]

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """The Link header (RFC 8288), by "rel" or else by URL."""
        return parse_links(self.headers.get("link"))

    @property
    def timings(self) -> Timings:
        """When each phase of the call was done."""
        found = self._get("timings")
        if found is None:
            found = Timings.from_raw(self._timings)
            if self._get("delivered") is not None:
                found = replace(found, done=None, delivered=None)
        if found.attempts is None and (attempts := self._get("attempts")):
            found = replace(found, attempts=len(attempts))
        return found  # type: ignore[no-any-return]

    @property
    def elapsed(self) -> datetime.timedelta:
        """From the call to the complete answer.

        Raises:
            RuntimeError: not complete yet, or made by hand.
        """
        found = self._get("elapsed")
        if found is not None:
            return found  # type: ignore[no-any-return]
        done = self.timings.done
        if done is None:
            raise RuntimeError(".elapsed is known once the response was read or closed.")
        return datetime.timedelta(seconds=done)

    @elapsed.setter
    def elapsed(self, elapsed: datetime.timedelta) -> None:
        self._attach(elapsed=elapsed)

    # The status ---------------------------------------------------------------------------

    @property
    def has_redirect_location(self) -> bool:
        """A redirect that says where to."""
        return self.status_code in REDIRECTS and "location" in self.headers

    def raise_for_status(self) -> Response:
        """Itself, if the status is 2xx.

        Raises:
            HTTPStatusError: any other status; the text has it, and the URL without secrets.
            RuntimeError: made by hand without a request.
        """
        if self.is_success:
            return self
        request = self.request
        kind = KINDS.get(self.status_code // 100, "Invalid status code")
        message = f"{kind} '{self.status_code} {self.reason_phrase}' for url '{self.url.masked}'"
        if self.has_redirect_location:
            message += f"\nRedirect location: '{mask_url(self.headers['location'])}'"
        raise HTTPStatusError(message, request=request, response=self)

    # The body ---------------------------------------------------------------------------

    def _decoded(self) -> bytes:
        """`content`, where it is not simply the body: called by the native side."""
        found = self._get("content")
        if found is not None:
            return found  # type: ignore[no-any-return]
        if self._is_streamed():
            raise ResponseNotRead()
        if self._encodings():
            self._finish()
            return self._get("content") or self._body
        return self._body

    @property
    def text(self) -> str:
        """The body as text in `encoding`; what is no text becomes U+FFFD."""
        found = self._get("text")
        if found is None:
            found = decode_text(self.content, self.encoding or "utf-8")
            self._attach(text=found)
        return found  # type: ignore[no-any-return]

    @property
    def charset_encoding(self) -> str | None:
        """The charset that Content-Type names."""
        return charset_of(self.headers.get("content-type"))

    @property
    def encoding(self) -> str | None:
        """For `text`: what was set, the charset of Content-Type, or utf-8."""
        found = self._get("encoding")
        if found is None:
            found = self.charset_encoding
            if found is None or not known_encoding(found):
                found = self._get("default_encoding") or "utf-8"
                if callable(found):
                    found = found(self._get("content") or self._body) or "utf-8"
        return found  # type: ignore[no-any-return]

    @encoding.setter
    def encoding(self, value: str) -> None:
        if self._get("text") is not None:
            raise ValueError("The encoding cannot be set after .text was read.")
        self._attach(encoding=value)

    def json(self, **kwargs: Any) -> Any:
        """The body, parsed as JSON.

        Args:
            kwargs: ``type=`` (and ``strict=``) parse into that type with msgspec; others go
                to `json.loads`.

        Raises:
            json.JSONDecodeError: not JSON (a ValueError).
            msgspec.ValidationError: JSON, but not of ``type`` (a ValueError).
        """
        content = self.content
        if "type" in kwargs:
            return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), **kwargs)
        if not kwargs:
            try:
                return _decode_json(content)
            except ValueError:
                # NaN, UTF-16, a BOM: the standard library takes more, and its error is the
                # one that callers know.
                pass
        return stdlib_json.loads(content, **kwargs)

    @property
    def num_bytes_downloaded(self) -> int:
        """Bytes of the body as received, before decoding."""
        return self._get("received") or len(self._body)

    def read(self) -> bytes:
        """`content`; a streamed response needs `aread`.

        Raises:
            RuntimeError: streamed and not read.
        """
        if self._get("content") is None and self._is_streamed():
            raise RuntimeError("This response is streamed: use `await response.aread()`.")
        return self.content

    # Streaming --------------------------------------------------------------------------

    def _is_streamed(self) -> bool:
        if self._stream is not None:
            return True
        extra = self._extra
        return extra is not None and ("stream" in extra or "unread" in extra)

    @property
    def is_closed(self) -> bool:
        """Nothing more can be read from the network."""
        return not self._is_streamed() or bool(self._get("closed"))

    @property
    def is_stream_consumed(self) -> bool:
        """The body was read, or its reading has begun."""
        return not self._is_streamed() or bool(self._get("consumed"))

    def _close_stream(self) -> None:
        """Synchronous, so that no cancellation can come between."""
        if self._get("closed"):
            return
        stream = self._get("stream") if self._stream is None else self._stream
        self._attach(closed=True)
        delivered = self._get("delivered")
        if delivered is not None:
            # The native clock stopped when the head was handed out.
            done = self._timings[7] + time.monotonic() - delivered
            self._attach(timings=replace(self.timings, done=done, delivered=done))
        if stream is not None:
            stream.close()

    async def _chunks(self, decoded: bool) -> AsyncIterator[bytes]:
        """The body as it comes. Whatever ends the reading early - an error, a cancellation,
        a break out of the loop - closes the stream."""
        if not self._is_streamed() or self._get("content") is not None:
            whole = self.content if decoded else self._body
            if whole:
                yield whole
            elif not decoded and self._is_streamed():
                raise StreamConsumed()
            return
        if self._get("consumed"):
            raise StreamConsumed()
        if self._get("closed") or self._get("unread"):
            raise StreamClosed()
        stream = self._get("stream") if self._stream is None else self._stream
        self._attach(consumed=True, received=0)
        extra: dict[str, Any] = self._extra
        try:
            decoder = make_decoder(self._encodings()) if decoded else None
            while chunk := await stream.read():
                extra["received"] += len(chunk)
                if decoder is None:
                    yield chunk
                else:
                    for piece in decoder.feed(chunk):
                        yield piece
            if decoder is not None:
                decoder.finish()
        except RequestError as error:
            self._explain(error)
            raise
        finally:
            self._close_stream()

    def aiter_raw(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The body as received, not decoded, in chunks as they come or of `chunk_size` bytes.

        Raises (when iterated):
            StreamConsumed, StreamClosed: it cannot be read (any more).
            TransportError: of the kind that fits.
        """
        chunks = self._chunks(False)
        return chunks if chunk_size is None else rechunk_bytes(chunks, chunk_size)

    def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The decoded body, in chunks as they come or of `chunk_size` bytes; as `aiter_raw`,
        and DecodingError."""
        chunks = self._chunks(True)
        return chunks if chunk_size is None else rechunk_bytes(chunks, chunk_size)

    def aiter_text(self, chunk_size: int | None = None) -> AsyncIterator[str]:
        """The body as text, in pieces as they come or of `chunk_size` characters."""
        texts = self._texts()
        return texts if chunk_size is None else rechunk_text(texts, chunk_size)

    async def _texts(self) -> AsyncIterator[str]:
        decoder = TextDecoder(self.encoding or "utf-8")
        chunks = self._chunks(True)
        try:
            async for chunk in chunks:
                if text := decoder.feed(chunk):
                    yield text
            if text := decoder.finish():
                yield text
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    def aiter_lines(self) -> AsyncIterator[str]:
        r"""The body as lines, without their ends: \n, \r\n or \r, and no others."""
        return LineIterator(self._chunks(True), self.encoding or "utf-8")

    async def aread(self) -> bytes:
        """Reads a streamed body; then `content` has it.

        Raises:
            ResponseTooLarge: it is larger than the client's max_response_bytes, or unpacks
                to too much. Also all of `aiter_bytes`.
        """
        if self._is_streamed() and self._get("content") is None:
            encoded = bool(self._encodings())
            chunks = self._chunks(True)
            try:
                content = await collect(
                    chunks,
                    lambda: self.num_bytes_downloaded,
                    lambda received: ceiling_of(self._extra, received, None, encoded),
                )
            except RequestError as error:
                self._explain(error)
                raise
            finally:
                await chunks.aclose()  # type: ignore[attr-defined]
            self._attach(content=content)
        return self.content

    async def aclose(self) -> None:
        """Ends the response; before its end, the connection is dropped. May be repeated."""
        if self._is_streamed():
            self._close_stream()

    def __repr__(self) -> str:
        return f"<Response [{self.status_code} {self.reason_phrase}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        state: dict[str, Any] = {}
        for key in ("content", "encoding", "history", "headers", "elapsed", "received"):
            if (value := self._get(key)) is not None:
                state[key] = value
        if self._url or self._get("request") is not None:
            state["request"] = self.request
        if self._is_streamed() and "content" not in state:
            # The stream stays where it is; the copy knows that it has no body.
            state["unread"] = state["closed"] = True
        state["timings"] = self.timings
        arguments = {
            "head": self._head,
            "body": self._body,
            "url": self._url,
            "method": self._method,
            "http_version": self.http_version,
        }
        return _restore_response, (type(self), self.status_code, arguments, state)


def _restore_response(
    cls: type[Response], status_code: int, arguments: dict[str, Any], state: dict[str, Any]
) -> Response:
    """Unpickles a Response."""
    self = cls.__new__(cls)
    RawResponse.__init__(self, status_code, **arguments)
    self._extra = state
    return self
