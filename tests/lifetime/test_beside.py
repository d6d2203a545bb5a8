"""Other users of OpenSSL and libcurl in the same process: whose symbols are whose."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import asyncio, io, ssl, sys, urllib.request
    url, ca, *order = sys.argv[1:]

    def by_pycurl():
        import pycurl
        out = io.BytesIO()
        easy = pycurl.Curl()
        for option, value in ((pycurl.URL, url), (pycurl.CAINFO, ca), (pycurl.WRITEDATA, out), (pycurl.PROXY, "")):
            easy.setopt(option, value)
        easy.perform()
        easy.close()
        return out.getvalue(), pycurl.version.split()[0]

    def by_ssl():
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)))
        return opener.open(url).read(), ssl.OPENSSL_VERSION

    def by_llmcurl():
        import llmcurl
        async def get():
            async with llmcurl.AsyncClient(verify=ca, http2=True, trust_env=False) as client:
                response = await client.get(url)
                assert response.http_version == "HTTP/2"
                return response.content
        info = llmcurl._native.curl_info()
        return asyncio.run(get()), info["version"] + " " + info["ssl_version"]

    answers = [globals()["by_" + name]() for name in order * 3]
    assert len({body for body, _ in answers}) == 1, answers
    for name in order:
        said = {words for (_, words), which in zip(answers, order * 3) if which == name}
        assert len(said) == 1, said
        print(name, *said)
"""


@pytest.mark.no_asan
@pytest.mark.parametrize(
    "order", list(itertools.permutations(["ssl", "pycurl", "llmcurl"])), ids="-".join
)
def test_pycurl_and_ssl_work_in_the_same_process_whoever_comes_first(
    nginx, authority, order
) -> None:
    pytest.importorskip("pycurl", exc_type=ImportError)
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-c",
        textwrap.dedent(SCRIPT),
        f"{nginx.https2}/json",
        str(authority.ca_file),
        *order,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
