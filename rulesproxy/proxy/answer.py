"""What the client gets for one request: one response, whole or passing through, or a visible end.

In: a response and where its body comes from. Out: bytes on the client's connection, framed for that client, with the
`response` hook fired when the body is in memory or has gone through. Whether the connection survives the exchange is
known here (`keep_alive`), because every head says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rulesproxy.codecs.http1 import Framing, FramingKind, RequestHead
from rulesproxy.model.effects import LocalFile
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Response
from rulesproxy.net.peek import PeekableStream
from rulesproxy.proxy.bodies import PieceSource, Pump, send_whole
from rulesproxy.proxy.framing import (
    NO_BODY,
    NOTHING_RECEIVED,
    Received,
    ReceivedParts,
    is_bodyless,
    sized,
    streamed_framing,
    whole_response_framing,
)
from rulesproxy.proxy.http_hooks import FlowEvents
from rulesproxy.proxy.local_file import open_local_file
from rulesproxy.proxy.sides import BodySource, ClientGone, ClientSide, MessageWriter

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session


class Answer:
    """One per exchange. `begun` is the framing of the final response once its head was made; `serves_file` says that
    the response is the file of `flow.local_file` already.
    """

    __slots__ = ("_asked", "_client", "_events", "_flow", "_session", "begun", "keep_alive", "serves_file")

    def __init__(self, session: Session, client: ClientSide, flow: HTTPFlow, events: FlowEvents,
                 head: RequestHead) -> None:
        self._asked = head  # whatever becomes of `flow.request`
        self._session = session
        self._client = client
        self._flow = flow
        self._events = events
        self.begun: Framing | None = None
        self.keep_alive = head.keep_alive
        self.serves_file = False

    @property
    def awaits_file(self) -> bool:
        """A response rule wants a file in the place of the response."""
        return self._flow.local_file is not None and not self.serves_file

    def is_bodyless(self, response: Response) -> bool:
        """True if the client takes no body with this answer, whatever the request became on the way to the origin."""
        return is_bodyless(self._asked.method, response.status_code)

    async def whole(self) -> None:
        """Send `flow.response` with the body it has in memory, after `response`; or the file to send instead."""
        await self._events.response()
        if self.awaits_file and self._flow.local_file is not None:
            await self._file(self._flow.local_file)
            return
        response = self._flow.response
        if response is None:
            raise RuntimeError("an addon removed the response")
        await self._send(response)

    async def _file(self, file: LocalFile) -> None:
        self.serves_file = True
        request = self._flow.request
        local = await open_local_file(file, request)
        try:
            response = self._flow.response = local.response
            if response.raw_content is None and self.is_bodyless(response):
                response.raw_content = b""
            if response.raw_content is None:
                length = int(response.headers.get("content-length", "0"))
                received = ReceivedParts(response.headers.fields, sized(length))
                await self.stream(response, PieceSource(local.pieces), received)
            else:
                await self._send(response)
        finally:
            await local.pieces.aclose()

    async def stream(self, response: Response, source: BodySource, received: Received,
                     ready: Iterable[bytes] = ()) -> None:
        """Send a response whose body passes through: `ready` first, then what the source has. `response` fires before
        the end is sent, so that it may still change the trailers."""
        framing = streamed_framing(received.framing, transformed=callable(response.stream),
                                   http10=self._asked.is_http10)
        pump = Pump(self._flow, response, self._begin(response, framing, received))
        pump.add(ready)
        try:
            pump.conclude(await pump.run(source))
        except Exception:
            if not pump.begun:  # a body that is wrong from its first byte leaves room for a page
                self.begun = None
            raise
        await self._events.response()
        await pump.finish()

    async def switch(self, response: Response) -> PeekableStream:
        """Send the head of a 101: the stream on which the client speaks something else from now on."""
        self.keep_alive = False
        self.begun = NO_BODY
        return await self._client.switch(response)

    async def page(self, page: Response) -> None:
        """Send a page of the proxy's own; no hook fires for it. A client that left does not get it."""
        try:
            await self._send(page)
        except ClientGone:
            self.keep_alive = False

    async def cut(self) -> None:
        """End the connection so that an answer that was begun is not taken for complete."""
        self.keep_alive = False
        if self.begun is not None and self.begun.kind is FramingKind.UNTIL_CLOSE:
            self._client.abort()
        else:
            await self._client.end()

    async def _send(self, response: Response) -> None:
        framing = whole_response_framing(self._asked, response)
        writer = self._begin(response, framing)
        await send_whole(writer, response, framing)

    def _begin(self, response: Response, framing: Framing, received: Received = NOTHING_RECEIVED) -> MessageWriter:
        if framing.kind is FramingKind.UNTIL_CLOSE or self._session.ending:
            self.keep_alive = False
        writer = self._client.begin(response, framing, received, last=not self.keep_alive)
        self.begun = framing
        return writer
