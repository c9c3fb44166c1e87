"""HTTP/2 peers that tests drive frame by frame, on the h2 library: a client, and a scripted origin."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from tests.support.proxy import RunningProxy

SECONDS = 10.0
Fields = list[tuple[str, str]]


@dataclass
class Message:
    """What came on one stream so far."""

    head: dict[str, str] = field(default_factory=dict)
    fields: Fields = field(default_factory=list)
    interim: list[dict[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> str:
        return self.head.get(":status", "")

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Http2Peer:
    """One connection. What arrives is in `streams`; window is given back at once unless `holds` is set."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, client: bool,
                 settings: dict[SettingCodes, int] | None = None) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=client, header_encoding="utf-8",
                                               validate_outbound_headers=False, normalize_outbound_headers=False,
                                               validate_inbound_headers=not client))
        machine = self.h2.state_machine  # GOAWAY does not end what goes on, but h2 thinks so
        machine._transitions = machine._transitions | {
            (state, what): (None, state) for state in ConnectionState
            for what in (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY)}
        if settings:
            self.h2.local_settings = Settings(client=client, initial_values=settings)
        self.streams: dict[int, Message] = {}
        self.events: list[Event] = []
        self.goaway: ConnectionTerminated | None = None
        self.closed = False
        self.error: Exception | None = None
        self.holds = False
        self._arrived = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.h2.initiate_connection()
        self.flush()
        self._reading = asyncio.create_task(self._read())

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.writer.is_closing():
            self.writer.write(data)

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Until the condition holds; fails when the connection ends before."""
        async with asyncio.timeout(SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: condition() or self.closed)
        assert condition(), f"the connection ended: {self.error!r}, {self.goaway}, {self.streams}"

    async def over(self, stream: int) -> Message:
        await self.wait(lambda: stream in self.streams and self.streams[stream].over)
        return self.streams[stream]

    # --- client -----------------------------------------------------------------------------------------------

    def send_request(self, path: str = "/", *, method: str = "GET", authority: str = "localhost", scheme: str = "https",
                     fields: Iterable[tuple[str, str]] = (), end: bool = True) -> int:
        return self.send_block([(":method", method), (":scheme", scheme), (":authority", authority), (":path", path),
                                *fields], end=end)

    def send_block(self, block: Iterable[tuple[str, str]], *, end: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, list(block), end_stream=end)
        self.streams[stream] = Message()
        self.flush()
        return stream

    async def get(self, path: str = "/", **options: object) -> Message:
        return await self.over(self.send_request(path, **options))  # type: ignore[arg-type]

    # --- both -------------------------------------------------------------------------------------------------

    async def send_body(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """All of it, as fast as the windows allow."""
        while data:
            await self.wait(lambda: self.h2.local_flow_control_window(stream) > 0)
            size = min(len(data), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            self.h2.send_data(stream, data[:size])
            data = data[size:]
            self.flush()
            await self.writer.drain()
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def send_trailers(self, stream: int, trailers: Fields) -> None:
        self.h2.send_headers(stream, trailers, end_stream=True)
        self.flush()

    def respond(self, stream: int, status: str = "200", fields: Iterable[tuple[str, str]] = (), body: bytes = b"", *,
                end: bool = True) -> None:
        """A head and a small body."""
        self.h2.send_headers(stream, [(":status", status), *fields], end_stream=end and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=end)
        self.flush()

    def reset(self, stream: int, code: int = 8) -> None:
        self.h2.reset_stream(stream, code)
        self.flush()

    async def give_up(self) -> None:
        """Reset every stream that is not over, as a client does that wants none of them any more."""
        async with self._arrived:
            for number, message in self.streams.items():
                if number and not message.over:
                    self.reset(number)
                    message.reset = 8
            self._arrived.notify_all()

    def give_back(self, stream: int, size: int) -> None:
        self.h2.acknowledge_received_data(size, stream)
        self.flush()

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    def vanish(self, *, reset: bool) -> None:
        """FIN or RST, without a word of HTTP or TLS."""
        if self.writer.transport.is_closing():
            return
        if reset:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (OSError, ssl.SSLError):
            pass  # it was reset

    # --- reading ----------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self.events.append(event)
                    self._take(event)
                self.flush()
                async with self._arrived:
                    self._arrived.notify_all()
        except (OSError, ProtocolError) as exc:
            self.error = exc
        finally:
            self.closed = True
            async with self._arrived:
                self._arrived.notify_all()

    def _take(self, event: Event) -> None:
        stream = self.streams.setdefault(getattr(event, "stream_id", 0) or 0, Message())
        match event:
            case RequestReceived() | ResponseReceived():
                stream.fields = [(str(name), str(value)) for name, value in event.headers]
                stream.head = dict(stream.fields)
            case InformationalResponseReceived():
                stream.interim.append({str(name): str(value) for name, value in event.headers})
            case DataReceived():
                stream.body += event.data or b""
                if not self.holds and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
            case TrailersReceived():
                stream.trailers = {str(name): str(value) for name, value in event.headers}
            case StreamEnded():
                stream.ended = True
            case StreamReset():
                stream.reset = int(event.error_code or 0)
            case ConnectionTerminated():
                self.goaway = event


@asynccontextmanager
async def http2_client(proxy: RunningProxy, port: int, *, tls: bool = True, host: str = "localhost",
                       settings: dict[SettingCodes, int] | None = None) -> AsyncIterator[Http2Peer]:
    """A client that speaks HTTP/2 in a tunnel to `host:port`, inside TLS or not."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        if tls:
            context = ssl.create_default_context(cafile=str(proxy.ca))
            context.set_alpn_protocols(["h2"])
            await writer.start_tls(context, server_hostname=host)
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    async with _running(Http2Peer(reader, writer, client=True, settings=settings)) as peer:
        yield peer


@asynccontextmanager
async def http2_to_proxy(proxy: RunningProxy) -> AsyncIterator[Http2Peer]:
    """A client that speaks HTTP/2 to the proxy port itself."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    async with _running(Http2Peer(reader, writer, client=True)) as peer:
        yield peer


@asynccontextmanager
async def _running(peer: Http2Peer) -> AsyncIterator[Http2Peer]:
    await peer.start()
    try:
        yield peer
    finally:
        await peer.aclose()


Script = Callable[[Http2Peer], Awaitable[None]]


class Http2Origin:
    """The listening side. `connections` holds every connection ever accepted, in order."""

    def __init__(self, script: Script, settings: dict[SettingCodes, int] | None) -> None:
        self._script = script
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: list[Http2Peer] = []
        self.listener: asyncio.Server | None = None
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Http2Peer(reader, writer, client=False, settings=self._settings)
        self.connections.append(peer)
        try:
            await peer.start()
            await self._script(peer)
            await asyncio.wait_for(_closed(peer), SECONDS)
        except (OSError, TimeoutError, AssertionError, asyncio.CancelledError):
            pass  # the proxy left, or the test is over
        finally:
            self._tasks.discard(task)
            await peer.aclose()

    def vanish(self, *, reset: bool) -> None:
        """Without a word: all connections end, by FIN or RST, and no new one is accepted."""
        if self.listener is not None:
            self.listener.close()
        for peer in self.connections:
            peer.vanish(reset=reset)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SECONDS)


async def _closed(peer: Http2Peer) -> None:
    await peer.wait(lambda: peer.closed)


def answering(answer: Callable[[Http2Peer, int, Message], Awaitable[None] | None]) -> Script:
    """Call `answer` for every request once it is complete, side by side."""

    async def script(peer: Http2Peer) -> None:
        answered: set[int] = set()
        tasks = []
        try:
            while True:
                def waiting() -> list[int]:
                    return [number for number, message in peer.streams.items()
                            if number and message.ended and number not in answered]

                await peer.wait(lambda: bool(waiting()))
                for number in waiting():
                    answered.add(number)
                    result = answer(peer, number, peer.streams[number])
                    if result is not None:
                        tasks.append(asyncio.ensure_future(result))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return script


def hello(peer: Http2Peer, stream: int, request: Message) -> None:
    peer.respond(stream, "200", [("content-type", "text/plain"), ("content-length", "5")], b"hello")


@asynccontextmanager
async def run_http2_origin(script: Script | None = None, *, tls: ssl.SSLContext | None = None,
                           settings: dict[SettingCodes, int] | None = None) -> AsyncIterator[Http2Origin]:
    """An origin on an ephemeral port; without a script it says hello to every request."""
    origin = Http2Origin(script or answering(hello), settings)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, ssl=tls,
                                        ssl_handshake_timeout=SECONDS if tls else None)
    origin.listener = server
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        await origin.end()
        await server.wait_closed()
