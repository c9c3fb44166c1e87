"""DNS over one TCP connection (RFC 7766).

Theory of operation. Each message has its length in front. Queries may arrive in any number of pieces and several at
once; they are worked on side by side and answered as each is ready. The connection ends when the client says so, when
nothing has happened for the idle time, or when what arrives is no query at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from rulesproxy.net.stream import ConnectionClosed, Stream

_PIPELINE_LIMIT = 32  # queries in work; more wait in the client's socket

#: Starts work on one message: the task that will send the answer, None when there is nothing to do.
Begin = Callable[[bytes, Callable[[bytes], Coroutine[Any, Any, None]]], asyncio.Task[None] | None]


class NotDns(Exception):
    """The peer does not speak DNS: raised by `Begin`, ends the connection."""


class TcpConversation:
    """The messages on one stream, from the first to the end."""

    def __init__(self, stream: Stream, begin: Begin, idle_timeout: float) -> None:
        self._stream = stream
        self._begin = begin
        self._idle_timeout = idle_timeout
        self._buffer = bytearray()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: asyncio.Timeout | None = None
        self._finishing = False

    async def run(self) -> None:
        """Serve until the end; answers in work are still sent. The caller closes the stream."""
        try:
            while (message := await self._next_message()) is not None:
                task = self._begin(message, self._send)
                if task is not None:
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                if len(self._tasks) >= _PIPELINE_LIMIT:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._tasks:
                await asyncio.wait(self._tasks)
        except NotDns:
            pass  # closing is the answer
        finally:
            left = set(self._tasks)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    def finish(self) -> None:
        """Take no further message; `run` ends once the answers in work are sent."""
        self._finishing = True
        if self._waiting is not None:
            self._waiting.reschedule(0)

    async def _next_message(self) -> bytes | None:
        while not self._finishing:
            try:
                async with asyncio.timeout(self._idle_timeout) as self._waiting:
                    return await self._read_message()
            except TimeoutError:
                # RFC 7766 §6.2.3: idle is a connection without queries in work.
                if not self._tasks:
                    return None
            except ConnectionClosed:
                return None
            finally:
                self._waiting = None
        return None

    async def _read_message(self) -> bytes | None:
        buffer = self._buffer
        while len(buffer) < 2 or len(buffer) < 2 + int.from_bytes(buffer[:2], "big"):
            data = await self._stream.read()
            if not data:
                return None
            buffer += data
        end = 2 + int.from_bytes(buffer[:2], "big")
        message = bytes(buffer[2:end])
        del buffer[:end]
        return message

    async def _send(self, answer: bytes) -> None:
        try:
            async with asyncio.timeout(self._idle_timeout):
                # RFC 7766 §8: length and message in one write
                await self._stream.write(len(answer).to_bytes(2, "big") + answer)
        except TimeoutError:
            self._stream.abort()  # the client sends and does not read
        except ConnectionClosed:
            pass  # the client has left and will not miss the answer
