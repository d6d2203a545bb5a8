"""TLS settings: from `verify` and `cert` to the native pool's options."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any, Union

__all__ = ["CertTypes", "VerifyTypes", "http2_available", "trust_options"]

VerifyTypes = Union[bool, str, "os.PathLike[str]"]
CertTypes = Union[str, "tuple[str, str]", "tuple[str, str, str]"]

#: Before it, libcurl loses connection window with each cancelled stream and does not send
#: again what a GOAWAY refused.
_HTTP2_SINCE = 0x080400


def http2_available(info: dict[str, Any], wanted: bool | None) -> bool:
    """Whether a client speaks HTTP/2: as it says, or where libcurl does it well.

    Raises:
        ValueError: asked for, and this libcurl has none.
    """
    has = "HTTP2" in info["features"]
    if wanted and not has:
        raise ValueError(f"http2=True: libcurl {info['version']} was built without HTTP/2")
    if wanted is None:
        return bool(has and info["version_num"] >= _HTTP2_SINCE)
    return wanted


def _trusted(verify: VerifyTypes) -> dict[str, Any]:
    if verify is True:
        return {"verify": 1, "verify_host": 1, "ca_system": True}
    if verify is False:
        return {"verify": 0, "verify_host": 0}
    if isinstance(verify, ssl.SSLContext):
        raise TypeError(
            "verify: libcurl cannot use an ssl.SSLContext; pass True, False, or the path of a "
            "CA file or directory, and the client certificate as cert="
        )
    if not isinstance(verify, (str, os.PathLike)):
        raise TypeError(f"verify must be a bool or a path, not {type(verify).__name__}")
    path = Path(verify)
    options: dict[str, Any] = {"verify": 1, "verify_host": 1, "ca_system": False}
    if path.is_dir():
        return {**options, "ca_dirs": [str(path)]}
    if path.is_file():
        return {**options, "ca_files": [str(path)]}
    raise FileNotFoundError(f"verify: there is no CA file or directory {str(path)!r}")


def trust_options(verify: VerifyTypes, cert: CertTypes | None) -> dict[str, Any]:
    """The native pool's TLS options.

    Args:
        verify: True = the system's certificates (and SSL_CERT_FILE, SSL_CERT_DIR), False = no
            checks, or the path of a PEM file or a hashed directory to trust instead.
        cert: a client certificate: path of a PEM file with certificate and key, or
            (certificate, key[, password]).

    Raises:
        TypeError, FileNotFoundError: the text names the argument.
    """
    options = _trusted(verify)
    if cert is None:
        return options
    parts = (cert,) if isinstance(cert, (str, os.PathLike)) else tuple(cert)
    if not 1 <= len(parts) <= 3:
        raise TypeError("cert must be a path or (certificate, key[, password])")
    for path in parts[:2]:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"cert: there is no file {os.fspath(path)!r}")
    names = ("cert", "cert_key", "cert_password")
    options.update(zip(names, (os.fspath(part) for part in parts), strict=False))
    return options
