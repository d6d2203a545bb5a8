"""No credential in reprs, errors, warnings, logs; none in what libcurl reports."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
import warnings

import llmcurl
import pytest
from llmcurl.llm import Anthropic, Gemini, Ollama, OpenAI
from servers.sockets import refused

SECRET = "hush-hush-4711"


def told(*things: object) -> str:
    return " ".join(
        f"{thing!r} {thing}"
        if not isinstance(thing, (llmcurl.URL, llmcurl.QueryParams))
        else repr(thing)
        for thing in things
    )


async def test_errors_of_every_phase(chaos, tls) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET, "Cookie": f"sid={SECRET}"}
    with refused() as nobody:
        places = [
            f"http://user:{SECRET}@{nobody}/?api_key={SECRET}",
            f"https://user:{SECRET}@{tls.good.authority}/ok?key={SECRET}",
            chaos.url(f"/rst?at=body&token={SECRET}"),
            chaos.url(f"/garbage?sort=binary&access_token={SECRET}"),
            chaos.url(f"/cut?after=0&sig={SECRET}"),
            chaos.url(f"/stall?password={SECRET}"),
            f"http://no-such-name.invalid/?client_secret={SECRET}",
            chaos.url(f"/redirect?key={SECRET}"),
        ]
        async with llmcurl.AsyncClient(
            headers=headers, timeout=llmcurl.Timeout(30, read=0.1), follow_redirects=True
        ) as client:
            for place in places:
                with pytest.raises(llmcurl.HTTPError) as caught:
                    await client.get(place)
                error = caught.value
                assert SECRET not in told(
                    error,
                    error.args,
                    error.request,
                    *(vars(error).get(name) for name in ("url", "details")),
                )
                assert SECRET not in "".join(traceback.format_exception_only(error))
                assert SECRET not in told(client)


async def test_status_errors(client, chaos) -> None:
    answer = await client.get(chaos.url(f"/ok?status=500&api_key={SECRET}"))
    with pytest.raises(llmcurl.HTTPStatusError) as caught:
        answer.raise_for_status()
    assert SECRET not in told(
        caught.value, caught.value.request, caught.value.response, answer.url, answer.url.params
    )


async def test_proxy_credentials(chaos) -> None:
    with refused() as nobody:
        proxy = f"http://user:{SECRET}@{nobody}"
        made = llmcurl.Proxy(proxy)
        async with llmcurl.AsyncClient(proxy=proxy) as client:
            with pytest.raises(llmcurl.TransportError) as caught:
                await client.get(chaos.url("/ok"))
            assert SECRET not in told(
                caught.value,
                made,
                client,
                client._settings,
                llmcurl.BasicAuth("u", SECRET),
                llmcurl.BearerAuth(SECRET),
            )
    with pytest.raises(ValueError) as bad:
        llmcurl.Proxy(f"gopher://user:{SECRET}@host")
    assert SECRET not in told(bad.value)


async def test_arguments_that_are_refused(client) -> None:
    for place in (
        f"http://user:{SECRET}@[bad/",
        f"ftp://user:{SECRET}@host/?key={SECRET}",
        f"http://user:{SECRET}@host:99999/",
        f"//u:{SECRET}@h/",
    ):
        with pytest.raises((llmcurl.InvalidURL, llmcurl.UnsupportedProtocol)) as caught:
            await client.get(place)
        assert SECRET not in told(caught.value)
    with pytest.raises(llmcurl.InvalidHeader) as header:
        await client.get("http://h/", headers={"Authorization": f"{SECRET}\r\n"})
    assert SECRET not in told(header.value)


async def test_calls_and_warnings(chaos) -> None:
    async with llmcurl.AsyncClient() as client:
        call = client.get(chaos.url(f"/ok?api_key={SECRET}"))
        assert SECRET not in told(call)
        await call
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client.get(chaos.url(f"/stall?api_key={SECRET}"))
            gc.collect()
        assert (
            len(caught) == 1
            and "never awaited" in str(caught[0].message)
            and SECRET not in str(caught[0].message)
        )


async def test_an_error_that_nobody_looked_at(chaos) -> None:
    contexts: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    with refused() as nobody:
        async with llmcurl.AsyncClient() as client:
            call = client.get(f"http://user:{SECRET}@{nobody}/?key={SECRET}")
            await asyncio.wait([call])
            del call
            gc.collect()
    assert SECRET not in str(
        [
            (context["message"], repr(context["exception"]), repr(context["future"]))
            for context in contexts
        ]
    )
    assert contexts.pop()["message"] == "Call exception was never retrieved"


async def test_nothing_is_logged(chaos, caplog) -> None:
    with caplog.at_level(logging.DEBUG):
        async with llmcurl.AsyncClient(headers={"Authorization": SECRET}) as client:
            await client.get(chaos.url(f"/ok?key={SECRET}"))
            with pytest.raises(llmcurl.TransportError):
                await client.get(chaos.url(f"/rst?key={SECRET}"))
    assert SECRET not in caplog.text


async def test_a_private_key_and_its_password(tls, authority) -> None:
    cert, key = map(str, authority.client)
    client = llmcurl.AsyncClient(cert=(cert, key, SECRET), verify=str(authority.ca_file))
    assert SECRET not in told(client, client._settings)
    await client.aclose()


@pytest.mark.parametrize("provider", [OpenAI, Anthropic, Gemini])
async def test_providers(provider, chaos) -> None:
    async with provider(api_key=SECRET, base_url=chaos.origin) as llm:
        assert SECRET not in told(llm)
        with pytest.raises(
            Exception
        ) as caught:  # there is no such script: a 404 that is no JSON of theirs
            await llm.chat("hello", model="m")
        assert SECRET not in told(caught.value) + "".join(
            traceback.format_exception_only(caught.value)
        )


async def test_a_provider_without_a_key_sends_none(chaos) -> None:
    async with Ollama(base_url=chaos.origin) as llm:
        with pytest.raises(llmcurl.HTTPError):
            await llm.chat("hello", model="m")
    assert all(seen.header("Authorization") is None for seen in chaos.requests())


async def test_the_url_of_an_answer_has_no_credentials_of_the_redirect(client, chaos) -> None:
    target = chaos.url("/ok").replace("//", f"//user:{SECRET}@")
    answer = await client.get(chaos.url(f"/redirect?to={target}"), follow_redirects=True)
    assert SECRET not in told(answer, answer.url, answer.request, answer.history)
