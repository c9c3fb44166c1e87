"""One request and its response: the heart of the proxy.

In: a flow whose request head was read, the client's connection it came on, and where that connection stands (`Scope`).
Out: an answer on that connection, the hooks fired in order, and whether the connection can carry another exchange.
It does not know how connections are made (upstream/), what bytes look like (http1/, http2/, framing.py) or what a rule
is: what rules decided is data on the flow, carried out here.

    requestheaders → body → request → origin → responseheaders → body → response

A body is collected only when somebody needs it whole; otherwise it streams, its `request` or `response` hook fires
when it has gone through, and an answer may overtake a request that is still being sent. Every way to fail is one
exception that ends in `_recover`, so that exactly one of `response` and `error` fires.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Literal

from rulesproxy.codecs.http1 import (
    EndOfBody,
    FramingKind,
    ProtocolError,
    RequestHead,
    ResponseHead,
)
from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import Error, HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Message, Response
from rulesproxy.proxy.answer import Answer
from rulesproxy.proxy.bodies import PieceSource, Pump, collect, send_whole, take_ready
from rulesproxy.proxy.failures import error_page, log_failure
from rulesproxy.proxy.framing import (
    NOTHING_RECEIVED,
    Received,
    ReceivedParts,
    asks_for_websocket,
    is_bodyless,
    is_endless,
    received_fields,
    sized,
    streamed_framing,
    whole_request_framing,
)
from rulesproxy.proxy.http_hooks import FlowEvents, Stopped
from rulesproxy.proxy.local_file import open_local_file
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.sides import BodySource, ClientGone, ClientSide, OriginSide, StaleConnection
from rulesproxy.proxy.upload import Upload
from rulesproxy.proxy.upstream.target import UpstreamError
from rulesproxy.proxy.websocket.handshake import fits_handshake, offer_what_we_read
from rulesproxy.proxy.websocket.relay import serve_websocket

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

#: An unread request body up to this size is read and forgotten to keep the connection; a larger one ends it.
DRAIN_LIMIT = 64 * 1024
#: RFC 9110 §9.2.2: sending these twice does no harm.
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
#: Interim answers taken from one origin before its final one.
INTERIM_LIMIT = 100
_LEFT = "the client left before its answer came"


class _Answered(Exception):
    """A `request` handler set a response when the body had already been sent on: the origin's is not wanted."""


class Exchange:
    """Made for one flow; `run` once."""

    __slots__ = ("_answer", "_client", "_client_left", "_core", "_events", "_flow", "_head", "_origin", "_received",
                 "_scope", "_session", "_too_large", "_upgrade", "_upload")

    def __init__(self, session: Session, client: ClientSide, scope: Scope, head: RequestHead, flow: HTTPFlow) -> None:
        self._session = session
        self._core = session.core
        self._client = client
        self._client_left = False
        self._scope = scope
        self._head = head
        self._flow = flow
        self._received = (flow.request.host, flow.request.port)
        self._events = FlowEvents(session.core.addons, flow)
        self._answer = Answer(session, client, flow, self._events, head)
        self._origin: OriginSide | None = None
        self._upload: Upload | None = None
        #: The beginning of a request body that was wanted whole and is too large for that.
        self._too_large: list[bytes] = []
        #: The request may end HTTP on this connection. Other upgrades than WebSocket are not passed on.
        self._upgrade = head.framing.kind is FramingKind.NONE and asks_for_websocket(flow.request)

    async def run(self) -> bool:
        """Carry the exchange through. True if the connection can carry another."""
        flow = self._flow
        self._session.exchange = self
        flow.on_kill = self._killed
        try:
            await self._take_request()
            if flow.response is None and flow.local_file is None:
                await self._forward()
            else:
                await self._answer_here()
            await self._settle()
        except asyncio.CancelledError:
            flow.error = flow.error or Error("The proxy is shutting down.")
            await self._events.error()
            raise
        except Exception as exc:
            await self._recover(exc)
        finally:
            self._session.exchange = flow.on_kill = None
            flow.live = False
            await self._release_origin()
        return self._answer.keep_alive

    def client_ended(self, lost: bool) -> None:
        """The client's connection is lost, or the client has finished sending, as it may if it reads on."""
        if lost or self._client.was_cut_off():
            self._client_left = True
            self._session.watchdog.interrupt(ClientGone(_LEFT))

    def _killed(self) -> None:
        """By somebody who need not be a handler, while the exchange waits for one of its sides."""
        self._session.watchdog.interrupt(Stopped())

    # --- the request ------------------------------------------------------------------------------------------

    async def _take_request(self) -> None:
        """Up to the point where it is known who answers."""
        flow, client = self._flow, self._client
        if client.body_complete:
            flow.request.raw_content = b""
        await self._events.requestheaders()
        if flow.response is not None:
            return
        if not client.body_complete:
            if not self._must_collect(flow.request, "request"):
                return  # `request` fires when the body has gone through
            await self._collect_request()
        await self._events.request()

    def _must_collect(self, message: Message, phase: Literal["request", "response"]) -> bool:
        if message.stream or not self._core.addons.policy.needs_body(self._flow, phase):
            return False
        return not is_endless(message.headers.get("content-type"))

    async def _collect_request(self) -> None:
        if self._client.waits_for_continue:
            await self._client.say_continue()
        body = await collect(self._client, self._head.framing, self._core.settings.rule_body_limit)
        if body.end is not None:
            body.store(self._flow.request)
        else:
            self._too_large = body.pieces
            self._flow.body_overflow = "request"
            log.warning("%s: the request body is larger than rule_body_limit, so it streams", self._flow.request.url)

    # --- answers that need no origin --------------------------------------------------------------------------

    async def _answer_here(self) -> None:
        flow = self._flow
        if flow.pacing is not None:
            await self._session.watchdog.wait(asyncio.sleep(flow.pacing.request))
        if not self._client.body_complete and not self._can_drain():
            self._answer.keep_alive = False
        if flow.response is not None or flow.local_file is None:
            await self._respond(None, NOTHING_RECEIVED)
            return
        self._answer.serves_file = True
        local = await open_local_file(flow.local_file, flow.request)
        try:
            response = flow.response = local.response
            length = int(response.headers.get("content-length", "0"))
            await self._respond(PieceSource(local.pieces), ReceivedParts(response.headers.fields, sized(length)))
        finally:
            await local.pieces.aclose()

    def _can_drain(self) -> bool:
        if self._client.waits_for_continue:
            return False  # the body may follow or not
        framing = self._head.framing
        return framing.kind is not FramingKind.LENGTH or framing.length <= DRAIN_LIMIT

    # --- the origin -------------------------------------------------------------------------------------------

    async def _forward(self) -> None:
        flow = self._flow
        if flow.pacing is not None:
            await self._session.watchdog.wait(asyncio.sleep(flow.pacing.request))
        head = await self._converse()
        fields = received_fields(head, decrypted=self._scope.decrypted)
        flow.response = Response(head.status, head.reason, Headers(fields), None, head.version)
        await self._respond(self._origin, head)

    async def _converse(self) -> ResponseHead:
        """Send the request and read the head of the final answer, over a second connection if the first was stale."""
        flow, core = self._flow, self._core
        target = self._scope.target(flow, self._received, self._head, core.settings, upgrade=self._upgrade)
        fresh = False
        while True:
            connection = await self._session.watchdog.wait(core.upstream.acquire(flow, target, fresh=fresh))
            origin = self._origin = connection.side(self._session)
            self._events.check()  # killed in `server_connected`
            try:
                await self._send_request(origin)
                return await self._final_head(origin)
            except StaleConnection as exc:
                harmless = exc.unseen or (connection.reused and flow.request.method in IDEMPOTENT)
                if fresh or not harmless or flow.request.raw_content is None:
                    raise
            await self._release_origin()
            fresh = True

    async def _send_request(self, origin: OriginSide) -> None:
        flow, request = self._flow, self._flow.request
        whole = request.raw_content is not None
        if whole:
            framing = whole_request_framing(request)
        else:
            framing = streamed_framing(self._head.framing, transformed=callable(request.stream), http10=False)
        if self._upgrade:
            offer_what_we_read(self._flow, self._core.addons)
        writer = origin.begin(
            request, framing, self._head,
            host=self._host_header() if flow.route is not None or self._scope.reverse else None,
            drop_expect=self._head.expect_continue and (whole or self._flow.body_overflow is not None),
            upgrade=self._upgrade)
        if whole:
            await send_whole(writer, request, framing)
            return
        pump = Pump(self._flow, request, writer)
        pump.add(self._too_large)
        ready = take_ready(self._client)
        pump.add(ready.pieces)
        if ready.end is not None:
            await self._end_request(pump, ready.end)
        else:
            self._upload = Upload(self._client, origin, pump, self._end_request)

    def _host_header(self) -> str | None:
        flow, scope = self._flow, self._scope
        if flow.route is not None and flow.route.host_header is not None:
            return flow.route.host_header
        if not scope.reverse or self._core.settings.keep_host_header:
            return None
        return scope.host_in_reverse(flow, self._received, self._head)

    async def _end_request(self, pump: Pump, end: EndOfBody) -> None:
        """The body has gone through but for its end: the hook may still change the trailers."""
        pump.conclude(end)
        if self._flow.body_overflow != "request":  # else it fired before the body
            undecided = self._flow.response is None
            await self._events.request()
            if undecided and self._flow.response is not None:
                raise _Answered
        await pump.finish()

    async def _final_head(self, origin: OriginSide) -> ResponseHead:
        """The head of the final answer; interim ones go to the client as they come."""
        request = self._flow.request
        if self._client_left:  # while an addon was at work
            raise ClientGone(_LEFT)
        for _ in range(INTERIM_LIMIT):
            head = await origin.next_head(request.method)
            if head.status >= 200 or (head.status == 101 and self._upgrade and fits_handshake(request, head)):
                return head
            if head.status == 101:
                raise UpstreamError("the server switched protocols without being asked", title="Invalid answer")
            if head.status != 100 or request.raw_content is None:  # else nobody waits for it any more
                await self._client.interim(head)
        raise UpstreamError("the server sent interim answers without end", title="Invalid answer")

    # --- the response -----------------------------------------------------------------------------------------

    async def _respond(self, source: BodySource | None, received: Received) -> None:
        """Send `flow.response`: its body comes from `source`, or is in memory without one."""
        flow = self._flow
        response = flow.response
        if response is not None and source is not None and is_bodyless(flow.request.method, response.status_code):
            response.raw_content = b""
            if self._origin is not None:
                self._origin.complete = True
        await self._events.responseheaders()
        if flow.pacing is not None:
            await self._session.watchdog.wait(asyncio.sleep(flow.pacing.response))
        if response is not None and response.raw_content is None and self._answer.is_bodyless(response):
            response.raw_content = b""
        if source is None or response is None or flow.response is not response or self._answer.awaits_file:
            await self._answer.whole()  # made here, or put in the place of the origin's answer, which is dropped
        elif response.status_code == 101 and self._origin is not None:
            await self._switch_protocols(response, self._origin)
        elif response.raw_content is not None:
            await self._answer.whole()
        elif self._must_collect(response, "response"):
            await self._collect_response(response, source, received)
        else:
            if (self._origin is not None and received.framing.kind is not FramingKind.LENGTH
                    and is_endless(response.headers.get("content-type"))):
                self._origin.patience = self._core.settings.idle_timeout
            await self._answer.stream(response, source, received)

    async def _collect_response(self, response: Response, source: BodySource, received: Received) -> None:
        flow = self._flow
        body = await collect(source, received.framing, self._core.settings.rule_body_limit)
        if body.end is not None:
            body.store(response)
            await self._answer.whole()
            return
        flow.body_overflow = "response"
        log.warning("%s: the response body is larger than rule_body_limit, so it streams", flow.request.url)
        await self._events.response()
        if flow.response is not response or response.raw_content is not None or self._answer.awaits_file:
            await self._answer.whole()
        else:
            await self._answer.stream(response, source, received, body.pieces)

    async def _switch_protocols(self, response: Response, origin: OriginSide) -> None:
        """From here on both sides speak something else."""
        await self._events.response()
        await serve_websocket(self._session, self._flow, await self._answer.switch(response), origin.switched())

    # --- the end ----------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """The answer is out: see to what is left of the request."""
        upload, client, answer = self._upload, self._client, self._answer
        if upload is not None:
            if self._origin is not None and self._origin.reusable and not self._client.waits_for_continue:
                await upload.settle()
            await upload.cancel()
            answer.keep_alive &= client.body_complete
        elif not client.body_complete and answer.keep_alive:
            try:
                rest = await collect(client, self._head.framing, DRAIN_LIMIT)
                answer.keep_alive = rest.end is not None
            except (ProtocolError, ClientGone):  # the exchange itself went well
                answer.keep_alive = False

    async def _release_origin(self) -> None:
        """Give the origin's connection back, or close it if the exchange left it in the middle of something."""
        origin, upload = self._origin, self._upload
        if upload is not None:
            await upload.cancel()
        if origin is not None:
            self._origin = None
            reusable = origin.reusable and (upload is None or upload.complete)
            self._core.upstream.release(origin.connection, reusable, self._flow)

    async def _recover(self, exc: Exception) -> None:
        """Find out what really ended the exchange, and act on it."""
        self._flow.on_kill = None
        if self._upload is not None:
            await self._upload.cancel()
            exc = self._upload.error or exc
        if isinstance(exc, _Answered):
            try:
                await self._release_origin()
                await self._answer_here()
                await self._settle()
                return
            except Exception as later:
                exc = later
        if isinstance(exc, Stopped):
            await self._stopped()
        else:
            await self._failed(exc)

    async def _failed(self, exc: Exception) -> None:
        """Report the failure; answer with a page if no answer was begun, else cut it visibly."""
        flow, answer = self._flow, self._answer
        flow.error = Error(str(exc) or type(exc).__name__)
        log_failure(exc, flow)
        await self._events.error()
        page = error_page(exc, flow.request, flow.route)
        if answer.begun is not None or page is None:
            await answer.cut()
            return
        answer.keep_alive &= self._client.body_complete and not isinstance(exc, ProtocolError)
        await answer.page(page)

    async def _stopped(self) -> None:
        """Carry out `kill()` or `drop`: nothing more is sent."""
        flow, client = self._flow, self._client
        if flow.error is None:
            flow.error = Error(f"Connection dropped by rule {flow.rule}." if flow.rule else "Connection dropped.")
        log.info("%s: %s", flow.request.url, flow.error)
        await self._events.error()
        if flow.drop is Drop.RESET:
            client.abort()
        elif flow.drop is Drop.HANG:
            await client.discard_input(sys.maxsize, self._core.settings.idle_timeout)
        await self._answer.cut()
