"""Raw TCP: messages of two streams that are nothing else we know, each shown to hooks before it goes on.

In: a client's stream and its scope. Out: a `TCPFlow` and its hooks, `tcp_start` first, `tcp_end` or `tcp_error` last.
The server is dialled after `tcp_start`, unless it is connected already because the client was silent. What one read
brings is one message. Each direction has a task, so that a slow reader holds up only those who send to it; hooks of
one flow never overlap, and each direction keeps its order. While nobody handles `tcp_message` the bytes just pass:
whether somebody does is looked up for each message, so that rules and scripts that come later see what comes later.

What is injected goes through the same hook and out after the message in hand. A half-close travels once everything
before it has gone out. Opportunistic TLS (STARTTLS, SSLRequest) is bytes like any other.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rulesproxy.addons.hooks import Hook
from rulesproxy.addons.lifecycle import UpdateHook
from rulesproxy.addons.manager import AddonManager
from rulesproxy.model.connection import Server
from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import Error
from rulesproxy.model.tcp import TCPFlow, TCPMessage
from rulesproxy.model.udp import UDPFlow
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed, Stream
from rulesproxy.proxy.failures import sent_by
from rulesproxy.proxy.http_hooks import Stopped
from rulesproxy.proxy.relay import Splice, open_origin
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.upstream.target import UpstreamError

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

_STOPPED = "The proxy stopped."


@dataclass(slots=True)
class TcpStartHook(Hook):
    """A connection begins that carries no HTTP. The server is mostly not connected yet."""

    flow: TCPFlow


@dataclass(slots=True)
class TcpMessageHook(Hook):
    """Bytes arrived or were injected: `flow.messages[-1]`. Change its `content`, or `drop()` it."""

    flow: TCPFlow


@dataclass(slots=True)
class TcpEndHook(Hook):
    """Both sides have finished."""

    flow: TCPFlow


@dataclass(slots=True)
class TcpErrorHook(Hook):
    """The connection failed, was reset, killed or silent for too long: `flow.error` says why. Instead of `tcp_end`."""

    flow: TCPFlow


async def serve_tcp(session: Session, stream: PeekableStream, scope: Scope) -> None:
    """Serve a stream of which nothing is known but its bytes."""
    opened, scope.opened = scope.opened, None
    server, origin = opened if opened is not None else (Server(scope.relay_destination), None)
    flow = TCPFlow(session.client, server)
    flow.tunnel = scope.tunnel
    try:
        await _start(session, flow)
        if origin is None:
            origin = await _connect(session, flow, scope)
        await session.join(TcpRelay(session.core.addons, flow, stream, origin, session.core.settings.idle_timeout))
    except (Stopped, UpstreamError) as exc:
        flow.error = flow.error or Error(str(exc))
    except BaseException as exc:
        flow.error = flow.error or Error(str(exc) or _STOPPED)
        raise
    finally:
        await _finish(session, flow, stream, scope)
        if origin is not None:
            if _is_cut(flow):
                origin.abort()
            await session.core.upstream.close_tunnel(session.client, flow.server_conn, origin)
    if flow.drop is Drop.HANG:
        await session.hang(stream)


async def _start(session: Session, flow: TCPFlow) -> None:
    addons = session.core.addons
    if addons.active(TcpStartHook):
        await addons.fire(TcpStartHook(flow))
        check(flow)


async def _connect(session: Session, flow: TCPFlow, scope: Scope) -> Stream:
    """Dial; `kill` interrupts it. Raises UpstreamError, Stopped."""
    watchdog = session.watchdog
    flow.on_kill = lambda: watchdog.interrupt(Stopped())
    try:
        _, origin = await watchdog.wait(open_origin(session, scope, flow.server_conn))
    except UpstreamError as exc:
        log.warning("tunnel to %s:%d: %s%s", *scope.relay_destination, exc, sent_by(scope.way.route))
        raise
    finally:
        flow.on_kill = None
    return origin


def check(flow: TCPFlow | UDPFlow) -> None:
    """Raises Stopped, with `flow.error` set, if a handler killed or dropped the flow."""
    if flow.error is not None:
        raise Stopped
    if flow.drop is not None:
        flow.error = Error(f"Connection dropped{f' by rule {flow.rule}' if flow.rule else ''}.")
        raise Stopped


def _is_cut(flow: TCPFlow) -> bool:
    """Whether both sides shall see a reset: anything but an orderly end, a drop that wants one, and silence."""
    return flow.error is not None and flow.drop not in (Drop.CLOSE, Drop.HANG) and not isinstance(flow.error, _Silence)


class _Silence(Error):
    """Too long without a message: an orderly close is enough."""

    __slots__ = ()


async def _finish(session: Session, flow: TCPFlow, stream: Stream, scope: Scope) -> None:
    addons = session.core.addons
    flow.live = False
    if _is_cut(flow):
        stream.abort()
    if flow.error is None:
        if addons.active(TcpEndHook):
            await addons.fire(TcpEndHook(flow))
        return
    log.info("%s: raw TCP to %s:%d: %s", session.client.peer, *scope.relay_destination, flow.error)
    if addons.active(TcpErrorHook):
        await addons.fire(TcpErrorHook(flow))


class TcpRelay(Splice):
    """Passes messages on until both sides have finished, or `flow.error` says why it ended before."""

    __slots__ = ("_addons", "_finished", "_flow", "_in_hand", "_over", "_speakers", "_turn")

    def __init__(self, addons: AddonManager, flow: TCPFlow, client: Stream, origin: Stream,
                 idle_timeout: float) -> None:
        super().__init__(client, origin, idle_timeout)
        self._addons = addons
        self._flow = flow
        self._turn = asyncio.Lock()  # held while a hook is entered
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._finished: set[bool] = set()  # directions that have ended, by who spoke: is it the client?
        self._speakers: dict[bool, asyncio.Task[None]] = {}
        self._in_hand = 0  # messages that have arrived and are not written yet

    async def run(self) -> None:
        """Closing the streams is left to their owners. Cancelled, it raises CancelledError."""
        flow = self._flow
        check(flow)
        flow.on_kill, flow.on_speak = self._killed, self._speak
        self._tasks = (self._loop.create_task(self._copy(self._left, self._right)),
                       self._loop.create_task(self._copy(self._right, self._left)))
        for task in self._tasks:
            task.add_done_callback(self._copied)
        self._look()
        self._speak()
        try:
            await self._over
            await self._hook_in_hand()
        finally:
            flow.on_kill = flow.on_speak = None
            if self._timer is not None:
                self._timer.cancel()
            workers = (*self._tasks, *self._speakers.values())
            for task in workers:
                task.cancel()
            await asyncio.wait(workers)

    # --- messages ---------------------------------------------------------------------------------------------

    async def _copy(self, source: Stream, sink: Stream) -> None:
        from_client = source is self._left
        try:
            while data := await source.read():
                self._last = self._loop.time()
                self._in_hand += 1
                if self._addons.active(TcpMessageHook):
                    data = await self._shown(TCPMessage(from_client, data))
                if data:
                    await sink.write(data)
                self._in_hand -= 1
                if self._flow.closing:
                    self._wind_up()
            while (speaker := self._speakers.get(from_client)) is not None:
                await asyncio.wait((speaker,))
            self._finished.add(from_client)
            await sink.write_eof()
        except ConnectionClosed as exc:  # one side is gone without ceremony: so is the other
            self._end(Error(f"{exc}"))

    async def _shown(self, message: TCPMessage) -> bytes:
        """What is to be sent after hooks have seen the message: nothing if it was dropped, or the flow ended."""
        flow = self._flow
        async with self._turn:
            if self._over.done():
                return b""
            flow.remember(message)
            await self._addons.fire(TcpMessageHook(flow))
            self._last = self._loop.time()
            try:
                check(flow)
            except Stopped:
                self._end(flow.error)
                return b""
        return b"" if message.dropped else message.content

    def _speak(self) -> None:
        """Something was injected: have it sent."""
        for from_client in {message.from_client for message in self._flow.outbox}:
            if from_client not in self._speakers:
                speaker = self._speakers[from_client] = self._loop.create_task(self._send_injected(from_client))
                speaker.add_done_callback(self._look_for_bugs)
        self._wind_up()

    def _wind_up(self) -> None:
        """`close` was called: end in order as soon as nothing is left to send."""
        if self._flow.closing and not self._in_hand and not self._speakers:
            self._end(None)

    async def _send_injected(self, from_client: bool) -> None:
        outbox = self._flow.outbox
        sink = self._right if from_client else self._left
        try:
            while message := next((message for message in outbox if message.from_client is from_client), None):
                outbox.remove(message)
                if from_client in self._finished:
                    log.debug("%r: bytes were injected after the end of that direction", self._flow)
                    continue
                data = await self._shown(message)
                if data:
                    await sink.write(data)
                await self._tell_of_update()
                await asyncio.sleep(0)  # a handler that always adds one must not stop the proxy
        except ConnectionClosed as exc:
            self._end(Error(f"{exc}"))
        finally:
            del self._speakers[from_client]  # at once: what is injected next needs another
            self._wind_up()

    async def _tell_of_update(self) -> None:
        if self._addons.active(UpdateHook):
            async with self._turn:
                await self._addons.fire(UpdateHook([self._flow]))

    # --- ends -------------------------------------------------------------------------------------------------

    def _killed(self) -> None:
        self._end(self._flow.error)

    def _end(self, error: Error | None) -> None:
        flow = self._flow
        if self._over.done():
            return
        flow.error = flow.error or error
        self._over.set_result(None)
        if _is_cut(flow):
            self._left.abort()
            self._right.abort()

    def _copied(self, task: asyncio.Task[None]) -> None:
        self._look_for_bugs(task)
        if all(task.done() for task in self._tasks):
            self._end(None)

    def _look_for_bugs(self, task: asyncio.Task[None]) -> None:
        """A handler may have left something that is not bytes."""
        if not task.cancelled() and (bug := task.exception()) is not None:
            log.error("%r: unexpected error", self._flow, exc_info=bug)
            self._end(Error(f"{type(bug).__name__}: {bug}"))

    def _stop(self) -> None:
        if self._turn.locked():  # a handler takes its time: that is no silence
            self._last = self._loop.time()
            self._look()
        else:
            self._end(_Silence(f"Nothing was sent for {self._patience:g} s."))

    async def _hook_in_hand(self) -> None:
        """Let it come to its end: no handler is interrupted, or entered while another is."""
        async with self._turn:
            pass
