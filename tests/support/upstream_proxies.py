"""Upstream proxies on real sockets, as scripts for `run_origin`: naive, strict about what they are asked, and talkative
about what they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rulesproxy.model.effects import Via
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.tls import Tunnel
from tests.support.origin import SECONDS, Origin, OriginConnection, RawRequest, Script, run_origin

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Through:
    """An addon that sends everything through one proxy, as a rule does: tunnels at connect, requests by themselves."""

    def __init__(self, via: Via) -> None:
        self.via = via

    def http_connect(self, flow: HTTPFlow) -> None:
        flow.via = self.via

    def requestheaders(self, flow: HTTPFlow) -> None:
        flow.via = self.via

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        return False

    def tls_decision(self, tunnel: Tunnel) -> None:
        return None


@dataclass
class Asked:
    """What a proxy was asked, in order: the heads of CONNECTs, or `user:password` and `host:port` of SOCKS clients."""

    connects: list[RawRequest] = field(default_factory=list)
    auth: list[tuple[str, str]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


def connect_proxy(asked: Asked, answer: bytes = ESTABLISHED, *, instead: tuple[str, int] | None = None,
                  together: bool = False) -> Script:
    """Answers one CONNECT per connection; with a 2xx the bytes then go to the target (or to `instead`). `together`: the
    server speaks first, and its first bytes come with the answer."""

    async def script(connection: OriginConnection) -> None:
        request = await connection.read_head()
        asked.connects.append(request)
        assert request.method == b"CONNECT", request.line
        host, _, port = request.target.decode().rpartition(":")
        asked.targets.append(f"{host}:{port}")
        if answer.rpartition(b"HTTP/1.")[2][1:3] != b" 2":
            await connection.send(answer)
            await connection.read_to_end()
            return
        await _splice(connection, instead or (host.strip("[]"), int(port)), answer, together)

    return script


def socks_proxy(asked: Asked, *, auth: tuple[str, str] | None = None, reply: int = 0,
                instead: tuple[str, int] | None = None, dribble: bool = False, together: bool = False) -> Script:
    """SOCKS5 (RFC 1928): CONNECT only. With `auth` nobody else gets in. `dribble` answers byte by byte."""

    async def send(connection: OriginConnection, data: bytes) -> None:
        for piece in ([data[i:i + 1] for i in range(len(data))] if dribble else [data]):
            await connection.send(piece)
            await asyncio.sleep(0)

    async def script(connection: OriginConnection) -> None:
        version, count = await connection.read_exactly(2)
        assert version == 5
        methods = await connection.read_exactly(count)
        wanted = 0 if auth is None else 2
        if wanted not in methods:
            await send(connection, b"\x05\xff")
            return
        await send(connection, bytes((5, wanted)))
        if auth is not None and not await _authenticate(connection, asked, auth):
            return
        assert await connection.read_exactly(3) == b"\x05\x01\x00"
        host, port = await _read_address(connection)
        asked.targets.append(f"{host}:{port}")
        if reply:
            await send(connection, bytes((5, reply, 0, 1, 0, 0, 0, 0, 0, 0)))
            return
        established = b"\x05\0\0\x01\x7f\0\0\x01\x1f\x90"
        await send(connection, established[:-1])  # the last byte comes with the tunnel
        await _splice(connection, instead or (host, port), established[-1:], together)

    return script


async def _authenticate(connection: OriginConnection, asked: Asked, auth: tuple[str, str]) -> bool:
    assert await connection.read_exactly(1) == b"\x01"
    user = (await connection.read_exactly((await connection.read_exactly(1))[0])).decode()
    password = (await connection.read_exactly((await connection.read_exactly(1))[0])).decode()
    asked.auth.append((user, password))
    await connection.send(b"\x01\0" if (user, password) == auth else b"\x01\x01")
    return (user, password) == auth


async def _read_address(connection: OriginConnection) -> tuple[str, int]:
    kind = (await connection.read_exactly(1))[0]
    match kind:
        case 1:
            host = ".".join(map(str, await connection.read_exactly(4)))
        case 3:
            host = (await connection.read_exactly((await connection.read_exactly(1))[0])).decode()
        case _:
            raise AssertionError(f"address type {kind}")
    return host, int.from_bytes(await connection.read_exactly(2), "big")


async def _splice(connection: OriginConnection, to: tuple[str, int], first: bytes, together: bool) -> None:
    """`first`, then the bytes of both sides until either ends. `together`: `first` waits for the server to speak."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(*to)

    async def back() -> None:
        await connection.send(first + (await reader.read(65536) if together else b""))
        while data := await reader.read(65536):
            await connection.send(data)

    async def forth() -> None:
        while True:
            writer.write(await connection.read_some())

    tasks = [asyncio.ensure_future(forth()), asyncio.ensure_future(back())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        writer.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def run_proxy_script(script: Script, scheme: str = "http", **options: Any) -> AsyncIterator[tuple[Origin, Via]]:
    """A scripted proxy, and the way through it."""
    async with run_origin(script, **options) as origin:
        yield origin, Via(scheme, "localhost" if options.get("tls") else "127.0.0.1", origin.port)
