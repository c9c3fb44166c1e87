"""`Http2Connection`: one connection, one state machine, one task that reads, one that writes, and many streams.

In: a byte stream. Out: `Http2Stream`s that are fed as frames arrive, and whose frames leave in few writes (outbox.py).
Memory is bounded by the windows we grant, by the room for frames that wait to be written, and by the abuse score. It
knows frames and windows, not HTTP: what begins on a stream is its two subclasses' affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import DenialOfServiceError, H2Error

from rulesproxy.codecs.http1 import Limits, ProtocolError
from rulesproxy.codecs.http2 import Machine, MalformedMessage, parse_trailers
from rulesproxy.model.headers import Field, Fields
from rulesproxy.net.stream import ConnectionClosed, Stream
from rulesproxy.proxy.http2.outbox import Outbox
from rulesproxy.proxy.http2.stream import HEADS_WAITING, Http2Stream, StreamFailed
from rulesproxy.proxy.watchdog import Watchdog

log = logging.getLogger("rulesproxy")

_FRAME_HEAD = 9
#: How long and how much is read from a peer after our last word, so that closing does not reset the connection under
#: it.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 1024 * 1024
#: How long the last frames may take to leave.
_FLUSH_SECONDS = 5.0


class Http2Connection:
    """`run` once; it returns when the connection has ended and every stream was told."""

    def __init__(self, stream: Stream, machine: Machine, limits: Limits, watchdog: Watchdog) -> None:
        self.stream = stream
        self.watchdog = watchdog  # of the task that runs the connection
        self.machine = machine
        self.limits = limits
        self.streams: dict[int, Http2Stream] = {}
        #: Why it ended, for streams that were cut by that.
        self.reason = "the connection ended"
        #: The peer was told, or has told us, that nothing new begins; and the former.
        self.going_away = False
        self.said_goaway = False
        self.over = False
        self.out = Outbox(stream, machine)
        self._complained = False  # once for a connection is enough
        self._reading = False
        self._finishing = False
        self._loop = asyncio.get_running_loop()

    # --- the reading task -------------------------------------------------------------------------------------

    async def run(self, first: bytes = b"") -> None:
        """Serve the connection until it ends. `first` was read from the stream before."""
        self.machine.begin()
        writer = self._loop.create_task(self.out.run())
        self.out.queued()
        try:
            heard = await self._read_frames(first)
            self._finish()
            await asyncio.wait((writer,), timeout=_FLUSH_SECONDS)
            if heard:
                await self._linger()
        finally:
            self._finish()
            writer.cancel()
            await asyncio.wait((writer,))
            self.machine.finish_receiving()

    async def _read_frames(self, data: bytes) -> bool:
        """True if the peer may still listen: the end was our idea."""
        try:
            while data or (data := await self._read()):
                self.receive(data)
                if self._finishing:
                    return True
                data = b""
        except H2Error as exc:
            self._broken(exc)
            return True
        except ConnectionClosed as exc:
            self.reason = str(exc) or self.reason
        return self._finishing

    async def _read(self) -> bytes:
        """One read; `b""` at the end of the connection, or of our patience. Raises ConnectionClosed."""
        self._reading = True
        self.rearm()
        try:
            return await self.stream.read()
        except asyncio.CancelledError:
            if not self.watchdog.caught():
                raise
            self.end()
            return b""
        finally:
            self._reading = False
            self.watchdog.disarm()

    def rearm(self) -> None:
        """What is waited for is something else now."""
        if self._reading:
            self.watchdog.arm(self.patience())

    def receive(self, data: bytes) -> None:
        """Raises H2Error, after which a GOAWAY is queued."""
        machine = self.machine
        machine.abuse.at(self._loop.time())
        for event in machine.receive_data(data):
            handler = self._HANDLERS.get(event.__class__)
            if handler is not None:
                handler(self, event)
        self.out.queued()

    def _broken(self, exc: H2Error) -> None:
        self.reason = f"HTTP/2 was broken: {exc}" if str(exc) else "HTTP/2 was broken"
        kind = "floods the connection" if isinstance(exc, DenialOfServiceError) else "breaks HTTP/2"
        level = logging.WARNING if self.machine.settings_received else logging.INFO  # else it may speak HTTP/1
        log.log(level, "%s %s: %s", self.peer, kind, exc)

    @property
    def peer(self) -> str:
        """For log lines."""
        address = self.stream.peername
        return f"{address[0]}:{address[1]}" if address else "the peer"

    def _finish(self) -> None:
        """Nothing more is read: tell every stream."""
        if self.over:
            return
        self.over = self.going_away = self._finishing = True
        for stream in tuple(self.streams.values()):
            self.cut(stream, StreamFailed(self.reason))
        self.out.finish()
        self.changed()

    async def _linger(self) -> None:
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                await self.stream.write_eof()
                while left > 0 and (data := await self.stream.read()):
                    left -= len(data)
        except (ConnectionClosed, TimeoutError):  # it is closed in any case
            return

    # --- what streams ask for ---------------------------------------------------------------------------------

    def window(self, stream: Http2Stream) -> int:
        """What the stream's own window allows."""
        known = self.machine.streams.get(stream.id)
        return known.outbound_flow_control_window if known is not None else 0

    def send_block(self, stream: Http2Stream, block: list[Field], *, end: bool) -> None:
        """Raises StreamFailed."""
        before = self.machine.queued
        try:
            self.machine.send_headers(stream.id, block, end_stream=end)
        except H2Error as exc:
            raise StreamFailed(f"nothing can be sent any more: {exc}", remote=False) from exc
        self.out.queued(self.machine.queued - before)

    def send_data(self, stream: Http2Stream, data: memoryview, *, end: bool) -> None:
        """No more than the windows and `Outbox.share` allow. Raises StreamFailed."""
        size = len(data)
        try:
            whole = size < self.machine.local_flow_control_window(stream.id)
            self.machine.send_data(stream.id, data, end_stream=end)
        except H2Error as exc:
            raise StreamFailed(f"nothing can be sent any more: {exc}", remote=False) from exc
        self.machine.abuse.sent(size, whole=whole)
        self.out.queued(size + _FRAME_HEAD)
        self.out.grant()

    def send_reset(self, stream: Http2Stream, code: int) -> None:
        try:
            self.machine.reset_stream(stream.id, code)
        except H2Error:  # it is closed already, or the connection is
            return
        self.out.queued()

    def give_back(self, stream: Http2Stream | None, window: int) -> None:
        """So many bytes were taken on: the peer may send as many again."""
        if self.over:
            return
        try:
            self.machine.acknowledge_received_data(window, stream.id if stream is not None else 1)
        except H2Error:
            return
        self.out.queued()

    def forget(self, stream: Http2Stream, window: int) -> None:
        """Called by `Http2Stream.release`; `window` was never given back."""
        if self.streams.pop(stream.id, None) is not None:
            if window:
                self.give_back(stream, window)
            self.changed()

    # --- for subclasses ---------------------------------------------------------------------------------------

    def patience(self) -> float:
        """How many seconds the peer may be silent now."""
        raise TypeError("to be said by whoever knows what is waited for")

    def changed(self) -> None:
        """A stream was forgotten, or the connection ended."""

    def request(self, stream_id: int, block: list[Field], ended: bool) -> None:
        """A client asks for something."""

    def cut(self, stream: Http2Stream, failure: StreamFailed) -> None:
        """The stream ended early."""
        stream.fail(failure)

    def goaway(self, last_stream_id: int, code: int) -> None:
        """The peer begins nothing new, and has not seen what we began after `last_stream_id`."""

    def settings(self) -> None:
        """The peer's SETTINGS came or changed."""

    def say_goaway(self, code: int = ErrorCodes.NO_ERROR) -> None:
        """Tell the peer to begin nothing new; what it began is finished."""
        if not self.said_goaway:
            self.said_goaway = self.going_away = True
            self.machine.close_connection(code)
            self.out.queued()

    def end(self) -> None:
        """Say GOAWAY and end as soon as that is out."""
        self.say_goaway()
        self._finishing = True
        self.out.queued()
        if self._reading:
            self.watchdog.expire()

    def charge(self, points: float) -> None:
        """The peer made us work for nothing. Raises DenialOfServiceError, having said GOAWAY, when it does so all the
        time."""
        try:
            self.machine.abuse.charge(points)
        except DenialOfServiceError as exc:
            self.machine.close_connection(exc.error_code)
            raise

    # --- events -----------------------------------------------------------------------------------------------

    def _on_request(self, event: RequestReceived) -> None:
        self.request(_id(event), _block(event), event.stream_ended is not None)

    def _on_head(self, event: ResponseReceived | InformationalResponseReceived) -> None:
        stream = self.streams.get(_id(event))
        if stream is None or stream.failure is not None:
            return
        if len(stream.heads) >= HEADS_WAITING:
            stream.reset(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        stream.feed_head(_block(event), isinstance(event, ResponseReceived) and event.stream_ended is not None)

    def _on_data(self, event: DataReceived) -> None:
        stream, window = self.streams.get(_id(event)), event.flow_controlled_length or 0
        data = event.data or b""
        if stream is None or stream.failure is not None:
            self._give_back_late(_id(event), window)
        elif not data:
            if window:
                self.give_back(stream, window)
        else:
            stream.feed(data, window)
            if stream.length is not None and stream.received > stream.length:
                self._wrong_length(stream)

    def _give_back_late(self, stream_id: int, window: int) -> None:
        if window:
            try:
                self.machine.acknowledge_received_data(window, stream_id)
            except H2Error:  # the connection is over
                return

    def _on_trailers(self, event: TrailersReceived) -> None:
        stream = self.streams.get(_id(event))
        if stream is None or stream.failure is not None:
            return
        try:
            trailers = parse_trailers(_block(event), self.limits)
        except ProtocolError as exc:
            self.refuse(stream, exc)
            return
        self._ended(stream, trailers)

    def _on_end(self, event: StreamEnded) -> None:
        stream = self.streams.get(_id(event))
        if stream is not None and stream.failure is None and stream.end is None:
            self._ended(stream, ())

    def _ended(self, stream: Http2Stream, trailers: Fields) -> None:
        if stream.length is not None and stream.received != stream.length:
            self._wrong_length(stream)
        else:
            stream.feed_end(trailers)

    def expect(self, stream: Http2Stream, length: int) -> None:
        """The body is to be so long; some or all of it may have come already."""
        stream.length = length
        if stream.failure is None and (stream.received > length or (stream.end is not None
                                                                    and stream.received != length)):
            stream.end = None
            self._wrong_length(stream)

    def _wrong_length(self, stream: Http2Stream) -> None:  # RFC 9113 §8.1.1
        self.refuse(stream, MalformedMessage("the body is not as long as its content-length says"))

    def refuse(self, stream: Http2Stream, error: ProtocolError) -> None:
        """The peer broke HTTP on this stream. Raises DenialOfServiceError when that happens all the time."""
        log.log(logging.DEBUG if self._complained else logging.WARNING, "%s: malformed message: %s", self.peer,
                error.message)
        self._complained = True
        self.send_reset(stream, ErrorCodes.PROTOCOL_ERROR)
        self.cut(stream, StreamFailed(error.message, ErrorCodes.PROTOCOL_ERROR, remote=False))
        self.charge(1.0)

    def _on_reset(self, event: StreamReset) -> None:
        stream = self.streams.get(_id(event))
        if stream is not None and stream.failure is None:
            code = int(event.error_code or 0)
            self.cut(stream, StreamFailed.reset(code, remote=event.remote_reset))

    def _on_window(self, event: WindowUpdated) -> None:
        if event.stream_id:
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.wake_sender()
        else:
            self.out.grant()

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self.machine.bound_encoder()
        for stream in self.streams.values():  # the initial window may be another one now
            stream.wake_sender()
        self.settings()

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        self.going_away = True
        self.goaway(event.last_stream_id or 0, int(event.error_code or 0))

    _HANDLERS: ClassVar[dict[type[Event], Callable[[Any, Any], None]]] = {
        RequestReceived: _on_request, ResponseReceived: _on_head, InformationalResponseReceived: _on_head,
        DataReceived: _on_data, TrailersReceived: _on_trailers, StreamEnded: _on_end, StreamReset: _on_reset,
        WindowUpdated: _on_window, RemoteSettingsChanged: _on_settings, ConnectionTerminated: _on_goaway,
    }


def _id(event: Any) -> int:
    return int(event.stream_id)


def _block(event: Any) -> list[Field]:
    """Plain pairs: what the decoder remembers about them is of no use here."""
    return [(name, value) for name, value in event.headers]
