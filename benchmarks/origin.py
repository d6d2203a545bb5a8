"""The origin: nginx with fixed answers over HTTP/1.1, TLS and HTTP/2.

Job: write the configuration, the certificates and the answers, start and stop nginx, read its CPU time.
Not its job: proving its speed (proof.py), measuring clients.

    python benchmarks/origin.py [--dir build/origin] [--workers 1]    runs until Ctrl-C

Paths: /chat (0.9 KB JSON), /delay/<ms>, /embeddings (1.5 MB JSON), /sse (400 events of 200 bytes in a burst),
/sse/each (each event alone on the wire), /sse/paced/<ms> (a pause before each event). /sdk-chat and /sdk-sse are
base addresses for an SDK, which adds /chat/completions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from answers import chat_answer, embeddings_answer, sse_answer

MODULE_DIRS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")

CONFIG = """
{load}
{user}
worker_processes {workers};
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
daemon off;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 3600;
    client_body_buffer_size 128k;
    client_max_body_size 64m;
    client_body_temp_path {dir}/tmp; proxy_temp_path {dir}/tmp; fastcgi_temp_path {dir}/tmp;
    uwsgi_temp_path {dir}/tmp; scgi_temp_path {dir}/tmp;
    http2_max_concurrent_streams 128;
    default_type application/json;
    tcp_nodelay on;
    sendfile on;
    output_buffers 4 64k;
    ssl_certificate {dir}/server.pem;
    ssl_certificate_key {dir}/server.key;
    ssl_session_cache shared:tls:20m;
    ssl_session_timeout 1h;
    ssl_protocols TLSv1.2 TLSv1.3;
    init_by_lua_block {{
        local function read(name)
            local f = assert(io.open("{dir}/" .. name, "rb"))
            local s = f:read("*a")
            f:close()
            return s
        end
        chat = read("chat.json")
        events = read("events.txt")
        one_event = {{}}
        for e in events:gmatch("[^\\n]+\\n\\n") do one_event[#one_event + 1] = e end
    }}
    server {{
        # HTTP/1.1, in clear and over TLS: the core discards the request body by itself.
        listen 127.0.0.1:{h1} backlog={backlog};
        listen 127.0.0.1:{tls} ssl backlog={backlog};
        location = /chat {{ return 200 '{chat}'; }}
        location = /sdk-chat/chat/completions {{ return 200 '{chat}'; }}
        {common}
    }}
    server {{
        # HTTP/2: an answer before the end of the request body would reset the stream, so the body is read.
        listen 127.0.0.1:{h2} ssl http2 backlog={backlog};
        location ~ ^/(sdk-chat/chat/completions|chat)$ {{
            content_by_lua_block {{
                ngx.req.read_body()
                ngx.header.content_length = #chat
                ngx.print(chat)
            }}
        }}
        {common}
    }}
}}
"""

COMMON = """
        location ~ ^/delay/(?<ms>[0-9]+)$ {{
            content_by_lua_block {{
                ngx.req.read_body()
                ngx.sleep(tonumber(ngx.var.ms) / 1000)
                ngx.header.content_length = #chat
                ngx.print(chat)
            }}
        }}
        location = /embeddings {{
            content_by_lua_block {{
                ngx.req.read_body()
                ngx.req.set_method(ngx.HTTP_GET)
                ngx.exec("/embeddings.json")
            }}
        }}
        location = /embeddings.json {{ internal; root {dir}; }}
        location ~ ^/(sse|sdk-sse/chat/completions)$ {{
            default_type text/event-stream;
            content_by_lua_block {{
                ngx.req.read_body()
                ngx.print(events)
            }}
        }}
        location = /sse/each {{
            default_type text/event-stream;
            content_by_lua_block {{
                ngx.req.read_body()
                for i = 1, #one_event do ngx.print(one_event[i]); ngx.flush(true) end
            }}
        }}
        location ~ ^/sse/paced/(?<ms>[0-9]+)$ {{
            default_type text/event-stream;
            content_by_lua_block {{
                ngx.req.read_body()
                local pause = tonumber(ngx.var.ms) / 1000
                for i = 1, #one_event do
                    ngx.sleep(pause)
                    ngx.print(one_event[i]); ngx.flush(true)
                end
            }}
        }}
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _run(*cmd: str) -> None:
    subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_certificates(where: Path) -> None:
    """An own authority (ca.pem) and a server certificate for localhost and 127.0.0.1, both on P-256."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    _run(
        "openssl",
        "req",
        "-x509",
        *curve,
        "-keyout",
        str(where / "ca.key"),
        "-out",
        str(where / "ca.pem"),
        "-days",
        "365",
        "-subj",
        "/CN=bench authority",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    )
    _run(
        "openssl",
        "req",
        *curve,
        "-keyout",
        str(where / "server.key"),
        "-out",
        str(where / "server.csr"),
        "-subj",
        "/CN=localhost",
    )
    (where / "server.ext").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"
        "keyUsage=digitalSignature\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    _run(
        "openssl",
        "x509",
        "-req",
        "-in",
        str(where / "server.csr"),
        "-CA",
        str(where / "ca.pem"),
        "-CAkey",
        str(where / "ca.key"),
        "-CAcreateserial",
        "-days",
        "365",
        "-extfile",
        str(where / "server.ext"),
        "-out",
        str(where / "server.pem"),
    )


class Origin:
    """A running nginx. `with Origin(dir) as o: o.url("h1", "/chat")`."""

    def __init__(self, where: Path, workers: int = 1, cpus: set[int] | None = None) -> None:
        self.dir = Path(where).resolve()
        self.workers = workers
        self.cpus = cpus
        self.ports: dict[str, int] = {}
        self.process: subprocess.Popen[bytes] | None = None

    # protocols: h1 (clear), tls (HTTP/1.1 over TLS), h2 (HTTP/2 over TLS)
    def url(self, protocol: str, path: str) -> str:
        scheme = "http" if protocol == "h1" else "https"
        return f"{scheme}://127.0.0.1:{self.ports[protocol]}{path}"

    @property
    def ca(self) -> Path:
        return self.dir / "ca.pem"

    def expect(self, path: str) -> Path:
        """The file that holds the answer of `path`."""
        if path == "/chat" or path.startswith("/delay"):
            return self.dir / "chat.json"
        return self.dir / ("embeddings.json" if path == "/embeddings" else "events.txt")

    def start(self) -> Origin:
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        modules = next(
            (Path(d) for d in MODULE_DIRS if (Path(d) / "ngx_http_lua_module.so").exists()), None
        )
        if not os.path.exists(nginx) or modules is None:
            raise SystemExit(
                "the origin needs nginx with its lua module: apt install nginx libnginx-mod-http-lua"
            )
        (self.dir / "tmp").mkdir(parents=True, exist_ok=True)
        (self.dir / "chat.json").write_bytes(chat_answer())
        (self.dir / "events.txt").write_bytes(sse_answer())
        if not (self.dir / "embeddings.json").exists():
            (self.dir / "embeddings.json").write_bytes(embeddings_answer())
        if not (self.dir / "server.pem").exists():
            make_certificates(self.dir)
        if os.getuid() == 0:
            # nginx drops its rights unless told otherwise, and must read this directory
            user = "user root;"
        else:
            user = ""
        self.ports = {name: free_port() for name in ("h1", "tls", "h2")}
        connections = min(100_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        load = [
            f"load_module {modules}/{m}.so;" for m in ("ndk_http_module", "ngx_http_lua_module")
        ]
        (self.dir / "nginx.conf").write_text(
            CONFIG.format(
                load="\n".join(load),
                user=user,
                workers=self.workers,
                dir=self.dir,
                connections=connections,
                backlog=65535,
                chat=chat_answer().decode(),
                common=COMMON.format(dir=self.dir),
                **self.ports,
            )
        )
        self.process = subprocess.Popen(
            [nginx, "-p", str(self.dir), "-c", str(self.dir / "nginx.conf")],
            stderr=subprocess.DEVNULL,
            preexec_fn=self._prepare,
        )
        self._wait_ready()
        return self

    def _prepare(self) -> None:
        """In the child, before nginx: as many descriptors as allowed, the cores asked for."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)

    def _wait_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                for port in self.ports.values():
                    socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise SystemExit(f"nginx did not start; see {self.dir}/error.log")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def cpu_seconds(self) -> list[float]:
        """User + system time of each worker so far."""
        assert self.process is not None
        tick = os.sysconf("SC_CLK_TCK")
        out = []
        children = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )
        for pid in children:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            out.append((int(fields[11]) + int(fields[12])) / tick)
        return out

    def version(self) -> str:
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        out = subprocess.run([nginx, "-v"], capture_output=True, text=True).stderr
        return out.strip().rpartition("/")[2]

    def __enter__(self) -> Origin:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def listen_overflows() -> int:
    """Connections the kernel dropped because a listen queue was full, since boot."""
    lines = Path("/proc/net/netstat").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        if names.startswith("TcpExt:"):
            return int(
                dict(zip(names.split(), values.split(), strict=True)).get("ListenOverflows", 0)
            )
    return 0


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--dir", type=Path, default=Path(__file__).resolve().parent.parent / "build" / "origin"
    )
    p.add_argument("--workers", type=int, default=1)
    args = p.parse_args()
    with Origin(args.dir, args.workers) as origin:
        print(
            json.dumps({"ca": str(origin.ca), **{n: origin.url(n, "") for n in origin.ports}}),
            flush=True,
        )
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
