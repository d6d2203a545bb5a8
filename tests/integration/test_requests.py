"""What is sent: methods, targets, headers, bodies - looked at as raw bytes where the server received them."""

from __future__ import annotations

import json

import llmcurl
import pytest
from servers.chaos import Chaos


async def raw(client, method: str, url: str, **options) -> tuple[str, dict[str, str], bytes]:
    """(request line, headers with the case they came in, body as received) of one request to /echo."""
    response = await client.request(method, url, **options)
    head, _, body = response.content.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    return (
        lines[0],
        dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines[1:]),
        body,
    )


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "head", "options"])
async def test_each_method_has_its_function_and_arrives_as_itself(
    client, chaos: Chaos, method: str
) -> None:
    response = await getattr(client, method)(chaos.url("/ok"))
    assert response.status_code == 200
    assert response.content == (b"" if method == "head" else b'{"ok":true}')
    assert [seen.method for seen in chaos.requests()] == [method.upper()]


async def test_request_sends_any_method_and_the_response_knows_its_request(
    client, chaos: Chaos
) -> None:
    response = await client.request("PROPFIND", chaos.url("/ok"))
    assert chaos.requests()[0].method == "PROPFIND"
    assert response.request.method == "PROPFIND"
    assert str(response.url) == str(response.request.url) == chaos.url("/ok")


async def test_params_are_added_to_the_query_and_those_of_the_client_come_first(
    chaos: Chaos,
) -> None:
    async with llmcurl.AsyncClient(params={"key": "a b"}) as client:
        await client.get(
            chaos.url("/ok"), params={"n": 1, "flag": True, "list": ["x", "y"], "none": None}
        )
    assert chaos.requests()[0].target == "/ok?key=a+b&n=1&flag=true&list=x&list=y&none="


@pytest.mark.parametrize(
    "target", ["/ok?a=%2F%20x", "/ok/a%2Fb", "/ok?q=caf%C3%A9", "/ok?", "/ok?x=1&x=2;y"]
)
async def test_a_target_that_is_already_escaped_goes_out_verbatim(
    client, chaos: Chaos, target: str
) -> None:
    await client.get(chaos.url(target))
    assert chaos.requests()[0].target == target


async def test_a_fragment_is_not_sent(client, chaos: Chaos) -> None:
    await client.get(chaos.url("/ok?x=1#part"))
    assert chaos.requests()[0].target == "/ok?x=1"


async def test_text_outside_ascii_in_path_and_query_is_escaped_as_utf8(
    client, chaos: Chaos
) -> None:
    await client.get(chaos.url("/ok/ä b"), params={"q": "é"})
    assert chaos.requests()[0].target == "/ok/%C3%A4%20b?q=%C3%A9"


@pytest.mark.parametrize(
    ("base", "url", "path"),
    [("", "/ok", "/ok"), ("/ok", "x", "/ok/x"), ("/ok/", "/x", "/ok/x"), ("/ok", "", "/ok/")],
)
async def test_base_url_is_joined_as_in_httpx(chaos: Chaos, base: str, url: str, path: str) -> None:
    async with llmcurl.AsyncClient(base_url=chaos.origin + base) as client:
        await client.get(url)
        await client.get(chaos.url("/ok?absolute=1"))
    assert chaos.requests()[0].path == path
    assert chaos.requests()[1].target == "/ok?absolute=1"


async def test_default_headers_are_few_and_no_expect_header_is_added_to_a_large_post(
    client, chaos: Chaos
) -> None:
    line, headers, body = await raw(client, "POST", chaos.url("/echo"), content=b"x" * 3_000_000)
    assert line == "POST /echo HTTP/1.1"
    assert {name.lower() for name in headers} <= {
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "user-agent",
        "content-length",
    }
    assert headers["Host"] == chaos.authority
    assert headers["Content-Length"] == "3000000"
    assert len(body) == 3_000_000


async def test_accept_encoding_names_only_what_can_be_decoded(client, chaos: Chaos) -> None:
    _, headers, _ = await raw(client, "GET", chaos.url("/echo"))
    offered = {
        name.strip()
        for name in {k.lower(): v for k, v in headers.items()}["accept-encoding"].split(",")
    }
    assert {"gzip", "br", "zstd"} <= offered <= {"gzip", "deflate", "br", "zstd"}


async def test_headers_of_the_call_override_those_of_the_client_without_regard_to_case(
    chaos: Chaos,
) -> None:
    async with llmcurl.AsyncClient(
        headers={"X-One": "client", "X-Two": "client", "User-Agent": "mine"}
    ) as client:
        await client.get(chaos.url("/ok"), headers={"x-one": "call"})
    seen = chaos.requests()[0]
    assert seen.header_list("x-one") == ["call"]
    assert seen.header_list("x-two") == ["client"]
    assert seen.header_list("user-agent") == ["mine"]


@pytest.mark.parametrize(
    "sent",
    [
        [("X-b", "1"), ("x-A", "2"), ("X-b", "3"), ("X-Empty", "")],
        [("X-Empty", ""), ("X-b", "1")],
        [("X-b", "1"), ("X-Empty", "")],
        [("X-Empty", ""), *((f"X-{n}", "y") for n in range(9)), ("x-none", ""), ("X-b", "3")],
    ],
)
async def test_header_case_order_duplicates_and_empty_values_reach_the_server(
    client, chaos: Chaos, sent
) -> None:
    await client.get(chaos.url("/ok"), headers=sent)
    got = [
        (name, value)
        for name, value in chaos.requests()[0].headers
        if name.lower().startswith("x-")
    ]
    assert got == sent


async def test_header_values_go_out_as_latin1_or_utf8_bytes(client, chaos: Chaos) -> None:
    await client.get(chaos.url("/ok"), headers=[(b"X-Latin", b"caf\xe9"), (b"X-Utf", "é".encode())])
    raw_head = chaos.requests()[0].raw
    assert b"X-Latin: caf\xe9\r\n" in raw_head and b"X-Utf: \xc3\xa9\r\n" in raw_head


@pytest.mark.parametrize("more", [0, 9])
async def test_no_header_is_sent_that_was_not_asked_for(chaos: Chaos, more) -> None:
    """libcurl's own Accept, Content-Type and Expect, with few headers and with many."""
    headers = {"Accept": "a/b", "Content-Type": "x/y"} | {f"X-{n}": "v" for n in range(more)}
    async with llmcurl.AsyncClient(headers=headers) as client:
        await client.post(chaos.url("/echo"), content=b"x" * 2_000_000)
        await client.post(chaos.url("/echo"), content=b"x", headers={"Content-Type": ""})
    for request, kind in zip(chaos.requests(), ("x/y", ""), strict=True):
        assert request.header_list("accept") == ["a/b"]
        assert request.header_list("content-type") == [kind]
        assert len(request.headers) == len({name.lower() for name, _ in request.headers})
        assert request.header("expect") is None


async def test_the_host_header_can_be_replaced(client, chaos: Chaos) -> None:
    await client.get(chaos.url("/ok"), headers={"Host": "other.example"})
    assert chaos.requests()[0].header_list("host") == ["other.example"]


# -- bodies ------------------------------------------------------------------------------------------------------------


async def test_json_is_sent_compact_and_typed(client, chaos: Chaos) -> None:
    _, headers, body = await raw(
        client, "POST", chaos.url("/echo"), json={"text": "ü", "list": [1, 2.5, None, True]}
    )
    assert json.loads(body) == {"text": "ü", "list": [1, 2.5, None, True]}
    assert b": " not in body and b", " not in body
    assert headers["Content-Type"] == "application/json"
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("value", [0, False, "", [], {}])
async def test_json_values_that_are_false_are_sent(client, chaos: Chaos, value: object) -> None:
    _, _, body = await raw(client, "POST", chaos.url("/echo"), json=value)
    assert json.loads(body) == value


async def test_bytes_and_text_go_out_as_they_are(client, chaos: Chaos) -> None:
    blob = bytes(range(256)) * 100
    assert (await raw(client, "POST", chaos.url("/echo"), content=blob))[2] == blob
    assert (await raw(client, "POST", chaos.url("/echo"), content="ü€"))[2] == "ü€".encode()


async def test_a_form_is_urlencoded(client, chaos: Chaos) -> None:
    _, headers, body = await raw(
        client, "POST", chaos.url("/echo"), data={"a": "1 2", "b": ["x", "é"]}
    )
    assert body == b"a=1+2&b=x&b=%C3%A9"
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"


async def test_a_body_may_be_sent_with_get_and_delete(client, chaos: Chaos) -> None:
    for method in ("GET", "DELETE"):
        line, headers, body = await raw(client, method, chaos.url("/echo"), content=b"why not")
        assert line.startswith(method) and body == b"why not" and headers["Content-Length"] == "7"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_an_empty_body_says_content_length_zero(client, chaos: Chaos, method: str) -> None:
    _, headers, body = await raw(client, method, chaos.url("/echo"))
    assert headers["Content-Length"] == "0" and body == b""


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
async def test_no_body_says_nothing_about_it(client, chaos: Chaos, method: str) -> None:
    await client.request(method, chaos.url("/ok"))
    assert chaos.requests()[0].header("Content-Length") is None
    assert chaos.requests()[0].header("Transfer-Encoding") is None


async def test_a_sync_iterator_is_sent_chunked(client, chaos: Chaos) -> None:
    _, headers, body = await raw(
        client, "POST", chaos.url("/echo"), content=iter([b"one", b"", b"two", b"x" * 100_000])
    )
    assert headers["Transfer-Encoding"] == "chunked" and "Content-Length" not in headers
    assert chaos.requests()[0].body == b"onetwo" + b"x" * 100_000
    assert body.endswith(b"\r\n0\r\n\r\n")


async def test_an_async_iterator_is_sent_chunked_or_with_the_length_that_the_caller_gives(
    client, chaos: Chaos
) -> None:
    async def parts():
        for i in range(5):
            yield b"%d" % i * 1000

    await client.post(chaos.url("/echo"), content=parts())
    await client.post(chaos.url("/echo"), content=parts(), headers={"Content-Length": "5000"})
    first, second = chaos.requests()
    assert first.body == second.body == b"".join(b"%d" % i * 1000 for i in range(5))
    assert first.header("Transfer-Encoding") == "chunked"
    assert second.header("Transfer-Encoding") is None and second.header_list("Content-Length") == [
        "5000"
    ]


async def test_files_are_sent_as_multipart_with_a_length(client, chaos: Chaos, tmp_path) -> None:
    path = tmp_path / "päper.txt"
    path.write_bytes(b"from disk" * 1000)
    with open(path, "rb") as file:
        _, headers, body = await raw(
            client,
            "POST",
            chaos.url("/echo"),
            data={"purpose": "batch"},
            files={"file": file, "other": ("o.json", b"{}", "application/json")},
        )
    boundary = headers["Content-Type"].partition("multipart/form-data; boundary=")[2].encode()
    assert (
        boundary
        and body.count(b"--" + boundary) == 4
        and body.rstrip().endswith(b"--" + boundary + b"--")
    )
    assert int(headers["Content-Length"]) == len(body)
    assert b'name="purpose"\r\n\r\nbatch' in body
    assert b"from disk" * 1000 in body
    assert b'name="other"; filename="o.json"\r\nContent-Type: application/json\r\n\r\n{}' in body


async def test_an_error_of_the_callers_own_body_iterator_passes_unchanged(
    client, chaos: Chaos
) -> None:
    class Mine(Exception):
        pass

    async def parts():
        yield b"some"
        raise Mine("from the generator")

    with pytest.raises(Mine, match="from the generator"):
        await client.post(chaos.url("/echo"), content=parts())
    await chaos.wait_closed()
    assert (await client.get(chaos.url("/ok"))).status_code == 200


async def test_a_request_can_be_built_first_and_sent_later(client, chaos: Chaos) -> None:
    request = client.build_request("POST", chaos.url("/json"), json={"a": 1}, headers={"X-A": "b"})
    response = await client.send(request)
    assert response.json()["method"] == "POST" and response.request is request
    assert response.json()["body"] == '{"a":1}'
