"""Names of the clients and where they live. Not its job: settings, they are in each module."""

from __future__ import annotations

from importlib import import_module

from .base import Client, Spec

CLIENTS: dict[str, tuple[str, str]] = {
    "llmcurl": ("llmcurl_client", "LlmcurlClient"),
    "native": ("native_client", "NativeClient"),
    "aiohttp": ("aiohttp_client", "AiohttpClient"),
    "pycurl": ("pycurl_client", "PycurlClient"),
    "pyreqwest": ("pyreqwest_client", "PyreqwestClient"),
    "curl_cffi": ("curl_cffi_client", "CurlCffiClient"),
    "httpx": ("httpx_client", "HttpxClient"),
    "httpx2": ("httpx_client", "Httpx2Client"),
    "httpx-aiohttp": ("httpx_client", "HttpxAiohttp"),
    "niquests": ("niquests_client", "NiquestsClient"),
    "httpx2-llmcurl": ("httpx_client", "Httpx2Llmcurl"),
    "llmcurl-chat": ("llmcurl_client", "LlmcurlChat"),
    "openai": ("openai_client", "OpenaiClient"),
    "openai-aiohttp": ("openai_client", "OpenaiAiohttp"),
    "openai-llmcurl": ("openai_client", "OpenaiLlmcurl"),
}


def make_client(spec: Spec) -> Client:
    module, name = CLIENTS[spec.client]
    client: Client = getattr(import_module(f"clients.{module}"), name)(spec)
    return client
