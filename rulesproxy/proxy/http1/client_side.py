"""The client's end of an exchange over HTTP/1: requests are read and answers written, one after the other.

Joins a stream, a codec and a watchdog. It knows nothing of flows and hooks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rulesproxy.codecs.http1 import (
    EndOfBody,
    Framing,
    FramingKind,
    ProtocolError,
    Receiver,
    RequestHead,
    ResponseHead,
    serialize_response,
    strip_hop_by_hop,
)
from rulesproxy.model.http import Response
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed, Stream, read_at_once
from rulesproxy.net.tls import TLSStream
from rulesproxy.proxy.framing import CLOSE_FIELD, NO_BODY, UNREADABLE, Received, outgoing_response_fields
from rulesproxy.proxy.http1.writer import Http1Writer
from rulesproxy.proxy.sides import ClientGone

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: Bytes of a sized body that a client must bring in `body_timeout` seconds of waiting for it. Who sends one now and
#: then holds a connection to the origin for as long as he likes.
PROGRESS = 1024


class Http1Client:
    """The client's HTTP/1 connection: a `ClientSide`, one exchange after the other."""

    __slots__ = ("_asked", "_body_begun", "_body_owed", "_body_patience", "_body_sized", "_expect_continue",
                 "body_complete", "reading", "receiver", "session", "settings", "stream", "writing")

    def __init__(self, stream: Stream, session: Session) -> None:
        self.stream = stream
        self.session = session
        self.settings = session.core.settings
        self.receiver = Receiver(self.settings.limits)
        self.reading = self.writing = session.watchdog
        #: True once the end of the body of the request in hand was read.
        self.body_complete = True
        self._asked = UNREADABLE
        self._expect_continue = False
        self._body_begun = False
        self._body_sized = False
        self._body_owed = 0  # bytes to come before the patience is renewed
        self._body_patience = 0.0  # seconds

    async def next_request(self) -> RequestHead | None:
        """The next request head; None when the client is done or was idle too long. Raises ProtocolError."""
        receiver = self.receiver
        self._asked = UNREADABLE
        head = receiver.next_request() if receiver.has_data else None
        if head is None:
            head = await self._wait_for_request()
            if head is None:
                return None
        # What the answer is framed by, whatever becomes of the request on its way to the origin.
        self._asked = head
        self._expect_continue = head.expect_continue
        self._body_begun = self.body_complete = head.framing.kind is FramingKind.NONE
        if not self.body_complete:
            self._body_sized = head.framing.kind is FramingKind.LENGTH
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
            self._body_begun = True
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

    def consumed(self) -> None:
        """Nothing to do: what is not read waits in the connection."""

    @property
    def waits_for_continue(self) -> bool:
        return self._expect_continue and not self._body_begun and not self.receiver.has_data

    async def say_continue(self) -> None:
        await self.write(CONTINUE)

    async def interim(self, head: ResponseHead) -> None:
        if not self._asked.is_http10:  # it knows none (RFC 9110 §15.2)
            await self.write(serialize_response(head.status, head.reason, strip_hop_by_hop(head.fields)))

    def begin(self, response: Response, framing: Framing, received: Received, *, last: bool) -> Http1Writer:
        fields = outgoing_response_fields(self._asked, response, framing, received)
        if last:
            fields = (*fields, CLOSE_FIELD)
        return Http1Writer(serialize_response(response.status_code, response.reason, fields), framing, self.write)

    async def switch(self, response: Response) -> PeekableStream:
        fields = outgoing_response_fields(self._asked, response, NO_BODY, keep_upgrade=True)
        await self.write(serialize_response(response.status_code, response.reason, fields))
        stream = PeekableStream(self.stream)
        stream.unread(self.receiver.take_rest())
        return stream

    async def end(self) -> None:
        await self.stream.aclose()

    def abort(self) -> None:
        self.stream.abort()

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
