"""Where the memory of a waiting call lies: heap by what asked for it, counted by valgrind's massif.

    python benchmarks/micro/memory.py            prints the tables
    python benchmarks/micro/memory.py --write    replaces MEMORY.md

Two numbers of waiting calls are subtracted, so that what is there once drops out. The heap is what was asked for;
what is resident is less where pages were never touched (libcurl's receive buffer), and more by the allocator's
own losses: the scenarios wait-* measure that. Not its job: instructions (run.py).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import environment  # noqa: E402
from origin import Origin  # noqa: E402

TABLE = HERE / "MEMORY.md"
#: The first that is found in a call stack, from the allocation outwards.
PARTS = (
    (
        "libcurl: receive buffer of a lane, its pages are taken as they are used",
        "Curl_multi_xfer_buf_borrow",
    ),
    (
        "libcurl: send buffers",
        "get_spare|get_non_full_tail|^Curl_bufq_write|^Curl_bufq_sipn|req_send_buffer_add|Curl_req_send$|Curl_get_upload_buffer",
    ),
    ("libcurl: TLS", "^SSL_|^ssl_|^tls_|^CRYPTO_|ossl_|^X509|^EVP_|^BIO_"),
    ("libcurl: HTTP/2 (nghttp2 and libcurl's streams)", "^nghttp2_|cf_h2|h2_|http2"),
    ("libcurl: CURLM of a lane", "^curl_multi_init|^Curl_multi_handle|^Curl_hash_init|sockhash"),
    (
        "libcurl: easy handle",
        "^curl_easy_init|^Curl_open|^curl_easy_setopt|^Curl_vsetopt|^Curl_setstropt",
    ),
    (
        "libcurl: connection",
        "allocate_conn|^Curl_connect$|create_conn|url_create_needle|cf_.*create|Curl_conn|Curl_cf_|cpool",
    ),
    ("libcurl: request, the rest", "^Curl_|^curl_|^multi_|^dyn_"),
    (
        "ours: transfer, slot, lane, socket table, timers",
        "^lc_|^Pool_|^Client_|^start$|^start_pools$",
    ),
    ("Python: Call, task, coroutine, frames", "Py|_asyncio|task_|gen_|frame"),
)


def categorize(stack: list[str]) -> str:
    for frame in stack:
        for title, pattern in PARTS:
            if re.search(pattern, frame):
                return title
    return "other"


def leaves(path: Path) -> dict[str, int]:
    """Bytes by part at the peak of a massif output file."""
    snapshots = path.read_text(errors="replace").split("#-----------\n")
    peak = next(s for s in snapshots if "heap_tree=peak" in s)
    out: dict[str, int] = {}
    stack: list[str] = []
    lines = [
        m.groups()
        for line in peak.splitlines()
        if (m := re.match(r"^( *)n(\d+): (\d+) (.*)$", line))
    ]
    for blanks, children, size, where in lines:
        depth = len(blanks)
        found = re.match(r"0x[0-9A-F]+: (\S+)", where)
        del stack[depth:]
        stack.append((found.group(1) if found else "").partition(".")[0])
        if children == "0":
            title = categorize(stack[1:] if found else [*stack[1:-1]])
            out[title] = out.get(title, 0) + int(size)
    return out


def massif(python: Path, lib: Path, spec: dict[str, object], calls: int) -> dict[str, int]:
    out = environment.BUILD / "micro" / f"memory-{calls}.massif"
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [
        "valgrind",
        "--tool=massif",
        f"--massif-out-file={out}",
        "--depth=40",
        "--threshold=0.05",
    ]
    env = {
        **os.environ,
        "PYTHONPATH": str(lib),
        "PYTHONMALLOC": "malloc",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "*",
    }
    run = [str(python), str(HERE / "loop.py"), json.dumps({**spec, "inflight": calls}), str(calls)]
    done = subprocess.run([*command, *run], capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return leaves(out)


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--write", action="store_true", help="replace MEMORY.md")
    p.add_argument("--python", type=Path, help="interpreter (build/bench-venv is made)")
    p.add_argument("--path", type=Path, help="a built llmcurl; by default this one is built")
    args = p.parse_args()
    environment.ensure_tools("valgrind")
    python = args.python or environment.ensure_python()
    lib = args.path or environment.build_package(python, environment.libcurl_prefix())
    info = environment.native_info(python, str(lib)) or {}
    few, many = 256, 1024
    text = [
        "# Memory of a waiting call",
        "",
        f"Bytes of heap for each of {many:,} calls of 1 KB that wait for their answer, less what {few} need; libcurl "
        f"{info.get('libcurl', '?')}, Python {environment.machine()['python']}, revision {environment.revision()}. "
        "Made by `make bench-memory ARGS=--write`; what is resident measure the scenarios `wait-*`.",
        "",
    ]
    with Origin(environment.BUILD / "origin") as origin:
        for title, protocol in (("HTTP/1.1", "h1"), ("HTTP/2 over TLS", "h2")):
            spec = {
                "client": "llmcurl",
                "mode": "closed",
                "url": origin.url(protocol, "/delay/15000"),
                "expect": str(origin.expect("/delay/1")),
                "ca": str(origin.ca) if protocol != "h1" else None,
                "http2": protocol == "h2",
            }
            small, big = (massif(python, lib, spec, n) for n in (few, many))
            rows = {k: (v - small.get(k, 0)) / (many - few) for k, v in big.items()}
            text += [f"## {title}", "", "| what | bytes |", "|---|---|"]
            text += [
                f"| {k} | {v:,.0f} |"
                for k, v in sorted(rows.items(), key=lambda i: -i[1])
                if v >= 20
            ]
            text += [f"| all | {sum(rows.values()):,.0f} |", ""]
    print("\n".join(text))
    if args.write:
        TABLE.write_text("\n".join(text))


if __name__ == "__main__":
    main()
