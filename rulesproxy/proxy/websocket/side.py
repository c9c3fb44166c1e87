"""One end of a WebSocket connection: a stream, the codec that reads it, and what was said on it.

What is sent takes its place in the order of sending before it waits for the first time. That a side is gone shows when
it is read, not when it is written to: there may be a Close on the way.

While a handler takes its time the next message waits and holds up its sender. Pings must not wait for ever: after
`PATIENCE` seconds the side is attended, which reads ahead a little and passes control frames by.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Self

from rulesproxy.codecs.websocket import Codec, Event, Message, Ping, Pong, WebSocketError
from rulesproxy.model.websocket import WebSocketMessage
from rulesproxy.net.stream import ConnectionClosed, Stream

#: A handler may hold up control frames for so many seconds; then they overtake what it holds.
PATIENCE = 1.0
#: Bytes of messages that are read meanwhile, or one message.
READ_AHEAD = 64 * 1024


class Side:
    """One end: what is read from it, and what is sent to it."""

    __slots__ = ("_ahead", "_arriving", "_attendant", "_loop", "broken", "close_received", "close_sent", "codec",
                 "is_client", "reading", "sending", "stream")

    def __init__(self, stream: Stream, codec: Codec, *, is_client: bool) -> None:
        self.stream = stream
        self.codec = codec
        self.is_client = is_client
        self.sending = asyncio.Lock()  # who sends a message waits for room, and nobody overtakes
        self.close_sent = False
        self.close_received = False
        self.broken = False  # nothing it says is understood any more
        self.reading = False  # whoever reads from it waits for it
        self._arriving: Iterator[Event] = iter(())
        self._ahead: deque[Event | Exception | None] = deque()  # read while a message before was being dealt with
        self._loop = asyncio.get_running_loop()
        self._attendant: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return "the client" if self.is_client else "the server"

    # --- what it says -----------------------------------------------------------------------------------------

    async def next_event(self) -> Event | None:
        """None at the end of the stream. Raises ConnectionClosed, WebSocketError."""
        if not self._ahead:
            return await self._read_event()
        event = self._ahead.popleft()
        if isinstance(event, Exception):
            raise event
        return event

    async def _read_event(self) -> Event | None:
        while (event := next(self._arriving, None)) is None:
            self.reading = True
            try:
                data = await self.stream.read()
            finally:
                self.reading = False
            if not data:
                return None
            self._arriving = self.codec.receive(data)
        return event

    def attended(self, sink: Self) -> _Attended:
        """`async with` this around what may take long after a message was read."""
        return _Attended(self, sink)

    def attend(self, sink: Self) -> None:
        self._attendant = self._loop.create_task(self._pass_by(sink))

    async def _pass_by(self, sink: Self) -> None:
        held = 0
        try:
            while held < READ_AHEAD:
                event = await self._read_event()
                if isinstance(event, Ping | Pong):
                    await sink.send_control(event)
                    continue
                self._ahead.append(event)
                if not isinstance(event, Message):
                    return
                held += max(len(event.content), 1)
        except (ConnectionClosed, WebSocketError) as exc:  # its turn comes
            self._ahead.append(exc)

    async def stop_attending(self) -> None:
        attendant = self._attendant
        if attendant is None:
            return
        if self.reading:  # and not in the middle of a frame
            attendant.cancel()
        try:
            await asyncio.wait((attendant,))
        finally:
            attendant.cancel()
            self._attendant = None

    # --- what is said to it -----------------------------------------------------------------------------------

    async def send_message(self, message: WebSocketMessage, *, deflated: bool) -> None:
        """Raises UnicodeDecodeError for text that is not UTF-8, TypeError for what is not bytes."""
        async with self.sending:
            if not self.close_sent:
                await self._write(self.codec.message(message.content, is_text=message.is_text, deflated=deflated))

    async def send_control(self, event: Ping | Pong) -> None:
        async with self.sending:
            if not self.close_sent:
                send = self.codec.ping if isinstance(event, Ping) else self.codec.pong
                await self._write(send(event.payload))

    async def send_close(self, code: int, reason: str) -> None:
        """The last thing that is said to it."""
        async with self.sending:
            if not self.close_sent:
                self.close_sent = True
                await self._write(self.codec.close(code, reason))

    async def _write(self, data: bytes) -> None:
        try:
            await self.stream.write(data)
        except ConnectionClosed:  # reading from it tells how it ended: there may be a Close on the way
            pass


class _Attended:
    """What `Side.attended` answers: the timer, and its end."""

    __slots__ = ("_side", "_sink", "_timer")

    def __init__(self, side: Side, sink: Side) -> None:
        self._side = side
        self._sink = sink

    async def __aenter__(self) -> None:
        self._timer = self._side._loop.call_later(PATIENCE, self._side.attend, self._sink)

    async def __aexit__(self, *exc: object) -> None:
        self._timer.cancel()
        await self._side.stop_attending()
