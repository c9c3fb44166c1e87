"""Which origins speak HTTP/2, and the connections with them that exchanges share.

In: targets that may speak it, and a way to dial one. Out: a connection with room for one more exchange, or the news
that the origin speaks HTTP/1. The first exchange that needs a new origin dials it; those that come meanwhile wait for
the outcome, so that a hundred of them make one connection. With HTTP/1 they all go on at once, and for the next ten
minutes nobody waits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Iterator

from rulesproxy.model.connection import Server
from rulesproxy.proxy.http2.origin import OriginConnection
from rulesproxy.proxy.upstream.target import Target, UpstreamError

#: ALPN names (RFC 9113 §3.1, RFC 7301 §6).
HTTP2 = "h2"
_HTTP1 = "http/1.1"

#: How long it is remembered that an origin speaks HTTP/1 only, in seconds, and of how many.
REMEMBERED_SECONDS = 600.0
_REMEMBERED = 4096


class Dialling:
    """A dial that others wait for. `error` is why it failed, and `server` what could not be reached."""

    __slots__ = ("done", "error", "server")

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.error: UpstreamError | None = None
        self.server = Server()


class SharedConnections:
    """Connections by whatever the pool takes for the same place."""

    def __init__(self) -> None:
        self._connections: dict[Hashable, list[OriginConnection]] = {}
        self._dialling: dict[Hashable, Dialling] = {}
        self._http1: OrderedDict[Target, tuple[float, bool]] = OrderedDict()
        self._loop = asyncio.get_running_loop()

    def find(self, key: Hashable) -> OriginConnection | None:
        """A connection with room."""
        for connection in self._connections.get(key, ()):
            if connection.has_room:
                return connection
        return None

    def add(self, key: Hashable, connection: OriginConnection) -> None:
        self._http1.pop(connection.target, None)
        self._connections.setdefault(key, []).append(connection)

    def remove(self, key: Hashable, connection: OriginConnection) -> None:
        connections = self._connections.get(key, [])
        if connection in connections:
            connections.remove(connection)
        if not connections:
            self._connections.pop(key, None)

    @property
    def any(self) -> bool:
        return bool(self._connections)

    def __iter__(self) -> Iterator[tuple[Hashable, OriginConnection]]:
        for key, connections in tuple(self._connections.items()):
            for connection in tuple(connections):
                yield key, connection

    # --- what an origin speaks --------------------------------------------------------------------------------

    def speaks_http1(self, target: Target) -> bool:
        """It did, not long ago."""
        return self._remembered(target) is not None

    def demoted(self, target: Target) -> Target:
        """What to ask for instead where HTTP/2 is known to be of no use."""
        required = self._remembered(target)
        if required is None or (target.tls and not required):
            return target  # a server that is asked each time in TLS may change its mind
        return target._replace(alpn=(_HTTP1,) if target.tls else ())

    def remember_http1(self, target: Target, *, required: bool = False) -> None:
        """`required`: it takes HTTP/2, but not for this (RFC 9113 §7, HTTP_1_1_REQUIRED)."""
        self._http1[target] = (self._loop.time() + REMEMBERED_SECONDS, required)
        self._http1.move_to_end(target)
        if len(self._http1) > _REMEMBERED:
            self._http1.popitem(last=False)

    def _remembered(self, target: Target) -> bool | None:
        known = self._http1.get(target)
        if known is None:
            return None
        until, required = known
        if until < self._loop.time():
            del self._http1[target]
            return None
        return required

    def dialling(self, key: Hashable) -> Dialling | None:
        return self._dialling.get(key)

    def begin(self, key: Hashable) -> Dialling:
        dialling = self._dialling[key] = Dialling()
        return dialling

    def end(self, key: Hashable, dialling: Dialling) -> None:
        if self._dialling.get(key) is dialling:
            del self._dialling[key]
        dialling.done.set()
