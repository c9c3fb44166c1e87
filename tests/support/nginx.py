"""A real nginx as the origin: plain and TLS, with a readable access log."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.tools import require_tool

START_SECONDS = 10.0

_CONFIG = """\
daemon off;
master_process off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile 1024;
events {{ worker_connections 256; }}
http {{
  log_format exact '$request_method $scheme://$http_host$request_uri $status $connection';
  access_log {folder}/access.log exact;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000;
  default_type text/plain;
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {leaf};
    ssl_certificate_key {leaf};
    root {folder}/html;
    location = /hello {{ return 200 "hello from nginx\\n"; }}
    location = /host {{ return 200 "$http_host\\n"; }}
    location = /header {{ return 200 "$http_x_test\\n"; }}
    location /status/404 {{ return 404 "not here\\n"; }}
{locations}
  }}
}}
"""


class Nginx:
    """`port`, `tls_port`, `html` (the folder it serves) and the lines of its access log."""

    def __init__(self, folder: Path, port: int, tls_port: int) -> None:
        self._log = folder / "access.log"
        self.html = folder / "html"
        self.port = port
        self.tls_port = tls_port

    @property
    def log(self) -> list[str]:
        """`METHOD scheme://host/path status connection`, a line for each request answered."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    async def wait_for_log(self, lines: int) -> list[str]:
        """nginx logs after the answer is out: wait until that many lines are there."""
        assert await until(lambda: len(self.log) >= lines, START_SECONDS), self.log
        return self.log


@asynccontextmanager
async def run_nginx(folder: Path, ca: OriginCA, *, names: tuple[str, ...] = ("localhost", "127.0.0.1"),
                    locations: str = "") -> AsyncIterator[Nginx]:
    """nginx with its files in `folder`. Its leaf is signed by `ca` for `names`; `locations` is added to the server."""
    binary = require_tool("nginx")
    port, tls_port = _free_ports(2)
    html = folder / "html"
    html.mkdir(parents=True, exist_ok=True)
    (html / "index.html").write_text("<h1>nginx</h1>\n")
    config, pid = folder / "nginx.conf", folder / "nginx.pid"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_CONFIG.format(folder=folder, port=port, tls_port=tls_port, leaf=ca.leaf(*names), user=user,
                                     locations=locations))
    process = await asyncio.create_subprocess_exec(
        binary, "-p", str(folder), "-c", str(config), "-e", str(folder / "start.log"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    try:
        # It writes the file once it listens; a port that accepts may be somebody else's.
        started = await until(lambda: process.returncode is not None or pid.exists(), START_SECONDS)
        assert started and process.returncode is None, (folder / "start.log").read_text()
        yield Nginx(folder, port, tls_port)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(START_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
