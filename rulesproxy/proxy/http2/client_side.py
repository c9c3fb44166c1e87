"""The client's end of one exchange over HTTP/2: a `ClientSide` (sides.py) on one stream.

Ends, resets and slowness concern this stream only; the connection and its other streams go on.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from rulesproxy.codecs.http1 import EndOfBody, Framing, FramingKind, ProtocolError, RequestHead, ResponseHead
from rulesproxy.codecs.http2 import response_block
from rulesproxy.model.headers import Field
from rulesproxy.model.http import Response
from rulesproxy.net.peek import PeekableStream
from rulesproxy.proxy.framing import Received, outgoing_response_fields
from rulesproxy.proxy.http2.stream import Http2Stream, StreamFailed
from rulesproxy.proxy.http2.tunnel import Http2Tunnel
from rulesproxy.proxy.http2.writer import Http2Writer
from rulesproxy.proxy.sides import ClientGone

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

#: As for HTTP/1: bytes of a sized body that a client must bring in `body_timeout` seconds of waiting for it.
PROGRESS = 1024
_HANDSHAKE = frozenset((b"sec-websocket-accept", b"upgrade", b"connection"))


class Http2Client:
    """Made by the task that serves the stream; `head` may be that of a GET for an extended CONNECT (`tunnel`)."""

    __slots__ = ("_asked", "_continue", "_opened", "_owed", "_patience", "_sized", "_tunnel", "body_complete",
                 "reading", "settings", "stream", "writing")

    def __init__(self, stream: Http2Stream, session: Session, head: RequestHead, *, tunnel: bool = False) -> None:
        self.stream = stream
        self.settings = session.core.settings
        self.reading = self.writing = session.watchdog
        self.body_complete = head.framing.kind is FramingKind.NONE
        self._asked = head
        self._continue = head.expect_continue
        self._sized = head.framing.kind is FramingKind.LENGTH
        self._tunnel = tunnel
        self._opened: Http2Tunnel | None = None
        self._owed = 0  # bytes to come before the patience is renewed
        self._patience = 0.0  # seconds

    # --- the request's body -----------------------------------------------------------------------------------

    def ready_piece(self) -> bytes | EndOfBody | None:
        """Raises ProtocolError, ClientGone."""
        try:
            piece = self.stream.take()
        except StreamFailed as exc:
            raise _read_error(exc) from exc
        if isinstance(piece, EndOfBody):
            self.body_complete = True
        elif piece is not None:
            self._continue = False
        return piece

    async def next_piece(self) -> bytes | EndOfBody:
        """Raises ProtocolError, ClientGone."""
        while (piece := self.ready_piece()) is None:
            await self._arrival()
        if not isinstance(piece, EndOfBody):
            self._owed -= len(piece)
        return piece

    async def _arrival(self) -> None:
        """Wait for more of the body, in time. What has no length may be events: only silence is too slow there."""
        reading = self.reading
        if self._owed <= 0 or not self._sized:
            self._owed, self._patience = PROGRESS, self.settings.body_timeout
        begun = reading.now()
        try:
            await reading.within(self._patience, self.stream.arrival())
        except TimeoutError:
            raise ProtocolError(408, "the request body stalled") from None
        self._patience -= reading.now() - begun

    def consumed(self) -> None:
        self.stream.consumed()

    @property
    def waits_for_continue(self) -> bool:
        return self._continue and not self.stream.pending

    async def say_continue(self) -> None:
        self._continue = False
        await self.write(response_block(100, ()), [])

    # --- the answer -------------------------------------------------------------------------------------------

    async def interim(self, head: ResponseHead) -> None:
        await self.write(response_block(head.status, head.fields), [])

    def begin(self, response: Response, framing: Framing, received: Received, *, last: bool) -> Http2Writer:
        fields = outgoing_response_fields(self._asked, response, framing, received)
        status = response.status_code
        if self._tunnel and 200 <= status < 300:
            status = 502  # RFC 8441 §5: it would mean that the tunnel is open, and the server did not agree to that
        return Http2Writer(response_block(status, fields), self.write)

    async def switch(self, response: Response) -> PeekableStream:
        fields = [field for field in response.headers.fields if field[0].lower() not in _HANDSHAKE]
        await self.write(response_block(200, fields if self._tunnel else ()), [])
        self.body_complete = True
        self._opened = Http2Tunnel(self.stream)
        return PeekableStream(self._opened)

    async def close(self) -> None:
        """The exchange is over: what was written into a tunnel still goes out."""
        if self._opened is not None:
            await self._opened.aclose()

    async def write(self, block: list[Field] | None, pieces: list[bytes], trailers: list[Field] | None = None, *,
                    end: bool = False) -> None:
        """Raises ClientGone, also when the client does not take what it asked for."""
        out = self.stream.connection.out
        try:
            if block is not None:
                if out.crowded:  # it asks and asks, and does not read
                    await self._in_time(out.room())
                self.stream.send_block(block, end=end and not pieces and not trailers)
            if pieces or (end and not self.stream.ended_here and not trailers):
                await self._in_time(self.stream.send_data(_joined(pieces), end=end and not trailers))
            if trailers:
                self.stream.send_block(trailers, end=True)
        except StreamFailed as exc:
            raise ClientGone(f"the client left before its answer was complete: {exc}") from exc

    async def _in_time(self, work: Awaitable[None]) -> None:
        try:
            await self.writing.within(self.settings.body_timeout, work)
        except TimeoutError:
            self.stream.reset(ErrorCodes.CANCEL)
            raise ClientGone("the client stopped reading its answer") from None

    # --- the end ----------------------------------------------------------------------------------------------

    async def discard_input(self, limit: int, seconds: float) -> None:
        stream, reading = self.stream, self.reading
        deadline = reading.now() + seconds
        while limit > 0 and stream.failure is None:
            while stream.has_data and isinstance(piece := stream.take(), bytes):
                limit -= len(piece)
            stream.consumed()
            try:
                await reading.within(deadline - reading.now(), stream.arrival())
            except TimeoutError:
                return

    def was_cut_off(self) -> bool:
        return self.stream.failure is not None

    async def end(self) -> None:
        self.stream.reset(ErrorCodes.INTERNAL_ERROR)

    def abort(self) -> None:
        self.stream.reset(ErrorCodes.INTERNAL_ERROR)


def _joined(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _read_error(failure: StreamFailed) -> Exception:
    if failure.code == ErrorCodes.PROTOCOL_ERROR and not failure.remote:
        return ProtocolError(400, str(failure))
    return ClientGone(f"the client left during its request: {failure}")
