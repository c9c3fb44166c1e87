"""HTTP/2 with an origin: one connection that many exchanges of many clients share.

`OriginConnection` opens streams as long as the origin wants more of them; whoever finds no room takes another
connection (shared.py). `Http2Origin` is the origin's end of one exchange, an `OriginSide` (sides.py) on one stream.
What goes wrong on a stream ends its exchange only. What the origin says it has not acted on (GOAWAY, REFUSED_STREAM)
may be sent again (RFC 9113 §8.7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError as H2ProtocolError

from rulesproxy.codecs.http1 import EndOfBody, Framing, FramingKind, ProtocolError, ResponseHead
from rulesproxy.codecs.http2 import Machine, code_name, parse_response, request_block
from rulesproxy.model.connection import Server
from rulesproxy.model.headers import Field
from rulesproxy.model.http import Request
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import Stream
from rulesproxy.proxy.framing import Received, outgoing_request_fields
from rulesproxy.proxy.http2.connection import Http2Connection
from rulesproxy.proxy.http2.stream import Http2Stream, StreamFailed
from rulesproxy.proxy.http2.tunnel import Http2Tunnel
from rulesproxy.proxy.http2.writer import Http2Writer
from rulesproxy.proxy.settings import Settings
from rulesproxy.proxy.sides import StaleConnection
from rulesproxy.proxy.upstream.target import Target, UpstreamError
from rulesproxy.proxy.watchdog import Watchdog

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session
    from rulesproxy.proxy.upstream.connection import Http2Lease

log = logging.getLogger("rulesproxy")

#: Streams used before the origin has said how many it takes; what most take.
_BEFORE_SETTINGS = 100
_MOST_STREAMS = 1000
_LAST_STREAM_ID = 2**31 - 3
_WAITING = 24 * 3600.0  # seconds: exchanges have limits of their own, and the pool ends what is idle


class OriginConnection(Http2Connection):
    """Made in the task that runs it. `lease` reserves room for one exchange, `release` gives it back."""

    def __init__(self, stream: Stream, settings: Settings, server: Server, target: Target) -> None:
        super().__init__(stream, Machine(client_side=True, header_list=settings.head_limit), settings.limits,
                         Watchdog())
        self.server = server
        self.target = target
        self._leases = 0
        #: Exchanges it has carried, and since when it carries none, by the event loop's clock.
        self.carried = 0
        self.idle_since = self._loop.time()
        #: The origin insists on HTTP/1.1 (RFC 9113 §7).
        self.wants_http1 = False
        #: Done when the origin has shown that it speaks HTTP/2, or the connection is over.
        self.judged: asyncio.Future[None] = self._loop.create_future()

    @property
    def peer(self) -> str:
        return str(self.target)

    @property
    def has_room(self) -> bool:
        """Another exchange can begin."""
        return not self.going_away and self._leases < self._most_streams() and (
            self.machine.highest_outbound_stream_id < _LAST_STREAM_ID)

    @property
    def takes_nothing(self) -> bool:
        """The origin allows no streams."""
        return not self._most_streams()

    @property
    def idle(self) -> bool:
        return not self._leases

    def _most_streams(self) -> int:
        if not self.machine.settings_received:
            return _BEFORE_SETTINGS
        return min(self.machine.remote_settings.max_concurrent_streams, _MOST_STREAMS)

    def lease(self) -> None:
        self._leases += 1

    def release(self) -> None:
        self._leases -= 1
        self.carried += 1
        self.idle_since = self._loop.time()
        if self.going_away and not self._leases and not self.over:
            self.end()

    def open(self, block: list[Field], *, end: bool) -> Http2Stream:
        """A stream with its request head. Raises StreamFailed, having sent nothing."""
        if self.going_away:
            why = self.reason if self.over else "the server takes no more requests on this connection"
            raise StreamFailed(why, unseen=True)
        stream = Http2Stream(self, self.machine.get_next_available_stream_id())
        try:
            stream.send_block(block, end=end)
        except StreamFailed as exc:
            exc.unseen = True
            raise
        self.streams[stream.id] = stream
        return stream

    # --- the connection ---------------------------------------------------------------------------------------

    def patience(self) -> float:
        return _WAITING

    def settings(self) -> None:
        self._judge()

    def changed(self) -> None:
        if self.over:
            self._judge()

    def request(self, stream_id: int, block: list[Field], ended: bool) -> None:
        """RFC 9113 §8.4: servers open streams by PUSH_PROMISE only, which was declined."""
        self.machine.close_connection(ErrorCodes.PROTOCOL_ERROR)
        raise H2ProtocolError("the server opened a stream")

    def goaway(self, last_stream_id: int, code: int) -> None:
        if code not in (ErrorCodes.NO_ERROR, ErrorCodes.ENHANCE_YOUR_CALM):
            self.reason = f"the server ended the connection ({code_name(code)})"
        for stream in tuple(self.streams.values()):
            if stream.id > last_stream_id:
                self.cut(stream, StreamFailed("the server took no more requests on this connection", code, unseen=True))
        if not self._leases:
            self.end()

    def cut(self, stream: Http2Stream, failure: StreamFailed) -> None:
        if failure.remote and failure.code == ErrorCodes.HTTP_1_1_REQUIRED:
            self.wants_http1 = self.going_away = True
        super().cut(stream, failure)

    def _judge(self) -> None:
        if not self.judged.done():
            self.judged.set_result(None)


class Http2Origin:
    """Made for one exchange and the lease it holds."""

    __slots__ = ("_given_up", "_lease", "_opened", "_shared", "_stream", "complete", "connection", "head", "patience",
                 "reading", "settings", "writing")

    def __init__(self, lease: Http2Lease, session: Session) -> None:
        self.connection = self._lease = lease
        self._shared = lease.shared
        self._stream: Http2Stream | None = None
        self._opened = asyncio.Event()  # the stream exists, or never will: `_given_up`
        self._given_up: StreamFailed | None = None
        self.settings = session.core.settings
        self.reading = self.writing = session.watchdog
        self.head: ResponseHead | None = None
        self.patience = self.settings.body_timeout
        self.complete = False

    @property
    def reusable(self) -> bool:
        """The connection is, whatever becomes of the stream. True: the origin may still want the rest of the request.
        """
        return self.complete and self._stream is not None and self._stream.failure is None

    # --- the request ------------------------------------------------------------------------------------------

    def begin(self, request: Request, framing: Framing, received: Received, *, host: str | None, drop_expect: bool,
              upgrade: bool) -> Http2Writer:
        fields = outgoing_request_fields(request, framing, received, host=host, drop_expect=drop_expect,
                                         keep_upgrade=False)
        name = next((value for key, value in fields if key.lower() == b"host"), b"")
        scheme = self.connection.target.scheme
        return Http2Writer(request_block(request.method, scheme, name, request.path, fields), self.write)

    async def write(self, block: list[Field] | None, pieces: list[bytes], trailers: list[Field] | None = None, *,
                    end: bool = False) -> None:
        """Raises StaleConnection if the origin wants no more, UpstreamError if it does not read."""
        try:
            if block is not None:
                if self._shared.out.crowded:
                    await self._in_time(self._shared.out.room(), None)
                self._open(block, end=end and not pieces and not trailers)
            stream = self._stream
            assert stream is not None
            if pieces or (end and not stream.ended_here and not trailers):
                data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                await self._in_time(stream.send_data(data, end=end and not trailers), stream)
            if trailers:
                stream.send_block(trailers, end=True)
        except StreamFailed as exc:
            if block is not None and self._stream is not None and self._stream.heads:
                return  # it has answered already, which is the news
            raise StaleConnection(f"the server wants no more of the request: {exc}", unseen=exc.unseen) from exc

    def _open(self, block: list[Field], *, end: bool) -> None:
        try:
            self._stream = self._lease.stream = self._shared.open(block, end=end)
        except StreamFailed as exc:
            self._given_up = exc
            raise
        finally:
            self._opened.set()

    async def _in_time(self, work: Awaitable[None], stream: Http2Stream | None) -> None:
        try:
            await self.writing.within(self.settings.body_timeout, work)
        except TimeoutError:
            if stream is not None:
                stream.reset(ErrorCodes.CANCEL)
            raise UpstreamError("the server stopped reading the request", 504) from None

    # --- the answer -------------------------------------------------------------------------------------------

    async def next_head(self, method: str) -> ResponseHead:
        seconds = self.settings.idle_timeout
        if self._stream is None:  # it is sent with the first piece of the body, by another task
            await self._in_patience(self._opened.wait(), seconds)
        stream = self._sent()
        while not stream.heads:
            if stream.failure is not None:
                raise self._error(stream.failure)
            await self._in_patience(stream.arrival(), seconds)
        block, ended = stream.heads.popleft()
        try:
            head = parse_response(block, ended, method, self._shared.limits)
        except ProtocolError as exc:
            stream.reset(ErrorCodes.PROTOCOL_ERROR)
            raise _broken(exc.message) from exc
        if head.status >= 200:
            self.head = head
            if head.framing.kind is FramingKind.LENGTH:
                self._shared.expect(stream, head.framing.length)
        return head

    def ready_piece(self) -> bytes | EndOfBody | None:
        """Raises UpstreamError."""
        try:
            piece = self._sent().take()
        except StreamFailed as exc:
            raise self._error(exc) from exc
        if isinstance(piece, EndOfBody):
            self.complete = True
        return piece

    async def next_piece(self) -> bytes | EndOfBody:
        """Raises UpstreamError."""
        while (piece := self.ready_piece()) is None:
            await self._in_patience(self._sent().arrival(), self.patience)
        return piece

    def consumed(self) -> None:
        if self._stream is not None:
            self._stream.consumed()

    async def _in_patience(self, work: Awaitable[object], seconds: float) -> None:
        try:
            await self.reading.within(seconds, work)
        except TimeoutError:
            why = "the server did not go on with its answer" if self.head else (
                f"the server was silent for {seconds:g} s")
            raise UpstreamError(why, 504, title="Server too slow") from None

    def switched(self) -> PeekableStream:
        self.complete = False
        return PeekableStream(Http2Tunnel(self._sent()))

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.reset(ErrorCodes.CANCEL)
        self._opened.set()

    def _sent(self) -> Http2Stream:
        """The stream, which exists once the request head is out."""
        if self._stream is None:
            raise StaleConnection(f"the request was not sent: {self._given_up or 'it was given up'}", unseen=True)
        return self._stream

    def _error(self, failure: StreamFailed) -> UpstreamError:
        if not failure.remote and failure.code == ErrorCodes.PROTOCOL_ERROR:
            return _broken(str(failure))
        if self.head is None and (failure.unseen or failure.code == ErrorCodes.NO_ERROR):
            return StaleConnection(f"the server did not answer: {failure}", unseen=failure.unseen)
        where = "in the middle of its answer" if self.head is not None else "without an answer"
        return UpstreamError(f"the server ended the exchange {where}: {failure}")


def _broken(message: str) -> UpstreamError:
    return UpstreamError(f"the server's answer is not valid HTTP: {message}", 502, title="Invalid answer")
