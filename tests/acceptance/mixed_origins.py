"""The servers of the mixed traffic, in a process of their own: the path says what a server does, and where it stops.

    /s/N  N bytes with Content-Length           /c/N  N bytes in chunks, with trailers
    /e    the body again, with trailers         /g    each DATA frame again (HTTP/2)
    /i    103, then 200                         /n    204
    /w    a WebSocket that echoes
    /x/HOW/WHERE  an abort: `rst`, `fin`, `stream` or `goaway`, before the head (0), in it (1), or in the body (2)

Standard input takes a line per order, standard output gives one for each: `drop` closes every connection.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import cast

from rulesproxy.app import run_in_loop
from tests.acceptance.mixed_http2 import Block, Endpoint, Message
from tests.support.websocket import CLOSE, PING, PONG, frame, handshake_answer, xor

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
TRAILERS = b"x-sum: 7\r\n"
GREETING = b"220 ready\r\n"
_FILL = bytes(range(256)) * 1024


def body(size: int) -> bytes:
    """What a server sends when it is asked for so many bytes."""
    return _FILL[:size]


def reset(writer: asyncio.StreamWriter | asyncio.Transport) -> None:
    """RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    (writer.transport if isinstance(writer, asyncio.StreamWriter) else writer).abort()


# --- HTTP/1 --------------------------------------------------------------------------------------------------------


async def serve_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head[:-4].split(b"\r\n")
        method, path, _ = line.split(b" ")
        said = {name.lower(): value.strip() for name, _, value in (field.partition(b":") for field in fields)}
        what = path.decode().split("/")[1:]
        if what[0] == "w":
            writer.write(handshake_answer(said[b"sec-websocket-key"]))
            await _echo_websocket(reader, writer)
            return
        if what[0] == "x":
            await _stop(reader, writer, said, *what[1:])
            return
        sent = await _read_body(reader, said)
        writer.write(_answer(method, what, sent))
        await writer.drain()


async def _read_body(reader: asyncio.StreamReader, said: dict[bytes, bytes]) -> bytes:
    if b"content-length" in said:
        return await reader.readexactly(int(said[b"content-length"]))
    pieces = []
    if said.get(b"transfer-encoding") == b"chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # a trailer
    return b"".join(pieces)


def _answer(method: bytes, what: list[str], sent: bytes) -> bytes:
    if what[0] == "n":
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    if what[0] == "i":
        return b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + _sized(b"hello")
    if what[0] == "s":
        full = _sized(body(int(what[1])))
        return full[:full.index(b"\r\n\r\n") + 4] if method == b"HEAD" else full
    data = sent if what[0] == "e" else body(int(what[1]))
    middle = len(data) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (data[:middle], data[middle:]) if piece)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n%b0\r\n%b\r\n" % (chunks, TRAILERS)


def _sized(data: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)


async def _stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: dict[bytes, bytes], how: str,
                where: str) -> None:
    """Break off; sometimes without having read the request."""
    if where != "0":
        await _read_body(reader, said)
        full = _sized(body(4000))
        writer.write(full[:20 if where == "1" else 1000])
        await writer.drain()
    if how == "rst":
        reset(writer)
    else:
        writer.close()


async def _echo_websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        first, size = await reader.readexactly(2)
        size &= 127
        if size == 126:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
        key = await reader.readexactly(4)
        payload = xor(await reader.readexactly(size), key)
        if payload == b"rst":
            reset(writer)
            return
        if payload == b"fin":
            return
        opcode = first & 15
        writer.write(frame(PONG if opcode == PING else opcode, payload, fin=bool(first & 128), mask=False))
        await writer.drain()
        if opcode == CLOSE:
            return


# --- HTTP/2 --------------------------------------------------------------------------------------------------------


class Http2Server(Endpoint):
    """Answers each request in a task of its own."""

    def __init__(self, origins: Origins) -> None:
        super().__init__(client=False)
        self._origins = origins

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._origins.transports.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._origins.transports.discard(self.transport)
        super().connection_lost(exc)

    def requested(self, message: Message) -> None:
        self._origins.spawn(self._serve(message))

    async def _serve(self, message: Message) -> None:
        try:
            await self._answer(message, message.block[b":path"].decode().split("/")[1:])
        finally:
            self.forget(message.number)

    async def _answer(self, message: Message, what: list[str]) -> None:
        number = message.number
        if what[0] == "g":
            await self._converse(message)
            return
        if what[0] != "x" or what[2] != "0":
            await message.over
        if message.reset:
            return
        if what[0] == "x":
            self._stop(number, *what[1:])
        elif what[0] == "n":
            self.send_block(number, [(b":status", b"204")], end=True)
        elif what[0] in "si":
            if what[0] == "i":
                self.send_block(number, [(b":status", b"103"), (b"link", b"</a>")])
            data = body(int(what[1])) if what[0] == "s" else b"hello"
            head = message.block[b":method"] == b"HEAD"
            self.send_block(number, _head((b"content-length", b"%d" % len(data))), end=head)
            if not head:
                self.send(number, data, end=True)
        else:
            self.send_block(number, _head())
            self.send(number, bytes(message.body) if what[0] == "e" else body(int(what[1])),
                      trailers=[(b"x-sum", b"7")])

    async def _converse(self, message: Message) -> None:
        """Like a call with streams both ways."""
        self.send_block(message.number, _head())
        while not message.over.done() or message.body:
            message.more.clear()
            data = bytes(message.body)
            message.body.clear()
            if data:
                self.send(message.number, data)
            elif not message.over.done():
                await message.more.wait()
        if not message.reset:
            self.send(message.number, b"", trailers=[(b"grpc-status", b"0")])

    def _stop(self, number: int, how: str, where: str) -> None:
        if where != "0":
            self.send_block(number, _head((b"content-length", b"4000")))
        if where == "2":
            self.send(number, body(1000))
        if how == "stream":
            self.reset(number, 2)
            return
        if how == "goaway":
            self.go_away()
        if how == "rst":
            reset(self.transport)
        else:
            self.transport.close()


def _head(*more: tuple[bytes, bytes]) -> Block:
    return [(b":status", b"200"), (b"content-type", b"application/grpc"), *more]


# --- others --------------------------------------------------------------------------------------------------------


async def serve_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        if data.startswith((b"rst", b"fin")):
            writer.write(data)
            await writer.drain()
            if data.startswith(b"rst"):
                reset(writer)
            return
        writer.write(data)
        await writer.drain()


async def serve_greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await serve_echo(reader, writer)


class UdpEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


class Names(UdpEcho):
    """Every name is at 192.0.2.1, but nothing is said of those that begin with `silent`."""

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5
        if data[13:19] != b"silent":
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
            self.transport.sendto(data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + data[12:end] + answer, addr)


# --- the process ---------------------------------------------------------------------------------------------------


class Origins:
    """All of them. `transports` are the connections that are open."""

    def __init__(self) -> None:
        self.transports: set[asyncio.Transport] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def start(self, tls: str) -> dict[str, int]:
        ports = {}
        for name, serve, alpn in (("h1", serve_http1, ()), ("h1tls", serve_http1, ("http/1.1",)),
                                  ("tcp", serve_echo, ()), ("greeting", serve_greeting, ())):
            server = await asyncio.start_server(self._accept(serve), "127.0.0.1", 0, backlog=512,
                                                ssl=_context(tls, alpn) if alpn else None)
            ports[name] = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        for name, context in (("h2", _context(tls, ("h2",))), ("h2c", None)):
            listening = await loop.create_server(lambda: Http2Server(self), "127.0.0.1", 0, backlog=512, ssl=context)
            ports[name] = listening.sockets[0].getsockname()[1]
        for name, kind in (("udp", UdpEcho), ("dns", Names)):
            transport, _ = await loop.create_datagram_endpoint(kind, local_addr=("127.0.0.1", 0))
            ports[name] = transport.get_extra_info("sockname")[1]
        return ports

    def drop(self) -> None:
        for transport in tuple(self.transports):
            transport.close()

    def _accept(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
                ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            transport = cast(asyncio.Transport, writer.transport)
            self.transports.add(transport)
            try:
                await serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
                pass  # the proxy broke off
            finally:
                self.transports.discard(transport)
                writer.close()

        return run


def _context(pem: str, alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(list(alpn))
    return context


async def main(tls: str) -> int:
    origins, loop = Origins(), asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # connections that were reset on purpose
    orders: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(orders.put_nowait, line.strip())
        loop.call_soon_threadsafe(orders.put_nowait, "stop")

    ports = await origins.start(tls)
    threading.Thread(target=read, daemon=True).start()
    print(json.dumps(ports), flush=True)
    while await orders.get() == "drop":
        origins.drop()
        print("{}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_in_loop(main(sys.argv[1])))
