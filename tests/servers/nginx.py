"""Debian's nginx as a private process in a temporary directory: HTTP/1.1, h2c, TLS with HTTP/1.1, TLS with HTTP/2.

Job: write the configuration, start nginx on free ports, wait until it answers, stop it. Works as root and not.
Not its job: misbehaviour (chaos.py). The locations are listed in `CONFIG`.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import subprocess
import time
from pathlib import Path

BIG = 1 << 30  # size of /big

CONFIG = r"""
daemon off;
master_process on;
worker_processes 1;
worker_rlimit_nofile @NOFILE@;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log warn;
@USER@
@MODULES@
events { worker_connections @CONNECTIONS@; multi_accept on; }
http {
  access_log off;
  server_tokens off;
  default_type application/octet-stream;
  client_body_temp_path @DIR@/body; proxy_temp_path @DIR@/proxy; fastcgi_temp_path @DIR@/fastcgi;
  uwsgi_temp_path @DIR@/uwsgi; scgi_temp_path @DIR@/scgi;
  keepalive_timeout 600s; keepalive_requests 1000000000;
  client_header_timeout 600s; client_body_timeout 600s; send_timeout 600s; reset_timedout_connection on;
  client_max_body_size 0; large_client_header_buffers 8 128k;
  http2_max_concurrent_streams 128; http2_recv_buffer_size 256k;
  sendfile on; tcp_nodelay on;
  ssl_certificate @CERT@; ssl_certificate_key @KEY@; ssl_session_cache shared:tls:4m;
  gzip_min_length 1; gzip_types *;
  lua_shared_dict counts 1m;
  server {
    listen 127.0.0.1:@HTTP@ backlog=65535;
    listen 127.0.0.1:@H2C@ http2 backlog=65535;
    listen 127.0.0.1:@HTTPS@ ssl backlog=65535;
    listen 127.0.0.1:@HTTPS2@ ssl http2 backlog=65535;
    server_name _;
    set_by_lua_block $counted { return ngx.shared.counts:incr(ngx.var.uri, 1, 0) }
    location = /ready { return 204; }
    location = /json { default_type application/json; return 200 '{"ok":true,"text":"caf\u00e9","numbers":[1,2,3]}'; }
    # answers once ?n= requests with the same ?as= came
    location = /meet {
      content_by_lua_block {
        local counts, key = ngx.shared.counts, "meet " .. ngx.var.arg_as
        counts:incr(key, 1, 0)
        while counts:get(key) < tonumber(ngx.var.arg_n) do ngx.sleep(0.02) end
        ngx.print("met")
      }
    }
    # ?ms= latency; answers like a small chat completion
    location = /delay {
      default_type application/json;
      content_by_lua_block {
        ngx.req.read_body()
        ngx.sleep((tonumber(ngx.var.arg_ms) or 1000) / 1000)
        local body = '{"ok":true,"ms":' .. (ngx.var.arg_ms or "1000") .. '}'
        ngx.header["Content-Length"] = #body
        ngx.print(body)
      }
    }
    # the body as it came; method, target and version in X- headers
    location = /echo {
      client_body_buffer_size 1m;
      content_by_lua_block {
        ngx.req.read_body()
        local body = ngx.req.get_body_data()
        if not body then
          local name = ngx.req.get_body_file()
          if name then local f = io.open(name, "rb"); body = f:read("*a"); f:close() else body = "" end
        end
        ngx.header["Content-Type"] = ngx.var.content_type or "application/octet-stream"
        ngx.header["Content-Length"] = #body
        ngx.header["X-Method"] = ngx.req.get_method()
        ngx.header["X-Target"] = ngx.var.request_uri
        ngx.header["X-Version"] = tostring(ngx.req.http_version())
        ngx.header["X-Length"] = ngx.var.http_content_length or ""
        ngx.print(body)
      }
    }
    # the request's headers, "name: value" lines, names in lower case
    location = /headers {
      default_type text/plain;
      content_by_lua_block {
        local out = {}
        for name, value in pairs(ngx.req.get_headers(0)) do
          if type(value) ~= "table" then value = {value} end
          for _, v in ipairs(value) do out[#out + 1] = name .. ": " .. tostring(v) end
        end
        table.sort(out)
        ngx.say(table.concat(out, "\n"))
      }
    }
    location = /query { default_type text/plain; return 200 $request_uri; }
    location = /gzip { gzip on; default_type text/plain; content_by_lua_block { ngx.print(string.rep("hello world ", 5000)) } }
    location = /big { alias @DIR@/big; }
    # ?n= bytes in chunks, generated; chunked encoding
    location = /bytes {
      content_by_lua_block {
        local left, block = tonumber(ngx.var.arg_n) or 1024, string.rep("x", 65536)
        while left > 0 do
          local n = math.min(left, #block)
          ngx.print(n == #block and block or block:sub(1, n))
          ngx.flush(true)
          left = left - n
        end
      }
    }
    # reads the body to its end without keeping it and answers with the number of bytes
    location = /upload {
      default_type text/plain;
      client_body_buffer_size 256k;
      content_by_lua_block {
        local total = 0
        if ngx.req.http_version() < 2 and ngx.var.http_content_length and tonumber(ngx.var.http_content_length) > 0 then
          local sock = ngx.req.socket()
          while true do
            local data, err, part = sock:receive(262144)
            if data then total = total + #data else
              if part then total = total + #part end
              break
            end
          end
        else
          ngx.req.read_body()
          local data, name = ngx.req.get_body_data(), ngx.req.get_body_file()
          if data then total = #data elseif name then
            local f = io.open(name, "rb"); total = f:seek("end"); f:close()
          end
        end
        ngx.say(total)
      }
    }
    # ?n= hops
    location = /redirect {
      content_by_lua_block {
        local n = tonumber(ngx.var.arg_n) or 1
        return ngx.redirect(n > 1 and ("/redirect?n=" .. (n - 1)) or "/json", tonumber(ngx.var.arg_code) or 302)
      }
    }
    location = /set-cookie { add_header Set-Cookie "$arg_name=$arg_value; Path=/"; add_header Set-Cookie "second=2; Path=/"; return 200 "ok"; }
    location = /basic {
      content_by_lua_block {
        if ngx.var.http_authorization ~= "Basic dXNlcjpzM2NyZXQ=" then
          ngx.header["WWW-Authenticate"] = 'Basic realm="test"'
          return ngx.exit(401)
        end
        ngx.say("welcome")
      }
    }
    location ~ ^/status/(?<code>\d+)$ { content_by_lua_block { ngx.status = tonumber(ngx.var.code); ngx.exit(ngx.status) } }
    location = /close { keepalive_timeout 0; return 200 "closing"; }
    # ?n= events, ?ms= apart
    location = /sse {
      default_type text/event-stream;
      content_by_lua_block {
        local n, ms = tonumber(ngx.var.arg_n) or 5, tonumber(ngx.var.arg_ms) or 0
        for i = 1, n do
          ngx.print("id: " .. i .. "\ndata: {\"n\":" .. i .. "}\n\n")
          ngx.flush(true)
          if ms > 0 then ngx.sleep(ms / 1000) end
        end
        ngx.print("data: [DONE]\n\n")
      }
    }
    location = /count { default_type text/plain; content_by_lua_block { ngx.print(ngx.shared.counts:get(ngx.unescape_uri(ngx.var.arg_path)) or 0) } }
    location = /stub_status { stub_status; }
  }
}
"""


class Missing(Exception):
    """nginx or its lua module is not installed."""


def _find() -> tuple[str, str]:
    """The load_module lines and the binary."""
    binary = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise Missing(
            "nginx is not installed (Debian: apt-get install nginx libnginx-mod-http-lua)"
        )
    version = subprocess.run([binary, "-V"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"--modules-path=(\S+)", version)
    folder = Path(found.group(1) if found else "/usr/lib/nginx/modules")
    names = ["ndk_http_module.so", "ngx_http_lua_module.so"]
    for name in names:
        if not (folder / name).exists():
            raise Missing(f"nginx has no {name} (Debian: apt-get install libnginx-mod-http-lua)")
    return "".join(f"load_module {folder / name};\n" for name in names), binary


def _dies_with_us() -> list[str]:
    """Words before a command that end it when the test run is killed."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def _free_ports(n: int) -> list[int]:
    socks = [socket.socket() for _ in range(n)]
    try:
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]
    finally:
        for sock in socks:
            sock.close()


class Nginx:
    def __init__(self, folder: Path, cert: Path, key: Path) -> None:
        self.folder = Path(folder)
        self.cert, self.key = cert, key
        self.process: subprocess.Popen | None = None
        self._own = 0

    def start(self) -> Nginx:
        modules, binary = _find()
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "big", "wb") as big:
            big.truncate(BIG)
        nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if nofile == resource.RLIM_INFINITY:
            nofile = 1 << 20
        for _ in range(5):  # a port may be taken between our look and nginx's bind
            ports = _free_ports(4)
            values = {
                "DIR": self.folder, "MODULES": modules, "CERT": self.cert, "KEY": self.key,
                "USER": "user root root;" if os.geteuid() == 0 else "",
                "NOFILE": nofile, "CONNECTIONS": min(nofile, 65536),
                "HTTP": ports[0], "H2C": ports[1], "HTTPS": ports[2], "HTTPS2": ports[3],
            }  # fmt: skip
            text = re.sub(
                r"@([A-Z0-9]+)@", lambda m, values=values: str(values[m.group(1)]), CONFIG
            )
            (self.folder / "nginx.conf").write_text(text)
            command = [
                *_dies_with_us(),
                binary,
                "-p",
                str(self.folder),
                "-c",
                str(self.folder / "nginx.conf"),
                "-e",
                str(self.folder / "error.log"),
            ]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},  # a sanitizer, perhaps
            )  # fmt: skip
            if self._wait_ready(ports):
                break
        else:
            raise RuntimeError("nginx does not start:\n" + self.log())
        self.http_port, self.h2c_port, self.https_port, self.https2_port = ports
        self.http = f"http://127.0.0.1:{ports[0]}"
        self.h2c = f"http://127.0.0.1:{ports[1]}"
        self.https = f"https://127.0.0.1:{ports[2]}"
        self.https2 = f"https://127.0.0.1:{ports[3]}"
        return self

    def _wait_ready(self, ports: list[int]) -> bool:
        deadline = time.monotonic() + 30
        for port in ports:
            while True:
                if self.process.poll() is not None:
                    return False
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        self.stop()
                        return False
                    time.sleep(0.005)
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
            self.process = None

    def log(self) -> str:
        path = self.folder / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def get(self, path: str) -> bytes:
        """One plain request over a connection of its own, for counters."""
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=20) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            data = b""
            while piece := sock.recv(65536):
                data += piece
        return data.partition(b"\r\n\r\n")[2]

    def count(self, path: str) -> int:
        """How many requests this path has had."""
        return int(self.get(f"/count?path={path}"))

    def accepted(self) -> int:
        """Connections accepted so far, without the ones this method makes."""
        self._own += 1
        return int(self.get("/stub_status").split(b"\n")[2].split()[0]) - self._own

    def __enter__(self) -> Nginx:
        return self.start()

    def __exit__(self, *exc) -> None:
        self.stop()
