"""Finds libcurl and OpenSSL for the build: compiler and linker flags, or one sentence.

Used by setup.py and scripts/test_c.py. Standard library only. Run as a script
it prints what it found.

Order: LLMCURL_CURL_PREFIX (a prefix with include/ and lib/), the libraries of build_deps.py once
they are built (unless LLMCURL_SYSTEM_CURL=1), pkg-config, curl-config.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

MINIMUM = (7, 88, 0)
DEPS = Path(__file__).resolve().parent.parent / "build" / "deps"
ADVICE = (
    "install libcurl4-openssl-dev (Debian, Ubuntu), libcurl-devel (Fedora, RHEL, openSUSE), "
    "curl-dev (Alpine) or curl (Arch), or set LLMCURL_CURL_PREFIX"
)


@dataclass
class Flags:
    """What a compiler and a linker need to be told about one library."""

    version: str = ""
    source: str = ""
    cflags: list[str] = field(default_factory=list)
    libs: list[str] = field(default_factory=list)


def run(*command: str, **env: str) -> str | None:
    """The command's output, or None when it is missing or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **env}, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def compiler() -> list[str]:
    """The C compiler that will be used, or exit with one sentence."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(command[0]):
        return command
    for other in ("cc", "gcc", "clang"):
        if not os.environ.get("CC") and shutil.which(other):
            return [other]
    raise SystemExit(
        f"llmcurl: no C compiler ({command[0]}): install gcc and libc6-dev (Debian, Ubuntu), "
        "gcc (Fedora) or build-base (Alpine)."
    )


def accepts(flags: list[str], source: str = "int lc_probe(void) { return 0; }\n") -> bool:
    """Whether the compiler turns `source` into a shared object with these flags."""
    # what follows is no C any more: archives
    source_of = ["-x", "c", "-", "-x", "none"]
    command = [*compiler(), *source_of, "-shared", "-fPIC", "-o", os.devnull, *flags]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    return done.returncode == 0


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _pkg_config() -> str | None:
    command = os.environ.get("PKG_CONFIG") or "pkg-config"
    return shutil.which(command) or shutil.which("pkgconf")


def chosen_prefix() -> Path | None:
    """The prefix to build against, None for the system's libraries."""
    if prefix := os.environ.get("LLMCURL_CURL_PREFIX"):
        return Path(prefix).expanduser().resolve()
    if os.environ.get("LLMCURL_SYSTEM_CURL", "") not in ("", "0"):
        return None
    # build_deps.py writes the stamp last, and removes it first
    return DEPS / "prefix" if (DEPS / "built" / "curl").is_file() else None


def _from_prefix(prefix: Path) -> Flags:
    header = prefix / "include" / "curl" / "curlver.h"
    if not header.is_file():
        raise SystemExit(
            f"llmcurl: the prefix {prefix} (LLMCURL_CURL_PREFIX) has no include/curl/curlver.h: "
            "point it at the prefix that libcurl was installed into."
        )
    found = re.search(r'LIBCURL_VERSION "([^"]+)"', header.read_text())
    flags = Flags(found.group(1) if found else "0", f"prefix {prefix}", [f"-I{prefix}/include"])
    dirs = [d for d in (prefix / "lib", prefix / "lib64") if d.is_dir()]
    for lib in dirs:
        if (lib / "libcurl.so").exists():
            # by its path: some Pythons bring a -L of their own, in front of ours
            flags.libs = [f"-L{lib}", f"-Wl,-rpath,{lib}", str(lib / "libcurl.so")]
            return flags
    for lib in dirs:
        archive = lib / "libcurl.a"
        if archive.exists():
            flags.libs = [f"-L{lib}", *_static_libs(prefix, lib, archive)]
            return flags
    raise SystemExit(
        f"llmcurl: the prefix {prefix} (LLMCURL_CURL_PREFIX) has neither libcurl.so nor libcurl.a in lib/ "
        "or lib64/: install libcurl into it first."
    )


def _static_libs(prefix: Path, lib: Path, archive: Path) -> list[str]:
    """libcurl.a by its path, then everything that its .pc file says it needs."""
    libs = None
    tool = _pkg_config()
    if tool:
        path = os.pathsep.join(
            p for p in (str(lib / "pkgconfig"), os.environ.get("PKG_CONFIG_PATH", "")) if p
        )
        libs = run(tool, "--static", "--libs", "libcurl", PKG_CONFIG_PATH=path)
    if libs is None:
        libs = run(str(prefix / "bin" / "curl-config"), "--static-libs")
    if libs is None:
        raise SystemExit(
            f"llmcurl: cannot tell what {archive} needs: install pkg-config, and see that "
            f"{lib}/pkgconfig/libcurl.pc and the .pc files it names are there."
        )
    # newer .pc files name the archive by its path, which may be another one than ours: links
    words = [w for w in shlex.split(libs) if w != "-lcurl" and Path(w).name != archive.name]
    # the archives may name each other in any order; none of their symbols leaves the extension
    group = ["-Wl,--start-group", str(archive), *words, "-Wl,--end-group"]
    return ["-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", "-Wl,-z,relro,-z,now", *group]


def find_curl() -> Flags:
    """libcurl's flags; exits with one sentence when it is missing or too old."""
    prefix = chosen_prefix()
    flags = None
    if prefix:
        flags = _from_prefix(prefix)
    else:
        tool = _pkg_config()
        version = run(tool, "--modversion", "libcurl") if tool else None
        if tool and version:
            flags = Flags(
                version,
                "pkg-config",
                shlex.split(run(tool, "--cflags", "libcurl") or ""),
                shlex.split(run(tool, "--libs", "libcurl") or "-lcurl"),
            )
        elif version := run("curl-config", "--version"):
            flags = Flags(
                version.removeprefix("libcurl").strip(),
                "curl-config",
                shlex.split(run("curl-config", "--cflags") or ""),
                shlex.split(run("curl-config", "--libs") or "-lcurl"),
            )
    if flags is None:
        raise SystemExit(f"llmcurl: libcurl's development files are not installed: {ADVICE}.")
    if _number(flags.version) < MINIMUM:
        raise SystemExit(
            f"llmcurl: libcurl {flags.version} ({flags.source}) is too old, "
            f"{'.'.join(map(str, MINIMUM))} or newer is needed: install a newer one and set "
            "LLMCURL_CURL_PREFIX to the prefix it is in."
        )
    return flags


def find_openssl(curl: Flags) -> Flags | None:
    """OpenSSL's flags, preferably those of libcurl's own prefix; None when it is not there."""
    prefix = chosen_prefix()
    libs = ["-lssl", "-lcrypto"]
    if prefix and (prefix / "include" / "openssl" / "ssl.h").is_file():
        # -I and -L of the prefix are in libcurl's flags already
        return Flags("", curl.source, [], libs)
    tool = _pkg_config()
    version = run(tool, "--modversion", "openssl") if tool else None
    if tool and version:
        return Flags(
            version,
            "pkg-config",
            shlex.split(run(tool, "--cflags", "openssl") or ""),
            shlex.split(run(tool, "--libs", "openssl") or " ".join(libs)),
        )
    probe = "#include <openssl/ssl.h>\nvoid *lc_probe(void) { return SSL_CTX_new(TLS_method()); }\n"
    if accepts([*curl.cflags, *curl.libs, *libs], probe):
        return Flags("", "compiler", [], libs)
    return None


def main() -> None:
    curl = find_curl()
    openssl = find_openssl(curl)
    print("libcurl", curl.version, "from", curl.source)
    print("  cflags", shlex.join(curl.cflags))
    print("  libs  ", shlex.join(curl.libs))
    if openssl:
        print("openssl", openssl.version, "from", openssl.source)
        print("  cflags", shlex.join(openssl.cflags))
        print("  libs  ", shlex.join(openssl.libs))
    else:
        print("openssl not found: certificates are loaded by libcurl for each connection")


if __name__ == "__main__":
    main()
