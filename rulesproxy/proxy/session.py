"""One client connection from accept to close, and the recursion that opens what is inside it.

In: an accepted stream. `serve` looks at what the client says first and hands the stream to the protocol it finds;
CONNECT and TLS unwrap it and call `serve` again on the inner stream with a narrower `Scope`. `client_connected` fires
first, `client_disconnected` last, each once. It knows protocols by their first bytes only.

Where one connection carries many exchanges at a time (HTTP/2), each is served through a `strand`: a session of its
own, with the same client, for one task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from rulesproxy.codecs.detect import Protocol
from rulesproxy.model.connection import Client, ConnectionState, Server
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed, Stream
from rulesproxy.proxy import tls
from rulesproxy.proxy.client_hooks import ClientConnectedHook, ClientDisconnectedHook
from rulesproxy.proxy.core import Core
from rulesproxy.proxy.detection import detect_protocol
from rulesproxy.proxy.grant import Grant
from rulesproxy.proxy.http1.server import serve_http1
from rulesproxy.proxy.http2.server import serve_http2
from rulesproxy.proxy.raw.tcp import serve_tcp
from rulesproxy.proxy.relay import QUIET_SECONDS, Splice, relay_tunnel
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.watchdog import Watchdog

if TYPE_CHECKING:
    from rulesproxy.proxy.exchange import Exchange


#: How a connection begins on a listener (accept.py, socks.py).
Begin = Callable[["Session", PeekableStream], Awaitable[None]]


class Session:
    """Made for one accepted stream by the task that serves it; `run` once."""

    def __init__(self, core: Core, stream: Stream, client: Client) -> None:
        self.core = core
        self.stream = stream
        self.client = client
        self.watchdog = Watchdog()
        #: True while nothing is under way and closing harms nobody: before a request, or between two.
        self.idle = False
        #: How many tunnels this is inside of.
        self.depth = 0
        #: The exchange in hand, told when the client leaves; None while the client's connection is being read.
        self.exchange: Exchange | None = None
        #: Told instead when this connection shall end but is not idle: HTTP/2 begins nothing new then.
        self.on_ending: Callable[[], None] | None = None
        #: The tunnel in hand, if rules have opened one.
        self.grant: Grant | None = None
        self._splice: Splice | None = None
        self._stale = False
        self._placeholder = Server()

    @property
    def ending(self) -> bool:
        """True when the exchange in hand shall be the last one."""
        return self._stale or self.core.closing

    def strand(self) -> Session:
        """For one of several exchanges at a time on this connection; made by the task that serves it, and not run."""
        return Session(self.core, self.stream, self.client)

    async def run(self, begin: Begin) -> None:
        """Serve the stream to its end, in the way its listener's mode begins."""
        core, client = self.core, self.client
        core.sessions.add(self)
        try:
            await core.addons.fire(ClientConnectedHook(client))
            if client.error is None:
                await begin(self, PeekableStream(self.stream))
        except ConnectionClosed as exc:
            client.error = client.error or str(exc)
        except asyncio.CancelledError:
            self.stream.abort()
            raise
        finally:
            core.sessions.discard(self)
            self.watchdog.close()
            client.state = ConnectionState.CLOSED
            client.timestamp_end = time.time()
            await self.stream.aclose()
            core.upstream.forget(client)
            await core.addons.fire(ClientDisconnectedHook(client))

    async def serve(self, stream: PeekableStream, scope: Scope) -> None:
        """Serve what is on the stream until it ends. Raises ConnectionClosed when the client leaves early."""
        try:
            await self._serve(stream, scope)
        finally:
            if scope.opened is not None:
                await self.core.upstream.close_tunnel(self.client, *scope.opened)

    async def _serve(self, stream: PeekableStream, scope: Scope) -> None:
        protocol = Protocol.OTHER if scope.raw else await detect_protocol(self, stream, scope)
        if protocol is None:
            return
        if protocol is Protocol.HTTP1:
            await serve_http1(self, stream, scope)
        elif protocol is Protocol.HTTP2:
            await serve_http2(self, stream, scope)
        elif protocol is Protocol.TLS and scope.tunnel is None:
            await tls.serve_own_tls(self, stream, scope)
        elif protocol is Protocol.TLS and not scope.decrypted:
            await tls.serve_tls(self, stream, scope)
        elif protocol is Protocol.OTHER:
            await serve_tcp(self, stream, scope)
        else:
            await relay_tunnel(self, stream, scope)

    async def splice(self, left: Stream, right: Stream) -> None:
        """Pass bytes between two streams until both have finished."""
        await self.join(Splice(left, right, self.core.settings.idle_timeout))

    async def join(self, splice: Splice) -> None:
        """Run a splice to its end, which comes early when new rules would decide differently about its tunnel."""
        self._splice = splice
        if self._stale:
            splice.end_when_quiet()
        await splice.run()

    async def hang(self, stream: Stream) -> None:
        """Say nothing until the client leaves, or the idle limit ends it."""
        try:
            await self.watchdog.within(self.core.settings.idle_timeout, _read_all(stream))
        except (ConnectionClosed, TimeoutError):
            return

    def placeholder(self, host: str, port: int) -> Server:
        """What `flow.server_conn` is until a connection is needed: the same object for requests to the same place."""
        if self._placeholder.address != (host, port):
            self._placeholder = Server((host, port))
        return self._placeholder

    def client_ended(self, lost: bool) -> None:
        """The client has finished sending, or its connection is `lost`. While it is read the reader learns of that
        himself."""
        if self.exchange is not None:
            self.exchange.client_ended(lost)

    # --- ending early -----------------------------------------------------------------------------------------

    def go_away(self) -> None:
        """End now if that harms nobody; what is under way is finished."""
        if self.idle:
            self.watchdog.expire()
        elif self.on_ending is not None:
            self.on_ending()

    def reconsider(self) -> bool:
        """Ask the policy again. True if it decides differently now: the tunnel then ends when it is quiet."""
        if self._stale or self.grant is None or self.grant.holds(self.core.addons.policy,
                                                                 relayed=self._splice is not None):
            return False
        self._stale = True
        if self._splice is not None:
            self._splice.end_when_quiet()
        asyncio.get_running_loop().call_later(QUIET_SECONDS, self.go_away)
        return True


async def _read_all(stream: Stream) -> None:
    while await stream.read():
        pass  # and forget
