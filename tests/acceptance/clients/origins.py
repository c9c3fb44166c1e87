"""Every origin the clients talk to, in one process: `python -m tests.acceptance.clients.origins HOST FOLDER LEAF`.

nginx (HTTP/1.1 or HTTP/2 without TLS, either in TLS), server-sent events, WebSocket and gRPC, each with a plain port
and one with TLS. Prints the ports as one line of JSON and serves until its standard input ends. What they answer says
over which HTTP they were asked; the words "plain words" are what rules change.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

WORDS = "plain words over"
#: A page is all a browser needs to have an origin of its own to connect from.
PAGE = f"<!doctype html><title>page</title><p>{WORDS} HTTP/1.1"
SECONDS = 20.0

_NGINX = """\
daemon off;
master_process off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile 1024;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  default_type text/plain;
  server {{
    listen {host}:{port};
    listen {host}:{h2c_port} http2;
    listen {host}:{tls_port} ssl http2;
    ssl_certificate {leaf};
    ssl_certificate_key {leaf};
    location / {{ return 200 "{words} $server_protocol\\n"; }}
  }}
}}
"""


async def web(host: str, folder: Path, leaf: Path) -> tuple[int, int, int, asyncio.subprocess.Process]:
    """nginx with the ports for HTTP/1.1, for HTTP/2 without TLS, and for TLS."""
    port, h2c_port, tls_port = _free_ports(host, 3)
    config, user = folder / "nginx.conf", "user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(folder=folder, host=host, port=port, h2c_port=h2c_port, tls_port=tls_port,
                                    leaf=leaf, user=user, words=WORDS))
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or "nginx"
    process = await asyncio.create_subprocess_exec(nginx, "-p", str(folder), "-c", str(config), "-e", "stderr",
                                                   stdin=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(SECONDS):
        while not (folder / "nginx.pid").exists():  # written when it listens
            assert process.returncode is None
            await asyncio.sleep(0.01)
    return port, h2c_port, tls_port, process


def _free_ports(host: str, count: int) -> list[int]:
    sockets = [socket.create_server((host, 0)) for _ in range(count)]
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Events:
    """`/events?X` sends one event at once and the second one when `/seen?X` has been asked for."""

    def __init__(self) -> None:
        self._seen: dict[str, asyncio.Event] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                while head := await reader.readuntil(b"\r\n\r\n"):
                    path, _, token = head.split()[1].decode().partition("?")
                    await self._answer(writer, path, self._seen.setdefault(token, asyncio.Event()))
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            pass  # the client has what it wanted
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, path: str, seen: asyncio.Event) -> None:
        if path != "/events":
            seen.set()
            body = PAGE.encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        _chunk(writer, f"data: {WORDS} HTTP/1.1\n\n")
        await writer.drain()
        await seen.wait()
        _chunk(writer, "data: second\n\n")
        _chunk(writer, "")


def _chunk(writer: asyncio.StreamWriter, text: str) -> None:
    writer.write(f"{len(text):x}\r\n{text}\r\n".encode())


async def talk(connection: ServerConnection) -> None:
    """Say something first, then echo."""
    await connection.send(f"{WORDS} HTTP/1.1")
    async for message in connection:
        await connection.send(message)


def page_or_upgrade(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/page":
        headers = Headers({"content-type": "text/html", "content-length": str(len(PAGE)), "connection": "close"})
        return Response(HTTPStatus.OK, "OK", headers, PAGE.encode())
    if request.path == "/bare":  # for whoever sees bytes only: no compression
        del request.headers["sec-websocket-extensions"]
    return None


class Greeter(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Unary, streaming, and a refusal that is nothing but trailers."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        match details.method:
            case "/test.Greeter/Unary":
                return grpc.unary_unary_rpc_method_handler(self._unary)
            case "/test.Greeter/Stream":
                return grpc.stream_stream_rpc_method_handler(self._stream)
            case _:
                return grpc.unary_unary_rpc_method_handler(self._refuse)

    async def _unary(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-trailer", "sent"),))
        return f"{WORDS} HTTP/2.0".encode()

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def _refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
        raise AssertionError


async def greeter(host: str, leaf: Path) -> tuple[int, int, grpc.aio.Server]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Greeter(),))
    pem = leaf.read_bytes()
    ports = (server.add_insecure_port(f"{host}:0"),
             server.add_secure_port(f"{host}:0", grpc.ssl_server_credentials([(pem, pem)])))
    await server.start()
    return *ports, server


@asynccontextmanager
async def origins(host: str, folder: Path, leaf: Path) -> AsyncIterator[dict[str, tuple[int, int]]]:
    """Their plain and TLS ports."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    context.set_alpn_protocols(["http/1.1"])
    plain, h2c, secured, nginx = await web(host, folder, leaf)
    *grpc_ports, server = await greeter(host, leaf)
    events = Events()
    pairs: dict[str, list[int]] = {"web": [plain, secured], "h2c": [h2c, secured], "grpc": grpc_ports, "events": [],
                                   "socket": []}
    for secure in (None, context):
        listener = await asyncio.start_server(events.serve, host, 0, ssl=secure)
        pairs["events"].append(listener.sockets[0].getsockname()[1])
        sockets = await serve(talk, host, 0, ssl=secure, process_request=page_or_upgrade)
        pairs["socket"].append(next(iter(sockets.sockets)).getsockname()[1])
    try:
        yield {kind: (plain, secure) for kind, (plain, secure) in pairs.items()}
    finally:
        await server.stop(None)
        nginx.terminate()
        await nginx.wait()


async def main(host: str, folder: str, leaf: str) -> None:
    async with origins(host, Path(folder), Path(leaf)) as ports:
        print(json.dumps(ports), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
