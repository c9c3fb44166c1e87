"""A load generator of raw keep-alive clients, each on one connection that must never be closed on it."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.acceptance.command import SECONDS

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answered:
    """One exchange: when its first byte was sent, when its last one was received (`time.monotonic`), and the answer."""

    sent: float
    received: float
    head: bytes
    body: bytes


async def connect(proxy_port: int, tls_to: str = "", trust: ssl.SSLContext | None = None
                  ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the proxy; with `tls_to` (`host:port`) TLS inside a CONNECT tunnel to that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy_port)
    if tls_to:
        try:
            writer.write(f"CONNECT {tls_to} HTTP/1.1\r\nHost: {tls_to}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            await writer.start_tls(trust, server_hostname=tls_to.rpartition(":")[0])
        except BaseException:
            writer.close()
            raise
    return reader, writer


@dataclass
class Client:
    """Asks the same again and again. Whatever is not an answer with a length is an error that ends the run."""

    request: bytes
    tls_to: str = ""
    pause: float = 0.004
    answers: list[Answered] = field(default_factory=list)

    async def run(self, port: int, trust: ssl.SSLContext) -> None:
        async with asyncio.timeout(SECONDS):
            reader, writer = await connect(port, self.tls_to, trust)
        try:
            while True:
                async with asyncio.timeout(SECONDS):
                    sent = time.monotonic()
                    writer.write(self.request)
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = _LENGTH.search(head)
                    assert length, head
                    body = await reader.readexactly(int(length[1]))
                self.answers.append(Answered(sent, time.monotonic(), head, body))
                await asyncio.sleep(self.pause)  # load, not a measurement: leave the machine room to recompile
        finally:
            writer.close()


class Load:
    """Running clients. A client that failed makes every method raise what it raised."""

    def __init__(self, clients: list[Client], tasks: list[asyncio.Task[None]]) -> None:
        self.clients = clients
        self._tasks = tasks

    @property
    def answered(self) -> int:
        return sum(len(client.answers) for client in self.clients)

    async def reach(self, answered: int) -> None:
        await self.until(lambda: self.answered >= answered)

    async def until(self, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.check()
                await asyncio.sleep(0.002)

    async def one_round(self) -> None:
        """Until every client got the answer to a request sent from now on."""
        now = time.monotonic()
        await self.until(lambda: all(client.answers and client.answers[-1].sent > now for client in self.clients))

    def check(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


@asynccontextmanager
async def load(port: int, trust: ssl.SSLContext, clients: list[Client]) -> AsyncIterator[Load]:
    """Keep `clients` busy through the proxy at `port`; every one must be alive and well at the end."""
    tasks = [asyncio.create_task(client.run(port, trust)) for client in clients]
    running = Load(clients, tasks)
    try:
        yield running
        running.check()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
