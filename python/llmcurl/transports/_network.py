"""``extensions["network_stream"]``: what is known of the connection of an answer."""

from __future__ import annotations

from typing import Any

__all__ = ["NetworkStream"]


class TlsObject:
    """The part of ssl.SSLObject that is known of libcurl's connection."""

    __slots__ = ("_cipher", "_version", "_http_version")

    #: as of ssl.SSLObject
    server_side = False

    def __init__(self, version: str, cipher: str, http_version: str) -> None:
        self._version = version
        self._cipher = cipher
        self._http_version = http_version

    def version(self) -> str:
        """As "TLSv1.3"."""
        return self._version

    def cipher(self) -> tuple[str, str, None]:
        """OpenSSL's name, the protocol's version; the number of secret bits is not known."""
        return self._cipher, self._version, None

    def selected_alpn_protocol(self) -> str:
        return "h2" if self._http_version == "HTTP/2" else "http/1.1"


class NetworkStream:
    """The socket is libcurl's: it can be described, but neither read nor written."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Any) -> None:
        self._answer = answer  # the native answer, None before there is one

    def get_extra_info(self, info: str) -> Any:
        """`server_addr`, `client_addr`: (address, port); `ssl_object`: version(), cipher() and
        selected_alpn_protocol(). None for anything else, and for what is not known."""
        peer = None if self._answer is None else self._answer._peer
        if peer is None:
            return None
        ip, port, local_ip, local_port, version, cipher = peer
        if info == "server_addr" and ip:
            return ip, port
        if info == "client_addr" and local_ip:
            return local_ip, local_port
        if info == "ssl_object" and version:
            return TlsObject(version, cipher, self._answer.http_version)
        return None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        raise RuntimeError("llmcurl: the connection of a response cannot be read by hand")

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        raise RuntimeError("llmcurl: the connection of a response cannot be written by hand")

    async def start_tls(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("llmcurl: TLS cannot be started on the connection of a response")

    async def aclose(self) -> None:
        """Nothing to do."""
