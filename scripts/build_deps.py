"""Builds the libraries that a wheel carries, as static archives, into build/deps/prefix.

libcurl (HTTP and HTTPS only), nghttp2, OpenSSL, zlib, brotli, zstd: position-independent, symbols
hidden, from the releases pinned in scripts/pins.toml. Each is built again only when its pin, its
recipe, the compiler or a library before it changed; OpenSSL takes ten minutes of processor time,
the others one. setup.py links against the prefix as soon as it is complete.

  scripts/build_deps.py            build what is missing
  scripts/build_deps.py --sources  only get the sources
  scripts/build_deps.py --check    exit code 0 if everything is built
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import inspect
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import patch_curl
from fetch_source import ROOT, Pin, fetch, pins
from find_curl import accepts, compiler

DEPS = (ROOT / "build" / "deps").resolve()  # may be a link to that of another checkout
PREFIX = DEPS / "prefix"
CFLAGS = (
    "-O2 -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections -fstack-protector-strong"
)

# OpenSSL: TLS 1.2 and newer as a client, and what reads keys and certificates. Nothing is loaded
# at run time (providers, engines, configuration), so a wheel behaves the same everywhere.
OPENSSL = """no-shared no-tests no-apps no-docs no-module no-legacy no-engine no-autoload-config
no-pinshared no-comp no-dtls no-quic no-sctp no-srp no-ssl3 no-tls1 no-tls1_1 no-ssl-trace no-ts no-cmp
no-cms no-gost no-idea no-seed no-camellia no-aria no-bf no-cast no-md4 no-mdc2 no-rc2 no-rc4 no-rc5
no-rmd160 no-whirlpool no-sm2 no-sm3 no-sm4 no-slh-dsa no-uplink no-rfc3779""".split()

CURL = """--disable-shared --enable-static --with-pic --disable-docs --disable-manual --disable-libcurl-option
--disable-dict --disable-file --disable-ftp --disable-gopher --disable-imap --disable-ipfs --disable-ldap
--disable-ldaps --disable-mqtt --disable-pop3 --disable-rtsp --disable-smb --disable-smtp --disable-telnet
--disable-tftp --disable-websockets --disable-ntlm --disable-negotiate-auth --disable-kerberos-auth
--disable-aws --disable-sspi --disable-doh --disable-hsts --disable-alt-svc --disable-mime --disable-form-api
--disable-headers-api --disable-cookies
--disable-openssl-auto-load-config --enable-threaded-resolver --enable-unix-sockets --enable-ipv6
--without-ca-bundle --without-ca-path --without-libpsl --without-libidn2 --without-nghttp3
--without-ngtcp2 --without-libgsasl --without-zsh-functions-dir --without-fish-functions-dir""".split()


def say(text: str) -> None:
    print(f"deps: {text}", file=sys.stderr, flush=True)


def run(command: list[str], cwd: Path, **env: str) -> None:
    """Runs it with its output in a log; the end of the log is shown when it fails."""
    log = cwd / "llmcurl-build.log"
    with log.open("a") as file:
        print("+", shlex.join(command), file=file, flush=True)
        done = subprocess.run(
            command,
            cwd=cwd,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            check=False,
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SystemExit(f"{tail}\ndeps: {shlex.join(command)} failed, see {log}")


def make(cwd: Path, *targets: str, **env: str) -> None:
    run(["make", f"-j{os.cpu_count() or 1}", *targets], cwd, **env)


def cc() -> str:
    return shlex.join(compiler())


def install(source: Path, *where: str) -> None:
    """Copies it into a directory of the prefix, or to a name in it that ends in .txt."""
    target = PREFIX.joinpath(*where)
    (target.parent if target.suffix == ".txt" else target).mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def build_zlib(src: Path) -> None:
    run(["./configure", "--static"], src, CC=cc(), CFLAGS=CFLAGS)
    make(src, "libz.a")
    install(src / "libz.a", "lib")
    for header in ("zlib.h", "zconf.h"):
        install(src / header, "include")


def build_brotli(src: Path) -> None:
    """Only the decoder: two directories of C files."""
    objects = []
    for source in sorted([*src.glob("c/common/*.c"), *src.glob("c/dec/*.c")]):
        objects.append(f"{source.parent.name}_{source.stem}.o")
        flags = [*shlex.split(CFLAGS), "-Ic/include", "-c", str(source.relative_to(src))]
        run([*compiler(), *flags, "-o", objects[-1]], src)
    run(["ar", "crs", "libbrotlidec.a", *objects], src)
    # libcurl looks for the common half by its own name
    run(["ar", "crs", "libbrotlicommon.a", *(o for o in objects if o.startswith("common_"))], src)
    for archive in ("libbrotlidec.a", "libbrotlicommon.a"):
        install(src / archive, "lib")
    for header in (src / "c" / "include" / "brotli").glob("*.h"):
        install(header, "include", "brotli")


def build_zstd(src: Path) -> None:
    lib = src / "lib"
    visible = "-DZSTDLIB_VISIBLE= -DZSTDERRORLIB_VISIBLE="
    make(
        lib, "libzstd.a", "ZSTD_LIB_COMPRESSION=0", "ZSTD_LIB_DICTBUILDER=0", "ZSTD_LIB_DEPRECATED=0",
        CC=cc(), CFLAGS=f"{CFLAGS} {visible}",
    )  # fmt: skip
    install(lib / "libzstd.a", "lib")
    for header in ("zstd.h", "zstd_errors.h"):
        install(lib / header, "include")


def build_openssl(src: Path) -> None:
    # The prefix that ends up in the binary must be one that only root can write to: OpenSSL
    # takes it as the place of its default certificates.
    where = ["--prefix=/usr", "--libdir=lib", "--openssldir=/etc/ssl"]
    run(["perl", "Configure", *where, *OPENSSL], src, CC=cc(), CFLAGS=CFLAGS)
    make(src, "build_libs")
    stage = src / "stage"
    run(["make", "install_dev", f"DESTDIR={stage}"], src)
    shutil.copytree(
        stage / "usr" / "include" / "openssl", PREFIX / "include" / "openssl", dirs_exist_ok=True
    )
    for name in ("libssl", "libcrypto", "openssl"):
        if name != "openssl":
            install(stage / "usr" / "lib" / f"{name}.a", "lib")
        text = (stage / "usr" / "lib" / "pkgconfig" / f"{name}.pc").read_text()
        (PREFIX / "lib" / "pkgconfig").mkdir(parents=True, exist_ok=True)
        (PREFIX / "lib" / "pkgconfig" / f"{name}.pc").write_text(
            text.replace("prefix=/usr\n", f"prefix={PREFIX}\n")
        )


def build_nghttp2(src: Path) -> None:
    flags = [
        "--enable-lib-only",
        "--disable-shared",
        "--enable-static",
        "--with-pic",
        f"--prefix={PREFIX}",
    ]
    run(["./configure", *flags, f"--libdir={PREFIX}/lib"], src, CC=cc(), CFLAGS=CFLAGS)
    make(src, "install")


def build_curl(src: Path) -> None:
    parts = [f"--with-{name}={PREFIX}" for name in ("openssl", "nghttp2", "zlib", "brotli", "zstd")]
    # for setup.py, which optimizes over all files when it links; the usual code for those who do not
    whole = ["-flto=auto", "-ffat-lto-objects"]
    env = {
        "CC": cc(),
        "CFLAGS": " ".join([CFLAGS, *(whole if accepts(whole) else [])]),
        # curl.h lets it be chosen. It is the least size of a send buffer, which libcurl keeps until
        # the answer is there: with its own 16 KiB a waiting call takes twice the memory.
        "CPPFLAGS": f"-I{PREFIX}/include -DCURL_MAX_WRITE_SIZE=4096",
        "LDFLAGS": f"-L{PREFIX}/lib",
        "PKG_CONFIG_LIBDIR": f"{PREFIX}/lib/pkgconfig",
    }
    patch_curl.patch(src)
    run(["./configure", *CURL, *parts, f"--prefix={PREFIX}", f"--libdir={PREFIX}/lib"], src, **env)
    make(src / "lib", "install")
    make(src / "include", "install")
    run(["make", "install-pkgconfigDATA", "install-binSCRIPTS"], src)


RECIPES: dict[str, Callable[[Path], None]] = {
    "zlib": build_zlib,
    "brotli": build_brotli,
    "zstd": build_zstd,
    "openssl": build_openssl,
    "nghttp2": build_nghttp2,
    "curl": build_curl,
}


def meaning(code: object) -> str:
    """Its source without layout and comments: those change no library."""
    return ast.unparse(ast.parse(inspect.getsource(code)))  # type: ignore[arg-type]


def keys() -> dict[str, str]:
    """Digests of what each library's build depends on. libcurl's has those of all others in it."""
    ident = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=False)
    machine = (ident.stdout.partition("\n")[0], platform.machine(), platform.libc_ver())
    options = {"openssl": OPENSSL, "curl": (CURL, meaning(patch_curl))}
    found: dict[str, str] = {}
    for pin in pins():
        recipe = meaning(RECIPES[pin.name])
        parts = (pin, recipe, CFLAGS, options.get(pin.name), machine, str(PREFIX))
        needs = tuple(found.values()) if pin.name == "curl" else ()
        found[pin.name] = hashlib.sha256(repr((parts, needs)).encode()).hexdigest()[:16]
    return found


def is_built(name: str, key: str) -> bool:
    stamp = DEPS / "built" / name
    return stamp.is_file() and stamp.read_text() == key


def complete() -> bool:
    """Whether the prefix holds everything, as it is pinned now."""
    return all(is_built(name, key) for name, key in keys().items())


def unpack(pin: Pin, tarball: Path) -> Path:
    work = DEPS / "work" / pin.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with tarfile.open(tarball) as archive:
        archive.extractall(work, filter="tar")
    inner = [path for path in work.iterdir() if path.is_dir()]
    if len(inner) != 1:
        raise SystemExit(f"deps: {tarball} holds {len(inner)} directories instead of one")
    return inner[0]


def build(pin: Pin, key: str) -> None:
    stamp = DEPS / "built" / pin.name
    stamp.parent.mkdir(exist_ok=True)
    stamp.unlink(missing_ok=True)
    say(f"building {pin.name} {pin.version}")
    source = unpack(pin, fetch(pin, DEPS / "sources"))
    RECIPES[pin.name](source)
    licenses = [path for name in ("LICENSE*", "COPYING*") for path in sorted(source.glob(name))]
    install(licenses[0], "licenses", f"{pin.name}.txt")
    shutil.rmtree(DEPS / "work" / pin.name)
    stamp.write_text(key)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sources", action="store_true", help="only get the sources")
    parser.add_argument("--check", action="store_true", help="tell by the exit code")
    args = parser.parse_args()
    if args.check:
        return 0 if complete() else 1
    DEPS.mkdir(parents=True, exist_ok=True)
    with (DEPS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = keys()
        for pin in pins():
            if args.sources:
                print(fetch(pin, DEPS / "sources"))
            elif not is_built(pin.name, wanted[pin.name]):
                build(pin, wanted[pin.name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
