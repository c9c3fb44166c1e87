"""A resolver on loopback that answers with octets a test wrote, over UDP and TCP, and keeps what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

#: From a query and its transport to the messages sent back, as they go on the wire.
Script = Callable[[bytes, str], Iterable[bytes]]


def question_end(wire: bytes) -> int:
    """Where the first question of a message ends; names are not compressed there."""
    position = 12
    while wire[position]:
        position += 1 + wire[position]
    return position + 5


def reply(query: bytes, records: bytes = b"", *, flags: bytes = b"\x81\x80", counts: bytes = b"\0\1\0\0\0\0",
          question: bytes | None = None) -> bytes:
    """An answer: the query's id and question, and behind them `records` as they are, `counts` of them."""
    repeated = query[12:question_end(query)] if question is None else question
    return query[:2] + flags + (b"\0\1" if repeated else b"\0\0") + counts + repeated + records


def record(type_: int, data: bytes, *, owner: bytes = b"\xc0\x0c", class_: int = 1, ttl: int = 300) -> bytes:
    return (owner + type_.to_bytes(2, "big") + class_.to_bytes(2, "big") + ttl.to_bytes(4, "big")
            + len(data).to_bytes(2, "big") + data)


@dataclass
class ByteResolver:
    """`async with`; `asked` are the queries as (octets, transport), `said` what it sent back."""

    script: Script
    asked: list[tuple[bytes, str]] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)
    #: Keep answers over UDP back until there are so many, then send the last first.
    hold_udp: int = 1

    async def __aenter__(self) -> Self:
        self._connections: set[asyncio.StreamWriter] = set()
        self._held: list[tuple[bytes, tuple[str, int]]] = []
        while True:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port: int = self._server.sockets[0].getsockname()[1]
            try:
                self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=("127.0.0.1", self.port))
            except OSError:  # somebody else has that port for UDP
                self._server.close()
                await self._server.wait_closed()
            else:
                return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # transports close in the next turn of the loop

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def transports(self) -> list[str]:
        return [transport for _, transport in self.asked]

    def answers(self, query: bytes, transport: str) -> list[bytes]:
        self.asked.append((query, transport))
        answers = list(self.script(query, transport))
        self.said += answers
        return answers

    def datagram(self, query: bytes, addr: tuple[str, int]) -> None:
        self._held += [(answer, addr) for answer in self.answers(query, "udp")]
        if len(self._held) >= self.hold_udp:
            order, self._held = self._held[::-1] if self.hold_udp > 1 else self._held, []
            for held in order:
                self._transport.sendto(*held)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                for answer in self.answers(query, "tcp"):
                    writer.write(len(answer).to_bytes(2, "big") + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the asker has what it wanted
        finally:
            self._connections.discard(writer)
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, owner: ByteResolver) -> None:
        self._owner = owner

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._owner.datagram(data, addr)
