"""Compiles and runs the C tests of csrc/core: tests/core/test_*.c and fuzz_*.c, a program each.

Each is linked with all of csrc/core under AddressSanitizer and UndefinedBehaviorSanitizer with
the assertions on, and passes when it exits with 0. A fuzz target is given the files of its corpus,
and mutations of them for as long as `--fuzz SECONDS` says. Programs land in build/test-c and are
only rebuilt when something changed. `scripts/test_c.py [name ...]` runs those whose name contains
one of the words; tests/test_core.py runs the same programs under pytest.

    --valgrind   without the sanitizers, under valgrind's memcheck
    --tsan       under ThreadSanitizer instead: the programs with threads
    --fuzz N     the fuzz targets, with libFuzzer where there is clang; what it finds to be new
                 is kept in build/fuzz. --engine own: our own mutations instead
"""

from __future__ import annotations

import argparse
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
CHECKS = {
    "asan": [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-fno-omit-frame-pointer",
    ],
    "tsan": ["-fsanitize=thread", "-fno-omit-frame-pointer"],
    "valgrind": [],
    "coverage": ["--coverage", "-fprofile-update=atomic"],
    "libfuzzer": ["-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=undefined"],
}
THREADED = ["test_threads"]
WARNINGS = ["-Wall", "-Wextra", "-Wshadow"]
RUN_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:handle_abort=2:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    # libcurl and OpenSSL are not instrumented: their own locks are not seen
    "TSAN_OPTIONS": "halt_on_error=0:exitcode=66:ignore_noninstrumented_modules=1:second_deadlock_stack=1",
}
MEMCHECK = [
    "valgrind",
    "-q",
    "--error-exitcode=9",
    "--leak-check=full",
    "--show-leak-kinds=definite",
    "--fair-sched=yes",
]


class BuildError(Exception):
    """The compiler's own words."""


def suites() -> list[str]:
    names = [path.stem for pattern in ("test_*.c", "fuzz_*.c") for path in SUITE.glob(pattern)]
    return sorted(name for name in names if name != "fuzz_main")


def corpus(name: str) -> list[str]:
    """The inputs of a fuzz target, which lie in a directory named like it."""
    inputs = SUITE / "corpus" / name.removeprefix("fuzz_")
    return sorted(str(path.relative_to(ROOT)) for path in inputs.iterdir() if path.is_file())


class Builder:
    def __init__(self, checks: str = "asan") -> None:
        self.checks = checks
        curl = find_curl()
        openssl = find_openssl(curl)
        self.cflags = ["-std=c11", "-g", "-O1", "-DLC_DEBUG=1", *WARNINGS, *CHECKS[checks]]
        self.cflags += [f"-I{CORE}", f"-I{SUITE}"]
        self.cflags += [f"-DLC_HAVE_OPENSSL={1 if openssl else 0}", *curl.cflags]
        sanitizers = [flag.replace("fuzzer-no-link", "fuzzer") for flag in CHECKS[checks]]
        self.libs = [*sanitizers, *curl.libs]
        if openssl:
            self.cflags += openssl.cflags
            self.libs += openssl.libs
        self.libs += ["-lpthread", "-lm"]
        if os.environ.get("LLMCURL_WERROR", "") not in ("", "0"):
            self.cflags.append("-Werror")
        tag = hashlib.sha256(
            repr((checks, compiler(), self.cflags, self.libs)).encode()
        ).hexdigest()[:10]
        self.out = ROOT / "build" / "test-c" / tag
        self.out.mkdir(parents=True, exist_ok=True)
        headers = [*CORE.glob("*.h"), *SUITE.glob("*.h"), *SUITE.glob("*.inc")]
        self.newest = max(path.stat().st_mtime for path in headers)

    def call(self, *arguments: str) -> None:
        command = [*(["clang"] if self.checks == "libfuzzer" else compiler()), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            raise BuildError(done.stderr)
        sys.stderr.write(done.stderr)

    def compile(self, source: Path) -> Path:
        obj = self.out / f"{source.stem}.o"
        wanted = max(self.newest, source.stat().st_mtime)
        if not obj.exists() or obj.stat().st_mtime <= wanted:
            part = obj.with_suffix(f".{os.getpid()}.o")
            # csrc/core says itself, file by file, what it needs beyond C11
            more = ["-D_GNU_SOURCE"] if source.parent == SUITE else []
            self.call(*self.cflags, *more, "-c", str(source.relative_to(ROOT)), "-o", str(part))
            part.replace(obj)
        return obj

    def core(self) -> list[Path]:
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            return list(threads.map(self.compile, sorted(CORE.glob("*.c"))))

    def program(self, name: str, core: list[Path]) -> Path:
        """The test program `name`, up to date."""
        objects = [self.compile(SUITE / f"{name}.c"), *core]
        if name.startswith("fuzz_") and self.checks != "libfuzzer":
            objects.append(self.compile(SUITE / "fuzz_main.c"))
        program = self.out / name
        wanted = max(obj.stat().st_mtime for obj in objects)
        if not program.exists() or program.stat().st_mtime < wanted:
            part = program.with_suffix(f".{os.getpid()}")
            self.call(*map(str, objects), *self.libs, "-o", str(part))
            part.replace(program)
        return program


def libfuzzer_arguments(name: str, fuzz: int, seed: int) -> list[str]:
    """New inputs are added to build/fuzz/NAME; the seeds are tests/core/corpus/NAME."""
    target = name.removeprefix("fuzz_")
    found = ROOT / "build" / "fuzz" / target
    found.mkdir(parents=True, exist_ok=True)
    words = SUITE / "corpus" / f"{target}.dict"
    return [
        f"-max_total_time={fuzz}", f"-seed={seed % 2**32}", "-print_final_stats=1", "-verbosity=0", "-max_len=4096",
        f"-artifact_prefix={found}/", *([f"-dict={words}"] if words.exists() else []),
        str(found), str(SUITE / "corpus" / target),
    ]  # fmt: skip


def run(
    program: Path, fuzz: int = 0, seed: int = 1, checks: str = "asan"
) -> subprocess.CompletedProcess[str]:
    """Runs a test program in the checkout; its output is both streams together."""
    arguments = []
    if checks == "libfuzzer":
        arguments = libfuzzer_arguments(program.name, fuzz, seed)
    elif program.name.startswith("fuzz_"):
        arguments = [str(fuzz), str(seed), *corpus(program.name)]
    env = {**os.environ, **RUN_ENV}
    env.pop("LD_PRELOAD", None)
    return subprocess.run(
        [*(MEMCHECK if checks == "valgrind" else []), str(program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        cwd=ROOT,
        env=env,
        timeout=TIMEOUT + fuzz,
        check=False,
    )


def has_libfuzzer() -> bool:
    """Whether clang can link a fuzz target."""
    probe = "int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n ? 0 : 0; }"
    try:
        done = subprocess.run(
            ["clang", "-fsanitize=fuzzer", "-x", "c", "-", "-o", os.devnull],
            input=probe, text=True, capture_output=True, check=False,
        )  # fmt: skip
    except OSError:
        return False
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("words", nargs="*", help="run the programs whose name contains one of them")
    parser.add_argument("--fuzz", type=int, default=0, metavar="SECONDS", help="fuzz targets only")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the mutations")
    parser.add_argument(
        "--engine",
        choices=["libfuzzer", "own"],
        help="of --fuzz; default: libfuzzer, if there is clang",
    )
    parser.add_argument(
        "--valgrind", action="store_true", help="memcheck in place of the sanitizers"
    )
    parser.add_argument(
        "--coverage", action="store_true", help="gcov's counters in place of the sanitizers"
    )
    parser.add_argument(
        "--tsan", action="store_true", help="ThreadSanitizer, programs with threads only"
    )
    args = parser.parse_args()
    words: list[str] = args.words
    names = [name for name in suites() if not words or any(word in name for word in words)]
    checks = (
        "tsan"
        if args.tsan
        else "valgrind"
        if args.valgrind
        else "coverage"
        if args.coverage
        else "asan"
    )
    if args.valgrind or args.coverage:  # the fuzz targets' driver needs a sanitizer
        names = [name for name in names if not name.startswith("fuzz_")]
    if args.tsan:
        names = [name for name in names if name in THREADED]
    if args.fuzz:
        names = [name for name in names if name.startswith("fuzz_")]
        engine = args.engine or ("libfuzzer" if has_libfuzzer() else "own")
        checks = "libfuzzer" if engine == "libfuzzer" else checks
        print(
            f"fuzzing with {'libFuzzer' if engine == 'libfuzzer' else 'our own mutations: no clang with libFuzzer here'}"
        )
    if not names:
        print("no C tests" + (f" match {' '.join(words)}" if words else ""))
        return 1 if words else 0
    builder = Builder(checks)
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
                    done = run(program, args.fuzz, args.seed, checks)
                    verdict = "ok" if done.returncode == 0 else f"exit code {done.returncode}"
                    output = done.stdout
                    if args.tsan and "unexpected memory mapping" in output:
                        verdict = "ok: not run, TSan does not know this kernel's address space"
                except subprocess.TimeoutExpired as error:
                    verdict, output = f"still running after {TIMEOUT} s", str(error.stdout or "")
            failed += not verdict.startswith("ok")
            if not verdict.startswith("ok") or args.fuzz:
                print(output)
            print(f"{name:<24} {verdict}  ({time.monotonic() - start:.2f} s)", flush=True)
    print(f"C tests: {len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
