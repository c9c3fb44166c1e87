"""UDP sockets: one that serves many peers, one that talks to a single one, and one that asks it and waits."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, cast

from rulesproxy.model.connection import Address
from rulesproxy.net.udp_wildcard import AVAILABLE, WildcardListener

_RECEIVE_BUFFER = 1024 * 1024  # a burst of queries waits in the kernel instead of being lost
_DATAGRAM_LIMIT = 65535
_AT_ONCE = 16  # datagrams one socket may bring before others have their turn

log = logging.getLogger("rulesproxy")

#: Where a datagram came from, as the socket wants it back: for IPv6 with flow and scope.
Peer = tuple[Any, ...]


class UdpListener(Protocol):
    """A bound socket; `receive(data, peer)` is called for each datagram. Made by `listen_udp`."""

    address: Address

    def send(self, data: bytes, peer: Peer) -> None:
        """Send one datagram. What the system refuses to send is lost, as on any network."""

    async def aclose(self) -> None: ...


class _OneAddress(asyncio.DatagramProtocol):
    """A `UdpListener` on one address of the machine."""

    def __init__(self, sock: socket.socket, receive: Callable[[bytes, Peer], None]) -> None:
        self._sock = sock
        self._receive = receive
        self._transport: asyncio.DatagramTransport
        self.address: Address
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.address = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        self._receive(data, addr)

    def error_received(self, exc: Exception) -> None:
        # A peer that has gone (ICMP port unreachable) or cannot be reached: UDP promises nothing.
        log.debug("udp %s: %s", self.address, exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)

    def send(self, data: bytes, peer: Peer) -> None:
        if self._transport.is_closing():
            return
        try:
            if data:
                self._transport.sendto(data, peer)
            else:  # the transports of both event loops take an empty datagram for nothing to send
                self._sock.sendto(data, peer)
        except OSError as exc:
            self.error_received(exc)

    async def aclose(self) -> None:
        self._transport.close()
        await asyncio.shield(self._lost)


async def listen_udp(host: str, port: int, receive: Callable[[bytes, Peer], None]) -> UdpListener:
    """Bind `host:port` (port 0: any free one). Raises OSError when the address is taken."""
    loop = asyncio.get_running_loop()
    family, _, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
    # Bound here and not by the loop: uvloop hides the reason of a failure.
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.bind(address)
        if AVAILABLE and address[0] in ("0.0.0.0", "::"):
            return WildcardListener(sock, receive)
        _, listener = await loop.create_datagram_endpoint(lambda: _OneAddress(sock, receive), sock=sock)
    except BaseException:
        sock.close()
        raise
    return listener


class UdpSocket:
    """A socket connected to one server: `receive(data)` is called for each datagram it sends, `failed(error)` when the
    system learns that nobody listens there. Both are called by the event loop, never from `send`.
    """

    __slots__ = ("_failed", "_loop", "_receive", "_sock", "peername", "sockname")

    def __init__(self, server: Address, receive: Callable[[bytes], None], failed: Callable[[OSError], None]) -> None:
        """`server` is a literal address. Raises OSError when there is no route."""
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._failed = failed
        self._sock = _connected(server)
        self.peername: Address = self._sock.getpeername()[:2]
        self.sockname: Address = self._sock.getsockname()[:2]
        # Not a transport: those of the event loops send no empty datagrams, and hide some errors.
        self._loop.add_reader(self._sock, self._readable)

    def send(self, data: bytes) -> None:
        """Send one datagram. What the system cannot send now is lost, as on any network."""
        try:
            self._sock.send(data)
        except OSError as exc:
            # An ICMP error of an earlier datagram is reported here or by the next receive, whichever comes first.
            if exc.errno == errno.ECONNREFUSED:
                self._loop.call_soon(self._failed, exc)
            else:
                log.debug("udp %s: %s", self.peername, exc)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _readable(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = self._sock.recv(_DATAGRAM_LIMIT)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._failed(exc)
                return
            self._receive(data)
            if self._sock.fileno() < 0:  # closed in `receive`
                return


def _connected(server: Address) -> socket.socket:
    """Datagrams from any other address or port never reach this socket. Raises OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(server)
    except OSError:
        sock.close()
        raise
    return sock


class UdpExchange:
    """One socket to one server, on a source port the kernel picks at random; a context manager.

    The socket is connected: datagrams from any other address or port never reach it.
    """

    __slots__ = ("_loop", "_sock")

    def __init__(self, server: Address) -> None:
        """`server` is a literal address. Raises OSError when there is no route."""
        self._loop = asyncio.get_running_loop()
        self._sock = _connected(server)

    def __enter__(self) -> UdpExchange:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._sock.close()

    def send(self, data: bytes) -> None:
        """Raises OSError."""
        self._sock.send(data)

    async def receive(self) -> bytes:
        """The next datagram. Raises ConnectionRefusedError when the system learns that nobody listens there."""
        return await self._loop.sock_recv(self._sock, _DATAGRAM_LIMIT)
