"""What the chaos server does with a request: one function per first path segment, arguments in the query.

Job: the bytes. Not its job: connections, counters (chaos.py). Each function's docstring is its manual.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import zlib

from servers.chaos import Connection, Seen

SCRIPTS = {}

# "hello world " * 100, compressed once by the reference tools: the tests need no brotli or zstd package
BROTLI = base64.b64decode("G68E+I2Ubt5EVYaWIGxvNYtjtUAGVNsLAA==")
ZSTD = base64.b64decode("KLUv/WCwA50AAGBoZWxsbyB3b3JsZCABAKH8L0k=")
PLAIN = b"hello world " * 100


def script(name: str):
    def register(function):
        SCRIPTS[name] = function
        return function

    return register


def answer(
    body: bytes = b'{"ok":true}', *headers: str, status: str = "200 OK", length: int | None = None
) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


async def unknown(c: Connection, r: Seen) -> None:
    await c.read_body()
    await c.send(answer(b'{"error":"no such script"}', status="404 Not Found"))


# -- well-behaved -----------------------------------------------------------------------------------------------------


@script("ok")
async def ok(c: Connection, r: Seen) -> None:
    """A small JSON answer, keep-alive; ?status= its status, ?ms= latency, ?upto= not before so many requests for /ok came."""
    await c.read_body()
    while c.server.tally["/ok"] < r.number("upto"):
        await pause(c, 0.005)
    if "ms" in r.query:
        await pause(c, r.number("ms") / 1000)
    head = answer(status=f"{r.query.get('status', '200')} Whatever")
    await c.send(head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if r.method == "HEAD" else head)


async def pause(c: Connection, seconds: float) -> None:
    """Sleep, but notice a client that leaves meanwhile (nothing else may arrive: no pipelining)."""
    try:
        data = await asyncio.wait_for(c.reader.read(1), seconds)
    except TimeoutError:
        return
    except ConnectionError:
        data = b""
    if not data:
        c.lost()
    raise AssertionError("the client sent bytes after its request")


@script("echo")
async def echo(c: Connection, r: Seen) -> None:
    """The raw bytes of the request, as received, framing included."""
    await c.read_body()
    await c.send(answer(r.raw + r.raw_body))


@script("json")
async def echo_json(c: Connection, r: Seen) -> None:
    """What was understood of the request, as JSON."""
    body = await c.read_body()
    facts = {
        "method": r.method,
        "target": r.target,
        "headers": r.headers,
        "body": body.decode("latin-1"),
        "connection": c.number,
    }
    await c.send(answer(json.dumps(facts).encode()))


@script("bytes")
async def some_bytes(c: Connection, r: Seen) -> None:
    """?n= bytes with Content-Length."""
    await c.send(answer(b"", length=int(r.number("n", 1000))))
    left = int(r.number("n", 1000))
    while left:
        piece = min(left, 1 << 16)
        await c.send(b"x" * piece)
        left -= piece


@script("drip")
async def drip(c: Connection, r: Seen) -> None:
    """?n= chunks of ?size= bytes, ?ms= apart."""
    await c.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    data = b"x" * int(r.number("size", 10))
    for _ in range(int(r.number("n", 10))):
        await c.send(b"%x\r\n%s\r\n" % (len(data), data))
        await pause(c, r.number("ms", 10) / 1000)
    await c.send(b"0\r\n\r\n")


@script("lines")
async def lines(c: Connection, r: Seen) -> None:
    """Text whose line ends and UTF-8 sequences are cut over writes; ?size= of a write."""
    text = "first\r\nsécond ☃\n\nlong " + "ü" * 3000 + "\rlast without end"
    await c.send(
        answer(b"", "X-Sort: lines", length=len(text.encode())).replace(
            b"application/json", b"text/plain; charset=utf-8"
        )
    )
    await c.send_slowly(text.encode(), int(r.number("size", 7)))


@script("redirect")
async def redirect(c: Connection, r: Seen) -> None:
    """?to= (default: itself, for ever), ?status=."""
    await c.read_body()
    await c.send(
        answer(
            b"",
            f"Location: {r.query.get('to', r.target)}",
            status=f"{r.query.get('status', '302')} Found",
        )
    )


@script("set-cookie")
async def set_cookie(c: Connection, r: Seen) -> None:
    """Sets every argument of the query as a cookie."""
    cookies = [f"Set-Cookie: {name}={value}; Path=/" for name, value in r.query.items()]
    await c.send(answer(b"{}", *cookies))


@script("encoded")
async def encoded(c: Connection, r: Seen) -> None:
    """?as=gzip|deflate|br|zstd of PLAIN; ?bad=1 spoils it, ?cut=1 ends it early, ?slow=1 sends it byte by byte."""
    name = r.query["as"]
    raw = {
        "gzip": lambda: gzip.compress(PLAIN, mtime=0),  # the same bytes at any time
        "deflate": lambda: zlib.compress(PLAIN),
        "br": lambda: BROTLI,
        "zstd": lambda: ZSTD,
    }
    body = raw[name]()
    if "bad" in r.query:
        body = b"\xff" * 20
    if "cut" in r.query:
        body = body[: len(body) // 2]
    data = answer(body, f"Content-Encoding: {name}")
    await (c.send_slowly(data) if "slow" in r.query else c.send(data))


@script("duplicate")
async def duplicate(c: Connection, r: Seen) -> None:
    """Headers that come twice, one empty, one in latin-1, one with much space, one odd case."""
    extra = [
        "X-Twice: one",
        "X-Twice: two",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "X-Empty:",
        "X-Latin: caf\xe9",
        "X-Space:   much   ",
    ]
    await c.send(answer(b"{}", *extra, "x-oDD-cAse: yes"))


@script("close")
async def close(c: Connection, r: Seen) -> None:
    """A good answer with Connection: close."""
    await c.read_body()
    await c.send(answer(b'{"ok":true}', "Connection: close"))
    c.close()


@script("http10")
async def http10(c: Connection, r: Seen) -> None:
    """HTTP/1.0, the body ends with the connection."""
    await c.send(b"HTTP/1.0 200 Fine\r\nContent-Type: text/plain\r\n\r\nuntil the end")
    c.close()


@script("basic")
async def basic(c: Connection, r: Seen) -> None:
    """401 unless user:s3cret."""
    await c.read_body()
    if r.header("Authorization") == "Basic " + base64.b64encode(b"user:s3cret").decode():
        await c.send(answer())
    else:
        await c.send(answer(b"{}", 'WWW-Authenticate: Basic realm="x"', status="401 Unauthorized"))


# -- time -------------------------------------------------------------------------------------------------------------


@script("stall")
async def stall(c: Connection, r: Seen) -> None:
    """Silence until the client leaves: ?at=request (nothing sent), line, head (in the middle), headers (after them), body."""
    at = r.query.get("at", "request")
    if at == "upload":
        return await c.wait_gone_deaf()
    await c.read_body()
    head = answer(b"", length=1000)
    parts = {
        "request": b"",
        "line": head[:9],
        "head": head[:30],
        "headers": head,
        "body": head + b"x" * 500,
    }
    await c.send(parts[at])
    await c.wait_gone()


@script("byte-by-byte")
async def byte_by_byte(c: Connection, r: Seen) -> None:
    """A complete chunked answer with 100 and a trailer, one byte per segment."""
    await c.read_body()
    data = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    await c.send_slowly(data + b"5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nX-Trailer: t\r\n\r\n")


@script("slow-head")
async def slow_head(c: Connection, r: Seen) -> None:
    """A head that takes ?ms= for each byte."""
    await c.read_body()
    await c.send_slowly(answer(b"{}"), pause=r.number("ms") / 1000)


@script("sink")
async def sink(c: Connection, r: Seen) -> None:
    """Reads the body at ?rate= bytes per 10 ms (?slow= only so many bytes of it) and answers with its length; nothing is kept."""
    total, rate = 0, int(r.number("rate", 0))
    slow = r.number("slow", float("inf"))
    chunked = (r.header("Transfer-Encoding") or "").lower() == "chunked"
    length = int(r.header("Content-Length") or 0)
    while chunked or total < length:
        if chunked:
            size = int((await c.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                await c.reader.readuntil(b"\r\n")
                break
            await c.reader.readexactly(size + 2)
        else:
            size = len(await c.reader.read(rate if rate and total < slow else 1 << 18))
            if size == 0:
                c.lost()
        total += size
        if rate and total < slow:
            await asyncio.sleep(0.01)
    await c.send(answer(str(total).encode()))


# -- the connection ends ----------------------------------------------------------------------------------------------


@script("cut")
async def cut(c: Connection, r: Seen) -> None:
    """FIN after ?after= bytes of the whole answer (0: an empty reply), or after ?body= bytes of the body; ?chunked=1."""
    await c.read_body()
    body = b"y" * 1000
    if "chunked" in r.query:
        head, body = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"3e8\r\n" + body + b"\r\n0\r\n\r\n",
        )
    else:
        head = answer(b"", length=len(body))
    await c.send(
        head + body[: int(r.number("body"))]
        if "body" in r.query
        else (head + body)[: int(r.number("after"))]
    )
    c.close()


@script("no-notify")
async def no_notify(c: Connection, r: Seen) -> None:
    """Over TLS: the connection ends without close_notify, after 500 bytes; ?length= the promised length, none by default."""
    length = f"Content-Length: {r.query['length']}\r\n" if "length" in r.query else ""
    await c.send(f"HTTP/1.1 200 OK\r\nConnection: close\r\n{length}\r\n".encode() + b"x" * 500)
    c.keep = False
    c.writer.transport.abort()


@script("rst")
async def rst(c: Connection, r: Seen) -> None:
    """RST: ?at=request (the request was read, nothing sent), head, body."""
    await c.read_body()
    at = r.query.get("at", "request")
    head = answer(b"", length=1000)
    sent = {"request": b"", "head": head[:30], "body": head + b"x" * 500}[at]
    await c.send(sent)
    if sent:
        await c.wait_read()  # RST overtakes unread data
    c.reset()


@script("half-close")
async def half_close(c: Connection, r: Seen) -> None:
    """A body ended by FIN only; the other direction stays open until the client closes."""
    await c.read_body()
    await c.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nhalf closed"
    )
    c.half_close()
    await c.wait_gone()


@script("early")
async def early(c: Connection, r: Seen) -> None:
    """Answers ?status= after ?after= bytes of the body; then ?then=drain (reads the rest), close, rst, stall (reads nothing)."""
    await c.read_body(int(r.number("after", 1)))
    then = r.query.get("then", "drain")
    await c.send(
        answer(
            b'{"early":true}',
            *(["Connection: close"] if then in ("close", "rst") else []),
            status=f"{r.query.get('status', '413')} Early",
        )
    )
    if then == "drain":
        await c.read_body()
    elif then == "close":
        c.half_close()
        await c.wait_gone()
    elif then == "rst":
        await c.wait_read()
        c.reset()
    else:
        await c.wait_gone_deaf()


# -- keep-alive that ends badly ---------------------------------------------------------------------------------------


@script("then")
async def then(c: Connection, r: Seen) -> None:
    """A good keep-alive answer and then, ?do=

    idle-fin, idle-rst, idle-408 (an unasked 408 and FIN), idle-408-open (an unasked 408, the connection stays open): at once;
    next-fin, next-rst: reads the whole next request (it counts as seen) and closes without a byte;
    next-half: reads the next request, sends half a status line and closes; next-stall: reads it and stays silent.
    """
    await c.read_body()
    await c.send(answer())
    do = r.query["do"]
    if do == "idle-fin":
        c.close()
    elif do == "idle-rst":
        await c.wait_read()
        c.reset()
    elif do.startswith("idle-408"):
        await c.wait_read()
        await c.send(answer(b"{}", "Connection: close", status="408 Request Timeout"))
        if do == "idle-408":
            c.close()
        else:
            await c.wait_gone()
    elif do.startswith("next-"):
        c.next = _next(do.removeprefix("next-"))


def _next(how: str):
    async def serve(c: Connection, r: Seen) -> None:
        await c.read_body()
        if how == "half":
            await c.send(b"HTTP/1.1 20")
        if how == "stall":
            await c.wait_gone()
        if how == "rst":
            c.reset()
        else:
            c.close()

    return serve


# -- unusual but legal ------------------------------------------------------------------------------------------------


@script("info")
async def informational(c: Connection, r: Seen) -> None:
    """?n= answers with status ?code= before the final one."""
    await c.read_body()
    code = r.query.get("code", "103")
    await c.send(
        f"HTTP/1.1 {code} Wait\r\nX-Info: early\r\n\r\n".encode() * int(r.number("n", 1)) + answer()
    )


@script("no-body")
async def no_body(c: Connection, r: Seen) -> None:
    """?status=204|304 (or HEAD on anything) with Content-Length ?length= and no body, keep-alive."""
    await c.send(
        answer(
            b"",
            status=f"{r.query.get('status', '204')} Empty",
            length=int(r.number("length", 1000)),
        )
    )


@script("trailers")
async def trailers(c: Connection, r: Seen) -> None:
    await c.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n"
    )


@script("headers")
async def big_headers(c: Connection, r: Seen) -> None:
    """?bytes= of headers in lines of ?each=."""
    total, each = int(r.number("bytes", 95000)), int(r.number("each", 1000))
    extra = [f"X-{i:05d}: " + "v" * (each - 11) for i in range(total // each)]
    await c.send(answer(b"{}", *extra))


# -- illegal ----------------------------------------------------------------------------------------------------------


@script("chunks")
async def bad_chunks(c: Connection, r: Seen) -> None:
    """Chunked framing, spoilt: ?bad=size|negative|huge|crlf|none."""
    bad = {
        "none": b"5\r\nhello\r\n0\r\n\r\n",
        "size": b"5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n",
        "negative": b"-5\r\nhello\r\n0\r\n\r\n",
        "huge": b"fffffffffffffffff\r\nhello\r\n",
        "crlf": b"5\r\nhelloXX5\r\nworld\r\n0\r\n\r\n",
    }[r.query["bad"]]
    await c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + bad)
    await c.wait_gone()


@script("garbage")
async def garbage(c: Connection, r: Seen) -> None:
    """Not HTTP: ?sort=binary|http09|ssh|version|code|negative|binary-header|length."""
    body = b"Content-Length: 2\r\n\r\n{}"
    await c.send(
        {
            "binary": bytes(range(256)) * 4,
            "http09": b"<html>just a page, no status line</html>\n",
            "ssh": b"SSH-2.0-OpenSSH_9.2p1\r\n",
            "version": b"HTTP/7.3 200 OK\r\n" + body,
            "code": b"HTTP/1.1 abc OK\r\n" + body,
            "length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
            "negative": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
            "lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}",
        }[r.query["sort"]]
    )
    if "close" in r.query:
        c.close()
    else:
        c.half_close()
        await c.wait_gone()


@script("step")
async def step(c: Connection, r: Seen) -> None:
    """?n= lines; each but the first waits until as many requests for /ok came as lines went before it."""
    await c.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for number in range(int(r.number("n", 3))):
        while c.server.tally["/ok"] < number:
            await pause(c, 0.005)
        line = b"%d\n" % number
        await c.send(b"%x\r\n%s\r\n" % (len(line), line))
    await c.send(b"0\r\n\r\n")
