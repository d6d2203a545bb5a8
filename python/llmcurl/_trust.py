"""TLS settings: from `verify` and `cert` to the native pool's options."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

from ._native import curl_info

__all__ = ["CertTypes", "VerifyTypes", "http2_available", "system_trust", "trust_options"]

PathTypes = Union[str, "os.PathLike[str]"]
VerifyTypes = Union[bool, PathTypes, "Sequence[bool | PathTypes]"]
CertTypes = Union[str, "tuple[str, str]", "tuple[str, str, str]"]

#: Where distributions keep the file with all their CA certificates.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo, Alpine, NixOS
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL and kin, Amazon Linux
    "/etc/pki/tls/certs/ca-bundle.crt",  # older ones of these
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/var/lib/ca-certificates/ca-bundle.pem",  # SUSE MicroOS
    "/etc/ssl/cert.pem",  # Alpine without the package
)

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


def system_trust(trust_env: bool = True) -> dict[str, Any]:
    """The options that make a native pool trust the operating system's certificates.

    SSL_CERT_FILE and SSL_CERT_DIR come first and stand for all others; then the file of the
    distribution; then the paths compiled into OpenSSL, if something is there; then certifi.

    Args:
        trust_env: look at the two variables.

    Raises:
        FileNotFoundError: a variable names nothing that exists.
    """
    file = os.environ.get("SSL_CERT_FILE") if trust_env else None
    folder = os.environ.get("SSL_CERT_DIR") if trust_env else None
    if not file and not folder:
        return {"ca_system": True, **_system_store()}
    options: dict[str, Any] = {"ca_system": True}
    if file:
        if not os.path.isfile(file):
            raise FileNotFoundError(f"SSL_CERT_FILE: there is no file {file!r}")
        options["ca_system_files"] = [file]
    if folder:
        # like PATH; a directory that is not there is skipped, as OpenSSL does
        folders = [part for part in folder.split(os.pathsep) if os.path.isdir(part)]
        if not folders and not file:
            raise FileNotFoundError(f"SSL_CERT_DIR: there is no directory {folder!r}")
        options["ca_system_dirs"] = folders
    return options


def _system_store() -> dict[str, Any]:
    for bundle in _BUNDLES:
        if os.path.isfile(bundle):
            return {"ca_system_files": [bundle]}
    file, folder = curl_info()["ca_defaults"]
    if os.path.isfile(file):
        return {"ca_system_files": [file]}
    if os.path.isdir(folder) and any(
        re.fullmatch("[0-9a-f]{8}[.]0", x) for x in os.listdir(folder)
    ):
        return {"ca_system_dirs": [folder]}
    try:
        import certifi
    except ImportError:
        return {}  # libcurl's own guess; else every certificate will be refused, by name
    return {"ca_system_files": [certifi.where()]}


def _trusted(verify: VerifyTypes, trust_env: bool) -> dict[str, Any]:
    if verify is False:
        return {"verify": 0, "verify_host": 0}
    if isinstance(verify, ssl.SSLContext):
        raise TypeError(
            "verify: libcurl cannot use an ssl.SSLContext; pass True, False, or the path of a "
            "CA file or directory, and the client certificate as cert="
        )
    options: dict[str, Any] = {"verify": 1, "verify_host": 1, "ca_system": False}
    if verify is True:
        return {**options, **system_trust(trust_env)}
    alone = isinstance(verify, (str, os.PathLike))
    sources = [verify] if alone else verify if isinstance(verify, (list, tuple)) else None
    if not sources:
        raise TypeError(
            "verify must be a bool, a path, or a list of True and paths, "
            + ("not an empty one" if sources is not None else f"not {type(verify).__name__}")
        )
    files: list[str] = []
    dirs: list[str] = []
    for source in sources:
        if source is True:
            options.update(system_trust(trust_env))
            continue
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(f"verify: a list holds True and paths, not {source!r}")
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"verify: there is no CA file or directory {str(path)!r}")
        (dirs if path.is_dir() else files).append(str(path))
    if files:
        options["ca_files"] = files
    if dirs:
        options["ca_dirs"] = dirs
    return options


def trust_options(
    verify: VerifyTypes, cert: CertTypes | None, trust_env: bool = True
) -> dict[str, Any]:
    """The native pool's TLS options.

    Args:
        verify: True = the system's certificates (see `system_trust`), False = no checks, the
            path of a PEM file or a hashed directory to trust instead, or a list of these:
            ``[True, "/etc/corp/ca.pem"]`` trusts the system's certificates and one more CA.
        cert: a client certificate: path of a PEM file with certificate and key, or
            (certificate, key[, password]).
        trust_env: whether SSL_CERT_FILE and SSL_CERT_DIR count.

    Raises:
        TypeError, FileNotFoundError: the text names the argument.
    """
    options = _trusted(verify, trust_env)
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
