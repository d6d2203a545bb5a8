"""What the build finds and refuses, and which sanitizer reports count."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"llmcurl_{name}", ROOT / "scripts" / f"{name}.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


find_curl = load("find_curl")
reports = load("asan_reports")
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT / "scripts"))  # they import each other
    fetch_source = load("fetch_source")
    check_wheel = load("check_wheel")
    release = load("release")


def tool(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def empty_path(tmp_path, monkeypatch):
    """A PATH with nothing but what the test puts there."""
    for name in ("LLMCURL_CURL_PREFIX", "PKG_CONFIG", "PKG_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    monkeypatch.setenv("PATH", str(bin_dir))
    monkeypatch.setenv("LLMCURL_SYSTEM_CURL", "1")
    return bin_dir


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """A prefix with libcurl's version header and no library yet."""
    root = tmp_path / "prefix"
    (root / "include" / "curl").mkdir(parents=True)
    (root / "lib").mkdir()
    (root / "include" / "curl" / "curlver.h").write_text('#define LIBCURL_VERSION "8.22.0"\n')
    monkeypatch.setenv("LLMCURL_CURL_PREFIX", str(root))
    return root


def test_missing_libcurl_is_one_sentence_that_names_the_package(empty_path):
    with pytest.raises(SystemExit, match=r"^llmcurl: .*libcurl4-openssl-dev.*libcurl-devel.*\.$"):
        find_curl.find_curl()


def test_old_libcurl_is_one_sentence_with_both_versions(empty_path):
    tool(empty_path, "curl-config", "echo libcurl 7.81.0")
    with pytest.raises(SystemExit, match=r"^llmcurl: libcurl 7\.81\.0 .*7\.88\.0 or newer.*\.$"):
        find_curl.find_curl()


def test_pkg_config_comes_before_curl_config(empty_path):
    tool(empty_path, "curl-config", "echo libcurl 8.0.0")
    tool(
        empty_path,
        "pkg-config",
        'case "$1" in --modversion) echo 8.1.2;; --libs) echo -lcurl;; esac',
    )
    flags = find_curl.find_curl()
    assert (flags.version, flags.source, flags.libs) == ("8.1.2", "pkg-config", ["-lcurl"])


def test_curl_config_serves_where_pkg_config_does_not(empty_path):
    tool(
        empty_path,
        "curl-config",
        'case "$1" in --version) echo libcurl 8.0.0;; --libs) echo -L/x -lcurl;; esac',
    )
    flags = find_curl.find_curl()
    assert (flags.version, flags.libs) == ("8.0.0", ["-L/x", "-lcurl"])


def test_prefix_with_a_shared_library_is_linked_by_path_and_found_at_run_time(prefix):
    (prefix / "lib" / "libcurl.so").touch()
    (prefix / "lib" / "libcurl.a").touch()
    flags = find_curl.find_curl()
    assert flags.version == "8.22.0" and flags.cflags == [f"-I{prefix}/include"]
    assert f"-Wl,-rpath,{prefix}/lib" in flags.libs and f"{prefix}/lib/libcurl.so" in flags.libs


def test_prefix_with_an_archive_alone_is_linked_with_what_it_needs(prefix, empty_path, monkeypatch):
    monkeypatch.setenv("LLMCURL_CURL_PREFIX", str(prefix))
    (prefix / "lib" / "libcurl.a").touch()
    tool(empty_path, "pkg-config", 'echo "-L$PKG_CONFIG_PATH -lcurl /x/libcurl.a -lnghttp2 -lssl"')
    libs = find_curl.find_curl().libs
    assert "/x/libcurl.a" not in libs, "the same by another path"
    assert "-lcurl" not in libs and "-Wl,--exclude-libs,ALL" in libs
    assert f"-L{prefix}/lib/pkgconfig" in libs
    assert libs.index(f"{prefix}/lib/libcurl.a") < libs.index("-lnghttp2")


def test_prefix_without_libcurl_is_refused(prefix, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"neither libcurl\.so nor libcurl\.a"):
        find_curl.find_curl()
    monkeypatch.setenv("LLMCURL_CURL_PREFIX", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match=r"no include/curl/curlver\.h"):
        find_curl.find_curl()


def test_our_own_libraries_are_taken_once_they_are_built(prefix, empty_path, monkeypatch, tmp_path):
    deps = tmp_path / "deps"
    monkeypatch.setattr(find_curl, "DEPS", deps)
    for name in ("LLMCURL_CURL_PREFIX", "LLMCURL_SYSTEM_CURL"):
        monkeypatch.delenv(name, raising=False)
    assert find_curl.chosen_prefix() is None
    (deps / "built").mkdir(parents=True)
    (deps / "built" / "curl").touch()
    assert find_curl.chosen_prefix() == deps / "prefix"
    monkeypatch.setenv("LLMCURL_SYSTEM_CURL", "1")
    assert find_curl.chosen_prefix() is None
    monkeypatch.setenv("LLMCURL_CURL_PREFIX", str(prefix))
    assert find_curl.chosen_prefix() == prefix, "what was asked for comes first"


def test_missing_compiler_is_one_sentence(empty_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(
        SystemExit, match=r"^llmcurl: no C compiler \(no-such-compiler\): install gcc"
    ):
        find_curl.compiler()


def test_fetching_refuses_what_is_not_pinned(tmp_path, monkeypatch):
    pin = fetch_source.Pin("x", "1", (tmp_path / "x.tar.gz").as_uri(), "0" * 64, "x", "1" * 64)
    (tmp_path / "x.tar.gz").write_bytes(b"something else")
    monkeypatch.setattr(
        fetch_source,
        "from_debian",
        lambda pin, cache: (_ for _ in ()).throw(LookupError("no apt here")),
    )
    with pytest.raises(
        SystemExit, match=r"no source of x 1 .*its SHA-256 is [0-9a-f]{64}.*no apt here"
    ):
        fetch_source.fetch(pin, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*")), "nothing of it is kept"


def test_fetching_takes_upstreams_file_or_one_put_there_by_hand(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(b"the release")
    sha256 = hashlib.sha256(b"the release").hexdigest()
    pin = fetch_source.Pin("x", "1", (tmp_path / "x.tar.gz").as_uri(), sha256, "x", sha256)
    assert fetch_source.fetch(pin, tmp_path / "cache").read_bytes() == b"the release"
    (tmp_path / "x.tar.gz").unlink()
    assert fetch_source.fetch(pin, tmp_path / "cache").parent == tmp_path / "cache"


def test_every_pin_is_complete():
    for pin in fetch_source.pins():
        assert pin.url.startswith("https://") and pin.version in pin.url
        assert all(len(digest) == 64 and int(digest, 16) for digest in pin.accepted)


def test_audit_names_the_holes_of_the_pinned_libcurl_only(tmp_path, capsys):
    version = next(pin.version for pin in fetch_source.pins() if pin.name == "curl")

    def entry(name, affects, *versions):
        return {
            "id": name,
            "summary": "s",
            "database_specific": {"affects": affects, "severity": "Low"},
            "affected": [{"versions": list(versions)}],
        }

    path = tmp_path / "vuln.json"
    path.write_text(
        json.dumps(
            [
                entry("OLD", "lib", "7.1.0"),
                entry("TOOL", "tool", version),
                entry("OURS", "both", "7.1.0", version),
            ]
        )
    )
    assert release.audit(str(path)) == 1
    out = capsys.readouterr().out
    assert (
        "OURS: s (severity Low)" in out
        and "OLD" not in out
        and "TOOL" not in out
        and "3 entries, 1 of them" in out
    )
    path.write_text(json.dumps([entry("OLD", "lib", "7.1.0")]))
    assert release.audit(str(path)) == 0


def test_audit_without_the_list_is_no_clean_bill(tmp_path, capsys):
    assert release.audit(str(tmp_path / "nothing.json")) == 3
    assert "NOT DONE" in capsys.readouterr().out


def test_security_md_lists_the_pinned_versions():
    assert release.table() in (ROOT / "SECURITY.md").read_text()


def test_a_wheel_with_another_library_in_it_is_refused(tmp_path):
    wheel = tmp_path / f"llmcurl-{release.project_version()}-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llmcurl/_native.so", b"")
        archive.writestr("llmcurl.libs/libcurl.so.4", b"")
    found = check_wheel.faults_of(wheel)
    assert any("tag" in fault for fault in found) and any(
        "libcurl.so.4" in fault for fault in found
    )


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository of its own for release.py, with one commit."""

    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    for name in ("csrc", "docs", "dist"):
        (tmp_path / name).mkdir()
    (tmp_path / "csrc" / "a.c").write_text("1")
    (tmp_path / ".gitignore").write_text("/dist/\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "BUILT", tmp_path / "dist" / "built.json")
    return git


def test_a_wheel_is_ready_while_what_it_is_made_of_stays_the_same(checkout, tmp_path):
    wheel = tmp_path / "dist" / "x.whl"
    wheel.write_bytes(b"wheel")
    assert release.file_faults(wheel) == ["comes from nobody knows which revision"]
    release.built(wheel, "tests/unit")
    assert release.file_faults(wheel) == []
    (tmp_path / "docs" / "a.md").write_text("a document is no part of it")
    checkout("add", ".")
    checkout("commit", "-qm", "two")
    assert release.file_faults(wheel) == []
    (tmp_path / "csrc" / "a.c").write_text("2")
    checkout("commit", "-qam", "three")
    assert release.file_faults(wheel)[0].endswith("since then csrc/a.c changed")
    wheel.write_bytes(b"another wheel")
    assert release.file_faults(wheel) == ["comes from nobody knows which revision"]


def test_a_wheel_of_uncommitted_sources_or_without_tests_is_not_ready(checkout, tmp_path):
    wheel = tmp_path / "dist" / "x.whl"
    wheel.write_bytes(b"wheel")
    (tmp_path / "csrc" / "a.c").write_text("2")
    release.built(wheel, "")
    assert release.file_faults(wheel) == [
        "was built with changes that are not committed",
        "was not tested",
    ]


def test_every_wheel_that_is_missing_is_named(checkout, tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '"Programming Language :: Python :: 3.11",\n"Programming Language :: Python :: 3.12",\n'
    )
    found = release.dist_faults("0.1.0")
    assert [fault.partition(":")[0] for fault in found] == [
        "dist/ holds no wheel for Python 3.11",
        "dist/ holds no wheel for Python 3.12",
        "dist/ holds no llmcurl-0.1.0.tar.gz",
    ]


FRAMES = """
Direct leak of {size} byte(s) in 1 object(s) allocated from:
    #0 0x7fe22bab89cf in __interceptor_malloc asan_malloc_linux.cpp:69 (/usr/lib/libasan.so.8+0xb89cf)
    #1 0x7fe227e7d31b in {function} (/somewhere/{module})
    #2 0x7fe227e79879 in lc_buf_reserve csrc/core/buf.c:54 (/x/_native.cpython-311-x86_64-linux-gnu.so)
"""
LEAKS = "\n==7==ERROR: LeakSanitizer: detected memory leaks\n"
SUMMARY = "\nSUMMARY: AddressSanitizer: 256 byte(s) leaked in 1 allocation(s).\n"


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        ("_native.cpython-311-x86_64-linux-gnu.so", True),
        ("_native.cpython-313-x86_64-linux-gnu.so+0x1f2e", True),
        ("libcurl.so.4+0x22a1", True),
        ("libpython3.11.so.1.0", False),
        ("_pydantic_core.cpython-311-x86_64-linux-gnu.so+0x144818", False),
    ],
)
def test_a_leak_counts_when_we_called_the_allocator(module, counts, tmp_path, capsys):
    report = tmp_path / "report.7"
    report.write_text(LEAKS + FRAMES.format(size=256, function="f x.c:1", module=module) + SUMMARY)
    assert reports.main([str(report)]) == int(counts)
    assert ("256 byte(s)" in capsys.readouterr().out) == counts


def test_an_indirect_leak_is_left_to_the_one_that_caused_it(tmp_path):
    text = FRAMES.format(size=8, function="f x.c:1", module="_native.abi3.so")
    report = tmp_path / "report.7"
    report.write_text(LEAKS + text.replace("Direct", "Indirect") + SUMMARY)
    assert reports.main([str(report)]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x1\n",
        "csrc/core/buf.c:3:5: runtime error: signed integer overflow\n",
        "csrc/core/buf.c:3:5: runtime error: signed integer overflow\n" + LEAKS + SUMMARY,
    ],
)
def test_every_other_report_counts(text, tmp_path):
    report = tmp_path / "report.7"
    report.write_text(text)
    assert reports.main([str(report)]) == 1


def test_no_report_is_success():
    assert reports.main([]) == 0


@pytest.mark.parametrize(
    "name",
    [
        "bootstrap",
        "asan",
        "tsan",
        "test",
        "sdist-test",
        "venv",
        "sdks",
        "new-user",
        "upstream",
        "wheel",
    ],
)
def test_scripts_are_executable_and_parse(name):
    path = ROOT / "scripts" / name
    assert os.access(path, os.X_OK)
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_make_help_names_the_commands_of_the_readme():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = {line.split()[1] for line in done.stdout.splitlines() if line.split()[:1] == ["make"]}
    assert {
        "demo",
        "test",
        "test-c",
        "lint",
        "asan",
        "types",
        "bench",
        "bench-quick",
        "clean",
    } <= targets
    assert len(targets) <= 30
