"""WebSocket connections after their handshake: messages shown to hooks, everything else passed on.

In: the flow of the handshake and the two streams it left. Out: `websocket_start`, `websocket_message` for each whole
message, `websocket_end`; both streams are then the callers' to close. What is in a frame is the codecs' knowledge.

* Each direction has a task that reads, and keeps its order: messages, pings, pongs and the Close frame go on in the
  order they came. Hooks of one flow never overlap. A slow receiver holds up only those who send to it, a slow handler
  the direction of its message and the next message of the other; pings and pongs do not wait for it longer than
  `PATIENCE` seconds, unless more messages come before them than are read ahead.
* What is injected goes through the message hook and out right after the message in hand.
* Pings and pongs travel from end to end; so does Close with its code and reason, and both ends have to say it. What
  ends without one (1006) ends on the other side the same way: a reset by a reset, an end of stream by one. What the
  proxy ends itself it closes on both sides with the same code: 1002, 1007 and 1009 for what broke the protocol or a
  limit, 1001 when it was silent for too long or the proxy stops, 1011 when a handler left something unsendable.
* Where nobody looks (the policy's `needs_messages`) the bytes pass untouched, which costs least and keeps every
  extension. The codecs could not join in later, the state of deflate is gone: when rules change so that one could match
  its messages, a connection is ended at once (`RawWebSocket.reconsider`), and clients connect again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from rulesproxy.addons.lifecycle import UpdateHook
from rulesproxy.codecs.websocket import (
    Close,
    Codec,
    Event,
    Message,
    Ping,
    Pong,
    WebSocketError,
    agreed_deflate,
    unknown_extensions,
)
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.websocket import Opcode, WebSocketData, WebSocketMessage
from rulesproxy.net.stream import ConnectionClosed, Stream
from rulesproxy.proxy.relay import Splice
from rulesproxy.proxy.websocket.hooks import (
    WebsocketEndHook,
    WebsocketMessageHook,
    WebsocketStartHook,
)
from rulesproxy.proxy.websocket.side import Side

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

#: How long one side may take to answer a Close of the other, and how long both may take to answer ours.
ANSWER_SECONDS = 10.0
GOODBYE_SECONDS = 2.0
#: One read can hold thousands of tiny frames; after so many of them others have their turn.
AT_A_TIME = 64

_NORMAL, _GOING_AWAY, _ABNORMAL, _INTERNAL_ERROR = 1000, 1001, 1006, 1011


async def serve_websocket(session: Session, flow: HTTPFlow, client: Stream, origin: Stream) -> None:
    """Serve a connection to its end. The streams stay the caller's to close."""
    core = session.core
    assert flow.response is not None
    if not core.addons.policy.needs_messages(flow):
        relay: RawWebSocket | WebSocket = RawWebSocket(session, flow, client, origin)
    elif hiding := unknown_extensions(flow.response.headers):
        # Nobody looked when it was offered. As for other connections that new rules could not read: it ends.
        log.warning("%s: WebSocket: ended: the extension %s would hide messages that rules or scripts look at now",
                    flow.request.url, hiding[0])
        client.abort()
        origin.abort()
        return
    else:
        relay = WebSocket(session, flow, client, origin)
    core.conversations.add(relay)
    try:
        await session.join(relay)
    finally:
        core.conversations.discard(relay)


class RawWebSocket(Splice):
    """Nobody looks: bytes both ways."""

    __slots__ = ("_addons", "_flow")

    def __init__(self, session: Session, flow: HTTPFlow, client: Stream, origin: Stream) -> None:
        super().__init__(client, origin, session.core.settings.idle_timeout)
        self._addons = session.core.addons
        self._flow = flow

    async def run(self) -> None:
        self._flow.on_kill = self._cut
        if self._flow.error is not None:
            self._cut()
        await super().run()

    def reconsider(self) -> bool:
        """The rules have changed. True if somebody looks now: the connection ends."""
        if not self._addons.policy.needs_messages(self._flow):
            return False
        self._stop()
        return True

    def go_away(self) -> None:
        """The proxy stops: like every tunnel it has until the grace time is over."""

    def _cut(self) -> None:
        self._left.abort()
        self._right.abort()


class WebSocket(Splice):
    """One connection whose messages somebody looks at."""

    __slots__ = ("_addons", "_answer_timer", "_client", "_cut", "_data", "_flow", "_origin", "_over", "_speaker",
                 "_speaking", "_turn")

    def __init__(self, session: Session, flow: HTTPFlow, client: Stream, origin: Stream) -> None:
        settings, response = session.core.settings, flow.response
        super().__init__(client, origin, settings.idle_timeout)
        assert response is not None
        deflate, limit = agreed_deflate(response.headers), settings.websocket_message_limit
        self._client = Side(client, Codec(client=False, limit=limit, deflate=deflate), is_client=True)
        self._origin = Side(origin, Codec(client=True, limit=limit, deflate=deflate), is_client=False)
        self._addons = session.core.addons
        self._flow = flow
        self._data = WebSocketData()
        self._turn = asyncio.Lock()  # held while a hook is entered
        self._speaking = asyncio.Lock()  # held while what was injected goes out
        self._speaker: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._answer_timer: asyncio.TimerHandle | None = None
        self._cut = False  # it ended without a Close, and so it shall on both sides

    async def run(self) -> None:
        flow, data = self._flow, self._data
        flow.websocket = data
        flow.on_kill, data.on_speak = self._killed, self._spoken
        try:
            await self._addons.fire(WebsocketStartHook(flow))
            self._check()
            await self._converse()
        except asyncio.CancelledError:
            if not (self._client.close_sent or self._origin.close_sent):
                data.close_code = None
            self._abort()
            raise
        finally:
            flow.on_kill = data.on_speak = None
            flow.live = False
            data.timestamp_end = time.time()
            if data.close_code is None:
                data.close_code, data.close_reason = _ABNORMAL, ""
            await self._addons.fire(WebsocketEndHook(flow))

    async def _converse(self) -> None:
        create = self._loop.create_task
        self._tasks = (create(self._pass_on(self._client, self._origin)),
                       create(self._pass_on(self._origin, self._client)))
        for task in self._tasks:
            task.add_done_callback(self._look_for_bugs)
        self._look()
        self._spoken()
        try:
            await self._over
            async with self._turn:  # no handler is interrupted
                pass
            if not self._cut:
                await self._say_goodbye()
        finally:
            for timer in (self._timer, self._answer_timer):
                if timer is not None:
                    timer.cancel()
            await _stop_all(*self._tasks, *((self._speaker,) if self._speaker is not None else ()))

    # --- what arrives -----------------------------------------------------------------------------------------

    async def _pass_on(self, source: Side, sink: Side) -> None:
        left = AT_A_TIME
        try:
            while (event := await source.next_event()) is not None:
                self._last = self._loop.time()
                left -= 1
                if not left:
                    left = AT_A_TIME
                    await asyncio.sleep(0)
                if not self._over.done():
                    await self._take(event, source, sink)
                elif isinstance(event, Close):
                    source.close_received = True
                if source.close_received or self._over.done():
                    return
        except WebSocketError as exc:
            log.info("%s: WebSocket: %s sent %s", self._flow.request.url, source, exc)
            source.broken = True
            self._close(exc.code, str(exc))
        except ConnectionClosed:
            self._lost(source, reset=True)
        else:
            self._lost(source, reset=False)

    async def _take(self, event: Event, source: Side, sink: Side) -> None:
        match event:
            case Message():
                kind = Opcode.TEXT if event.is_text else Opcode.BINARY
                message = WebSocketMessage(kind, source.is_client, event.content)
                async with source.attended(sink):
                    await self._deliver(message, sink, deflated=event.deflated)
                    if self._data.outbox or self._data.closing is not None:
                        await self._speak()
            case Ping() | Pong():
                await sink.send_control(event)
            case Close(code, reason):
                await self._closed(source, sink, code, reason)

    async def _deliver(self, message: WebSocketMessage, sink: Side, *, deflated: bool) -> None:
        """Show a message to the hook, and send what it left of it."""
        async with self._turn:
            if self._over.done():
                return
            self._data.remember(message)
            await self._addons.fire(WebsocketMessageHook(self._flow))
            self._last = self._loop.time()
            self._check()
        if message.dropped or self._over.done():
            return
        try:
            await sink.send_message(message, deflated=deflated)  # takes its place before it waits for the first time
        except (TypeError, ValueError) as exc:
            log.error("%s: WebSocket: a handler left a message that cannot be sent: %s", self._flow.request.url, exc)
            self._close(_INTERNAL_ERROR, "")

    # --- what we say ourselves --------------------------------------------------------------------------------

    def _spoken(self) -> None:
        """Something was injected, or `close` was called. Whoever has the turn looks for that afterwards."""
        waits = self._data.outbox or self._data.closing is not None
        if waits and self._tasks and not self._turn.locked() and self._speaker is None and not self._over.done():
            self._speaker = self._loop.create_task(self._speak())
            self._speaker.add_done_callback(self._speaker_done)

    def _speaker_done(self, task: asyncio.Task[None]) -> None:
        self._speaker = None
        self._look_for_bugs(task)
        self._spoken()

    async def _speak(self) -> None:
        data = self._data
        async with self._speaking:
            while data.outbox and not self._over.done():
                message = data.outbox.pop(0)
                await self._deliver(message, self._origin if message.from_client else self._client, deflated=True)
                await self._tell_of_update()
                await asyncio.sleep(0)  # a handler that always adds one must not stop the proxy
            if data.closing is not None:
                self._close(*data.closing)

    async def _tell_of_update(self) -> None:
        if self._addons.active(UpdateHook):
            async with self._turn:
                await self._addons.fire(UpdateHook([self._flow]))

    # --- ends -------------------------------------------------------------------------------------------------

    async def _closed(self, source: Side, sink: Side, code: int, reason: str) -> None:
        """A Close arrived. Both sides have to say it; who is asked first may finish what it is sending."""
        data = self._data
        source.close_received = True
        if data.close_code is None:
            data.close_code, data.close_reason, data.closed_by_client = code, reason, source.is_client
            self._answer_timer = self._loop.call_later(ANSWER_SECONDS, self._end)
        await sink.send_close(code, reason)
        if sink.close_received:
            self._end()

    def _close(self, code: int, reason: str) -> None:
        """Close both sides ourselves."""
        data = self._data
        if not self._over.done() and data.close_code is None:
            data.close_code, data.close_reason = code, reason
        self._end()

    def _lost(self, side: Side, *, reset: bool) -> None:
        """A side ended without a Close. That is an answer to one, if not what was hoped for."""
        data = self._data
        side.close_received = True  # or what stands for it
        if self._over.done():
            return
        if data.close_code is None:
            data.close_code, data.close_reason, data.closed_by_client = _ABNORMAL, "", side.is_client
            self._cut = True
            if reset:
                self._abort()
        self._end()

    def _killed(self) -> None:
        if not self._over.done():
            self._data.close_code, self._data.close_reason = _ABNORMAL, ""
            self._abort()

    def _check(self) -> None:
        """A handler may have killed or dropped the flow."""
        if self._flow.error is not None or self._flow.drop is not None:
            self._killed()

    def _abort(self) -> None:
        self._cut = True
        self._left.abort()
        self._right.abort()
        self._end()

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _stop(self) -> None:
        """Called by the timer: it was silent for too long, or silent in a tunnel that new rules want gone."""
        if self._turn.locked():  # a handler takes its time: that is no silence
            self._last = self._loop.time()
            self._look()
        else:
            self._close(_GOING_AWAY, "")

    def go_away(self) -> None:
        """The proxy stops."""
        self._close(_GOING_AWAY, "")

    def reconsider(self) -> bool:
        """The rules have changed: from the next message on they are asked anyway."""
        return False

    def _look_for_bugs(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (bug := task.exception()) is not None:
            log.error("%s: WebSocket: unexpected error", self._flow.request.url, exc_info=bug)
            self._close(_INTERNAL_ERROR, "")

    async def _say_goodbye(self) -> None:
        """Say Close where it was not said, and let the other end answer: closing before it has would be a reset."""
        sides = (self._client, self._origin)
        await _stop_all(*(task for side, task in zip(sides, self._tasks, strict=True) if side.reading))
        partings = [self._loop.create_task(self._part_from(side, reader))
                    for side, reader in zip(sides, self._tasks, strict=True)
                    if not (side.close_sent and side.close_received)]
        if not partings:
            return
        try:
            await asyncio.wait(partings, timeout=GOODBYE_SECONDS)
        finally:
            for side in sides:
                if side.sending.locked():  # in the middle of a frame
                    side.stream.abort()
            await _stop_all(*partings)

    async def _part_from(self, side: Side, reader: asyncio.Task[None]) -> None:
        await side.send_close(self._data.close_code or _NORMAL, self._data.close_reason or "")
        await asyncio.wait((reader,))  # it may be sending, and sees then that it is over
        try:
            if side.broken:  # its answer would not be understood
                await side.stream.write_eof()
                while await side.stream.read():
                    pass
            while not side.close_received and (event := await side.next_event()) is not None:
                side.close_received = isinstance(event, Close)  # messages are for nobody any more
        except (ConnectionClosed, WebSocketError):
            return


async def _stop_all(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
