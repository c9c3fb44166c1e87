"""UDP sockets: one that serves many peers, and one that asks a single server and hears nobody else."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

from rulesproxy.model.connection import Address

_RECEIVE_BUFFER = 1024 * 1024  # a burst of queries waits in the kernel instead of being lost
_DATAGRAM_LIMIT = 65535

log = logging.getLogger("rulesproxy")

#: Where a datagram came from, as the socket wants it back: for IPv6 with flow and scope.
Peer = tuple[Any, ...]


class UdpListener(asyncio.DatagramProtocol):
    """A bound socket; `receive(data, peer)` is called for each datagram. Made by `listen_udp`."""

    def __init__(self, receive: Callable[[bytes, Peer], None]) -> None:
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
        """Send one datagram. What the system refuses to send is lost, as on any network."""
        if self._transport.is_closing():
            return
        try:
            self._transport.sendto(data, peer)
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
        _, listener = await loop.create_datagram_endpoint(lambda: UdpListener(receive), sock=sock)
    except BaseException:
        sock.close()
        raise
    return listener


class UdpExchange:
    """One socket to one server, on a source port the kernel picks at random; a context manager.

    The socket is connected: datagrams from any other address or port never reach it.
    """

    __slots__ = ("_loop", "_sock")

    def __init__(self, server: Address) -> None:
        """`server` is a literal address. Raises OSError when there is no route."""
        self._loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._sock.setblocking(False)
            self._sock.connect(server)
        except OSError:
            self._sock.close()
            raise

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
