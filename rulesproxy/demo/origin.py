"""The servers behind the demo: they answer every GET with JSON that says who was asked, and for what."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

from rulesproxy.certs.authority import Authority
from rulesproxy.certs.contexts import ServerContexts

_HEAD_LIMIT = 64 * 1024
_PATIENCE = 30.0  # seconds


class Origin:
    """One server on a free port of 127.0.0.1; with `tls` it presents a certificate for whatever name is asked for."""

    def __init__(self, name: str, tls: ServerContexts | None = None) -> None:
        self.name = name
        self.port = 0
        #: (method and target, header fields) of every request, oldest first
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._tls = tls
        self._server: asyncio.Server

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=_HEAD_LIMIT, ssl=None if self._tls is None else _context(self._tls))
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head.decode("latin-1")))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the proxy left, or sent something that is none of the demo's requests
        finally:
            writer.close()

    def _answer(self, head: str) -> bytes:
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, _, rest = first.partition(" ")
        target = rest.rpartition(" ")[0]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.requests.append((f"{method} {target}", fields))
        body = json.dumps({"server": self.name, "host": fields.get("host", ""), "path": target, "price": 19}).encode()
        answer = (f"HTTP/1.1 200 OK\r\nServer: demo-{self.name}\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n").encode("latin-1")
        return answer if method == "HEAD" else answer + body


class Origins:
    """All servers of the demo: plain, with TLS, and one for staging. `ca` is the authority of the one with TLS."""

    def __init__(self, folder: Path) -> None:
        authority = Authority.load_or_create(folder)
        self.ca = authority.path
        self.plain = Origin("shop")
        self.secure = Origin("shop", ServerContexts(authority))
        self.staging = Origin("staging")
        self._all = (self.plain, self.secure, self.staging)

    async def start(self) -> None:
        for origin in self._all:
            await origin.start()

    async def stop(self) -> None:
        for origin in self._all:
            await origin.stop()

    @property
    def request_count(self) -> int:
        return sum(len(origin.requests) for origin in self._all)


def _context(contexts: ServerContexts) -> ssl.SSLContext:
    """Presents a leaf for the name in the ClientHello."""

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is not None:
            connection.context = contexts.for_host(name)

    context = contexts.for_host("localhost")
    context.sni_callback = choose
    return context
