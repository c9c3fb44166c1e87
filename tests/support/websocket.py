"""WebSocket at both ends of a proxy: the `websockets` library, and ends that say byte by byte what a test wants."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve

from tests.support.origin import OriginConnection
from tests.support.proxy import RunningProxy

SECONDS = 10.0
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # the sample nonce of RFC 6455
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
#: wsproto and websockets read messages of this size; some tests go to the limit.
LARGE = 32 << 20


async def echo(connection: ServerConnection) -> None:
    """Say everything again."""
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def run_echo(handler: Callable[[ServerConnection], Awaitable[None]] = echo, *,
                   tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[int]:
    """A server of the `websockets` library; its port."""
    options.setdefault("max_size", LARGE)
    server: Server
    async with serve(handler, "127.0.0.1", 0, ssl=tls, **options) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def ws_connect(proxy: RunningProxy, port: int, *, tls: bool = False, path: str = "/ws",
                     **options: Any) -> AsyncIterator[ClientConnection]:
    """A client of the `websockets` library, which asks proxies for tunnels."""
    if tls:
        options["ssl"] = ssl.create_default_context(cafile=str(proxy.ca))
    options.setdefault("max_size", LARGE)
    options.setdefault("close_timeout", SECONDS)
    uri = f"{'wss' if tls else 'ws'}://localhost:{port}{path}"
    async with asyncio.timeout(3 * SECONDS), connect(uri, proxy=f"http://{proxy.address}", **options) as connection:
        yield connection


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True) -> bytes:
    """Any frame, right or wrong."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if len(payload) < 126:
        head += bytes([mask << 7 | len(payload)])
    elif len(payload) < 65536:
        head += struct.pack("!BH", mask << 7 | 126, len(payload))
    else:
        head += struct.pack("!BQ", mask << 7 | 127, len(payload))
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + xor(payload, key)


def xor(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def close_frame(code: int, reason: str = "", *, mask: bool = True) -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode(), mask=mask)


def handshake_request(port: int, fields: str = "", path: str = "/ws") -> bytes:
    """In absolute form, as a client says it to a proxy."""
    return (f"GET http://127.0.0.1:{port}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY.decode()}\r\n"
            f"{fields}\r\n").encode()


def handshake_answer(key: bytes = KEY, fields: str = "", accept: str | None = None) -> bytes:
    token = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode() if accept is None else accept
    return (f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {token}\r\n{fields}\r\n").encode()


class RawEnd:
    """Frames over a bare connection, of the client or of the server."""

    def __init__(self, read_exactly: Callable[[int], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]], *,
                 masks: bool) -> None:
        self._read_exactly = read_exactly
        self._write = write
        self._masks = masks

    async def send(self, data: bytes) -> None:
        await self._write(data)

    async def send_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> None:
        await self._write(frame(opcode, payload, fin=fin, rsv=rsv, mask=self._masks))

    async def send_close(self, code: int = 1000, reason: str = "") -> None:
        await self._write(close_frame(code, reason, mask=self._masks))

    async def receive(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. Raises EOFError (IncompleteReadError is one) or ConnectionError."""
        opcode, payload, _ = await self.receive_frame()
        return opcode, payload

    async def receive_frame(self) -> tuple[int, bytes, int]:
        """The same with the first byte as it came."""
        async with asyncio.timeout(SECONDS):
            first, second = await self._read_exactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self._read_exactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._read_exactly(8))
            assert bool(second & 0x80) is not self._masks, "masked on the wrong side"
            key = await self._read_exactly(4) if second & 0x80 else b"\0\0\0\0"
            return first & 15, xor(await self._read_exactly(size), key), first

    async def receive_close(self) -> tuple[int, str]:
        """The Close frame that must come next; 1005 for an empty one."""
        opcode, payload = await self.receive()
        assert opcode == CLOSE, (opcode, payload[:50])
        return (struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else (1005, "")


class RawClient(RawEnd):
    """After its handshake; `head` is what was answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        async def write(data: bytes) -> None:
            writer.write(data)
            async with asyncio.timeout(SECONDS):
                await writer.drain()

        super().__init__(reader.readexactly, write, masks=True)
        self.reader = reader
        self.writer = writer
        self.head = head

    async def at_end(self) -> bool:
        """Wait for the proxy to close: True for an orderly end, False for a reset."""
        try:
            async with asyncio.timeout(SECONDS):
                assert await self.reader.read() == b""
        except ConnectionError:
            return False
        return True

    def reset(self) -> None:
        """RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER: on, 0 s
        self.writer.transport.abort()


@asynccontextmanager
async def raw_client(proxy: RunningProxy, port: int, fields: str = "", *, then: bytes = b"",
                     path: str = "/ws") -> AsyncIterator[RawClient]:
    """A plain connection to the proxy on which the handshake was done."""
    reader, writer = await proxy.connect()
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(handshake_request(port, fields, path) + then)
            head = await reader.readuntil(b"\r\n\r\n")
        yield RawClient(reader, writer, head)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass  # it was reset, which some tests want


def raw_server(script: Callable[[RawEnd, OriginConnection], Awaitable[None]],
               fields: str = "") -> Callable[[OriginConnection], Awaitable[None]]:
    """A script for `run_origin`: does the handshake, then what the test wants."""

    async def run(connection: OriginConnection) -> None:
        head = await connection.read_request()
        await connection.send(handshake_answer(head.values(b"sec-websocket-key")[0], fields))
        await script(RawEnd(connection.read_exactly, connection.send, masks=False), connection)

    return run
