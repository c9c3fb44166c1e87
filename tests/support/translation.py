"""One message, whatever version of HTTP carries it: clients that send it and origins that record it, byte by byte.

A *way* is the versions on both sides of the proxy: `h2→h1` is a client that speaks HTTP/2 and an origin that speaks
HTTP/1.1. All of it is inside TLS, where ALPN says what is spoken.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.certificates import OriginCA
from tests.support.http2 import Http2Peer, Message, http2_client, run_http2_origin
from tests.support.http2 import answering as answering_http2
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy

SECONDS = 10.0
WAYS = ("h1→h1", "h1→h2", "h2→h1", "h2→h2")

Fields = list[tuple[str, str]]
#: Fields that say how a message is framed or where it goes on a hop: they differ by version.
_OF_THE_HOP = frozenset(("host", "content-length", "transfer-encoding", "connection", "te", "trailer"))


@dataclass(frozen=True)
class Sent:
    """A message to send. `sized`: with Content-Length. `pieces`: how many writes its body takes."""

    method: str = "GET"
    path: str = "/"
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    sized: bool = True
    pieces: int = 1
    trailers: tuple[tuple[str, str], ...] = ()
    status: int = 200
    #: Interim answers before it.
    interim: tuple[int, ...] = ()
    #: An HTTP/1 answer that ends with its connection.
    until_close: bool = False

    @property
    def cut(self) -> list[bytes]:
        """The body in its pieces."""
        body = self.body or b""
        size = max(1, -(-len(body) // self.pieces))
        return [body[start:start + size] for start in range(0, len(body), size)]


@dataclass
class Received:
    """A message that was received, whole or not."""

    start: tuple[str, ...] = ()  # method and path, or status
    authority: str = ""
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    whole: bool = False
    version: str = "h1"

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def passed(self) -> Fields:
        """The fields that concern both ends, names in lower case."""
        return [(name.lower(), value) for name, value in self.fields if name.lower() not in _OF_THE_HOP]

    def check_framing(self, *, bodyless: bool = False) -> None:
        """The framing is one that everybody reads in the same way, and tells the truth."""
        lengths, codings = self.values("content-length"), self.values("transfer-encoding")
        assert len(lengths) <= 1
        if self.version == "h2":
            assert not codings and not self.values("connection") and not self.values("host"), self.fields
        else:
            assert codings in ([], ["chunked"]), self.fields
            assert not (lengths and codings), self.fields
        if bodyless:
            assert not self.body and not codings
        elif lengths:
            assert lengths == [str(len(self.body))]
        elif self.body or self.trailers:
            assert self.version == "h2" or codings, self.fields


# --- HTTP/1 --------------------------------------------------------------------------------------------------------


def _encoded(message: Sent, start: str, fields: Fields) -> list[bytes]:
    """Head and body in the pieces they are to be written in."""
    lines = [start, *(f"{name}: {value}" for name, value in fields)]
    if message.body is not None and message.sized:
        lines.append(f"Content-Length: {len(message.body)}")
    elif message.body is not None and not message.until_close:
        lines.append("Transfer-Encoding: chunked")
        if message.trailers:
            lines.append("Trailer: " + ", ".join(name for name, _ in message.trailers))
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if message.body is None or message.sized or message.until_close:
        return [head, *message.cut]
    trailers = "".join(f"{name}: {value}\r\n" for name, value in message.trailers).encode()
    return [head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in message.cut), b"0\r\n" + trailers + b"\r\n"]


ReadUntil = Callable[[bytes], Awaitable[bytes]]
ReadExactly = Callable[[int], Awaitable[bytes]]


async def _read(read_until: ReadUntil, read_exactly: ReadExactly, bodyless: Callable[[Received], bool]) -> Received:
    """A message over HTTP/1. What is read is kept on the result also when the end comes too early."""
    found = Received()
    while True:
        line, *rest = (await read_until(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        first, second, _ = line.split(" ", 2)
        is_answer = first.startswith("HTTP/")
        if not (is_answer and second.startswith("1")):
            break
        found.interim.append(int(second))
    found.start = (second,) if is_answer else (first, second)
    found.fields = [(name, value.strip()) for name, _, value in (field.partition(":") for field in rest)]
    found.authority = "".join(found.values("host"))
    try:
        if not bodyless(found):
            await _read_body(read_until, read_exactly, found)
    except EOFError:
        return found
    found.whole = True
    return found


async def _read_body(read_until: ReadUntil, read_exactly: ReadExactly, found: Received) -> None:
    if found.values("transfer-encoding"):
        while size := int(await read_until(b"\r\n"), 16):
            found.body += (await read_exactly(size + 2))[:-2]
        while (line := await read_until(b"\r\n")) != b"\r\n":
            name, _, value = line.decode().strip().partition(":")
            found.trailers.append((name.lower(), value.strip()))
    elif found.values("content-length"):
        found.body = await read_exactly(int(found.values("content-length")[0]))


def is_bodyless(method: str, status: int) -> bool:
    return method == "HEAD" or status in (204, 304)


class _Http1Client:
    def __init__(self, proxy: RunningProxy, port: int) -> None:
        self._proxy, self._port = proxy, port

    async def open(self) -> None:
        self.reader, self.writer = await self._proxy.connect()
        async with asyncio.timeout(SECONDS):
            self.writer.write(f"CONNECT localhost:{self._port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert (await self.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            trust = ssl.create_default_context(cafile=str(self._proxy.ca))
            trust.set_alpn_protocols(["http/1.1"])
            await self.writer.start_tls(trust, server_hostname="localhost")

    async def ask(self, request: Sent) -> Received:
        sending = asyncio.create_task(self._send(request))
        try:
            async with asyncio.timeout(SECONDS):
                return await _read(self.reader.readuntil, self.reader.readexactly,
                                   lambda found: is_bodyless(request.method, int(found.start[0])))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, request: Sent) -> None:
        start = f"{request.method} {request.path} HTTP/1.1"
        for piece in _encoded(request, start, [("Host", f"localhost:{self._port}"), *request.fields]):
            self.writer.write(piece)
            await self.writer.drain()
            if request.pieces > 1:
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (OSError, ssl.SSLError):
            pass  # it was cut


# --- HTTP/2 --------------------------------------------------------------------------------------------------------


async def _send_http2(peer: Http2Peer, stream: int, message: Sent) -> None:
    """What follows a head."""
    for number, piece in enumerate(message.cut):
        last = number == len(message.cut) - 1 and not message.trailers
        await peer.send_body(stream, piece, end=last)
        if message.pieces > 1:
            await asyncio.sleep(0.005)
    if not message.cut and not message.trailers:
        await peer.send_body(stream, b"")
    if message.trailers:
        peer.send_trailers(stream, list(message.trailers))


def _fields(message: Sent) -> Fields:
    fields = [(name.lower(), value) for name, value in message.fields]
    if message.body is not None and message.sized:
        fields.append(("content-length", str(len(message.body))))
    return fields


def _received(message: Message) -> Received:
    plain = [(name, value) for name, value in message.fields if not name.startswith(":")]
    head = message.head
    start = (head[":status"],) if ":status" in head else (head.get(":method", ""), head.get(":path", ""))
    return Received(start, head.get(":authority", ""), plain, message.body, list(message.trailers.items()),
                    [int(block[":status"]) for block in message.interim], message.ended, "h2")


class _Http2Client:
    def __init__(self, peer: Http2Peer, port: int) -> None:
        self.peer, self._port = peer, port

    async def ask(self, request: Sent) -> Received:
        has_more = request.body is not None
        stream = self.peer.send_request(request.path, method=request.method, authority=f"localhost:{self._port}",
                                        fields=_fields(request), end=not has_more)
        if has_more:
            await _send_http2(self.peer, stream, request)
        return _received(await self.peer.over(stream))


# --- both ----------------------------------------------------------------------------------------------------------


Client = _Http1Client | _Http2Client


@dataclass
class Stage:
    """A client and an origin with the proxy in between. The origin answers what `answer` says, and records requests."""

    client: Client
    port: int
    requests: list[Received]
    answer: Sent
    connections: Callable[[], int]
    #: Answers over HTTP/2 instead, while it is set.
    misbehave: Callable[[Http2Peer, int], None] | None = None

    async def exchange(self, request: Sent, answer: Sent) -> tuple[Received, Received]:
        """What the origin received, and what the client did."""
        self.answer = answer
        self.requests.clear()
        answered = await self.client.ask(request)
        assert len(self.requests) == 1, answered
        return self.requests[0], answered


@asynccontextmanager
async def on_the_way(way: str, proxy: RunningProxy, ca: OriginCA) -> AsyncIterator[Stage]:
    client_version, _, origin_version = way.partition("→")
    requests: list[Received] = []

    async def serve_http1(connection: OriginConnection) -> None:
        while True:
            received = await _read(connection.read_until, connection.read_exactly, lambda _: False)
            requests.append(received)
            answer = stage.answer
            for status in answer.interim:
                await connection.send(f"HTTP/1.1 {status} Interim\r\nLink: </a>\r\n\r\n".encode())
            bodyless = is_bodyless(received.start[0], answer.status)
            pieces = _encoded(answer, f"HTTP/1.1 {answer.status} Answer", list(answer.fields))
            for piece in pieces[:1] if bodyless else pieces:
                await connection.send(piece)
                if answer.pieces > 1:
                    await asyncio.sleep(0.005)
            if answer.until_close:
                return

    async def serve_http2(peer: Http2Peer, stream: int, message: Message) -> None:
        requests.append(_received(message))
        if stage.misbehave is not None:
            stage.misbehave(peer, stream)
            return
        answer = stage.answer
        for status in answer.interim:
            peer.respond(stream, str(status), [("link", "</a>")], end=False)
        bodyless = answer.body is None or is_bodyless(message.head[":method"], answer.status)
        peer.respond(stream, str(answer.status), _fields(answer), end=bodyless)
        if not bodyless:
            await _send_http2(peer, stream, answer)

    tls = ca.server_context("localhost", alpn=("h2",) if origin_version == "h2" else ("http/1.1",))
    run = run_http2_origin(answering_http2(serve_http2), tls=tls) if origin_version == "h2" else (
        run_origin(serve_http1, tls=tls))
    async with run as origin:
        def count() -> int:
            return len(origin.connections)

        if client_version == "h2":
            async with http2_client(proxy, origin.port) as peer:
                stage = Stage(_Http2Client(peer, origin.port), origin.port, requests, Sent(), count)
                yield stage
        else:
            client = _Http1Client(proxy, origin.port)
            await client.open()
            stage = Stage(client, origin.port, requests, Sent(), count)
            try:
                yield stage
            finally:
                await client.close()


def same_cookies(fields: Fields) -> list[str]:
    """All cookies in order, however many lines they came in."""
    return [cookie for name, value in fields if name.lower() == "cookie" for cookie in re.split("; *", value)]
