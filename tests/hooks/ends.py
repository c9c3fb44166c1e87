"""A client and a server around the proxy that speak HTTP/1 or HTTP/2, in a decrypted tunnel, and note what they get.

What one of them sends and what the other receives looks the same in both versions, so that a table of effects needs
one row for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.hooks.scene import Scene, Wire
from tests.support.hook_logs import Decide
from tests.support.http2 import Http2Peer, Message, answering
from tests.support.origin import OriginConnection, RawRequest

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sent:
    """What the client asks, or the server answers. `pieces`: of the body, each in a frame or chunk of its own."""

    method: str = "GET"
    path: str = "/"
    fields: Fields = ()
    pieces: tuple[bytes, ...] = ()
    trailers: Fields = ()
    status: int = 200


@dataclass
class Got:
    """What arrived. `cut`: the message, or the silence instead of one, ended as broken messages do."""

    start: str = ""  # method and path, or status
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    interim: int = 0  # 1xx answers before it


class Ends:
    """Made for one scene. `received` is what servers got, in order."""

    def __init__(self, scene: Scene, version: str) -> None:
        self.scene = scene
        self.version = version
        self.received: list[Got] = []
        self._wire: Wire | None = None
        self._peer: Http2Peer | None = None

    async def server(self, reply: Sent = Sent(pieces=(b"hello",)), *, plain: bool = False) -> int:
        """Answers every request with the reply; `plain`: HTTP/1 without TLS. Its port."""
        if self.version == "http1" or plain:
            async def script(connection: OriginConnection) -> None:
                while True:
                    request = await connection.read_request()
                    self.received.append(_taken(request))
                    await connection.send(_http1_answer(reply, request.method == b"HEAD"))

            return await (self.scene.origin(script) if plain else self.scene.tls_origin(script))

        def answer(peer: Http2Peer, stream: int, message: Message) -> None:
            self.received.append(_got(message, f"{message.head[':method']} {message.head[':path']}"))
            peer.respond(stream, str(reply.status), reply.fields, end=not reply.pieces and not reply.trailers)
            if message.head[":method"] == "HEAD":
                return
            last = len(reply.pieces) - 1
            for number, piece in enumerate(reply.pieces):
                peer.h2.send_data(stream, piece, end_stream=number == last and not reply.trailers)
                peer.flush()
            if reply.trailers:
                peer.send_trailers(stream, list(reply.trailers))

        return await self.scene.http2_origin(answering(answer))

    async def proxy(self, *addons: Any, **options: Any) -> None:
        await self.scene.proxy(*addons, Decide(), **options)

    async def connect(self, port: int) -> None:
        wire = await self.scene.intercepted(port, "http/1.1" if self.version == "http1" else "h2")
        if self.version == "http1":
            self._wire = wire
        else:
            self._peer = await self.scene.http2(wire)

    async def ask(self, port: int, request: Sent = Sent(), *, unfinished: bool = False) -> Got:
        """Send a request, and read its answer to the end. `unfinished`: the end of its body is never sent."""
        if self._wire is None and self._peer is None:
            await self.connect(port)
        if self._wire is not None:
            return await _ask_http1(self._wire, port, request, unfinished)
        assert self._peer is not None
        return await _ask_http2(self._peer, port, request, unfinished)


# --- HTTP/1 -------------------------------------------------------------------------------------------------------


def _http1(start: str, message: Sent, *, ends: bool = True, always: bool = False) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in message.fields)]
    if "content-length" in dict(message.fields):
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"".join(message.pieces) if ends else b"")
    if message.pieces or message.trailers or always:
        lines.append("transfer-encoding: chunked")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in message.pieces)
    if not (message.pieces or message.trailers or always) or not ends:
        return head + chunks
    trailers = "".join(f"{name}: {value}\r\n" for name, value in message.trailers)
    return head + chunks + b"0\r\n" + trailers.encode() + b"\r\n"


def _http1_answer(reply: Sent, to_head: bool) -> bytes:
    bodyless = to_head or reply.status in (204, 304)
    answer = _http1(f"HTTP/1.1 {reply.status} Whatever", reply, always=not bodyless)
    return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if bodyless else answer


async def _ask_http1(wire: Wire, port: int, request: Sent, unfinished: bool) -> Got:
    start = f"{request.method} {request.path} HTTP/1.1\r\nhost: localhost:{port}"
    await wire.send(_http1(start, request, ends=not unfinished))
    got = Got()
    try:
        while (head := await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 1"):
            got.interim += 1
        got.start = head.split(b" ")[1].decode()
        got.fields = _fields(head)
        if request.method != "HEAD" and got.start not in ("204", "304"):
            await _http1_body(wire, got)
    except (asyncio.IncompleteReadError, ConnectionError):
        got.cut = True
    return got


async def _http1_body(wire: Wire, got: Got) -> None:
    if "content-length" in got.fields:
        got.body = await wire.exactly(int(got.fields["content-length"]))
        return
    assert got.fields["transfer-encoding"] == "chunked"
    while size := int(await wire.until(b"\r\n"), 16):
        got.body += (await wire.exactly(size + 2))[:-2]
    end = b""
    while not end.endswith(b"\r\n\r\n") and end != b"\r\n":
        end += await wire.until(b"\r\n")
    got.trailers = _fields(b"\r\n" + end)


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}


def _taken(request: RawRequest) -> Got:
    got = Got(f"{request.method.decode()} {request.target.decode()}", _fields(request.head))
    rest = request.body
    if request.values(b"transfer-encoding"):
        while True:
            size, _, rest = rest.partition(b"\r\n")
            if not int(size, 16):
                break
            got.body, rest = got.body + rest[:int(size, 16)], rest[int(size, 16) + 2:]
        got.trailers = _fields(b"\r\n" + rest)
    else:
        got.body = rest
    return got


# --- HTTP/2 -------------------------------------------------------------------------------------------------------


async def _ask_http2(peer: Http2Peer, port: int, request: Sent, unfinished: bool) -> Got:
    more = bool(request.pieces or request.trailers or unfinished)
    stream = peer.send_request(request.path, method=request.method, authority=f"localhost:{port}",
                               fields=request.fields, end=not more)
    last = len(request.pieces) - 1
    for number, piece in enumerate(request.pieces):
        await peer.send_body(stream, piece, end=number == last and not request.trailers and not unfinished)
    if request.trailers and not unfinished:
        peer.send_trailers(stream, list(request.trailers))
    message = await peer.over(stream)
    return _got(message, message.status)


def _got(message: Message, start: str) -> Got:
    fields: dict[str, str] = {}
    for name, value in _plain(message.fields):
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    if ":authority" in message.head:
        fields["host"] = message.head[":authority"]
    # RFC 9113 §8.1: a reset with NO_ERROR after a whole answer asks for no more of the request.
    return Got(start, fields, message.body, dict(message.trailers), not message.ended, len(message.interim))


def _plain(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in fields if not name.startswith(":")]


class Http2Wire:
    """One stream of an HTTP/2 connection that carries other bytes, driven like a `Wire`."""

    def __init__(self, peer: Http2Peer, stream: int) -> None:
        self._peer, self._stream = peer, stream
        self._taken = 0

    async def send(self, data: bytes) -> None:
        await self._peer.send_body(self._stream, data, end=False)

    async def exactly(self, size: int) -> bytes:
        """Raises IncompleteReadError when the stream ends before."""
        message, start = self._peer.streams[self._stream], self._taken
        await self._peer.wait(lambda: message.over or len(message.body) >= start + size)
        data = message.body[start:start + size]
        if len(data) < size:
            raise asyncio.IncompleteReadError(data, size)
        self._taken += size
        return data

    async def rest(self) -> bytes:
        """Raises ConnectionResetError when the stream does not end in order."""
        message = await self._peer.over(self._stream)
        if not message.ended:
            raise ConnectionResetError(f"RST_STREAM {message.reset}")
        return message.body[self._taken:]

    async def close(self) -> None:
        if not self._peer.streams[self._stream].over:
            await self._peer.send_body(self._stream, b"")
            await self._peer.over(self._stream)
        await self._peer.aclose()


async def open_tunnel(scene: Scene, version: str, port: int) -> Wire | Http2Wire:
    """A granted CONNECT."""
    if version == "http1":
        return await scene.tunnel(port)
    peer = await scene.http2(await scene.connect())
    stream = peer.send_block([(":method", "CONNECT"), (":authority", f"127.0.0.1:{port}")], end=False)
    return await _granted(peer, stream)


async def open_websocket(scene: Scene, version: str, port: int) -> Wire | Http2Wire:
    """A handshake that succeeded, inside TLS."""
    wire = await scene.intercepted(port, "http/1.1" if version == "http1" else "h2")
    if version == "http1":
        await wire.send(b"GET /ws HTTP/1.1\r\nHost: localhost:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % port)
        await wire.head(101)
        return wire
    peer = await scene.http2(wire)
    stream = peer.send_block([
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/ws"),
        (":authority", f"localhost:{port}"), ("sec-websocket-version", "13")], end=False)
    return await _granted(peer, stream)


async def _granted(peer: Http2Peer, stream: int) -> Http2Wire:
    message = peer.streams[stream]
    await peer.wait(lambda: message.over or bool(message.status))
    assert message.status == "200", message
    return Http2Wire(peer, stream)
