"""Where a redirected connection was going: what Linux remembers of it (netfilter's REDIRECT, or TPROXY)."""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_address

from rulesproxy.model.connection import Address
from rulesproxy.net.stream import Stream
from rulesproxy.net.tcp import TCPStream

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h; for IPv6 the number is the same
_SOCKADDR_IN = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6 = struct.Struct("!2xH4x16s4x")


def original_destination(stream: Stream) -> Address | None:
    """The address a client dialled; where nothing was redirected, the address it reached. None: not known.

    With TPROXY the address that was reached is the one that was dialled.
    """
    if not isinstance(stream, TCPStream):
        return stream.sockname
    number = stream.fileno()
    if number < 0:
        return None
    # A socket of our own on the same connection: what the event loops hand out has no getsockopt everywhere.
    with socket.socket(fileno=os.dup(number)) as sock:
        for level, layout in ((socket.SOL_IP, _SOCKADDR_IN), (socket.IPPROTO_IPV6, _SOCKADDR_IN6)):
            try:
                port, packed = layout.unpack(sock.getsockopt(level, _SO_ORIGINAL_DST, layout.size))
            except (OSError, struct.error):  # of the other family, or not redirected
                continue
            return _address(packed, port)
    return stream.sockname


def _address(packed: bytes, port: int) -> Address:
    address = ip_address(packed)
    return str(getattr(address, "ipv4_mapped", None) or address), port
