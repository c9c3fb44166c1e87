"""What a scenario is played with: one proxy, the clients and servers it needs, and the means to make them vanish."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from rulesproxy.certs.authority import Authority
from rulesproxy.net.dns_forward import Forwarder
from rulesproxy.proxy.dns.server import DnsServer
from rulesproxy.proxy.raw.udp import UdpProxy
from tests.support.automaton import Recorder
from tests.support.certificates import OriginCA
from tests.support.dns_upstream import FakeResolver
from tests.support.http2 import Http2Origin, Http2Peer, run_http2_origin
from tests.support.leaks import until
from tests.support.origin import HELLO, Answer, Origin, Script, run_origin
from tests.support.proxy import RunningProxy, run_proxy

SECONDS = 5.0
_TURNS = 12  # of the event loop: enough for a FIN or RST on loopback to be read, and acted on


async def turns() -> None:
    """Let the event loop turn until what just happened on a socket has been noticed."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def vanish(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Leave without a word of TLS or HTTP: FIN, or RST."""
    if writer.transport.is_closing():
        return
    if reset:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Wire:
    """A client's connection, driven by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, end: bytes) -> bytes:
        return await self.reader.readuntil(end)

    async def exactly(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        return await self.reader.read()

    async def answer(self, status: int = 200) -> bytes:
        """One response that has a length: its body."""
        head = await self.head(status)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return await self.exactly(int(length[15:]))

    async def head(self, status: int = 200) -> bytes:
        """The head of one response."""
        head = await self.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), head
        return head

    async def end_of_chunks(self) -> bytes:
        """The rest of a response in chunks, trailers and all."""
        end = await self.until(b"\r\n0\r\n")
        while not end.endswith(b"\r\n\r\n"):
            end += await self.until(b"\r\n")
        return end

    async def close(self) -> None:
        """Leave in order."""
        self.writer.close()
        await self.writer.wait_closed()


class Datagrams:
    """A UDP socket with awaitable calls, of a client or a server."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]

    def send(self, data: bytes, port: int) -> None:
        self.sock.sendto(data, ("127.0.0.1", port))

    async def receive(self) -> tuple[bytes, int]:
        data, (_, port) = await asyncio.get_running_loop().sock_recvfrom(self.sock, 65535)
        return data, port


class Scene:
    """Made for one run of one scenario, which starts its servers and then calls `proxy`."""

    def __init__(self, authority: Authority, origin_ca: OriginCA, *saboteurs: Any) -> None:
        self.origin_ca = origin_ca
        self._authority = authority
        self._saboteurs = saboteurs
        self._stack = AsyncExitStack()
        self._wires: list[asyncio.StreamWriter] = []
        self._origins: list[Origin | Http2Origin] = []
        self._client_datagrams: list[Datagrams] = []
        self._server_datagrams: list[Datagrams | FakeResolver] = []
        self.running: RunningProxy | None = None
        #: Clients that speak HTTP/2.
        self.peers: list[Http2Peer] = []
        self._gone: bool | None = None  # the client has vanished: by RST?
        #: Somebody vanished or was killed: what was to come need not come any more.
        self.cut = False

    @property
    def sessions(self) -> set[Any]:
        """The client connections that are being served."""
        return set() if self.running is None else set(self.running.core.sessions)

    @property
    def _port(self) -> int:
        assert self.running is not None
        return self.running.port

    @property
    def recorder(self) -> Recorder:
        assert self.running is not None
        return self.running.recorder

    # --- servers ----------------------------------------------------------------------------------------------

    async def origin(self, script: Script | Answer = HELLO, tls: ssl.SSLContext | None = None) -> int:
        """The port of a scripted server."""
        origin = await self._stack.enter_async_context(run_origin(script, tls=tls))
        self._origins.append(origin)
        return origin.port

    async def http2_origin(self, script: Any = None) -> int:
        context = self.origin_ca.server_context("localhost", alpn=("h2",))
        origin = await self._stack.enter_async_context(run_http2_origin(script, tls=context))
        self._origins.append(origin)
        return origin.port

    async def tls_origin(self, script: Script | Answer = HELLO) -> int:
        return await self.origin(script, self.origin_ca.server_context("localhost"))

    def udp_server(self) -> Datagrams:
        server = Datagrams()
        self._server_datagrams.append(server)
        self._stack.callback(server.sock.close)
        return server

    async def resolver(self, **options: Any) -> FakeResolver:
        resolver = await self._stack.enter_async_context(FakeResolver({("known.test", "A"): ["192.0.2.1"]}, **options))
        self._server_datagrams.append(resolver)
        return resolver

    # --- the proxy --------------------------------------------------------------------------------------------

    async def proxy(self, *addons: Any, mode: str = "", **options: Any) -> RunningProxy:
        """The first listener is a plain proxy port, the second has the mode, if there is one."""
        modes = ("regular@127.0.0.1:0", *([f"{mode}@127.0.0.1:0"] if mode else []))
        self.running = await self._stack.enter_async_context(run_proxy(
            self._authority, *self._saboteurs, *addons, modes=modes, upstream_ca=str(self.origin_ca.pem), **options))
        return self.running

    async def udp_proxy(self, port: int) -> int:
        """The port of a `reverse:udp` listener on the proxy's core."""
        assert self.running is not None
        udp = UdpProxy(self.running.core, "reverse", ("127.0.0.1", port))
        await udp.start("127.0.0.1", 0)
        self._stack.push_async_callback(udp.stop, 0.0)
        return udp.address[1]

    async def dns_server(self, resolver: FakeResolver) -> int:
        """The port of a `dns` listener that forwards to the resolver."""
        assert self.running is not None
        server = DnsServer(self.running.addons, Forwarder([resolver.address], timeout=0.3))
        await server.start("127.0.0.1", 0)
        self._stack.push_async_callback(server.stop, 0.0)
        return server.address[1]

    # --- clients ----------------------------------------------------------------------------------------------

    async def connect(self, port: int = 0) -> Wire:
        """A connection to the proxy port, or another port."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self._port)
        self._wires.append(writer)
        if self._gone is not None:
            vanish(writer, reset=self._gone)
        self._stack.callback(writer.transport.abort)
        return Wire(reader, writer)

    async def special(self) -> Wire:
        """A connection to the listener with the scenario's mode."""
        assert self.running is not None
        return await self.connect(self.running.proxy.addresses[1][1])

    async def tunnel(self, port: int, host: str = "127.0.0.1", wire: Wire | None = None) -> Wire:
        """An open CONNECT tunnel."""
        wire = wire or await self.connect()
        await wire.send(b"CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n" % (host.encode(), port))
        head = await wire.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return wire

    async def secure(self, wire: Wire, alpn: str = "http/1.1", ca: Any = None) -> Wire:
        """TLS on a wire, as `localhost`. `ca` is trusted instead of the proxy's authority."""
        assert self.running is not None
        context = ssl.create_default_context(cafile=str(ca or self.running.ca))
        context.set_alpn_protocols([alpn])
        plain = wire.writer.transport
        try:
            await wire.writer.start_tls(context, server_hostname="localhost", ssl_handshake_timeout=SECONDS)
        except AttributeError as exc:  # asyncio's way to say that we left in the middle of it
            wire.writer._transport = plain  # type: ignore[attr-defined]
            raise ConnectionResetError("the client left in its TLS handshake") from exc
        assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() == alpn
        return wire

    async def intercepted(self, port: int, alpn: str = "http/1.1") -> Wire:
        return await self.secure(await self.tunnel(port, "localhost"), alpn)

    async def http2(self, wire: Wire) -> Http2Peer:
        """HTTP/2 as a client on a wire."""
        peer = Http2Peer(wire.reader, wire.writer, client=True)
        self.peers.append(peer)
        self._stack.push_async_callback(peer.aclose)
        await peer.start()
        return peer

    def udp_client(self) -> Datagrams:
        client = Datagrams()
        self._client_datagrams.append(client)
        self._stack.callback(client.sock.close)
        return client

    # --- what happens to them ---------------------------------------------------------------------------------

    def client_goes(self, *, reset: bool) -> None:
        """Also a connection that is just being made."""
        self._gone = reset
        for writer in self._wires:
            vanish(writer, reset=reset)
        for client in self._client_datagrams:
            _close(client.sock)

    def return_client(self) -> None:
        """From now on clients stay."""
        self._gone = None

    def server_goes(self, *, reset: bool) -> None:
        """Every connection ends, and nobody listens any more."""
        for origin in self._origins:
            origin.vanish(reset=reset)
        for server in self._server_datagrams:
            if isinstance(server, Datagrams):
                _close(server.sock)
            else:
                server.vanish()

    async def fired(self, *names: str, count: int = 1) -> None:
        """Wait for one of these hooks."""
        await until(lambda: self.cut or len(self.recorder.of(*names)) >= count, SECONDS)
        assert len(self.recorder.of(*names)) >= count, self.recorder.names

    async def aclose(self) -> None:
        await self._stack.aclose()


def _close(sock: socket.socket) -> None:
    if sock.fileno() != -1:
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()


@asynccontextmanager
async def scene(authority: Authority, origin_ca: OriginCA, *saboteurs: Any) -> AsyncIterator[Scene]:
    """At its end the proxy has stopped, and the automaton has judged all its hooks."""
    made = Scene(authority, origin_ca, *saboteurs)
    try:
        async with asyncio.timeout(4 * SECONDS):
            yield made
    finally:
        await made.aclose()


Scenario = Callable[[Scene], Awaitable[None]]
