"""HTTP/2 for load: one endpoint on the h2 library, for both sides, fast and without judgement."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

Block = list[tuple[bytes, bytes]]
#: Windows so large that the load waits for the proxy's, not for its own.
_WINDOW = 1 << 20


class Message:
    """What came on one stream. `over` is done when there will be no more; `more` is set whenever something came."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.block: dict[bytes, bytes] = {}
        self.interim = 0
        self.body = bytearray()
        self.trailers: dict[bytes, bytes] = {}
        self.ended = False
        self.reset = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.more = asyncio.Event()

    @property
    def status(self) -> int:
        return int(self.block.get(b":status", b"0"))


class Endpoint(asyncio.Protocol):
    """One connection. Subclasses of the serving side get `requested` called for each head."""

    def __init__(self, *, client: bool) -> None:
        self.h2 = H2Connection(H2Configuration(
            client_side=client, header_encoding=None, validate_inbound_headers=False, normalize_inbound_headers=False,
            validate_outbound_headers=False, normalize_outbound_headers=False))
        self.h2.local_settings = Settings(client=client, initial_values={
            SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW, SettingCodes.MAX_CONCURRENT_STREAMS: 100,
            SettingCodes.ENABLE_PUSH: 0} if client else {
            SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW, SettingCodes.MAX_CONCURRENT_STREAMS: 100,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
        self.streams: dict[int, Message] = {}
        self.lost = asyncio.get_running_loop().create_future()
        self.went_away = False
        self._waiting: dict[int, tuple[bytearray, Block | None, bool]] = {}
        self._early = b""  # what came while TLS was being wrapped around the transport
        self.transport: asyncio.Transport

    # --- the transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(16 * _WINDOW)
        self.flush()
        if self._early:
            self.data_received(self._early)

    def data_received(self, data: bytes) -> None:
        if not hasattr(self, "transport"):
            self._early += data
            return
        try:
            for event in self.h2.receive_data(data):
                self._take(event)
        except H2Error:
            self.flush()
            self.transport.close()
            return
        for number in tuple(self._waiting):
            self._pump(number)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        for message in tuple(self.streams.values()):
            message.reset = message.reset or not message.ended
            self._finish(message)
        if not self.lost.done():
            self.lost.set_result(None)

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    # --- sending ----------------------------------------------------------------------------------------------

    def send_block(self, number: int, block: Block, *, end: bool = False) -> None:
        try:
            self.h2.send_headers(number, block, end_stream=end)
        except H2Error:  # it was reset meanwhile
            return
        self.flush()

    def send(self, number: int, data: bytes, *, end: bool = False, trailers: Block | None = None) -> None:
        """As fast as the windows allow; nobody waits for it."""
        waiting, _, _ = self._waiting.get(number, (bytearray(), None, False))
        self._waiting[number] = (waiting + data, trailers, end)
        self._pump(number)
        self.flush()

    def reset(self, number: int, code: int) -> None:
        self._waiting.pop(number, None)
        try:
            self.h2.reset_stream(number, code)
        except H2Error:
            return
        self.flush()

    def go_away(self) -> None:
        try:
            self.h2.close_connection()
        except H2Error:
            return
        self.flush()

    def _pump(self, number: int) -> None:
        data, trailers, end = self._waiting.pop(number)
        try:
            while data:
                size = min(len(data), self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
                if size <= 0:
                    self._waiting[number] = (data, trailers, end)
                    return
                self.h2.send_data(number, bytes(data[:size]))
                del data[:size]
            if trailers:
                self.h2.send_headers(number, trailers, end_stream=True)
            elif end:
                self.h2.end_stream(number)
        except H2Error:  # it was reset meanwhile
            return

    # --- receiving --------------------------------------------------------------------------------------------

    def message(self, number: int) -> Message:
        found = self.streams.get(number)
        if found is None:
            found = self.streams[number] = Message(number)
        return found

    def forget(self, number: int) -> None:
        self.streams.pop(number, None)
        self._waiting.pop(number, None)

    def requested(self, message: Message) -> None:
        """The head of a request came."""

    def _take(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.went_away = True
            return
        number = getattr(event, "stream_id", None)
        if not number:
            return
        if isinstance(event, RequestReceived):
            message = self.message(number)
            message.block = _block(event.headers)
            self.requested(message)
            return
        known = self.streams.get(number)
        if isinstance(event, DataReceived):
            if event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)
            if known is not None:
                known.body += event.data or b""
                known.more.set()
        elif known is None:
            return
        elif isinstance(event, ResponseReceived):
            known.block = _block(event.headers)
            known.more.set()
        elif isinstance(event, InformationalResponseReceived):
            known.interim += 1
        elif isinstance(event, TrailersReceived):
            known.trailers = _block(event.headers)
        elif isinstance(event, StreamEnded):
            known.ended = True
            self._finish(known)
        elif isinstance(event, StreamReset):
            known.reset = not known.ended
            self._finish(known)

    def _finish(self, message: Message) -> None:
        message.more.set()
        if not message.over.done():
            message.over.set_result(None)


def _block(headers: Iterable[tuple[bytes, bytes]] | None) -> dict[bytes, bytes]:
    return {bytes(name): bytes(value) for name, value in headers or ()}
