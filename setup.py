"""Builds llmcurl._native from csrc/. Everything else is in pyproject.toml.

Environment, and nothing else:
  LLMCURL_CURL_PREFIX  build against the libcurl in this prefix (shared, or static if only
                       libcurl.a is there)
  LLMCURL_SYSTEM_CURL=1  build against the system's, although scripts/build_deps.py has made ours
  LLMCURL_WERROR=1     warnings are errors
  LLMCURL_DEBUG=1      -O0, assertions and invariant checks
  LLMCURL_SANITIZE=1   the same checks under AddressSanitizer and UndefinedBehaviorSanitizer;
                       =thread: under ThreadSanitizer
  LLMCURL_COVERAGE=1   gcov
  LLMCURL_FAULT=1      each call that can fail does, when tests/fault asks for it (csrc/fault)
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "scripts"))

from find_curl import DEPS, accepts, chosen_prefix, compiler, find_curl, find_openssl  # noqa: E402


def switch(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def files(*patterns: str) -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for pat in patterns for p in ROOT.glob(pat))


class BuildExt(build_ext):
    """Finds the libraries when a build is asked for, and compiles only what changed."""

    def build_extensions(self) -> None:
        if not sys.platform.startswith("linux"):
            raise SystemExit("llmcurl: only Linux is supported, the reactor stands on epoll.")
        compiler()
        if not Path(sysconfig.get_path("include"), "Python.h").is_file():
            name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
            raise SystemExit(
                f"llmcurl: Python.h is missing: install {name}-dev (Debian, Ubuntu), "
                "python3-devel (Fedora) or python3-dev (Alpine)."
            )
        for ext in self.extensions:
            self.prepare(ext)
        # an extension has no use for the run paths that its Python was linked with
        self.compiler.linker_so = [
            word for word in self.compiler.linker_so if not word.startswith("-Wl,-rpath")
        ]
        self.compile_all = self.compiler.compile
        self.compiler.compile = self.compile_changed
        super().build_extensions()

    def prepare(self, ext: Extension) -> None:
        curl = find_curl()
        openssl = find_openssl(curl)
        cflags = ["-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wshadow"]
        libs: list[str] = []
        sanitize, debug = switch("LLMCURL_SANITIZE"), switch("LLMCURL_DEBUG")
        if switch("LLMCURL_WERROR"):
            cflags.append("-Werror")
        if sanitize:
            threads = os.environ["LLMCURL_SANITIZE"] == "thread"
            kinds = "thread" if threads else "address,undefined"
            checks = [f"-fsanitize={kinds}", "-fno-omit-frame-pointer"]
            cflags += ["-O1", "-g", *checks]
            if not threads:
                cflags.append("-fno-sanitize-recover=undefined")
            libs += checks
        elif debug:
            cflags += ["-O0", "-g3", "-U_FORTIFY_SOURCE"]
        else:
            cflags.append("-O2")
        if sanitize or debug:
            # Python's own flags bring NDEBUG along, which would switch assert() off
            cflags += ["-UNDEBUG", "-DLC_DEBUG=1"]
        if switch("LLMCURL_COVERAGE"):
            cflags += ["--coverage", "-fprofile-update=atomic"]
            libs.append("--coverage")
        # our own libcurl.a has both kinds of code; what it has for link-time optimization is of use
        # to the compiler that made it only
        probe = (
            "int curl_strequal(const char *, const char *);\n"
            'int lc_probe(void) { return curl_strequal("a", "b"); }\n'
        )
        plain = sanitize or debug or switch("LLMCURL_COVERAGE")
        for lto in ("-fno-lto",) if plain else ("-flto=auto", "-flto", "-fno-lto"):
            if accepts([lto, "-O2", *curl.libs], probe):
                cflags.append(lto)
                libs += [lto] if plain else [lto, "-O2"]
                break
        if switch("LLMCURL_FAULT"):
            ext.sources = [*ext.sources, *files("csrc/fault/*.c")]
            ext.include_dirs = [*ext.include_dirs, "csrc/fault"]
            cflags += ["-include", "csrc/fault/lc_fault.h", "-Wno-unused-value", "-Wno-shadow"]
        cflags.append(f"-DLC_HAVE_OPENSSL={1 if openssl else 0}")
        cflags += curl.cflags + (openssl.cflags if openssl else [])
        libs += curl.libs + (openssl.libs if openssl else [])
        ext.extra_compile_args = cflags
        ext.extra_link_args = libs
        # in front of the directories that Python was linked with
        ext.library_dirs = [word[2:] for word in libs if word.startswith("-L")]
        # objects of different flags live in different directories; linking is always done anew
        key = (cflags, curl.version, compiler(), sysconfig.get_config_var("SOABI"), sys.prefix)
        tag = hashlib.sha256(repr(key).encode()).hexdigest()[:10]
        self.build_temp = os.path.join("build", "objects", tag)
        self.force = True
        print(
            f"llmcurl: libcurl {curl.version} from {curl.source}, "
            f"OpenSSL {'yes' if openssl else 'no'}"
        )

    def compile_changed(self, sources, output_dir=None, depends=None, **options):
        """Compiles, in parallel, the sources that are newer than their object file."""
        objects = self.compiler.object_filenames(sources, output_dir=output_dir)
        newest = max((os.path.getmtime(h) for h in depends or ()), default=0.0)
        stale = []
        for source, obj in zip(sources, objects, strict=True):
            wanted = max(newest, os.path.getmtime(source))
            if not os.path.exists(obj) or os.path.getmtime(obj) <= wanted:
                os.makedirs(os.path.dirname(obj), exist_ok=True)
                stale.append(source)

        def one(source: str) -> None:
            self.compile_all([source], output_dir=output_dir, depends=depends, **options)

        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            list(threads.map(one, stale))
        return objects


def licenses() -> list[str]:
    """Those of the libraries that are linked in; a wheel has to carry them."""
    if "bdist_wheel" in sys.argv and chosen_prefix() == DEPS / "prefix":
        return files("build/deps/prefix/licenses/*.txt")
    return []


setup(
    license_files=licenses(),
    ext_modules=[
        Extension(
            "llmcurl._native",
            sources=files("csrc/core/*.c", "csrc/py/*.c"),
            include_dirs=["csrc/core", "csrc/py"],
            depends=["setup.py", *files("csrc/*/*.h")],
        )
    ],
    cmdclass={"build_ext": BuildExt},
)
