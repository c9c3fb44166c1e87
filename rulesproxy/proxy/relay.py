"""Bytes passed on untouched, both ways, until both sides have finished.

In: two streams. Out: nothing but their bytes: half-close travels, a reset travels, a slow reader holds up the other
side. Used for tunnels that rules or hooks say to relay, and after `101 Switching Protocols`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from rulesproxy.model.connection import Server
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed, Stream
from rulesproxy.proxy.failures import sent_by
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.upstream.connector import Connector
from rulesproxy.proxy.upstream.target import Target, UpstreamError

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

#: A tunnel that new rules would decide differently ends after this much silence (rule-language 6.3).
QUIET_SECONDS = 0.5


class Splice:
    """Two streams joined. `run` returns when both directions have ended, or it was silent for too long."""

    __slots__ = ("_last", "_left", "_loop", "_patience", "_right", "_tasks", "_timer")

    def __init__(self, left: Stream, right: Stream, idle_timeout: float) -> None:
        self._left = left
        self._right = right
        self._patience = idle_timeout
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Closing the streams is left to their owners."""
        self._tasks = (self._loop.create_task(self._copy(self._left, self._right)),
                       self._loop.create_task(self._copy(self._right, self._left)))
        self._look()
        try:
            await asyncio.wait(self._tasks)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._stop()
            await asyncio.wait(self._tasks)

    def end_when_quiet(self) -> None:
        """End at the next `QUIET_SECONDS` of silence."""
        self._patience = min(self._patience, QUIET_SECONDS)
        if self._timer is not None:
            self._timer.cancel()
            self._look()

    async def _copy(self, source: Stream, sink: Stream) -> None:
        try:
            while data := await source.read():
                self._last = self._loop.time()
                await sink.write(data)
            await sink.write_eof()
        except ConnectionClosed:  # one side is gone without ceremony: so is the other
            source.abort()
            sink.abort()

    def _look(self) -> None:
        due = self._last + self._patience
        if due <= self._loop.time():
            self._stop()
        else:
            self._timer = self._loop.call_at(due, self._look)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()


async def open_origin(session: Session, scope: Scope, server: Server | None = None, *,
                      alpn: tuple[str, ...] = ()) -> tuple[Server, Stream]:
    """Connect a tunnel's server; in a decrypted tunnel with TLS of our own, which offers `alpn`. Raises UpstreamError.

    `server` is one that hooks know already; its address says where to.
    """
    core, client = session.core, session.client
    host, port = scope.relay_destination
    server = server or Server((host, port))
    target = Target(host, port, via=scope.relay_via)
    if scope.decrypted:
        demands = scope.server_tls
        verify = core.settings.verify_upstream and (demands is None or demands.verify)
        target = target._replace(scheme="https", sni=scope.name, verify=verify, alpn=alpn, server_tls=demands)
    return server, await Connector(core).connect(client, server, target)


async def relay_tunnel(session: Session, stream: PeekableStream, scope: Scope) -> None:
    """Join a tunnel with its server, dialled now if it was not already."""
    try:
        server, origin = scope.opened or await open_origin(session, scope)
    except UpstreamError as exc:
        log.warning("tunnel to %s:%d: %s%s", *scope.relay_destination, exc, sent_by(scope.way.route))
        stream.abort()
        return
    scope.opened = None
    try:
        await session.splice(stream, origin)
    finally:
        await session.core.upstream.close_tunnel(session.client, server, origin)

