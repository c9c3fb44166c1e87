"""A resolver on loopback, made with dnspython, that answers from a table and can be told to misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class Asked:
    """One query as it arrived."""

    wire: bytes
    transport: str
    source: tuple[str, int]
    honest: dns.message.Message  # the answer an honest resolver gives

    @property
    def message(self) -> dns.message.Message:
        return dns.message.from_wire(self.wire)

    def answer(self) -> bytes:
        return self.honest.to_wire(max_size=65535, want_shuffle=False)


@dataclass
class Stray:
    """A datagram sent from another port than the one that was asked."""

    wire: bytes


Behaviour = Callable[[Asked], Iterable[bytes | Stray]]


def honest(asked: Asked) -> list[bytes]:
    return [asked.answer()]


def silent(asked: Asked) -> list[bytes]:
    return []


def truncating(asked: Asked) -> list[bytes]:
    """TC and no records, whatever the client would take."""
    cut = dns.message.make_response(asked.message)
    cut.flags |= dns.flags.TC | dns.flags.RA
    return [cut.to_wire()]


@dataclass
class FakeResolver:
    """`async with`; `table` is {(name, type): [data, ...]}, a name that is not in it at all does not exist."""

    table: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    udp: Behaviour = honest
    tcp: Behaviour = honest
    rcode: int | None = None
    asked: list[Asked] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=("127.0.0.1", self.port))
        self._elsewhere, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        self._connections: set[asyncio.StreamWriter] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        self._elsewhere.close()
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # transports close in the next turn of the loop

    def vanish(self) -> None:
        """Nobody listens any more, and connections are reset."""
        self._transport.close()
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def count(self, transport: str) -> int:
        return sum(asked.transport == transport for asked in self.asked)

    def datagram(self, wire: bytes, source: tuple[str, int]) -> None:
        for reply in self.udp(self._take(wire, "udp", source)):
            if isinstance(reply, Stray):
                self._elsewhere.sendto(reply.wire, source)
            else:
                self._transport.sendto(reply, source)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                asked = self._take(await reader.readexactly(size), "tcp", writer.get_extra_info("peername"))
                for reply in self.tcp(asked):
                    assert isinstance(reply, bytes)
                    writer.write(len(reply).to_bytes(2, "big") + reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the asker has what it wanted
        finally:
            self._connections.discard(writer)
            writer.close()

    def _take(self, wire: bytes, transport: str, source: Any) -> Asked:
        query = dns.message.from_wire(wire)
        answer = dns.message.make_response(query, recursion_available=True)
        self._fill(answer)
        asked = Asked(wire, transport, source[:2], answer)
        self.asked.append(asked)
        return asked

    def _fill(self, answer: dns.message.Message) -> None:
        if self.rcode is not None:
            answer.set_rcode(dns.rcode.Rcode.make(self.rcode))
            return
        question = answer.question[0]
        name, type_ = question.name, dns.rdatatype.to_text(question.rdtype)
        while True:
            key = name.to_text(omit_final_dot=True).lower()
            data = self.table.get((key, type_))
            alias = self.table.get((key, "CNAME"))
            if data is not None:
                ttl = 300
                answer.answer.append(dns.rrset.from_text_list(name, ttl, question.rdclass, type_, data))
                return
            if alias is None:
                if not any(known == key for known, _ in self.table):
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                return
            answer.answer.append(dns.rrset.from_text_list(name, 60, "IN", "CNAME", alias))
            name = dns.name.from_text(alias[0])


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, owner: FakeResolver) -> None:
        self._owner = owner

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._owner.datagram(data, addr)
