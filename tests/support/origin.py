"""A scripted origin on a real socket that records every byte it receives.

It is deliberately naive: it does what the script says and never judges what it was sent, so tests can.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

#: Nothing a test waits for at an origin takes longer.
SECONDS = 10.0

HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request as it came: `head` with its empty line, `body` in its transfer coding."""

    head: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def method(self) -> bytes:
        return self.line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field, in order."""
        found = []
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == name.lower():
                found.append(value.strip())
        return found


class OriginConnection:
    """One accepted connection, driven by the script. Reading past the end raises EOFError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._unread = b""
        self.received = b""
        self.requests: list[RawRequest] = []
        self.ended = asyncio.Event()  # the peer finished sending, as far as the script has read

    async def read_some(self) -> bytes:
        """Whatever comes next, at least a byte."""
        if not self._unread:
            await self._more()
        data, self._unread = self._unread, b""
        return data

    async def read_until(self, end: bytes) -> bytes:
        while end not in self._unread:
            await self._more()
        cut = self._unread.index(end) + len(end)
        data, self._unread = self._unread[:cut], self._unread[cut:]
        return data

    async def read_exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            await self._more()
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    async def read_head(self) -> RawRequest:
        """The next head; its body, if any, is left unread."""
        return RawRequest(await self.read_until(b"\r\n\r\n"), b"")

    async def read_request(self) -> RawRequest:
        """The next request with its body."""
        request = RawRequest((await self.read_head()).head, b"")
        if request.values(b"transfer-encoding"):
            request = RawRequest(request.head, await self._chunked())
        elif request.values(b"content-length"):
            request = RawRequest(request.head, await self.read_exactly(int(request.values(b"content-length")[0])))
        self.requests.append(request)
        return request

    async def read_to_end(self) -> bytes:
        try:
            while True:
                await self._more()
        except EOFError:
            data, self._unread = self._unread, b""
            return data

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def send_eof(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """RST instead of FIN."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER: on, 0 s
        self._writer.transport.abort()

    def vanish(self, *, reset: bool) -> None:
        """FIN or RST, without a word of TLS."""
        if not self._writer.transport.is_closing():
            self.reset() if reset else self._writer.transport.abort()

    async def _more(self) -> None:
        async with asyncio.timeout(SECONDS):
            data = await self._reader.read(65536)
        if not data:
            self.ended.set()
            raise EOFError("the peer finished sending")
        self.received += data
        self._unread += data

    async def _chunked(self) -> bytes:
        body = b""
        while True:
            line = await self.read_until(b"\r\n")
            body += line
            size = int(line.split(b";")[0], 16)
            if size:
                body += await self.read_exactly(size + 2)
                continue
            while True:  # trailers, up to the empty line
                line = await self.read_until(b"\r\n")
                body += line
                if line == b"\r\n":
                    return body


Script = Callable[[OriginConnection], Awaitable[None]]
#: What a request is answered with: fixed bytes, or bytes made from the request.
Answer = bytes | Callable[[RawRequest], bytes]


class Origin:
    """The listening side. `connections` holds every connection ever accepted, in order."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted = asyncio.Condition()
        self.connections: list[OriginConnection] = []
        self.listener: asyncio.Server | None = None
        self.port = 0

    @property
    def requests(self) -> list[RawRequest]:
        """Every complete request read so far, connection by connection."""
        return [request for connection in self.connections for request in connection.requests]

    @property
    def received(self) -> bytes:
        return b"".join(connection.received for connection in self.connections)

    async def wait_for_connections(self, count: int) -> None:
        async with asyncio.timeout(SECONDS), self._accepted:
            await self._accepted.wait_for(lambda: len(self.connections) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = OriginConnection(reader, writer)
        self.connections.append(connection)
        async with self._accepted:
            self._accepted.notify_all()
        try:
            await self._script(connection)
        except (EOFError, OSError, TimeoutError, asyncio.CancelledError):
            pass  # the proxy left, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()
            try:
                await writer.wait_closed()
            except (OSError, asyncio.CancelledError):
                pass  # it was reset

    def vanish(self, *, reset: bool) -> None:
        """Without a word: all connections end, by FIN or RST, and no new one is accepted."""
        if self.listener is not None:
            self.listener.close()
        for connection in self.connections:
            connection.vanish(reset=reset)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SECONDS)


def answering(*answers: Answer) -> Script:
    """Answer request after request on a kept connection; the last answer repeats."""

    async def script(connection: OriginConnection) -> None:
        number = 0
        while True:
            request = await connection.read_request()
            answer = answers[min(number, len(answers) - 1)]
            await connection.send(answer if isinstance(answer, bytes) else answer(request))
            number += 1

    return script


@asynccontextmanager
async def run_origin(script: Script | Answer = HELLO, *, tls: ssl.SSLContext | None = None,
                     host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Origin]:
    """An origin on an ephemeral port. A plain answer is given to every request."""
    if isinstance(script, bytes):
        script = answering(script)
    origin = Origin(script)  # type: ignore[arg-type]
    server = await asyncio.start_server(origin.serve, host, port, ssl=tls,
                                        ssl_handshake_timeout=SECONDS if tls else None)
    origin.listener = server
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        await origin.end()
        await server.wait_closed()
