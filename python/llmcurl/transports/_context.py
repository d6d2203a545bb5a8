"""What an ssl.SSLContext trusts and demands, as options of the native pool.

Python shows most of a context. A directory of certificates, though, stays unseen until a
handshake needs one of them, and directories are what `ssl.create_default_context()` has on
many systems. So the question is put to OpenSSL: a server's certificate message, made up here
in memory, shows it one of the directory's own certificates, after which the context lists that
certificate if it trusts the directory, and does not if it does not.
"""

from __future__ import annotations

import os
import ssl
import struct
import warnings
from typing import Any

from .._trust import system_trust

__all__ = ["context_options"]

_VERSIONS = (
    (10, ssl.TLSVersion.TLSv1, ssl.OP_NO_TLSv1),
    (11, ssl.TLSVersion.TLSv1_1, ssl.OP_NO_TLSv1_1),
    (12, ssl.TLSVersion.TLSv1_2, ssl.OP_NO_TLSv1_2),
    (13, ssl.TLSVersion.TLSv1_3, ssl.OP_NO_TLSv1_3),
)

#: SSL_OP_*: no extended master secret, legacy servers, no tickets, unsafe renegotiation, no
#: encrypt-then-MAC, no renegotiation. The others are OpenSSL's defaults or for servers.
_OPTIONS = 1 << 0 | 1 << 2 | 1 << 14 | 1 << 18 | 1 << 19 | 1 << 30

_CRL = ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN


def context_options(context: ssl.SSLContext) -> dict[str, Any]:
    """TLS options for the native pool.

    Raises:
        ValueError: it holds what cannot be taken over; the text says what to do instead.
    """
    _refuse(context)
    options: dict[str, Any] = dict(_versions(context))
    options.update(_ciphers(context))
    options["verify"] = int(context.verify_mode != ssl.CERT_NONE)
    options["verify_host"] = int(context.check_hostname)
    options["tls_options"] = int(context.options) & _OPTIONS
    options["verify_flags"] = int(context.verify_flags & ssl.VERIFY_X509_STRICT)
    if not options["verify"]:
        return options
    if type(context).__module__.partition(".")[0] == "truststore":
        options.update(system_trust())  # it asks the system at each handshake
        return options
    certificates = context.get_ca_certs(binary_form=True)
    stats = context.cert_store_stats()
    hidden = stats["x509"] - stats["x509_ca"]
    directories = [path for path in _directories() if _trusts(context, path)]
    if hidden and not certificates and not directories:
        raise ValueError(
            "verify: this SSLContext trusts a certificate that is not of a CA, which Python does "
            "not show; pass the path of its file as verify='...'"
        )
    if hidden:
        warnings.warn(
            f"verify: {hidden} certificates of this SSLContext are not of a CA and cannot be taken "
            "over; pass the path of a file as verify='...' if one of them is needed",
            stacklevel=5,
        )
    if not certificates and not directories:
        raise ValueError(
            "verify: this SSLContext shows no CA certificates (none were loaded, or they lie in a "
            "directory of your own, which cannot be seen); load them with "
            "load_verify_locations(cafile=...), or pass the directory as verify='...'"
        )
    if certificates:
        pem = "".join(ssl.DER_cert_to_PEM_cert(der) for der in certificates)
        options["ca_pem"] = pem.encode("ascii")
    if directories:
        options["ca_dirs"] = directories
    options["ca_system"] = False
    return options


def _refuse(context: ssl.SSLContext) -> None:
    kind = type(context)
    known = kind.__module__.partition(".")[0] in ("ssl", "truststore")
    if not known and (
        kind.wrap_bio is not ssl.SSLContext.wrap_bio
        or kind.wrap_socket is not ssl.SSLContext.wrap_socket
    ):
        raise ValueError(
            f"verify: {kind.__module__}.{kind.__name__} does handshakes of its own, which libcurl "
            "cannot call; pass a plain ssl.SSLContext, or the CA file or directory"
        )
    if context.verify_flags & _CRL:
        raise ValueError(
            "verify: an SSLContext that checks revocation lists cannot be used; clear "
            "VERIFY_CRL_CHECK_LEAF and VERIFY_CRL_CHECK_CHAIN in its verify_flags"
        )
    if getattr(context, "_msg_callback", None) is not None:
        raise ValueError("verify: an SSLContext with a message callback cannot be used")
    if context.check_hostname and not context.hostname_checks_common_name:
        raise ValueError(
            "verify: libcurl looks at a certificate's common name where it has no other; leave "
            "hostname_checks_common_name at True"
        )


def _versions(context: ssl.SSLContext) -> dict[str, int]:
    """The range of versions that minimum, maximum and OP_NO_* leave."""
    low = context.minimum_version
    high = context.maximum_version
    left = [
        number
        for number, version, off in _VERSIONS
        if (low == ssl.TLSVersion.MINIMUM_SUPPORTED or low <= version)
        and (high == ssl.TLSVersion.MAXIMUM_SUPPORTED or version <= high)
        and not context.options & off
    ]
    if not left or left[-1] - left[0] != len(left) - 1:
        raise ValueError(
            "verify: this SSLContext allows no TLS version, or leaves one out between others; set "
            "minimum_version and maximum_version"
        )
    return {"tls_min": left[0], "tls_max": 0 if left[-1] == 13 else left[-1]}


def _ciphers(context: ssl.SSLContext) -> dict[str, str]:
    """OpenSSL's lists, if they are not the ones a context is made with."""
    mine = [(cipher["name"], cipher["protocol"]) for cipher in context.get_ciphers()]
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    same_level = getattr(context, "security_level", 0) == getattr(plain, "security_level", 0)
    if same_level and mine == [(c["name"], c["protocol"]) for c in plain.get_ciphers()]:
        return {}
    old = [name for name, protocol in mine if protocol != "TLSv1.3"]
    new = [name for name, protocol in mine if protocol == "TLSv1.3"]
    level = getattr(context, "security_level", None)
    if level is not None:
        old.append(f"@SECLEVEL={level}")
    return {"ciphers": ":".join(old), "ciphersuites": ":".join(new)}


def _directories() -> list[str]:
    """Where `SSLContext.set_default_verify_paths` and the packages look, each once."""
    paths = ssl.get_default_verify_paths()
    listed = os.environ.get(paths.openssl_capath_env, "").split(os.pathsep)
    found: dict[str, str] = {}
    for path in (*listed, paths.capath, paths.openssl_capath):
        if path and os.path.isdir(path):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _trusts(context: ssl.SSLContext, directory: str) -> bool:
    """Whether the context looks up certificates in this directory."""
    shown = set(context.get_ca_certs(binary_form=True))
    der = _unshown(directory, shown)
    if der is None:
        return False  # all of it is there already
    _show(context, der)
    return der in context.get_ca_certs(binary_form=True)


def _unshown(directory: str, shown: set[bytes]) -> bytes | None:
    """A certificate of a hashed directory (openssl-rehash(1)) that is not among those shown."""
    for name in sorted(os.listdir(directory)):
        stem, _, suffix = name.rpartition(".")
        if len(stem) != 8 or not suffix.isdigit():
            continue
        try:
            with open(os.path.join(directory, name), encoding="ascii", errors="ignore") as file:
                text = file.read()
            start = text.index(ssl.PEM_HEADER)
            end = text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
            der = ssl.PEM_cert_to_DER_cert(text[start:end])
        except (OSError, ValueError):
            continue
        if der not in shown:
            return der
    return None


def _show(context: ssl.SSLContext, der: bytes) -> None:
    """Lets the context check `der` as a server's certificate. The handshake, in memory, goes
    no further: there is no key. TLS 1.2, where a certificate is sent in the clear."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        handshake = context.wrap_bio(incoming, outgoing, server_hostname="llmcurl.invalid")
        try:
            handshake.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = outgoing.read()
        at = 43  # record, handshake, version and random; then session id and suites (RFC 5246)
        at += 1 + hello[at]
        size = int.from_bytes(hello[at : at + 2], "big")
        suites = [hello[i : i + 2] for i in range(at + 2, at + 2 + size, 2)]
        suite = next(each for each in suites if each[0] != 0x13)  # not one of TLS 1.3
        # ServerHello without a session, with the renegotiation extension (RFC 5746)
        body = b"\x03\x03" + bytes(32) + b"\0" + suite + b"\0" + b"\0\x05\xff\x01\0\x01\0"
        chain = _sized(_sized(der))
        messages = b"\x02" + _sized(body) + b"\x0b" + _sized(chain)
        for start in range(0, len(messages), 16384):
            part = messages[start : start + 16384]
            incoming.write(b"\x16\x03\x03" + struct.pack("!H", len(part)) + part)
        handshake.do_handshake()
    except (ssl.SSLError, ssl.CertificateError, StopIteration, IndexError):
        pass  # as it should: what counts is what the context knows now


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(3, "big") + data
