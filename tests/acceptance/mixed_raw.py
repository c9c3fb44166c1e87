"""Clients of the mixed traffic that do not stop at HTTP: WebSocket, raw TCP, UDP, DNS."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

from tests.acceptance.mixed_http import PLAIN, PRIOR, Place, _begin, _open, http2_endpoint
from tests.acceptance.mixed_http2 import Endpoint, Message
from tests.acceptance.mixed_origins import GREETING, body
from tests.acceptance.mixed_world import Pair, World, connect_socks, connect_tunnel, connected, expect, reset
from tests.support.websocket import BINARY, PING, PONG, TEXT, close_frame, frame, handshake_request

Session = Callable[[World, str], Awaitable[None]]


# --- WebSocket -----------------------------------------------------------------------------------------------------


def _saying(world: World) -> tuple[bytes, bytes]:
    """A message, and its echo: frames as bytes."""
    opcode = world.rng.choice((TEXT, BINARY, PING))
    payload = b"." * world.rng.randrange(1, 120 if opcode == PING else 3000)
    return frame(opcode, payload), frame(PONG if opcode == PING else opcode, payload, mask=False)


def _breaking(world: World) -> bytes:
    """A last word of one who breaks off, or one that has the server do so."""
    whole = frame(TEXT, b"." * 100)
    return world.rng.choice((whole[:world.rng.randrange(len(whole))], whole, frame(BINARY, b"rst"),
                             frame(BINARY, b"fin")))


def websocket(place: Place = PLAIN) -> Session:
    """Over HTTP/1."""

    async def session(world: World, name: str) -> None:
        async with connected(world.proxy[place.listener]) as pair:
            reader, writer = pair
            await _open(world, place, pair)
            raw = handshake_request(world.origins[place.origin], path="/w").replace(b"127.0.0.1", place.host.encode())
            writer.write(raw if place.tls is False else raw.replace(b"http://" + place.authority(world).encode(), b""))
            head = await reader.readuntil(b"\r\n\r\n")
            expect(head.startswith(b"HTTP/1.1 101 "), lambda: f"WebSocket: {head!r}")
            broken = world.strikes()
            for _ in range(world.rng.randrange(0, 8)):
                said, echo = _saying(world)
                writer.write(said)
                expect(await reader.readexactly(len(echo)) == echo, "another echo")
                world.books.messages += 1
            if broken:
                world.books.aborted[name] += 1
                await _break_off(world, pair, _breaking(world))
                return
            writer.write(close_frame(1000))
            expect(await reader.readexactly(4) == close_frame(1000, mask=False), "another close")
            expect(await reader.read() == b"", "more after the close")
            world.books.done[name] += 1

    return session


async def _break_off(world: World, pair: Pair, last: bytes) -> None:
    pair[1].write(last)
    await asyncio.sleep(world.rng.random() * 0.01)
    world.end(pair[1])


async def websocket_over_http2(world: World, name: str) -> None:
    """RFC 8441, some side by side on one connection."""
    async with http2_endpoint(world, PRIOR) as endpoint:
        await asyncio.gather(*(_websocket_stream(world, endpoint, name) for _ in range(world.rng.randrange(1, 8))))


async def _websocket_stream(world: World, endpoint: Endpoint, name: str) -> None:
    message = _begin(endpoint, [
        (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http"), (b":path", b"/w"),
        (b":authority", PRIOR.authority(world).encode()), (b"sec-websocket-version", b"13")], end=False)
    await message.more.wait()
    expect(message.status == 200, lambda: f"WebSocket over HTTP/2: {message.block}, reset {message.reset}")
    broken = world.strikes()
    for _ in range(world.rng.randrange(0, 8)):
        said, echo = _saying(world)
        endpoint.send(message.number, said)
        await _echoed(message, echo)
        world.books.messages += 1
    if broken:
        world.books.aborted[name] += 1
        endpoint.send(message.number, _breaking(world))
        await asyncio.sleep(world.rng.random() * 0.01)
        endpoint.reset(message.number, 8)
    else:
        endpoint.send(message.number, close_frame(1000))
        await _echoed(message, close_frame(1000, mask=False))
        world.books.done[name] += 1
        endpoint.send(message.number, b"", end=True)
    endpoint.forget(message.number)


async def _echoed(message: Message, echo: bytes) -> None:
    while len(message.body) < len(echo):
        expect(not message.over.done(), lambda: f"a WebSocket ended early: {message.block}")
        message.more.clear()
        await message.more.wait()
    expect(bytes(message.body) == echo, "another echo over HTTP/2")
    message.body.clear()


# --- TCP -----------------------------------------------------------------------------------------------------------


def tcp(listener: str, *, first: bool = False) -> Session:
    """Raw bytes through a tunnel or a reverse listener; `first`: the server greets."""

    async def session(world: World, name: str) -> None:
        origin = "greeting" if first else "tcp"
        async with connected(world.proxy[listener]) as pair:
            reader, writer = pair
            if listener == "socks5":
                await connect_socks(pair, "tcp.test", world.origins[origin])
            elif listener == "regular":
                await connect_tunnel(pair, "tcp.test", world.origins[origin])
            if first:
                expect(await reader.readexactly(len(GREETING)) == GREETING, "another greeting")
            broken = world.strikes()
            for _ in range(world.rng.randrange(0 if broken else 1, 6)):
                said = b"\0" + body(world.size())
                writer.write(said)
                expect(await reader.readexactly(len(said)) == said, "another echo of bytes")
                world.books.messages += 1
            if broken:
                world.books.aborted[name] += 1
                await _break_off(world, pair, world.rng.choice((b"", b"\0half", b"rst", b"fin")))
                return
            writer.write_eof()
            expect(await reader.read() == b"", "more bytes after the end")
            world.books.done[name] += 1

    return session


# --- datagrams -----------------------------------------------------------------------------------------------------


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.put_nowait(data)


async def udp(world: World, name: str) -> None:
    """A flow: a client address of its own. One that breaks off is gone when the answer comes."""
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        _Datagrams, remote_addr=("127.0.0.1", world.proxy["reverse:udp"]))
    try:
        broken = world.strikes()
        for _ in range(world.rng.randrange(1, 6)):
            said = b"\0" + body(world.rng.randrange(1200))
            transport.sendto(said)
            if not broken:
                expect(await protocol.received.get() == said, "another datagram")
                world.books.messages += 1
        (world.books.aborted if broken else world.books.done)[name] += 1
    finally:
        transport.close()


def _query(world: World, name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", world.rng.randrange(65536), 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def _name(world: World) -> tuple[str, bytes]:
    """A name, and the end of its answer: by a rule, or by the name server."""
    number = world.rng.randrange(5000)
    if world.rng.random() < 0.5:
        return f"n{number}.test", bytes((127, 0, 0, 1))
    return f"n{number}.example", bytes((192, 0, 2, 1))


async def dns_udp(world: World, name: str) -> None:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        _Datagrams, remote_addr=("127.0.0.1", world.proxy["dns"]))
    try:
        for _ in range(20):
            host, end = _name(world)
            if world.strikes():
                world.books.aborted[name] += 1
                silent = world.rng.random() < 0.4
                query = _query(world, f"silent{world.rng.randrange(1000)}.example" if silent else host)
                transport.sendto(query)
                if not silent:
                    return  # it is gone when the answer comes
                answer = await protocol.received.get()
                expect((answer[:2], answer[3] & 15) == (query[:2], 2), "not SERVFAIL where nobody answered")
                continue
            query = _query(world, host)
            transport.sendto(query)
            answer = await protocol.received.get()
            expect(answer[:2] == query[:2] and answer.endswith(end), lambda host=host: f"DNS: {host}")
            world.books.done[name] += 1
    finally:
        transport.close()


async def dns_tcp(world: World, name: str) -> None:
    async with connected(world.proxy["dns"]) as (reader, writer):
        for _ in range(10):
            host, end = _name(world)
            query = _query(world, host)
            framed = struct.pack("!H", len(query)) + query
            if world.strikes():
                world.books.aborted[name] += 1
                writer.write(framed[:world.rng.randrange(1, len(framed) + 1)])
                await asyncio.sleep(0)
                reset(writer)
                return
            writer.write(framed)
            answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            expect(answer[:2] == query[:2] and answer.endswith(end), lambda host=host: f"DNS over TCP: {host}")
            world.books.done[name] += 1
