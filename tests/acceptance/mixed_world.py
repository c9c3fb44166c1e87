"""What the clients of the mixed traffic share: where everything is, chance, and the books."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

#: Nothing takes longer, on a machine that does other things too.
SECONDS = 30.0

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Unexpected(Exception):
    """Not what the server said, or said by somebody who should have been silent."""


@dataclass
class Books:
    """An exchange is a request with its answer, a query, a WebSocket, a TCP connection or UDP flow with all that is
    said in it, or a relayed tunnel: what hooks see as one flow. Messages count beside."""

    done: Counter[str] = field(default_factory=Counter)
    aborted: Counter[str] = field(default_factory=Counter)
    collateral: int = 0  # cut by somebody else's abort on a connection they shared
    messages: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def exchanges(self) -> int:
        return self.done.total() + self.aborted.total()


@dataclass
class World:
    """`proxy` and `origins` are ports by name."""

    proxy: dict[str, int]
    origins: dict[str, int]
    trust: dict[str, ssl.SSLContext]  # the proxy's authority, by what ALPN offers; "relay": the origins'
    rng: random.Random
    books: Books
    aborts: float

    def strikes(self) -> bool:
        """This exchange is one of those that are broken off."""
        return self.rng.random() < self.aborts

    def size(self) -> int:
        """Of a body: mostly small, now and then larger than any buffer."""
        return self.rng.choice((0, 1, 100, 100, 1000, 5000, 20000)) if self.rng.random() < 0.97 else 200_000

    def end(self, writer: asyncio.StreamWriter | asyncio.Transport) -> None:
        """Leave, one way or the other."""
        if self.rng.random() < 0.5:
            reset(writer)
        else:
            writer.close()


def reset(writer: asyncio.StreamWriter | asyncio.Transport) -> None:
    """RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    (writer.transport if isinstance(writer, asyncio.StreamWriter) else writer).abort()


def expect(condition: bool, what: Callable[[], str] | str) -> None:
    if not condition:
        raise Unexpected(what if isinstance(what, str) else what())


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Pair]:
    """A connection to the proxy that is closed afterwards, whatever happened."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()  # nobody waits for it: wrapped in TLS it does not always tell, or come to its end
        asyncio.get_running_loop().call_later(1, writer.transport.abort)


async def connect_tunnel(pair: Pair, host: str, port: int) -> None:
    """CONNECT on the proxy port."""
    reader, writer = pair
    writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    expect(head.startswith(b"HTTP/1.1 200 "), lambda: f"CONNECT: {head!r}")


async def connect_socks(pair: Pair, host: str, port: int) -> None:
    """CONNECT as SOCKS5 has it."""
    reader, writer = pair
    name = host.encode()
    writer.write(b"\x05\x01\x00")
    expect(await reader.readexactly(2) == b"\x05\x00", "SOCKS: no method")
    writer.write(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
    answer = await reader.readexactly(10)
    expect(answer[:2] == b"\x05\x00", lambda: f"SOCKS: {answer!r}")
