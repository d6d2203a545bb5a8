"""Which certificates `verify` means, and where the system's are looked for."""

from __future__ import annotations

import sys

import pytest
from llmcurl import _trust
from llmcurl._trust import system_trust, trust_options


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bare(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A system without a certificate, in a folder in which tests put some."""
    monkeypatch.setattr(_trust, "_BUNDLES", (str(tmp_path / "bundle.pem"),))
    info = {"ca_defaults": (str(tmp_path / "cert.pem"), str(tmp_path / "certs"))}
    monkeypatch.setattr(_trust, "curl_info", lambda: info)
    return tmp_path


def test_the_file_of_the_distribution_comes_first(bare) -> None:
    for name in ("bundle.pem", "cert.pem"):
        (bare / name).touch()
    assert system_trust() == {"ca_system": True, "ca_system_files": [str(bare / "bundle.pem")]}


def test_then_the_paths_compiled_into_openssl_if_something_is_there(bare) -> None:
    (bare / "certs").mkdir()
    (bare / "certs" / "README").touch()
    assert "ca_system_dirs" not in system_trust(), "a directory without hashed names is of no use"
    (bare / "certs" / "0a775a30.0").touch()
    assert system_trust()["ca_system_dirs"] == [str(bare / "certs")]
    (bare / "cert.pem").touch()
    assert system_trust()["ca_system_files"] == [str(bare / "cert.pem")]


def test_then_certifi(bare, monkeypatch) -> None:
    certifi = pytest.importorskip("certifi")
    assert system_trust() == {"ca_system": True, "ca_system_files": [certifi.where()]}
    monkeypatch.setitem(sys.modules, "certifi", None)
    assert system_trust() == {"ca_system": True}


def test_the_variables_stand_for_all_others(tmp_path, monkeypatch) -> None:
    mine, other = tmp_path / "mine.pem", tmp_path / "certs"
    mine.touch()
    other.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(mine))
    assert system_trust() == {"ca_system": True, "ca_system_files": [str(mine)]}
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}/missing:{other}")
    assert system_trust()["ca_system_dirs"] == [str(other)]
    assert system_trust(trust_env=False).get("ca_system_files") != [str(mine)]


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_variable_that_names_nothing_is_an_error_at_once(name: str, monkeypatch) -> None:
    monkeypatch.setenv(name, "/nowhere/at/all")
    with pytest.raises(FileNotFoundError, match=name):
        system_trust()


def test_a_list_adds_up(tmp_path) -> None:
    (tmp_path / "a.pem").touch()
    options = trust_options([True, tmp_path / "a.pem", str(tmp_path)], None)
    assert options["ca_system"] and options["ca_files"] == [str(tmp_path / "a.pem")]
    assert options["ca_dirs"] == [str(tmp_path)]
    assert trust_options([tmp_path / "a.pem"], None)["ca_system"] is False


@pytest.mark.parametrize("bad", [[], (), [False], [True, 7], 7, None, {True}, b"/x"])
def test_anything_else_is_refused(bad) -> None:
    with pytest.raises(TypeError, match="^verify"):
        trust_options(bad, None)
