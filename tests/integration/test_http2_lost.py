"""HTTP/2: a request whose stream or connection ends before an answer. It is sent again when the server says that it
did not take it (RFC 9113 6.8 and 8.7) or when its method allows that; else it is an error, and was sent once."""

from __future__ import annotations

import ssl

import llmcurl
import pytest
from servers.http2 import TELLS_GOAWAY, Fateful


@pytest.fixture
def second_call(authority):
    """What a client's second request comes to, and on which connections the server saw it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, authority.good))
    context.set_alpn_protocols(["h2"])
    verify = str(authority.ca_file)

    async def call(fate: str, method: str) -> tuple[object, list[int]]:
        with Fateful(fate, tls=context) as server:
            async with llmcurl.AsyncClient(http2=True, verify=verify, timeout=30) as client:
                assert (await client.get(server.url("/first"))).text == "/first"
                body = b"x" * 100 if method == "POST" else None
                try:
                    end = (await client.request(method, server.url("/second"), content=body)).text
                except llmcurl.RequestError as error:
                    end = error
                # the client is as good as new
                assert (await client.get(server.url("/third"))).text == "/third"
            return end, server.connections_of("/second")

    return call


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fate", ["goaway", "goaway-open", "refused"])
async def test_what_the_server_did_not_take_is_sent_again(
    second_call, fate: str, method: str
) -> None:
    end, seen = await second_call(fate, method)
    if method == "POST" and fate != "refused" and not TELLS_GOAWAY:
        assert isinstance(end, llmcurl.RemoteProtocolError) and seen == [1]
    else:
        assert (end, seen) == ("/second", [1, 2])


@pytest.mark.parametrize("fate", ["taken", "fin", "reset", "bad-record"])
async def test_what_the_server_may_have_taken_is_sent_again_only_if_idempotent(
    second_call, fate: str
) -> None:
    assert await second_call(fate, "GET") == ("/second", [1, 2])
    end, seen = await second_call(fate, "POST")
    assert isinstance(end, llmcurl.TransportError) and seen == [1]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stream_that_failed_is_not_sent_again(second_call, method: str) -> None:
    end, seen = await second_call("internal", method)
    assert isinstance(end, llmcurl.RemoteProtocolError) and seen == [1]
