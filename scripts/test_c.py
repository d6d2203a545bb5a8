"""Compiles and runs the C tests of csrc/core: every tests/core/test_*.c is one program.

Each is linked with all of csrc/core under AddressSanitizer and UndefinedBehaviorSanitizer with
the assertions on, and passes when it exits with 0. Programs land in build/test-c and are only
rebuilt when something changed. `scripts/test_c.py [name ...]` runs those whose name contains one
of the words; tests/test_core.py runs the same programs under pytest.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from find_curl import compiler, find_curl, find_openssl

ROOT = Path(__file__).resolve().parent.parent
SUITE = ROOT / "tests" / "core"
CORE = ROOT / "csrc" / "core"
TIMEOUT = 300
CHECKS = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
WARNINGS = ["-Wall", "-Wextra", "-Wshadow"]
RUN_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


class BuildError(Exception):
    """The compiler's own words."""


def suites() -> list[str]:
    return sorted(path.stem for path in SUITE.glob("test_*.c"))


class Builder:
    def __init__(self) -> None:
        curl = find_curl()
        openssl = find_openssl(curl)
        self.cflags = ["-std=c11", "-g", "-O1", "-DLC_DEBUG=1", *WARNINGS, *CHECKS]
        self.cflags += ["-fno-sanitize-recover=undefined", f"-I{CORE}", f"-I{SUITE}"]
        self.cflags += [f"-DLC_HAVE_OPENSSL={1 if openssl else 0}", *curl.cflags]
        self.libs = [*CHECKS, *curl.libs]
        if openssl:
            self.cflags += openssl.cflags
            self.libs += openssl.libs
        self.libs += ["-lpthread", "-lm"]
        if os.environ.get("LLMCURL_WERROR", "") not in ("", "0"):
            self.cflags.append("-Werror")
        tag = hashlib.sha256(repr((compiler(), self.cflags, self.libs)).encode()).hexdigest()[:10]
        self.out = ROOT / "build" / "test-c" / tag
        self.out.mkdir(parents=True, exist_ok=True)
        headers = [*CORE.glob("*.h"), *SUITE.glob("*.h"), *SUITE.glob("*.inc")]
        self.newest = max(path.stat().st_mtime for path in headers)

    def call(self, *arguments: str) -> None:
        command = [*compiler(), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            raise BuildError(done.stderr)
        sys.stderr.write(done.stderr)

    def compile(self, source: Path) -> Path:
        obj = self.out / f"{source.stem}.o"
        wanted = max(self.newest, source.stat().st_mtime)
        if not obj.exists() or obj.stat().st_mtime <= wanted:
            part = obj.with_suffix(f".{os.getpid()}.o")
            self.call(*self.cflags, "-c", str(source.relative_to(ROOT)), "-o", str(part))
            part.replace(obj)
        return obj

    def core(self) -> list[Path]:
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            return list(threads.map(self.compile, sorted(CORE.glob("*.c"))))

    def program(self, name: str, core: list[Path]) -> Path:
        """The test program `name`, up to date."""
        objects = [self.compile(SUITE / f"{name}.c"), *core]
        program = self.out / name
        wanted = max(obj.stat().st_mtime for obj in objects)
        if not program.exists() or program.stat().st_mtime < wanted:
            part = program.with_suffix(f".{os.getpid()}")
            self.call(*map(str, objects), *self.libs, "-o", str(part))
            part.replace(program)
        return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    """Runs a test program in the checkout; its output is both streams together."""
    env = {**os.environ, **RUN_ENV}
    env.pop("LD_PRELOAD", None)
    return subprocess.run(
        [str(program)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        cwd=ROOT,
        env=env,
        timeout=TIMEOUT,
        check=False,
    )


def main(words: list[str]) -> int:
    names = [name for name in suites() if not words or any(word in name for word in words)]
    if not names:
        print("no C tests" + (f" match {' '.join(words)}" if words else ""))
        return 1 if words else 0
    builder = Builder()
    try:
        core = builder.core()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1

    def build(name: str) -> Path | str:
        try:
            return builder.program(name, core)
        except BuildError as error:
            return str(error)

    failed = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for name, program in zip(names, threads.map(build, names), strict=True):
            start = time.monotonic()
            if isinstance(program, str):
                verdict, output = "does not compile", program
            else:
                try:
                    done = run(program)
                    verdict = "ok" if done.returncode == 0 else f"exit code {done.returncode}"
                    output = done.stdout
                except subprocess.TimeoutExpired as error:
                    verdict, output = f"still running after {TIMEOUT} s", str(error.stdout or "")
            failed += verdict != "ok"
            if verdict != "ok":
                print(output)
            print(f"{name:<24} {verdict}  ({time.monotonic() - start:.2f} s)", flush=True)
    print(f"C tests: {len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
