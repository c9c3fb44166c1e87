"""The two ends of an exchange over HTTP/1: the client's connection and the origin's.

`ClientSide` reads requests and writes answers, `OriginSide` writes requests and reads answers. Both join a stream, a
codec and a watchdog, and turn whatever goes wrong on their side into that side's one exception: ProtocolError (the
client broke HTTP, or was too slow) and ClientGone here, UpstreamError there. They know nothing of flows and hooks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rulesproxy.codecs.http1 import EndOfBody, FramingKind, ProtocolError, Receiver, RequestHead, ResponseHead
from rulesproxy.net.stream import ConnectionClosed, Stream, read_at_once
from rulesproxy.net.tls import TLSStream
from rulesproxy.proxy.upstream import UpstreamConnection, UpstreamError

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: Bytes of a sized body that a client must bring in `body_timeout` seconds of waiting for it. Who sends one now and
#: then holds a connection to the origin for as long as he likes.
PROGRESS = 1024


class ClientGone(Exception):
    """The client closed or reset its connection before the exchange was over."""


class StaleConnection(UpstreamError):
    """The origin closed the connection without a byte of an answer: the request may not have been seen."""


class ClientSide:
    """The client's HTTP/1 connection, one message after the other.

    `reading` is the watchdog of the task that reads bodies, `writing` of the one that answers: the same task, unless
    a body is uploaded while the answer comes.
    """

    __slots__ = ("_body_owed", "_body_patience", "_body_sized", "body_begun", "body_complete", "reading", "receiver",
                 "session", "settings", "stream", "writing")

    def __init__(self, stream: Stream, session: Session) -> None:
        self.stream = stream
        self.session = session
        self.settings = session.core.settings
        self.receiver = Receiver(self.settings.limits)
        self.reading = self.writing = session.watchdog
        #: True once something of the body of the request in hand was read, and once its end was.
        self.body_begun = False
        self.body_complete = True
        self._body_sized = False
        self._body_owed = 0  # bytes to come before the patience is renewed
        self._body_patience = 0.0  # seconds

    async def next_request(self) -> RequestHead | None:
        """The next request head; None when the client is done or was idle too long. Raises ProtocolError."""
        receiver = self.receiver
        head = receiver.next_request() if receiver.has_data else None
        if head is None:
            head = await self._wait_for_request()
        self.body_begun = self.body_complete = head is not None and head.framing.kind is FramingKind.NONE
        if not self.body_complete:
            self._body_sized = head is not None and head.framing.kind is FramingKind.LENGTH
            self._body_owed = 0
        return head

    async def _wait_for_request(self) -> RequestHead | None:
        receiver, watchdog, session = self.receiver, self.reading, self.session
        deadline = 0.0
        while True:
            if receiver.at_eof:
                return None
            if receiver.has_data:  # a head has begun: from here on the clock runs for all of it
                deadline = deadline or watchdog.now() + self.settings.head_timeout
                watchdog.arm_until(deadline)
            else:
                session.idle = True
                watchdog.arm(self.settings.idle_timeout)
            try:
                data = await self._read()
            except ConnectionClosed:
                return None
            except TimeoutError:
                if session.idle:
                    return None
                raise ProtocolError(408, "the request head did not arrive in time") from None
            finally:
                session.idle = False
            if data:
                receiver.feed(data)
            else:
                receiver.feed_eof()
            head = receiver.next_request()
            if head is not None:
                return head

    def ready_piece(self) -> bytes | EndOfBody | None:
        """The next piece of the body if it is here already. Raises ProtocolError."""
        piece = self.receiver.next_body()
        if piece is not None:
            self.body_begun = True
            if isinstance(piece, EndOfBody):
                self.body_complete = True
        return piece

    async def next_piece(self) -> bytes | EndOfBody:
        """The next piece of the body, or its end. Raises ProtocolError, ClientGone."""
        while (piece := self.ready_piece()) is None:
            try:
                data = await self._read_body()
            except ConnectionClosed as exc:
                raise ClientGone(f"the client left during its request: {exc}") from exc
            except TimeoutError:
                raise ProtocolError(408, "the request body stalled") from None
            if data:
                self.receiver.feed(data)
            else:
                self.receiver.feed_eof()
        return piece

    async def _read_body(self) -> bytes:
        """One read of a body, in time. Chunks may be events and come when they happen: only silence is too slow there.

        Raises ConnectionClosed, TimeoutError, ClientGone.
        """
        reading = self.reading
        if self._body_owed <= 0 or not self._body_sized:
            self._body_owed, self._body_patience = PROGRESS, self.settings.body_timeout
        begun = reading.now()  # the origin may hold up what is between two reads
        reading.arm_until(begun + self._body_patience)
        data = await self._read()
        self._body_patience -= reading.now() - begun
        self._body_owed -= len(data)
        return data

    async def write(self, data: bytes) -> None:
        """Raises ClientGone, also when the client does not take what it asked for."""
        self.writing.arm(self.settings.body_timeout)
        try:
            await self.stream.write(data)
        except ConnectionClosed as exc:
            raise ClientGone(f"the client left before its answer was complete: {exc}") from exc
        except asyncio.CancelledError:
            if not self.writing.caught():
                raise
            self.stream.abort()
            raise ClientGone("the client stopped reading its answer") from None
        finally:
            self.writing.disarm()

    async def discard_input(self, limit: int, seconds: float) -> None:
        """Read and forget, at most `limit` bytes and `seconds`, until the client finishes. Never raises its errors."""
        deadline = self.reading.now() + seconds
        try:
            while limit > 0:
                self.reading.arm_until(deadline)
                data = await self._read()
                if not data:
                    return
                limit -= len(data)
        except (ConnectionClosed, ClientGone, TimeoutError):  # it is closed afterwards in any case
            return

    def was_cut_off(self) -> bool:
        """After the client's side has ended: True if TLS was not told (RFC 8446 §6.1), so that this is no half-close.

        What arrived before the end is kept for the next request.
        """
        if not isinstance(self.stream, TLSStream):
            return False
        try:
            while data := read_at_once(self.stream):
                self.receiver.feed(data)
        except ConnectionClosed:
            return True
        return self.stream.ragged_eof

    async def _read(self) -> bytes:
        """One read under the deadline the caller armed. Raises ConnectionClosed, TimeoutError, ClientGone."""
        try:
            return await self.stream.read()
        except asyncio.CancelledError:
            if self.reading.caught():
                raise TimeoutError from None
            raise
        finally:
            self.reading.disarm()


class OriginSide:
    """The origin's HTTP/1 connection for one exchange."""

    __slots__ = ("complete", "connection", "head", "patience", "reading", "receiver", "settings", "stream", "writing")

    def __init__(self, connection: UpstreamConnection, session: Session) -> None:
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
