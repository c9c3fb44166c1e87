"""Bodies in motion: collected whole, or pumped from one side to the other.

In: a source of pieces and, for pumping, something to write to. Out: bytes, and the trailers at the end. Pieces that
are here already leave together; nothing waits for more while something can go out, so the first event of an event
stream is on its way when it arrives, and a slow reader holds up the source.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, NamedTuple

from rulesproxy.codecs.http1 import EndOfBody, Framing, FramingKind
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Message, StreamCallable
from rulesproxy.proxy.http_hooks import Stopped
from rulesproxy.proxy.sides import BodySource, MessageWriter

#: Pieces are joined up to this size before they are written.
WRITE_SIZE = 64 * 1024


class PieceSource:
    """A body that some iterator produces."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def ready_piece(self) -> bytes | EndOfBody | None:
        return None

    async def next_piece(self) -> bytes | EndOfBody:
        async for piece in self._pieces:
            if piece:
                return piece
        return EndOfBody()

    def consumed(self) -> None:
        """Nothing to do: the iterator is asked when there is room."""


class Collected(NamedTuple):
    """A body, or its beginning. `end` is None when the rest is still in the source."""

    pieces: list[bytes]
    end: EndOfBody | None

    def store(self, message: Message) -> None:
        """Put a complete body where hooks find it."""
        message.raw_content = b"".join(self.pieces)
        if self.end is not None and self.end.trailers:
            message.trailers = Headers(self.end.trailers)


async def collect(source: BodySource, framing: Framing, limit: int) -> Collected:
    """Read a body whole. One that is announced as too large is not even begun."""
    body = bytearray()  # not a list: a body of tiny chunks would cost many times its size
    if framing.kind is FramingKind.LENGTH and framing.length > limit:
        return Collected([], None)
    while len(body) <= limit:
        piece = source.ready_piece()
        if piece is None:
            piece = await source.next_piece()
        if isinstance(piece, EndOfBody):
            return Collected([bytes(body)], piece)
        body += piece
        source.consumed()
    return Collected([bytes(body)], None)


def take_ready(source: BodySource) -> Collected:
    """What can be had of a body without waiting, about `WRITE_SIZE` at most."""
    pieces: list[bytes] = []
    size = 0
    while size < WRITE_SIZE:
        piece = source.ready_piece()
        if piece is None:
            break
        if isinstance(piece, EndOfBody):
            return Collected(pieces, piece)
        pieces.append(piece)
        size += len(piece)
    return Collected(pieces, None)


class Pump:
    """Carries one passing body to one writer.

    Pieces go through the message's `stream` callable if it has one. What `run` has not written by the end of the body
    waits for `finish`, so that the end leaves in the same write. `begun` turns true with the first write.
    """

    __slots__ = ("_flow", "_message", "_pending", "_size", "_transform", "_writer", "begun")

    def __init__(self, flow: HTTPFlow, message: Message, writer: MessageWriter) -> None:
        self._flow = flow
        self._message = message
        self._writer = writer
        self.begun = False
        self._transform: StreamCallable | None = message.stream if callable(message.stream) else None
        self._pending: list[bytes] = []
        self._size = 0

    def add(self, pieces: Iterable[bytes]) -> None:
        """Queue pieces for the next write."""
        for piece in pieces:
            self._queue(piece if self._transform is None else transformed(self._transform, piece))

    def _queue(self, data: bytes) -> None:
        if data:
            self._pending.append(data)
            self._size += len(data)

    async def run(self, source: BodySource) -> EndOfBody:
        """Everything up to the end of the body. Raises what the two sides raise, and Stopped."""
        while True:
            piece = source.ready_piece()
            if piece is None:
                if self._pending or not self.begun:  # the head leaves also when nothing follows yet
                    await self._flush(source)
                piece = await source.next_piece()
            if isinstance(piece, EndOfBody):
                return piece
            if self._flow.error is not None:
                raise Stopped
            self._queue(piece if self._transform is None else transformed(self._transform, piece))
            if self._size >= WRITE_SIZE:
                await self._flush(source)

    def conclude(self, end: EndOfBody) -> None:
        """The body is over: take its trailers over, and what the callable may have held back."""
        if end.trailers:
            self._message.trailers = Headers(end.trailers)
        if self._transform is not None:
            self._queue(transformed(self._transform, b""))

    async def _flush(self, source: BodySource) -> None:
        pending, self._pending = self._pending, []
        self._size = 0
        self.begun = True
        await self._writer.send(pending)
        source.consumed()

    async def finish(self) -> None:
        """Write what is left and the end of the body, with the trailers the message has now."""
        self.begun = True
        trailers = self._message.trailers
        await self._writer.finish(self._pending, trailers.fields if trailers is not None else ())


def send_whole(writer: MessageWriter, message: Message, framing: Framing) -> Coroutine[Any, Any, None]:
    """To be awaited: send a message with the body it has in memory, and its trailers, if `framing` has room for them.
    """
    body, trailers = message.raw_content, message.trailers
    if framing.kind is FramingKind.NONE:
        return writer.finish([], ())
    return writer.finish([body] if body else [], trailers.fields if trailers is not None else ())


def transformed(transform: StreamCallable, piece: bytes) -> bytes:
    result = transform(piece)
    return result if isinstance(result, bytes) else b"".join(result)
