"""What the server receives: byte for byte what the package's own transport sends."""

from __future__ import annotations

import contextlib

import pytest

from .conftest import as_sent, facts

BIG = b"0123456789abcdef" * (2 << 16)  # 2 MB: libcurl alone would ask for 100-continue


async def chunks(*parts: bytes):
    for part in parts:
        yield part


def wire(seen) -> list[bytes]:
    return [as_sent(r.raw) + r.raw_body for r in seen.requests]


CASES = {
    "get": ("GET", "/echo", {}),
    "head": ("HEAD", "/ok", {}),
    "query": ("GET", "/echo?a=1&b=%20x&c=a+b&d=%2F", {}),
    "params": ("GET", "/echo", {"params": {"q": "a b/c?d&e", "ü": "☃"}}),
    "empty query": ("GET", "/echo?", {}),
    "fragment": ("GET", "/echo?a=1#fragment", {}),
    "dot segments": ("GET", "/echo", {"extensions": {"target": b"/echo/../b/./..//c/%2e%2e/d"}}),
    "escapes": ("GET", "/echo/%2F/%2e%2E/%41%zz", {}),
    "odd characters": ("GET", "/echo/[a]{b}|c^d`e\"f<g>h\\i?[a]{b}|c^d`e\"f<g>h\\i", {}),
    "unicode": ("GET", "/echo/ü☃?ü=☃", {}),
    "other extension": ("GET", "/echo", {"extensions": {"something": 1}}),
    "target": ("GET", "/echo", {"extensions": {"target": b"/echo?raw[%zz"}}),
    "json": ("POST", "/echo", {"json": {"a": [1, "ü"]}}),
    "form": ("POST", "/echo", {"data": {"a": "1", "b": "x y"}}),
    "no body": ("POST", "/echo", {}),
    "bytes": ("POST", "/echo", {"content": b"\x00\xffbytes"}),
    "text": ("PUT", "/echo", {"content": "text ü"}),
    "get with body": ("GET", "/echo", {"content": b"body"}),
    "delete with body": ("DELETE", "/echo", {"content": b"body"}),
    "patch": ("PATCH", "/echo", {"content": b"p"}),
    "options": ("OPTIONS", "/echo", {}),
    "own method": ("PROPFIND", "/echo", {"content": b"x"}),
    "lower method": ("get", "/echo", {}),
    "big": ("POST", "/sink", {"content": BIG}),
    "big put": ("PUT", "/sink", {"content": BIG}),
    "duplicates": ("GET", "/echo", {"headers": [("X-A", "1"), ("x-a", "2"), ("X-a", "3")]}),
    "empty header": ("GET", "/echo", {"headers": [("X-Empty", ""), ("X-B", "b")]}),
    "empty headers only": ("GET", "/echo", {"headers": [("User-Agent", ""), ("Accept", ""), ("X", ""), ("Content-Type", "")]}),
    "empty before chunks": ("POST", "/echo", {"content": b"abc", "headers": [("A", ""), ("Transfer-Encoding", "chunked"), ("B", "b")]}),
    "after chunks": ("POST", "/echo", {"content": b"abc", "headers": [("Transfer-Encoding", "chunked"), ("B", "b"), ("C", "")]}),
    "lower host": ("GET", "/echo", {"headers": {"host": "other.example"}}),
    "upgrade": ("GET", "/echo", {"headers": {"Connection": "upgrade", "Upgrade": "other/1"}}),
    "latin": ("GET", "/echo", {"headers": [(b"X-Latin", b"caf\xe9"), (b"X-High", bytes(range(128, 256)))]}),
    "casing": ("GET", "/echo", {"headers": {"x-LOWER-Upper": "V", "ACCEPT": "a/b", "user-agent": "me"}}),
    "inner blanks": ("GET", "/echo", {"headers": {"X": "a  \t b;c=\"d\""}}),
    "own host": ("GET", "/echo", {"headers": {"Host": "other.example"}}),
    "connection close": ("GET", "/echo", {"headers": {"Connection": "close"}}),
    "own type": ("POST", "/echo", {"content": b"x", "headers": {"content-type": "text/x"}}),
    "own length": ("POST", "/echo", {"content": b"xyz", "headers": {"content-length": "3"}}),
    "expect": ("POST", "/echo", {"content": b"xyz", "headers": {"Expect": "200-ok"}}),
    "te": ("GET", "/echo", {"headers": {"TE": "trailers"}}),
    "cookie": ("GET", "/echo", {"headers": {"Cookie": "a=b; c=d", "Authorization": "Bearer s"}}),
    "chunked bytes": ("POST", "/echo", {"content": b"abc", "headers": {"Transfer-Encoding": "chunked"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_the_server_receives_the_same(package, chaos, name):
    method, path, options = CASES[name]

    async def case(client):
        return facts(await client.request(method, chaos.url(path), **options))

    theirs, ours = await package.both(case, chaos)
    assert theirs.error is None, "the case itself is wrong"
    assert wire(ours) == wire(theirs)
    if isinstance(ours.result["content"], bytes) and "echo" not in path:
        assert ours.result == theirs.result


async def test_expect_is_not_waited_for(package, chaos):
    """libcurl would wait a second for the server's 100."""
    url, headers = chaos.url("/echo"), {"Expect": "100-continue"}

    async def case(client):
        for _ in range(5):  # a busy machine may be late
            with contextlib.suppress(package.module.TimeoutException):
                response = await client.post(url, content=b"abc", headers=headers, timeout=0.5)
                return response.content

    theirs, ours = await package.both(case, chaos)
    assert theirs.result is not None and ours.result is not None
    assert wire(ours)[0] == wire(theirs)[0]


@pytest.mark.parametrize(
    "headers",
    [
        [("Connection", "close"), ("Host", "h"), ("X-Empty", ""), ("X", "y")],
        [("X-Empty", ""), ("Host", "h")],
        [("Transfer-Encoding", "chunked"), ("Host", "h"), ("x-empty", "")],
    ],
)
async def test_any_header_may_come_first(package, chaos, headers):
    async def case(client):
        request = package.module.Request(
            "POST", chaos.url("/echo"), headers=headers, content=b"abc"
        )
        return facts(await client.send(request))

    theirs, ours = await package.both(case, chaos)
    assert theirs.error is None and ours.error is None
    # libcurl has its way with what comes before the first header that is not empty
    assert sorted(wire(ours)[0].replace(b": \r", b":\r").splitlines()) == sorted(
        wire(theirs)[0].replace(b": \r", b":\r").splitlines()
    )


@pytest.mark.parametrize("name", ["bare", "no accept", "none but host"])
async def test_no_header_is_added(package, chaos, name):
    headers = {"bare": [], "no accept": [("User-Agent", "x")], "none but host": [("Host", "h")]}[
        name
    ]

    async def case(client):
        request = package.module.Request(
            "POST", chaos.url("/echo"), headers=headers, content=b"abc"
        )
        return facts(await client.send(request))

    theirs, ours = await package.both(case, chaos)
    assert theirs.error is None and wire(ours) == wire(theirs)


class TestStreamedBodies:
    @pytest.mark.parametrize(
        "parts", [(), (b"",), (b"one",), (b"one", b"", b"two"), (b"x" * 100_000,) * 5]
    )
    async def test_chunked(self, package, chaos, parts):
        async def case(client):
            return facts(await client.post(chaos.url("/echo"), content=chunks(*parts)))

        theirs, ours = await package.both(case, chaos)
        assert theirs.error is None
        assert [as_sent(r.raw) for r in ours.requests] == [as_sent(r.raw) for r in theirs.requests]
        assert ours.requests[0].body == b"".join(parts)

    async def test_with_a_length(self, package, chaos):
        async def case(client):
            return facts(
                await client.post(
                    chaos.url("/echo"),
                    content=chunks(b"abc", b"de"),
                    headers={"Content-Length": "5"},
                )
            )

        theirs, ours = await package.both(case, chaos)
        assert theirs.error is None and wire(ours) == wire(theirs)

    @pytest.mark.parametrize("length", ["3", "9"])
    async def test_with_a_wrong_length(self, package, chaos, length):
        async def case(client):
            return await client.post(
                chaos.url("/ok"), content=chunks(b"abc", b"de"), headers={"Content-Length": length}
            )

        theirs, ours = await package.both(case, chaos)
        assert theirs.error == "h11._util.LocalProtocolError"  # theirs gets out
        assert ours.error == f"{package.name}.LocalProtocolError"

    async def test_an_answer_before_the_end_of_the_body(self, package, asgi):
        """That libcurl wants more of the body may come along with the answer's head; chance
        decides, on a new connection most of all."""
        for _ in range(100):
            async with package.client(package.ours(), timeout=20) as client:
                url = asgi.url("/bytes?n=13")  # does not look at the body
                answer = await client.post(url, content=chunks(b"Hello, ", b"world!"))
                assert answer.content == b"x" * 13

    async def test_multipart(self, package, chaos):
        async def case(client):
            files = {"file": ("name.txt", b"x" * 70_000, "text/plain")}
            headers = {"Content-Type": "multipart/form-data; boundary=abc"}
            return facts(
                await client.post(chaos.url("/echo"), files=files, data={"a": "1"}, headers=headers)
            )

        theirs, ours = await package.both(case, chaos)
        assert theirs.error is None and wire(ours) == wire(theirs)

    async def test_an_exception_of_the_iterator_passes(self, package, chaos):
        class Mine(Exception):
            pass

        async def body():
            yield b"abc"
            raise Mine

        async def case(client):
            with pytest.raises(Mine):
                await client.post(chaos.url("/stall?at=headers"), content=body())
            return (await client.get(chaos.url("/ok"))).status_code

        theirs, ours = await package.both(case, chaos)
        assert ours.result == theirs.result == 200


class TestRefused:
    @pytest.mark.parametrize(
        "headers",
        [
            [(b"a b", b"c")],
            [(b"", b"c")],
            [(b"a:b", b"c")],
            [(b"A", b"x\r\ny: z")],
            [(b"A", b" x")],
            [(b"A", b"x\x00")],
        ],
    )
    async def test_headers(self, package, chaos, headers):
        async def case(client):
            return await client.get(chaos.url("/ok"), headers=headers)

        theirs, ours = await package.both(case, chaos)
        assert ours.error == theirs.error == f"{package.name}.LocalProtocolError"
        assert ours.requests == [] and ours.error_request == theirs.error_request

    @pytest.mark.parametrize("method", ["GE T", "G\r\nX: y", "", "GÉT"])
    async def test_methods(self, package, chaos, method):
        async def case(client):
            request = client.build_request("GET", chaos.url("/ok"))
            request.method = method
            return await client.send(request)

        _, ours = await package.both(case, chaos)  # theirs says UnicodeEncodeError for the last one
        assert ours.error == f"{package.name}.LocalProtocolError" and ours.requests == []

    @pytest.mark.parametrize(
        "url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "//127.0.0.1/", "gopher://127.0.0.1/"]
    )
    async def test_schemes(self, package, url):
        async def case(client):
            return await client.get(url)

        theirs, ours = await package.both(case)
        assert ours.error == theirs.error == f"{package.name}.UnsupportedProtocol"
