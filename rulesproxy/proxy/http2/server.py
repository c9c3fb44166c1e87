"""HTTP/2 with a client: requests side by side on one connection.

In: a stream on which a client speaks HTTP/2, and its scope. Out: exchanges, each on a stream, in a task and through a
strand of the session of its own, so that one that waits holds up no other. CONNECT makes a tunnel of its stream: for
hooks that is a client connection of its own, which `Session.serve` looks into like into any other. An extended CONNECT
for WebSocket becomes the upgrade request it stands for (RFC 8441).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from rulesproxy.codecs.http1 import FramingKind, Identity, ProtocolError, RequestHead, identity
from rulesproxy.codecs.http2 import (
    CONCURRENT_STREAMS,
    PER_EXCHANGE,
    Machine,
    MalformedMessage,
    ReceivedRequest,
    as_upgrade,
    parse_request,
)
from rulesproxy.model.connection import Client
from rulesproxy.model.headers import Field
from rulesproxy.model.http import Response
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import Stream
from rulesproxy.proxy.connect import open_tunnel
from rulesproxy.proxy.failures import error_page
from rulesproxy.proxy.framing import UNREADABLE
from rulesproxy.proxy.http2.client_side import Http2Client
from rulesproxy.proxy.http2.connection import Http2Connection
from rulesproxy.proxy.http2.stream import Http2Stream, StreamFailed
from rulesproxy.proxy.http2.tunnel import Http2Tunnel
from rulesproxy.proxy.proxy_auth import admit
from rulesproxy.proxy.refusal import send_page
from rulesproxy.proxy.requests import serve_request
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.sides import ClientGone

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

#: Tasks of one connection: streams that a client reset count until their exchange has come to its end.
_TASKS = 4 * CONCURRENT_STREAMS
_WAITING = 24 * 3600.0  # seconds: streams have limits of their own


async def serve_http2(session: Session, stream: PeekableStream, scope: Scope) -> None:
    """Serve streams until the connection ends."""
    connection = ServerConnection(session, stream.inner, scope)
    session.on_ending = connection.wind_down
    try:
        await connection.run(stream.buffered)
    finally:
        session.on_ending = None
        session.idle = False
        await connection.end_tasks()


class ServerConnection(Http2Connection):
    """The connection of one client."""

    def __init__(self, session: Session, stream: Stream, scope: Scope) -> None:
        settings = session.core.settings
        super().__init__(stream, Machine(client_side=False, header_list=settings.head_limit), settings.limits,
                         session.watchdog)
        self._session = session
        self._scope = scope
        self._tasks: dict[asyncio.Task[None], Session | None] = {}
        self._strands: dict[int, Session] = {}
        self._last = 0  # the last stream that is served although we are going away

    @property
    def peer(self) -> str:
        return self._session.client.peer

    # --- the connection ---------------------------------------------------------------------------------------

    def patience(self) -> float:
        settings, machine = self._session.core.settings, self.machine
        self._session.idle = not self.streams and not machine.in_header_block
        if machine.in_header_block or not machine.settings_received:
            return settings.head_timeout
        return _WAITING if self.streams else settings.idle_timeout

    def changed(self) -> None:
        if not self.streams and not self.over and (self.going_away or self._session.ending):
            self.end()
        else:
            self.rearm()

    def wind_down(self) -> None:
        """The proxy stops, or the tunnel is decided differently now: nothing new is begun."""
        if not self.over:
            self._last = self._last if self.said_goaway else self.machine.highest_inbound_stream_id
            self.say_goaway()
            self.changed()

    def goaway(self, last_stream_id: int, code: int) -> None:
        self.changed()  # what it has asked for is answered (RFC 9113 §6.8)

    def cut(self, stream: Http2Stream, failure: StreamFailed) -> None:
        super().cut(stream, failure)
        strand = self._strands.get(stream.id)
        if strand is not None:
            strand.client_ended(True)

    async def end_tasks(self) -> None:
        """Wait until every exchange has come to its end; they have been told."""
        while self._tasks:
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError:
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks)
                raise

    # --- what clients ask for ---------------------------------------------------------------------------------

    def request(self, stream_id: int, block: list[Field], ended: bool) -> None:
        stream = Http2Stream(self, stream_id)
        if self._session.ending and not self.said_goaway:
            self._last = stream_id  # it was on its way when we decided to end
            self.say_goaway()
        elif self.said_goaway and stream_id > self._last:
            self.send_reset(stream, ErrorCodes.REFUSED_STREAM)
            return
        if self.machine.too_many_streams(stream_id) or len(self._tasks) >= _TASKS:  # RFC 9113 §5.1.2
            self.send_reset(stream, ErrorCodes.REFUSED_STREAM)
            self.charge(1.0)
            return
        asked: ReceivedRequest | ProtocolError
        try:
            asked = parse_request(block, ended, self.limits)
        except MalformedMessage as exc:
            self.refuse(stream, exc)
            return
        except ProtocolError as exc:
            asked = exc
        else:
            if asked.head.framing.kind is FramingKind.LENGTH:
                stream.length = asked.head.framing.length
        self.streams[stream_id] = stream
        self.rearm()
        task = asyncio.get_running_loop().create_task(self._serve(stream, asked))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _serve(self, stream: Http2Stream, asked: ReceivedRequest | ProtocolError) -> None:
        strand = self._session.strand()
        self._strands[stream.id] = strand
        try:
            if isinstance(asked, ProtocolError):
                await self._refuse_request(strand, Http2Client(stream, strand, UNREADABLE), asked)
            else:
                await self._serve_request(strand, stream, *asked)
            if not stream.closed or stream.failure is None:
                self.machine.abuse.forgive(PER_EXCHANGE)
        except ClientGone:
            pass  # it went away without an answer: the flow, if there was one, has been told
        except Exception:
            log.exception("%s: unexpected error", self.peer)
            stream.reset(ErrorCodes.INTERNAL_ERROR)
        finally:
            strand.watchdog.close()
            del self._strands[stream.id]
            stream.release()

    async def _serve_request(self, strand: Session, stream: Http2Stream, head: RequestHead,
                             protocol: bytes | None) -> None:
        if protocol == b"websocket":
            head = as_upgrade(head, base64.b64encode(os.urandom(16)))
        client = Http2Client(stream, strand, head, tunnel=protocol is not None)
        if protocol not in (None, b"websocket"):
            await self._refuse_request(strand, client, ProtocolError(501, "a CONNECT for another protocol"))
            return
        head, page = await self._admit(head)
        if page is not None:
            await send_page(strand, client, head, page)
            return
        try:
            target = identity(head, self._scope.scheme)
        except ProtocolError as exc:
            await self._refuse_request(strand, client, exc)
            return
        if head.method != "CONNECT" or self._scope.reverse:
            try:
                await serve_request(strand, client, self._scope, head, target)
            finally:
                await client.close()
        else:
            await self._open_tunnel(stream, head, target)

    async def _admit(self, head: RequestHead) -> tuple[RequestHead, Response | None]:
        """Ask who sends the request, where that matters. Streams are asked side by side."""
        verifier = self._session.core.settings.proxy_auth
        if verifier is None or self._scope.tunnel is not None:
            return head, None
        client = self._session.client
        asked = Client(peername=client.peername, sockname=client.sockname)
        answer = await admit(verifier, asked, head)
        if asked.user is not None:  # one refused stream says nothing of the others
            client.user = asked.user
        return answer

    async def _refuse_request(self, strand: Session, client: Http2Client, error: ProtocolError) -> None:
        log.warning("%s: malformed request: %s", self.peer, error.message)
        page = error_page(error, None)
        if page is not None:
            await send_page(strand, client, None, page)

    # --- tunnels ----------------------------------------------------------------------------------------------

    async def _open_tunnel(self, stream: Http2Stream, head: RequestHead, target: Identity) -> None:
        outer = self._session.client
        client = Client(peername=outer.peername, sockname=outer.sockname, proxy_mode=outer.proxy_mode,
                        listener=outer.listener)
        client.user = outer.user
        session = type(self._session)(self._session.core, Http2Tunnel(stream), client)
        session.depth = self._session.depth

        async def begin(session: Session, _: PeekableStream) -> None:
            granted = await open_tunnel(session, Http2Client(stream, session, head), head, target, self._scope.via)
            if granted is not None:
                await session.serve(*granted)

        await session.run(begin)
