"""One end of a WebSocket connection: a stream, the codec that reads it, and what was said on it.

What is sent takes its place in the order of sending before it waits for the first time. That a side is gone shows when
it is read, not when it is written to: there may be a Close on the way.
"""

from __future__ import annotations

import asyncio

from rulesproxy.codecs.websocket import Codec
from rulesproxy.model.websocket import WebSocketMessage
from rulesproxy.net.stream import ConnectionClosed, Stream


class Side:
    """One end: what is read from it, and what is sent to it."""

    __slots__ = ("broken", "close_received", "close_sent", "codec", "is_client", "reading", "sending", "stream")

    def __init__(self, stream: Stream, codec: Codec, *, is_client: bool) -> None:
        self.stream = stream
        self.codec = codec
        self.is_client = is_client
        self.sending = asyncio.Lock()  # who sends a message waits for room, and nobody overtakes
        self.close_sent = False
        self.close_received = False
        self.broken = False  # nothing it says is understood any more
        self.reading = False  # whoever reads from it waits for it

    def __str__(self) -> str:
        return "the client" if self.is_client else "the server"

    async def read(self) -> bytes:
        """Raises ConnectionClosed."""
        self.reading = True
        try:
            return await self.stream.read()
        finally:
            self.reading = False

    async def send_message(self, message: WebSocketMessage, *, deflated: bool) -> None:
        """Raises UnicodeDecodeError for text that is not UTF-8, TypeError for what is not bytes."""
        async with self.sending:
            if not self.close_sent:
                await self._write(self.codec.message(message.content, is_text=message.is_text, deflated=deflated))

    async def send_control(self, frame: bytes) -> None:
        async with self.sending:
            if not self.close_sent:
                await self._write(frame)

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
