"""The upstream pool: connections to servers, reused between requests and between clients.

In: a flow and its `Target`. Out: an `UpstreamConnection` that nobody else holds until it is released. The pool does
not know HTTP: who holds a connection says whether its last exchange left it reusable.

A connection is free for everybody with the same target, with two exceptions that tie it to its client: an addon
handles `server_connect` (it may decide by client), or NTLM or Negotiate was spoken on it, which authenticate the
connection and not the request (RFC 4559 §6).

Nothing reads an idle connection. Before reuse it is asked, without waiting, whether something arrived: an end, or
bytes that nobody requested, disqualify it. A sweep every second closes what ended or stayed idle too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from rulesproxy.codecs.http1 import Limits, Receiver
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.effects import Via
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.names import is_ip
from rulesproxy.net.stream import ConnectionClosed, Stream, read_at_once
from rulesproxy.proxy.connector import (
    Connector,
    ServerConnectedHook,
    ServerConnectErrorHook,
    ServerConnectHook,
    ServerDisconnectedHook,
    Target,
    TlsEstablishedServerHook,
    TlsFailedServerHook,
    TlsStartServerHook,
    UpstreamError,
)
from rulesproxy.proxy.via import seen

if TYPE_CHECKING:
    from rulesproxy.proxy.core import Core

__all__ = [
    "ServerConnectErrorHook",
    "ServerConnectHook",
    "ServerConnectedHook",
    "ServerDisconnectedHook",
    "Target",
    "TlsEstablishedServerHook",
    "TlsFailedServerHook",
    "TlsStartServerHook",
    "UpstreamConnection",
    "UpstreamError",
    "UpstreamPool",
]

IDLE_SECONDS = 60.0
IDLE_PER_KEY = 64
IDLE_TOTAL = 1024
SWEEP_SECONDS = 1.0

#: Who may take a free connection: a target, or a target and the one client.
_Key = Target | tuple[Target, Client]


class UpstreamConnection:
    """A connection one exchange holds. `reused`: it carried an exchange before, so it may turn out to be stale."""

    __slots__ = ("client", "forwarder", "idle_since", "receiver", "reused", "server", "stream", "target", "tied")

    def __init__(self, client: Client, server: Server, stream: Stream, target: Target, limits: Limits) -> None:
        self.client = client  # who it was made for: `server_disconnected` names it
        self.tied = False  # only `client` may use it
        self.server = server
        self.stream = stream
        self.target = target
        #: The other proxy that requests are for, to be forwarded; None: the server itself is at the end.
        self.forwarder = target.via if target.absolute_form and server.via == seen(target.via) else None
        self.receiver = Receiver(limits)
        self.reused = False
        self.idle_since = 0.0

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self.target} via {self.server.peername}{' reused' if self.reused else ''}>"


class UpstreamPool:
    """Every `acquire` ends in `release`, every client in `forget`, the proxy in `aclose`."""

    def __init__(self, core: Core, *, idle_timeout: float = IDLE_SECONDS, per_key: int = IDLE_PER_KEY,
                 total: int = IDLE_TOTAL) -> None:
        self._addons = core.addons
        self._settings = core.settings
        self._connector = Connector(core)
        self._idle_timeout = idle_timeout
        self._per_key = per_key
        self._total = total
        # Most recently released last. Keys without connections are removed, so the table cannot grow.
        self._idle: dict[_Key, list[UpstreamConnection]] = {}
        self._idle_count = 0
        self._tied_count = 0  # of the idle ones, those tied to a client: mostly none, and then nobody looks for them
        self._closing: set[asyncio.Task[None]] = set()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False

    @property
    def idle_count(self) -> int:
        return self._idle_count

    async def acquire(self, flow: HTTPFlow, target: Target, *, fresh: bool = False) -> UpstreamConnection:
        """A free connection to `target`, else a new one; `fresh` insists on a new one.

        `flow.server_conn` is its server from now on, also when connecting fails. Raises UpstreamError.
        """
        client = flow.client_conn
        if target.via is not None or not is_ip(target.host):
            target = self._connector.placed(client, target)
        connection = None if fresh else self._take(target, client)
        if connection is None:
            server = flow.server_conn = Server((target.host, target.port))
            tied = self._addons.active(ServerConnectHook)
            stream = await self._connector.connect(client, server, target)
            connection = UpstreamConnection(client, server, stream, target, self._settings.limits)
            connection.tied = tied
        else:
            flow.server_conn = connection.server
        return connection

    def release(self, connection: UpstreamConnection, reusable: bool, flow: HTTPFlow) -> None:
        """Give the connection back that `flow` used. Not `reusable`, or with more bytes than the answer had, it is
        closed."""
        if not reusable or self._closed or connection.receiver.has_data or connection.stream.closing:
            self.discard(connection)
            return
        if not connection.tied and authenticates_connection(flow):
            connection.tied = True
            connection.client = flow.client_conn
        self._keep(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        """Close a connection; `server_disconnected` follows."""
        self._spawn(self._connector.disconnect(connection.client, connection.server, connection.stream))

    def forget(self, client: Client) -> None:
        """The client left: close the idle connections only it could use."""
        if not self._tied_count:
            return
        for key in [key for key in self._idle if key[1] is client]:
            for connection in self._idle[key][:]:
                self._remove(key, connection)
                self.discard(connection)

    async def aclose(self) -> None:
        """Close every idle connection and wait until all that are closing are closed."""
        self._closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        for connections in self._idle.values():
            for connection in connections:
                self.discard(connection)
        self._idle.clear()
        self._idle_count = self._tied_count = 0
        while self._closing:
            await asyncio.wait(self._closing)

    # --- tunnels ----------------------------------------------------------------------------------------------

    async def open_tunnel(self, client: Client, host: str, port: int,
                          via: Via | None = None) -> tuple[Server, Stream]:
        """A TCP connection for a relayed tunnel, never pooled: end it with `close_tunnel`. Raises UpstreamError."""
        server = Server((host, port))
        return server, await self._connector.connect(client, server, Target(host, port, via=via))

    async def close_tunnel(self, client: Client, server: Server, stream: Stream) -> None:
        await self._connector.disconnect(client, server, stream)

    # --- idle connections -------------------------------------------------------------------------------------

    def _take(self, target: Target, client: Client) -> UpstreamConnection | None:
        if self._tied_count:
            connection = self._take_key((target, client))
            if connection is not None:
                return connection
        if self._addons.active(ServerConnectHook):
            return None
        return self._take_key(target)

    def _take_key(self, key: _Key) -> UpstreamConnection | None:
        """The most recently used connection that is still good; those that are not are closed on the way."""
        while connections := self._idle.get(key):
            connection = connections[-1]
            self._remove(key, connection)
            if _is_quiet(connection.stream):
                return connection
            self.discard(connection)
        return None

    def _keep(self, connection: UpstreamConnection) -> None:
        key = _key(connection)
        connections = self._idle.setdefault(key, [])
        connections.append(connection)
        connection.reused = True
        connection.idle_since = self._loop.time()
        self._idle_count += 1
        self._tied_count += connection.tied
        if len(connections) > self._per_key:
            self._evict(key)
        elif self._idle_count > self._total:
            self._evict(min(self._idle, key=lambda key: self._idle[key][0].idle_since))
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _evict(self, key: _Key) -> None:
        oldest = self._idle[key][0]
        self._remove(key, oldest)
        self.discard(oldest)

    def _remove(self, key: _Key, connection: UpstreamConnection) -> None:
        connections = self._idle[key]
        if connections[-1] is connection:
            connections.pop()
        else:
            connections.remove(connection)
        if not connections:
            del self._idle[key]
        self._idle_count -= 1
        self._tied_count -= connection.tied

    def _sweep(self) -> None:
        """Close what the server closed and what was idle too long."""
        oldest = self._loop.time() - self._idle_timeout
        for key, connections in list(self._idle.items()):
            for connection in connections[:]:
                if connection.idle_since < oldest or connection.stream.closing:
                    self._remove(key, connection)
                    self.discard(connection)
        self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep) if self._idle else None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _key(connection: UpstreamConnection) -> _Key:
    return (connection.target, connection.client) if connection.tied else connection.target


def authenticates_connection(flow: HTTPFlow) -> bool:
    """True when NTLM or Negotiate was spoken: the connection now acts for one user (RFC 4559 §6)."""
    value = flow.request.headers.first(b"authorization")
    if value is not None and _binds(value):
        return True
    response = flow.response
    return (response is not None and response.status_code == 401
            and any(map(_binds, response.headers.values_of(b"www-authenticate"))))


def _binds(value: bytes) -> bool:
    return value[:9].lower().startswith((b"ntlm", b"negotiate"))


def _is_quiet(stream: Stream) -> bool:
    """True when the stream is open and nothing has arrived on it."""
    try:
        return not stream.closing and (not stream.pending or read_at_once(stream) is None)
    except ConnectionClosed:
        return False
