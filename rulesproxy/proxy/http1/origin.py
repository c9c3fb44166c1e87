"""The origin's end of an exchange over HTTP/1: a request is written and its answer read.

Joins a stream, a codec and a watchdog. It knows nothing of flows and hooks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rulesproxy.codecs.http1 import EndOfBody, Framing, ProtocolError, ResponseHead, serialize_request
from rulesproxy.model.http import Request
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.net.tls import TLSStream
from rulesproxy.proxy.framing import Received, outgoing_request_fields
from rulesproxy.proxy.http1.writer import Http1Writer
from rulesproxy.proxy.sides import StaleConnection
from rulesproxy.proxy.upstream.target import UpstreamError
from rulesproxy.proxy.upstream.via import for_forwarder, refusal

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session
    from rulesproxy.proxy.upstream.connection import Http1Connection


class Http1Origin:
    """The origin's HTTP/1 connection: an `OriginSide` for one exchange."""

    __slots__ = ("complete", "connection", "head", "patience", "reading", "receiver", "settings", "stream", "writing")

    def __init__(self, connection: Http1Connection, session: Session) -> None:
        self.connection = connection
        self.stream = connection.stream
        self.receiver = connection.receiver
        self.settings = session.core.settings
        self.reading = self.writing = session.watchdog
        self.head: ResponseHead | None = None
        #: The silence allowed within a body.
        self.patience = self.settings.body_timeout
        #: True once the answer was read to its end.
        self.complete = False

    @property
    def reusable(self) -> bool:
        return self.complete and self.head is not None and self.head.keep_alive

    def consumed(self) -> None:
        """Nothing to do: what is not read waits in the connection."""

    def begin(self, request: Request, framing: Framing, received: Received, *, host: str | None, drop_expect: bool,
              upgrade: bool) -> Http1Writer:
        fields = outgoing_request_fields(request, framing, received, host=host, drop_expect=drop_expect,
                                         keep_upgrade=upgrade)
        path, forwarder = request.path, self.connection.forwarder
        if forwarder is not None:
            path, fields = for_forwarder(forwarder, path, fields)
        return Http1Writer(serialize_request(request.method, path, fields), framing, self.write)

    def switched(self) -> PeekableStream:
        self.complete = False
        stream = PeekableStream(self.stream)
        stream.unread(self.receiver.take_rest())
        return stream

    def abort(self) -> None:
        self.stream.abort()

    async def write(self, data: bytes) -> None:
        """Raises StaleConnection if the origin closed, UpstreamError if it does not read."""
        self.writing.arm(self.settings.body_timeout)
        try:
            await self.stream.write(data)
        except ConnectionClosed as exc:
            raise StaleConnection(f"the server closed the connection: {exc}") from exc
        except asyncio.CancelledError:
            if not self.writing.caught():
                raise
            raise UpstreamError("the server stopped reading the request", 504) from None
        finally:
            self.writing.disarm()

    async def next_head(self, method: str) -> ResponseHead:
        """The next response head, 1xx included. Raises StaleConnection, UpstreamError."""
        receiver, deadline = self.receiver, 0.0
        try:
            while not receiver.has_data or (head := receiver.next_response(method)) is None:
                seconds = self.settings.idle_timeout
                if receiver.has_data:  # a head has begun: from here on the clock runs for all of it
                    deadline = deadline or self.reading.now() + self.settings.body_timeout
                    seconds = deadline - self.reading.now()
                data = await self._read(seconds)
                if data:
                    receiver.feed(data)
                    continue
                receiver.feed_eof()
                if not receiver.has_data:
                    raise StaleConnection("the server closed the connection without an answer")
        except ProtocolError as exc:
            raise _broken(exc) from exc
        except ConnectionClosed as exc:
            kind = UpstreamError if receiver.has_data else StaleConnection
            raise kind(f"the server closed the connection without an answer: {exc}") from exc
        self.head = head
        if head.status == 407 and self.connection.forwarder is not None:  # the client cannot answer that
            raise refusal(self.connection.forwarder, head, "the request")
        return head

    def ready_piece(self) -> bytes | EndOfBody | None:
        """The next piece of the body if it is here already. Raises UpstreamError."""
        try:
            piece = self.receiver.next_body()
        except ProtocolError as exc:
            raise _broken(exc) from exc
        if isinstance(piece, EndOfBody):
            self.complete = True
        return piece

    async def next_piece(self) -> bytes | EndOfBody:
        """The next piece of the body, or its end. Raises UpstreamError."""
        while (piece := self.ready_piece()) is None:
            try:
                data = await self._read(self.patience)
            except ConnectionClosed as exc:
                raise UpstreamError(f"the server closed the connection in the middle of its answer: {exc}") from exc
            if data:
                self.receiver.feed(data)
                continue
            if isinstance(self.stream, TLSStream) and self.stream.ragged_eof:
                # RFC 9112 §9.8: without close_notify anybody on the path may have cut the answer
                raise UpstreamError("the server ended TLS without close_notify: the answer may be cut")
            self.receiver.feed_eof()
        return piece

    async def _read(self, seconds: float) -> bytes:
        self.reading.arm(seconds)
        try:
            return await self.stream.read()
        except asyncio.CancelledError:
            if self.reading.caught():
                why = "the server did not go on with its answer" if self.receiver.has_data or self.head else (
                    f"the server was silent for {seconds:g} s")
                raise UpstreamError(why, 504, title="Server too slow") from None
            raise
        finally:
            self.reading.disarm()


def _broken(exc: ProtocolError) -> UpstreamError:
    return UpstreamError(f"the server's answer is not valid HTTP: {exc.message}", 502, title="Invalid answer")
