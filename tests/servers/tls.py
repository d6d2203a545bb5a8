"""Certificates of a test CA, and a TLS server for each way a handshake can end.

Job: the files (CA, server, client certificates) and one chaos server per case. Not its job: what they answer (chaos.py).
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import trustme

from servers.chaos import Chaos


class Authority:
    """A CA and the files made with it, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca = trustme.CA(organization_name="the tests")
        self.ca_file = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        other = trustme.CA(organization_name="somebody else")
        self.other_ca_file = self.folder / "other-ca.pem"
        other.cert_pem.write_to_path(str(self.other_ca_file))
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        self.good = self._write("good", self.ca.issue_cert("127.0.0.1", "localhost", "::1"))
        self.wrong_host = self._write("wrong-host", self.ca.issue_cert("wrong.example"))
        self.expired = self._write(
            "expired",
            self.ca.issue_cert(
                "127.0.0.1",
                "localhost",
                not_before=past,
                not_after=past + datetime.timedelta(days=1),
            ),
        )
        self.self_signed = self._write("self-signed", other.issue_cert("127.0.0.1", "localhost"))
        self.client = self._write("client", self.ca.issue_cert("client@tests.example"))
        self.stranger = self._write("stranger", other.issue_cert("stranger@tests.example"))
        self.client_both = self.folder / "client-both.pem"  # certificate and key in one file
        self.client_both.write_bytes(self.client[0].read_bytes() + self.client[1].read_bytes())

    def _write(self, name: str, leaf: trustme.LeafCert) -> tuple[Path, Path]:
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key))
        return cert, key

    @property
    def ca_directory(self) -> Path:
        """A directory in OpenSSL's layout (hashed names) with only our CA in it."""
        import subprocess

        folder = self.folder / "hashed"
        if not folder.exists():
            folder.mkdir()
            name = subprocess.run(
                ["openssl", "x509", "-hash", "-noout", "-in", str(self.ca_file)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            (folder / f"{name}.0").write_bytes(self.ca_file.read_bytes())
        return folder

    def server_context(
        self, files: tuple[Path, Path], *, client_certs: bool = False
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, files))
        context.set_alpn_protocols(["http/1.1"])
        if client_certs:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(str(self.ca_file))
        return context


class TlsServers:
    """One chaos server per certificate; `wants_client_cert` refuses clients without one of our CA."""

    def __init__(self, authority: Authority) -> None:
        a = self.authority = authority
        self.good = Chaos(tls=a.server_context(a.good))
        self.wrong_host = Chaos(tls=a.server_context(a.wrong_host))
        self.expired = Chaos(tls=a.server_context(a.expired))
        self.self_signed = Chaos(tls=a.server_context(a.self_signed))
        self.wants_client_cert = Chaos(tls=a.server_context(a.good, client_certs=True))
        old = a.server_context(a.good, client_certs=True)
        old.maximum_version = ssl.TLSVersion.TLSv1_2  # here the refusal is part of the handshake
        self.wants_client_cert_tls12 = Chaos(tls=old)
        self.plain = Chaos()  # speaks no TLS at all
        self.all = [server for server in vars(self).values() if isinstance(server, Chaos)]

    def __enter__(self) -> TlsServers:
        for server in self.all:
            server.start()
        return self

    def __exit__(self, *exc) -> None:
        for server in self.all:
            server.stop()
