"""`Http2Stream`: one stream of a connection, as the task that serves it sees it.

What arrives is queued here by the connection's reader: heads, pieces of the body, trailers, or the reason why there is
nothing more. Taking a piece does not give its room back to the sender; `consumed` does, once the other side has it.
What is sent waits here for the stream's window, and in the connection for its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from rulesproxy.codecs.http1 import EndOfBody
from rulesproxy.codecs.http2 import code_name
from rulesproxy.model.headers import Field, Fields

if TYPE_CHECKING:
    from rulesproxy.proxy.http2.connection import Http2Connection

#: Heads that may wait for whoever takes them: an origin's interim answers.
HEADS_WAITING = 100
#: Pieces smaller than this are joined with the one before: a byte in a frame of its own takes no more than a byte.
_SMALL = 1024


class StreamFailed(Exception):
    """The stream is of no use any more. `unseen`: the peer has not acted on it and never will (RFC 9113 §8.7).

    `remote` is False when it was reset here.
    """

    def __init__(self, message: str, code: int = ErrorCodes.NO_ERROR, *, remote: bool = True,
                 unseen: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.remote = remote
        self.unseen = unseen

    @classmethod
    def reset(cls, code: int, *, remote: bool) -> StreamFailed:
        who = "it was reset" if remote else "the stream was reset here"
        return cls(f"{who} ({code_name(code)})", code, remote=remote, unseen=remote and code in (
            ErrorCodes.REFUSED_STREAM, ErrorCodes.HTTP_1_1_REQUIRED))


class Http2Stream:
    """Made by the connection; `release` when nobody takes or sends anything any more."""

    __slots__ = ("_handed", "_pieces", "_reader", "_window_waiter", "connection", "end", "ended_here", "failure",
                 "heads", "id", "length", "received")

    def __init__(self, connection: Http2Connection, stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        #: Header blocks with "it ends the stream", oldest first: answers of an origin.
        self.heads: deque[tuple[list[Field], bool]] = deque()
        self._pieces: deque[tuple[bytes, int]] = deque()  # with what they take of the window
        self._handed = 0  # of the window, for pieces that were taken
        #: The peer has ended its side.
        self.end: EndOfBody | None = None
        #: We have ended ours.
        self.ended_here = False
        self.failure: StreamFailed | None = None
        #: Content-Length, if there is one, and how much has come.
        self.length: int | None = None
        self.received = 0
        self._reader: asyncio.Future[None] | None = None
        self._window_waiter: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        """Nothing goes over it any more, in either direction."""
        return self.failure is not None or (self.end is not None and self.ended_here)

    # --- called by the connection's reader --------------------------------------------------------------------

    def feed_head(self, block: list[Field], ended: bool) -> None:
        self.heads.append((block, ended))
        self.wake_reader()

    def feed(self, data: bytes, window: int) -> None:
        pieces = self._pieces
        self.received += len(data)
        if pieces and len(data) < _SMALL and len(pieces[-1][0]) < _SMALL:
            before, taken = pieces.pop()
            pieces.append((before + data, taken + window))
        else:
            pieces.append((data, window))
        self.wake_reader()

    def feed_end(self, trailers: Fields) -> None:
        self.end = EndOfBody(trailers)
        self.wake_reader()

    def fail(self, failure: StreamFailed) -> None:
        """Nothing more comes or goes. A message that is complete can still be taken."""
        if self.failure is None:
            self.failure = failure
        self.wake_reader()
        self.wake_sender()

    def wake_reader(self) -> None:
        waiter = self._reader
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def wake_sender(self) -> None:
        waiter = self._window_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # --- receiving --------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """There is something to take: a piece, the end, or the news that there will be none."""
        return bool(self._pieces) or self.end is not None or self.failure is not None

    @property
    def has_data(self) -> bool:
        return bool(self._pieces)

    def take(self) -> bytes | EndOfBody | None:
        """The next piece, or the end; None when neither is here. Raises StreamFailed."""
        if self.failure is not None and self.end is None:
            raise self.failure
        if self._pieces:
            piece, window = self._pieces.popleft()
            self._handed += window
            return piece
        return self.end

    def untake(self, piece: bytes) -> None:
        """Put back what is left of the piece taken last."""
        self._handed -= len(piece)
        self._pieces.appendleft((piece, len(piece)))

    async def arrival(self) -> None:
        """Wait until something was fed, or the stream failed. One task waits at a time."""
        if self._reader is not None:
            raise RuntimeError("two tasks read from one stream")
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def consumed(self) -> None:
        """What was taken has gone on: the peer may send as much again."""
        handed, self._handed = self._handed, 0
        if handed:
            self.connection.give_back(self, handed)

    # --- sending ----------------------------------------------------------------------------------------------

    def send_block(self, block: list[Field], *, end: bool) -> None:
        """A header block: it does not wait. Raises StreamFailed."""
        self._check()
        self.connection.send_block(self, block, end=end)
        self.ended_here |= end

    async def send_data(self, data: bytes, *, end: bool) -> None:
        """Returns when all is queued. Raises StreamFailed."""
        view, connection = memoryview(data), self.connection
        granted = False
        try:
            while True:
                self._check()
                if view and connection.window(self) <= 0:
                    await self._window_opens()
                    continue
                if view and not connection.out.may_send(granted=granted):
                    await connection.out.turn()
                    granted = True
                    continue
                size = min(len(view), connection.window(self), connection.out.share) if view else 0
                last = end and size == len(view)
                granted = False
                connection.send_data(self, view[:size], end=last)
                view = view[size:]
                if not view:
                    self.ended_here |= last
                    return
        finally:
            if granted:  # and not used
                connection.out.grant()

    def send_now(self, data: bytes) -> int:
        """As much as can be queued without waiting: how much that was. Raises StreamFailed."""
        view, connection = memoryview(data), self.connection
        self._check()
        while view and connection.window(self) > 0 and connection.out.may_send(granted=False):
            size = min(len(view), connection.window(self), connection.out.share)
            connection.send_data(self, view[:size], end=False)
            view = view[size:]
        return len(data) - len(view)

    async def _window_opens(self) -> None:
        self._window_waiter = asyncio.get_running_loop().create_future()
        self.connection.out.grant()  # the turn, if it was ours, is of no use here
        try:
            await self._window_waiter
        finally:
            self._window_waiter = None

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.ended_here:
            raise StreamFailed("the stream was ended here", remote=False)

    # --- the end ----------------------------------------------------------------------------------------------

    def reset(self, code: int) -> None:
        """Tell the peer that nothing more is wanted, unless everything has been said."""
        if not self.closed:
            self.connection.send_reset(self, code)
            self.fail(StreamFailed.reset(code, remote=False))

    def release(self) -> None:
        """Nobody needs the stream any more: what the peer still sends is not wanted, what was sent may be cut."""
        answered = self.ended_here and not self.connection.machine.config.client_side
        self.reset(ErrorCodes.NO_ERROR if answered else ErrorCodes.CANCEL)  # RFC 9113 §8.1
        handed = self._handed + sum(window for _, window in self._pieces)
        self._handed = 0
        self._pieces.clear()
        self.connection.forget(self, handed)
