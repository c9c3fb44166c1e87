"""A UDP socket that listens on every address of the machine, and answers from the one that was asked.

Left to itself the system answers from the address of the interface that leads to the client, which on a machine with
several is not always the one the client asked: it then drops the answer as a stranger's. With each datagram the system
tells where it was sent to (RFC 3542 §6.1, ip(7)); that goes back along with the answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from rulesproxy.model.connection import Address

AVAILABLE = sys.platform == "linux"
_IP_PKTINFO = 8  # ip(7); the socket module has no name for it
_IPV4_INFO = struct.Struct("=i4s4s")  # interface, the local address, the address in the header
_IPV6_INFO = struct.Struct("=16si")
_SPACE = socket.CMSG_SPACE(_IPV6_INFO.size)
_DATAGRAM_LIMIT = 65535
_AT_ONCE = 16  # datagrams one socket may bring before others have their turn

log = logging.getLogger("rulesproxy")


class WildcardListener:
    """A `UdpListener` (udp.py) on a socket bound to 0.0.0.0 or ::. A peer is its address and the one it asked."""

    def __init__(self, sock: socket.socket, receive: Callable[[bytes, tuple[Any, ...]], None]) -> None:
        self._sock = sock
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self.address: Address = sock.getsockname()[:2]
        if sock.family == socket.AF_INET6:
            self._kind = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            self._kind = socket.IPPROTO_IP, _IP_PKTINFO
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._loop.add_reader(sock, self._readable)

    def send(self, data: bytes, peer: tuple[Any, ...]) -> None:
        """Send one datagram. What the system refuses to send is lost, as on any network."""
        *address, asked = peer
        if self._sock.fileno() < 0:
            return
        try:
            self._sock.sendmsg([data], [(*self._kind, asked)] if asked else [], 0, tuple(address))
        except OSError as exc:
            log.debug("udp %s: %s", self.address, exc)

    async def aclose(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _readable(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, control, _, address = self._sock.recvmsg(_DATAGRAM_LIMIT, _SPACE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:  # an ICMP error of an answer: its client has gone
                log.debug("udp %s: %s", self.address, exc)
                continue
            asked = next((info for level, kind, info in control if (level, kind) == self._kind), b"")
            self._receive(data, (*address, _as_source(asked)))
            if self._sock.fileno() < 0:  # closed in `receive`
                return


def _as_source(info: bytes) -> bytes:
    """What was received about an address, as it is to be sent with an answer."""
    if len(info) == _IPV4_INFO.size:
        _, local, _ = _IPV4_INFO.unpack(info)
        return _IPV4_INFO.pack(0, local, bytes(4))  # which interface it leaves by is for the routes to say
    if len(info) == _IPV6_INFO.size and info[0] != 0xFF:  # not a multicast group
        address, interface = _IPV6_INFO.unpack(info)
        link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
        return _IPV6_INFO.pack(address, interface if link_local else 0)
    return b""
