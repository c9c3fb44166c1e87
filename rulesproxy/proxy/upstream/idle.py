"""Connections over HTTP/1 that nobody holds: kept for the next request, and closed when they are of no use.

In: connections given back. Out: the most recently used one that is still good, or none. Nothing reads an idle
connection. Before reuse it is asked, without waiting, whether something arrived: an end, or bytes that nobody
requested, disqualify it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rulesproxy.model.connection import Client
from rulesproxy.net.stream import ConnectionClosed, Stream, read_at_once
from rulesproxy.proxy.upstream.connection import Http1Connection
from rulesproxy.proxy.upstream.target import Target

#: Who may take a free connection: a target, or a target and the one client.
Key = Target | tuple[Target, Client]


class IdleConnections:
    """At most `per_key` for the same place and `total` for all. `discard` closes one; nobody waits for it."""

    def __init__(self, discard: Callable[[Http1Connection], None], per_key: int, total: int) -> None:
        self._discard = discard
        self._per_key = per_key
        self._total = total
        # Most recently released last. Keys without connections are removed, so the table cannot grow.
        self._connections: dict[Key, list[Http1Connection]] = {}
        self._count = 0
        self._tied = 0  # of those, the ones tied to a client: mostly none, and then nobody looks for them
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return self._count

    def take(self, target: Target, client: Client, *, tied: bool) -> Http1Connection | None:
        """`tied`: only one that belongs to the client will do."""
        if self._tied:
            connection = self._take((target, client))
            if connection is not None:
                return connection
        return None if tied else self._take(target)

    def _take(self, key: Key) -> Http1Connection | None:
        """The most recently used connection that is still good; those that are not are closed on the way."""
        while connections := self._connections.get(key):
            connection = connections[-1]
            self._remove(key, connection)
            if _is_quiet(connection.stream):
                return connection
            self._discard(connection)
        return None

    def keep(self, connection: Http1Connection) -> None:
        key = _key(connection)
        connections = self._connections.setdefault(key, [])
        connections.append(connection)
        connection.reused = True
        connection.idle_since = self._loop.time()
        self._count += 1
        self._tied += connection.tied
        if len(connections) > self._per_key:
            self._evict(key)
        elif self._count > self._total:
            self._evict(min(self._connections, key=lambda key: self._connections[key][0].idle_since))

    def forget(self, client: Client) -> None:
        """Close those that only this client could use."""
        if not self._tied:
            return
        for key in [key for key in self._connections if key[1] is client]:
            for connection in self._connections[key][:]:
                self._remove(key, connection)
                self._discard(connection)

    def sweep(self, oldest: float) -> None:
        """Close what the server closed, in TLS too (RFC 8446 §6.1), and what is idle since before `oldest` by the event
        loop's clock."""
        for key, connections in list(self._connections.items()):
            for connection in connections[:]:
                if connection.idle_since < oldest or not _is_quiet(connection.stream):
                    self._remove(key, connection)
                    self._discard(connection)

    def clear(self) -> None:
        """Close all."""
        for connections in self._connections.values():
            for connection in connections:
                self._discard(connection)
        self._connections.clear()
        self._count = self._tied = 0

    def _evict(self, key: Key) -> None:
        oldest = self._connections[key][0]
        self._remove(key, oldest)
        self._discard(oldest)

    def _remove(self, key: Key, connection: Http1Connection) -> None:
        connections = self._connections[key]
        if connections[-1] is connection:
            connections.pop()
        else:
            connections.remove(connection)
        if not connections:
            del self._connections[key]
        self._count -= 1
        self._tied -= connection.tied


def _key(connection: Http1Connection) -> Key:
    return (connection.target, connection.client) if connection.tied else connection.target


def _is_quiet(stream: Stream) -> bool:
    """True when the stream is open and nothing has arrived on it."""
    try:
        return not stream.closing and (not stream.pending or read_at_once(stream) is None)
    except ConnectionClosed:
        return False
