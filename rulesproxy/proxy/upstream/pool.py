"""The upstream pool: connections to servers, reused between requests and between clients.

In: a flow and its `Target`. Out: an `UpstreamConnection` that nobody else holds until it is released. The pool does
not know HTTP: who holds a connection says whether its last exchange left it reusable.

A connection is free for everybody with the same target, with two exceptions that tie it to its client: an addon
handles `server_connect` (it may decide by client), or NTLM or Negotiate was spoken on it, which authenticate the
connection and not the request (RFC 4559 §6).

Over HTTP/2 exchanges share a connection side by side (http2/shared.py), as many as the server wants at a time; the
next one opens another. Such a connection is read all the time and closes itself. A client that speaks NTLM or
Negotiate shares none from then on.

Idle connections over HTTP/1 are in idle.py. A sweep every second closes what ended or stayed idle too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from rulesproxy.model.connection import Client, Server
from rulesproxy.model.effects import Via
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.names import is_ip
from rulesproxy.net.stream import Stream
from rulesproxy.proxy.http2.origin import OriginConnection
from rulesproxy.proxy.http2.shared import HTTP2, SharedConnections
from rulesproxy.proxy.upstream.connection import Http1Connection, Http2Lease, UpstreamConnection
from rulesproxy.proxy.upstream.connector import (
    Connector,
    ServerConnectHook,
)
from rulesproxy.proxy.upstream.idle import IdleConnections, Key
from rulesproxy.proxy.upstream.target import Target, UpstreamError

if TYPE_CHECKING:
    from rulesproxy.proxy.core import Core

IDLE_SECONDS = 60.0
IDLE_PER_KEY = 64
IDLE_TOTAL = 1024
SWEEP_SECONDS = 1.0
#: How long a server may take to show that it speaks HTTP/2. In TLS it has said so before.
SETTINGS_SECONDS = 3.0


class UpstreamPool:
    """Every `acquire` ends in `release`, every client in `forget`, the proxy in `aclose`."""

    def __init__(self, core: Core, *, idle_timeout: float = IDLE_SECONDS, per_key: int = IDLE_PER_KEY,
                 total: int = IDLE_TOTAL) -> None:
        self._addons = core.addons
        self._settings = core.settings
        self._connector = Connector(core)
        self._idle_timeout = idle_timeout
        self._idle = IdleConnections(self.discard, per_key, total)
        self._closing: set[asyncio.Task[None]] = set()
        self._shared = SharedConnections()
        self._bound: set[Client] = set()  # those that authenticate connections, and share none
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    async def acquire(self, flow: HTTPFlow, target: Target, *, fresh: bool = False) -> UpstreamConnection:
        """A free connection to `target`, else a new one; `fresh` insists on a new one.

        `flow.server_conn` is its server from now on, also when connecting fails. Raises UpstreamError.
        """
        client = flow.client_conn
        if target.via is not None or not is_ip(target.host):
            target = self._connector.placed(client, target)
        if HTTP2 in target.alpn:
            return await self._acquire_either(flow, target, fresh)
        found = None if fresh else self._take(target, client)
        if found is None:
            return await self._open(flow, target)
        flow.server_conn = found.server
        return found

    async def _acquire_either(self, flow: HTTPFlow, target: Target, fresh: bool) -> UpstreamConnection:
        """The same where HTTP/2 is as welcome as HTTP/1."""
        client = flow.client_conn
        if _asks_to_bind(flow):
            self._bound.add(client)
        while True:
            target = self._shared.demoted(target)
            if not fresh:
                found = self._find(target, client)
                if found is not None:
                    flow.server_conn = found.server
                    return found
            if HTTP2 not in target.alpn or self._shared.speaks_http1(target):
                return await self._open(flow, target)
            dialling = self._shared.dialling(self._place(target, client))
            if dialling is None:
                return await self._dial_first(flow, target)
            await dialling.done.wait()
            fresh = False
            if dialling.error is not None:
                flow.server_conn = dialling.server
                raise dialling.error.again() from dialling.error

    def _find(self, target: Target, client: Client) -> UpstreamConnection | None:
        if HTTP2 in target.alpn:
            shared = self._shared.find(self._place(target, client))
            if shared is not None:
                return Http2Lease(shared)
        return self._take(target, client)

    def _take(self, target: Target, client: Client) -> Http1Connection | None:
        return self._idle.take(target, client, tied=self._addons.active(ServerConnectHook))

    def _place(self, target: Target, client: Client) -> Key:
        """Who shares a connection over HTTP/2, and waits for a dial."""
        tied = self._addons.active(ServerConnectHook) or (self._bound and client in self._bound)
        return (target, client) if tied else target

    async def _dial_first(self, flow: HTTPFlow, target: Target) -> UpstreamConnection:
        """To a place of which it is not known what it speaks: others that want to go there wait."""
        place = self._place(target, flow.client_conn)
        dialling = self._shared.begin(place)
        try:
            return await self._open(flow, target)
        except UpstreamError as exc:
            dialling.error, dialling.server = exc, flow.server_conn
            raise
        finally:
            self._shared.end(place, dialling)

    async def _open(self, flow: HTTPFlow, target: Target) -> UpstreamConnection:
        """A new connection. HTTP/2 is spoken on it where the target offers it and the server chooses it in TLS
        (RFC 7301), or, without TLS, answers in kind (RFC 9113 §3.3)."""
        client = flow.client_conn
        server = flow.server_conn = Server((target.host, target.port))
        place, tied = self._place(target, client), self._addons.active(ServerConnectHook)
        stream = await self._connector.connect(client, server, target)
        if HTTP2 in target.alpn:
            if not target.tls or server.alpn == HTTP2.encode("ascii"):
                shared = await self._begin_http2(client, server, stream, target, place)
                if shared is not None:
                    return Http2Lease(shared)
            self._shared.remember_http1(target)
            if not target.tls:
                return await self._open(flow, self._shared.demoted(target))
        connection = Http1Connection(client, server, stream, target, self._settings.limits)
        connection.tied = tied
        return connection

    def release(self, connection: UpstreamConnection, reusable: bool, flow: HTTPFlow) -> None:
        """Give the connection back that `flow` used. Not `reusable`, or with more bytes than the answer had, it is
        closed; what was shared goes on for the others."""
        if isinstance(connection, Http2Lease):
            self._release_lease(connection)
            return
        assert isinstance(connection, Http1Connection)
        if not reusable or self._closed or connection.receiver.has_data or connection.stream.closing:
            self.discard(connection)
            return
        if not connection.tied and authenticates_connection(flow):
            connection.tied = True
            connection.client = flow.client_conn
        self._idle.keep(connection)
        self._sweep_later()

    def discard(self, connection: Http1Connection) -> None:
        """Close a connection; `server_disconnected` follows."""
        self._spawn(self._connector.disconnect(connection.client, connection.server, connection.stream))

    def forget(self, client: Client) -> None:
        """The client left: close the idle connections only it could use."""
        self._bound.discard(client)
        for shared_key, shared in self._shared:
            if isinstance(shared_key, tuple) and shared_key[1] is client:
                shared.end()
        self._idle.forget(client)

    async def aclose(self) -> None:
        """Close every idle connection and wait until all that are closing are closed."""
        self._closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        self._idle.clear()
        for _, shared in self._shared:
            shared.end()
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

    # --- HTTP/2 -----------------------------------------------------------------------------------------------

    def _release_lease(self, lease: Http2Lease) -> None:
        shared = lease.shared
        if lease.stream is not None:
            lease.stream.release()
        if shared.wants_http1:
            self._shared.remember_http1(lease.target, required=True)
        shared.release()

    async def _begin_http2(self, client: Client, server: Server, stream: Stream, target: Target,
                           place: Key) -> OriginConnection | None:
        """Speak HTTP/2 from now on. None: the server did not answer in kind, and the connection is closed."""
        begun: asyncio.Future[OriginConnection] = self._loop.create_future()
        self._spawn(self._run_http2(client, server, stream, target, place, begun))
        try:
            connection = await asyncio.shield(begun)
            # Its SETTINGS say how many streams it takes, and that it speaks HTTP/2 at all.
            await asyncio.wait((connection.judged,), timeout=SETTINGS_SECONDS)
        except asyncio.CancelledError:  # who wanted it has left, and nobody else knows of it
            begun.add_done_callback(lambda done: done.result().end())
            raise
        if not target.tls and not connection.machine.settings_received:
            connection.end()
            return None
        if connection.takes_nothing:
            connection.end()
            raise UpstreamError("the server takes no requests: it allows no streams (SETTINGS_MAX_CONCURRENT_STREAMS)")
        self._shared.add(place, connection)
        self._sweep_later()
        return connection

    async def _run_http2(self, client: Client, server: Server, stream: Stream, target: Target, place: Key,
                         begun: asyncio.Future[OriginConnection]) -> None:
        connection = OriginConnection(stream, self._settings, server, target)
        begun.set_result(connection)
        try:
            await connection.run()
        finally:
            connection.watchdog.close()
            self._shared.remove(place, connection)
            await self._connector.disconnect(client, server, stream)

    # --- the end of what is idle ----------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Close what the server closed and what was idle too long."""
        oldest = self._loop.time() - self._idle_timeout
        self._idle.sweep(oldest)
        for _, shared in self._shared:
            if shared.idle and shared.idle_since < oldest:
                shared.end()
        again = self._idle or self._shared.any
        self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep) if again else None

    def _sweep_later(self) -> None:
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def authenticates_connection(flow: HTTPFlow) -> bool:
    """True when NTLM or Negotiate was spoken: the connection now acts for one user (RFC 4559 §6)."""
    if _asks_to_bind(flow):
        return True
    response = flow.response
    return (response is not None and response.status_code == 401
            and any(map(_binds, response.headers.values_of(b"www-authenticate"))))


def _asks_to_bind(flow: HTTPFlow) -> bool:
    value = flow.request.headers.first(b"authorization")
    return value is not None and _binds(value)


def _binds(value: bytes) -> bool:
    return value[:9].lower().startswith((b"ntlm", b"negotiate"))
