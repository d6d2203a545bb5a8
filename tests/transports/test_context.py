"""An ssl.SSLContext as `verify`: what it trusts and demands holds here, too; what cannot be taken over is refused."""

from __future__ import annotations

import ssl

import pytest
from servers.witness import Witness

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def witness(authority):
    with Witness(authority.server_context(authority.good)) as made:
        yield made


async def told(package, url: str, **transport):
    """What the server saw of our connection, or the error's class name."""
    async with package.client(package.ours(**transport)) as client:
        try:
            return (await client.get(url)).json()
        except package.module.TransportError as error:
            return type(error).__name__


class TestTrust:
    """What the reference trusts with a context, we trust; nothing more."""

    async def check(self, package, tls, make) -> list[str | None]:
        errors = []
        for server in (tls.good, tls.self_signed):
            for kind in (package.reference, package.ours):
                seen = await package.observe(
                    lambda c, s=server: c.get(s.url("/ok")), kind(verify=make())
                )
                errors.append(seen.error)
        assert errors[0] == errors[1] and errors[2] == errors[3]
        return [errors[1], errors[3]]

    async def test_the_default_context_with_a_directory(
        self, package, tls, authority, monkeypatch, tmp_path
    ):
        """Debian's case: the certificates lie in a directory and are not listed by get_ca_certs()."""
        monkeypatch.setenv("SSL_CERT_DIR", str(authority.ca_directory))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
        context = ssl.create_default_context()
        assert context.get_ca_certs() == []
        assert await self.check(package, tls, lambda: context) == [
            None,
            f"{package.name}.ConnectError",
        ]

    async def test_the_default_context_with_a_file(
        self, package, tls, authority, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert await self.check(package, tls, ssl.create_default_context) == [
            None,
            f"{package.name}.ConnectError",
        ]

    async def test_a_file_added_to_the_default(
        self, package, tls, authority, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("SSL_CERT_DIR", str(authority.ca_directory))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))

        def make():
            context = ssl.create_default_context()
            context.load_verify_locations(str(authority.other_ca_file))
            return context

        assert await self.check(package, tls, make) == [None, None]

    async def test_the_directory_counts_only_if_it_is_trusted(
        self, package, tls, authority, monkeypatch
    ):
        monkeypatch.setenv("SSL_CERT_DIR", str(authority.ca_directory))
        make = lambda: ssl.create_default_context(cafile=str(authority.other_ca_file))  # noqa: E731
        assert await self.check(package, tls, make) == [f"{package.name}.ConnectError", None]

    def test_as_it_is_on_this_machine(self, package):
        """Where the system has certificates, its default context can be used as it comes."""
        found = ssl.get_default_verify_paths()
        if not (found.cafile or found.capath):
            pytest.skip("this system has no certificates")
        package.ours(verify=ssl.create_default_context())

    def test_the_packages_own_context(self, package, monkeypatch):
        package.ours(verify=package.module.create_ssl_context())
        package.ours(verify=package.module.create_ssl_context(trust_env=False))

    async def test_certifi(self, package, tls):
        certifi = pytest.importorskip("certifi")
        make = lambda: ssl.create_default_context(cafile=certifi.where())  # noqa: E731
        assert await self.check(package, tls, make) == [f"{package.name}.ConnectError"] * 2

    async def test_truststore(self, package, tls):
        truststore = pytest.importorskip("truststore")
        assert (
            await self.check(package, tls, lambda: truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            == [f"{package.name}.ConnectError"] * 2
        )

    def test_no_certificates_at_all(self, package, authority, monkeypatch):
        monkeypatch.setenv("SSL_CERT_DIR", str(authority.ca_directory))  # there, but not asked for
        with pytest.raises(ValueError, match="verify: this SSLContext shows no CA certificates"):
            package.ours(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def test_a_directory_nobody_can_see(self, package, authority):
        with pytest.raises(ValueError, match="pass the directory as verify"):
            package.ours(verify=ssl.create_default_context(capath=str(authority.ca_directory)))

    def test_a_certificate_that_is_not_of_a_ca(self, package, authority, tls):
        """get_ca_certs() leaves it out; as a path it is trusted."""
        leaf = str(authority.good[0])
        with pytest.raises(ValueError, match="not of a CA.*pass the path"):
            package.ours(verify=ssl.create_default_context(cafile=leaf))
        both = ssl.create_default_context(cafile=str(authority.ca_file))
        both.load_verify_locations(leaf)
        with pytest.warns(UserWarning, match="1 certificates .* not of a CA"):
            package.ours(verify=both)


class TestDemands:
    def context(self, authority) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(authority.ca_file))

    @pytest.mark.parametrize("how", ["maximum_version", "options"])
    async def test_newest_version(self, package, authority, witness, how):
        context = self.context(authority)
        assert (await told(package, witness.url(), verify=context))["version"] == "TLSv1.3"
        if how == "options":
            context.options |= ssl.OP_NO_TLSv1_3
        else:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await told(package, witness.url(), verify=context))["version"] == "TLSv1.2"

    async def test_ciphers(self, package, authority, witness):
        context = self.context(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        names = [
            cipher["name"]
            for cipher in context.get_ciphers()
            if cipher["name"].startswith("ECDHE-ECDSA")
        ]
        for name in (names[0], names[-1]):
            context.set_ciphers(name)
            assert (await told(package, witness.url(), verify=context))["cipher"] == name

    async def test_own_ciphers_with_tls_1_3(self, package, authority, witness):
        context = self.context(authority)
        context.set_ciphers("ECDHE+AESGCM")
        assert (await told(package, witness.url(), verify=context))["version"] == "TLSv1.3"

    async def test_security_level(self, package, authority, witness):
        context = self.context(authority)
        context.set_ciphers("DEFAULT@SECLEVEL=5")  # asks for more than the server's key has
        theirs = await package.observe(
            lambda c: c.get(witness.url()), package.reference(verify=context)
        )
        assert theirs.error == f"{package.name}.ConnectError"
        assert await told(package, witness.url(), verify=context) == "ConnectError"

    async def test_strict(self, package, authority, witness):
        """Python 3.13 sets it by default."""
        context = self.context(authority)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        theirs = await package.observe(
            lambda c: c.get(witness.url()), package.reference(verify=context)
        )
        ours = await package.observe(lambda c: c.get(witness.url()), package.ours(verify=context))
        assert ours.error == theirs.error

    @pytest.mark.parametrize("kind", ["crl", "versions", "gap", "common name", "own handshake"])
    def test_refused(self, package, authority, kind):
        context = self.context(authority)
        if kind == "crl":
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        elif kind == "versions":
            context.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
        elif kind == "gap":
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.options |= ssl.OP_NO_TLSv1_2
        elif kind == "common name":
            context.hostname_checks_common_name = False
        else:

            class Pinning(ssl.SSLContext):
                def wrap_bio(self, *args, **options):
                    raise AssertionError("not called")

            context = Pinning(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(str(authority.ca_file))
        with pytest.raises(ValueError, match="verify: "):
            package.ours(verify=context)

    def test_a_subclass_that_changes_nothing(self, package, authority):
        class Mine(ssl.SSLContext):
            pass

        context = Mine(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(str(authority.ca_file))
        package.ours(verify=context)


async def test_the_context_is_left_as_it_was(package, authority, monkeypatch, tmp_path):
    """Looking for its directories changes nothing that it demands, and leaves it usable."""
    monkeypatch.setenv("SSL_CERT_DIR", str(authority.ca_directory))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    context = ssl.create_default_context()
    names = (
        "verify_mode",
        "check_hostname",
        "minimum_version",
        "maximum_version",
        "options",
        "verify_flags",
    )
    before = {name: getattr(context, name) for name in names}
    package.ours(verify=context)
    assert {name: getattr(context, name) for name in names} == before
    with Witness(authority.server_context(authority.good)) as server:
        theirs = await package.observe(
            lambda c: c.get(server.url()), package.reference(verify=context)
        )
        assert theirs.error is None
