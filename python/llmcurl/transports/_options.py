"""From the constructor arguments of AsyncHTTPTransport to the native pool's options."""

from __future__ import annotations

import os
import ssl
import struct
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from .._trust import http2_available, system_trust
from ._context import context_options
from ._package import Package

__all__ = ["connection_options", "limit_options", "proxy_options", "socket_options", "trust"]

_PROXY_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_U32 = 2**32 - 1


def trust(package: Package, verify: Any, cert: Any, trust_env: bool) -> dict[str, Any]:
    """TLS options for `verify` and `cert`.

    Raises:
        TypeError, ValueError, FileNotFoundError: what cannot be honoured, and what to pass.
    """
    if isinstance(verify, ssl.SSLContext):
        options = context_options(verify)
    elif verify is False:
        options = {"verify": 0, "verify_host": 0}
    elif verify is True:
        options = {"verify": 1, "verify_host": 1, **_default_certificates(package, trust_env)}
    elif isinstance(verify, (str, os.PathLike)):
        options = {"verify": 1, "verify_host": 1, **_certificates_at(os.fspath(verify))}
    else:
        raise TypeError(
            f"verify must be a bool, an ssl.SSLContext or a path, not {type(verify).__name__}"
        )
    if cert is not None:
        options.update(_client_certificate(cert))
    return options


def _certificates_at(path: str) -> dict[str, Any]:
    if os.path.isdir(path):
        return {"ca_dirs": [path], "ca_system": False}
    if os.path.isfile(path):
        return {"ca_files": [path], "ca_system": False}
    raise FileNotFoundError(f"verify: there is no CA file or directory {path!r}")


def _default_certificates(package: Package, trust_env: bool) -> dict[str, Any]:
    """What ``verify=True`` trusts in the package: the environment's file or directory, else
    certifi's bundle (httpx) or the system's (httpx2)."""
    if trust_env:
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            path = os.environ.get(name)
            if path:
                return _certificates_at(path)
    if package.certifi:
        import certifi

        return {"ca_files": [certifi.where()], "ca_system": False}
    return system_trust(trust_env)


def _client_certificate(cert: Any) -> dict[str, Any]:
    parts = (cert,) if isinstance(cert, (str, os.PathLike)) else tuple(cert)
    if not 1 <= len(parts) <= 3:
        raise TypeError("cert must be a path or (certificate, key[, password])")
    for path in parts[:2]:
        if path is not None and not os.path.isfile(path):
            raise FileNotFoundError(f"cert: there is no file {os.fspath(path)!r}")
    options = {"cert": os.fspath(parts[0])}
    if len(parts) > 1 and parts[1] is not None:
        options["cert_key"] = os.fspath(parts[1])
    if len(parts) > 2 and parts[2] is not None:
        password = parts[2]() if callable(parts[2]) else parts[2]
        options["cert_password"] = password if isinstance(password, str) else password.decode()
    return options


def limit_options(limits: Any) -> dict[str, Any]:
    """Options for the package's Limits; None = as many connections as descriptors allow, idle
    ones kept for a minute."""
    if limits is None:
        return {"keepalive_expiry_ms": 60_000}
    options: dict[str, Any] = {}
    if limits.max_connections is not None:
        if limits.max_connections < 1:
            raise ValueError("limits: max_connections must be at least 1, or None")
        options["max_connections"] = min(limits.max_connections, _U32)
    if limits.max_keepalive_connections is not None:
        options["max_keepalive"] = min(limits.max_keepalive_connections, _U32)
    if limits.keepalive_expiry is not None:
        expiry = int(limits.keepalive_expiry * 1000)
        if expiry > 0:
            options["keepalive_expiry_ms"] = expiry
        else:
            options["max_keepalive"] = 0
    return options


def proxy_options(package: Package, proxy: Any) -> dict[str, Any]:
    """Options for a URL or the package's Proxy."""
    if proxy is None:
        return {}
    if not isinstance(proxy, package.Proxy):
        proxy = package.Proxy(url=proxy)
    if proxy.ssl_context is not None:
        raise ValueError(
            "proxy: an ssl_context of its own cannot be used; the TLS settings of verify= and "
            "cert= hold for an https:// proxy, too"
        )
    url = proxy.url
    # The reference lets the proxy resolve names with both spellings of SOCKS5.
    scheme = "socks5h" if url.scheme == "socks5" else url.scheme
    port = _PROXY_PORTS[scheme] if url.port is None else url.port
    host = url.raw_host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    credentials = ""
    if proxy.auth is not None:
        credentials = ":".join(quote(part, safe="") for part in proxy.auth) + "@"
    options: dict[str, Any] = {"proxy": f"{scheme}://{credentials}{host}:{port}"}
    if scheme in ("http", "https"):
        options["proxy_headers"] = [
            "Proxy-Connection:",  # libcurl's own idea
            *(f"{k.decode('latin-1')}: {v.decode('latin-1')}" for k, v in proxy.headers.raw),
        ]
    return options


def socket_options(given: Iterable[Any] | None) -> dict[str, Any]:
    """Socket options as the native pool takes them: they are set on each new socket before it
    connects, after libcurl's own (SO_KEEPALIVE, its times, TCP_NODELAY).

    Raises:
        TypeError, ValueError: not what socket.setsockopt() takes.
    """
    options: list[tuple[int, int, bytes | int]] = []
    for level, name, *rest in given or ():
        value = rest[0] if len(rest) == 1 else None
        if len(rest) == 2 and rest[0] is None and isinstance(rest[1], int):
            options.append((level, name, rest[1]))
        elif isinstance(value, int):
            try:
                options.append((level, name, struct.pack("@i", value)))
            except struct.error:
                raise ValueError(f"socket_options: {value} does not fit into an int") from None
        elif isinstance(value, (bytes, bytearray)):
            options.append((level, name, bytes(value)))
        else:
            raise TypeError(
                "socket_options: each is (level, name, int or bytes) or (level, name, None, "
                "length), as in socket.setsockopt()"
            )
    return {"socket_options": options} if options else {}


def connection_options(
    http1: bool, http2: bool, uds: str | None, local_address: str | None, curl: dict[str, Any]
) -> dict[str, Any]:
    """Options for the rest. Raises ValueError for what this libcurl lacks."""
    if not http1 and not http2:
        raise ValueError("http1 and http2 are both off; switch one on")
    options: dict[str, Any] = {
        "http1": int(http1),
        "http2": int(http2_available(curl, bool(http2))),
    }
    if uds is not None:
        options["unix_socket"] = os.fspath(uds)
    if local_address is not None:
        options["interface"] = f"host!{local_address}"
    return options
