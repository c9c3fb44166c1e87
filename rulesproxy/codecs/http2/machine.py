"""`Machine`: the h2 state machine, set up for a proxy, with what it leaves open closed.

In: bytes from the peer and what we want to send. Out: h2's events, and bytes for the peer. Differences to h2 itself,
each at its place below:

* Field blocks are judged by our own grammar (received.py, sending.py), which is stricter than h2's and fails one
  stream where h2 fails the connection; so is Content-Length.
* GOAWAY does not end the streams that it lets go on, in either direction (RFC 9113 §6.8).
* Streams beyond the limit are refused one by one (RFC 9113 §5.1.2).
* Frames are looked at one by one before h2 sees them: abuse is counted, and what h2 lets pass is refused.
* The peer does not decide how much memory our header compression takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import proxy

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import FrameDataMissingError, FrameTooLargeError, ProtocolError, StreamClosedError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream
from hpack import Decoder, HeaderTuple, HPACKError, OversizedHeaderListError
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, RstStreamFrame, SettingsFrame

from rulesproxy.codecs.http2.abuse import Abuse

#: What a peer may send before it was taken on: per stream, and for all streams together, so that some slow ones do
#: not hold up the others.
STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 16 * STREAM_WINDOW
CONCURRENT_STREAMS = 100
FRAME_SIZE = 64 * 1024
_DEFAULT_WINDOW = 65535  # RFC 9113 §6.9.2
_FRAME_HEAD = 9
_ENCODER_TABLE = 64 * 1024


class _ConnectionStates(H2ConnectionStateMachine):
    """GOAWAY says that nothing new begins; it does not end what goes on."""

    _transitions = H2ConnectionStateMachine._transitions | {
        (state, what): (None, state)
        for state in (ConnectionState.IDLE, ConnectionState.CLIENT_OPEN, ConnectionState.SERVER_OPEN)
        for what in (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY)
    }


class _Stream(H2Stream):
    """Whoever takes the body compares it with Content-Length: a difference is the end of this stream only."""

    def _initialize_content_length(self, headers: Iterable[Any]) -> None:
        self._expected_content_length = None


class _Frames(FrameBuffer):
    """Frames as they arrive, looked at before h2 acts on them."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(server=not machine.config.client_side)
        self._machine: Machine = proxy(machine)  # whose part this is
        self._looked_at: Frame | None = None
        self._settings_seen = False

    @property
    def in_header_block(self) -> bool:
        return bool(self._headers_buffer)

    @property
    def preface_seen(self) -> bool:
        return self._settings_seen

    def __next__(self) -> Frame:
        data = self._data
        if len(data) >= _FRAME_HEAD and int.from_bytes(data[:3], "big") > self.max_frame_size:
            raise FrameTooLargeError("a frame is too large")  # h2 would wait until it is here
        try:
            frame = super().__next__()
        except ProtocolError as exc:
            raise (FrameDataMissingError(str(exc)) if self._is_ack_with_payload() else exc) from exc.__cause__
        if frame is not self._looked_at:  # it calls itself again for what it does not hand out
            self._looked_at = frame
            self._look_at(frame)
        return frame

    def _is_ack_with_payload(self) -> bool:
        """What could not be parsed is SETTINGS with ACK: its size is what is wrong with it (RFC 9113 §6.5)."""
        return self._data[3:4] == bytes([SettingsFrame.type]) and bool(self._data[4] & 0x1) and any(self._data[:3])

    def _look_at(self, frame: Frame) -> None:
        if not self._settings_seen:
            if not isinstance(frame, SettingsFrame) or "ACK" in frame.flags:  # RFC 9113 §3.4
                raise ProtocolError("the first frame is not SETTINGS")
            self._settings_seen = True
        if isinstance(frame, ContinuationFrame):  # RFC 9113 §6.10: those with a purpose are part of another frame
            raise ProtocolError("CONTINUATION without a header block")
        if isinstance(frame, RstStreamFrame) and self._machine.is_idle(frame.stream_id):  # RFC 9113 §6.4
            raise ProtocolError("RST_STREAM for a stream that was never opened")
        self._machine.abuse.received(frame)


class _Decoder(Decoder):
    """Remembers that it failed: the connection ends with a code of its own then."""

    failed = False

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        try:
            return super().decode(data, raw)
        except OversizedHeaderListError:
            raise
        except (HPACKError, IndexError):
            self.failed = True
            raise


class Machine(H2Connection):
    """One per connection; `begin` first. `header_list` bounds what a decoded header block may take."""

    #: How many streams h2 remembers after their end, to tell late frames from wrong ones.
    MAX_CLOSED_STREAMS = 1024

    incoming_buffer: _Frames

    def __init__(self, *, client_side: bool, header_list: int) -> None:
        super().__init__(H2Configuration(
            client_side=client_side, validate_inbound_headers=False, normalize_inbound_headers=False,
            validate_outbound_headers=False, normalize_outbound_headers=False))
        self.abuse = Abuse()
        self.state_machine = _ConnectionStates()
        self.incoming_buffer = _Frames(self)
        settings = {
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.MAX_FRAME_SIZE: FRAME_SIZE,
            SettingCodes.MAX_HEADER_LIST_SIZE: header_list,
            SettingCodes.MAX_CONCURRENT_STREAMS: CONCURRENT_STREAMS,
        }
        if client_side:
            settings[SettingCodes.ENABLE_PUSH] = 0
        else:
            settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1  # RFC 8441 §3
        self.local_settings = Settings(client=client_side, initial_values=settings)
        self.max_inbound_frame_size = FRAME_SIZE
        self.decoder = _Decoder()
        # A block a little too large is answered; one much too large ends the connection before it takes memory.
        self.decoder.max_header_list_size = 4 * header_list

    def begin(self) -> None:
        """Queue the preface and open the connection's window."""
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - _DEFAULT_WINDOW)

    # --- what the proxy asks ----------------------------------------------------------------------------------

    @property
    def settings_received(self) -> bool:
        """The peer has shown that it speaks HTTP/2."""
        return self.incoming_buffer.preface_seen

    @property
    def queued(self) -> int:
        """Bytes that wait for `data_to_send`."""
        return len(self._data_to_send)

    @property
    def in_header_block(self) -> bool:
        """A header block has begun and is not complete."""
        return self.incoming_buffer.in_header_block

    def too_many_streams(self, stream_id: int) -> bool:
        """The peer opened this stream, and it is one too many. Later ones, in the same bytes, do not count."""
        self.forget_closed()
        if len(self.streams) <= CONCURRENT_STREAMS:
            return False
        return sum(number <= stream_id and stream.open for number, stream in self.streams.items()) > CONCURRENT_STREAMS

    def forget_closed(self) -> None:
        """h2 does it for every new stream, and looks at all streams each time; now and then is enough."""
        if len(self.streams) > CONCURRENT_STREAMS:
            self._open_streams(1)

    def is_idle(self, stream_id: int) -> bool:
        """True for streams that nobody has opened yet (RFC 9113 §5.1)."""
        outbound = self._stream_id_is_outbound(stream_id)
        return stream_id > (self.highest_outbound_stream_id if outbound else self.highest_inbound_stream_id)

    def bound_encoder(self) -> None:
        """After SETTINGS: the peer says how large its decoder's table may be, we how large our encoder's is."""
        if self.encoder.header_table_size > _ENCODER_TABLE:
            self.encoder.header_table_size = _ENCODER_TABLE

    def finish_receiving(self) -> None:
        """Nothing more will come: let go of what knows this machine, so that it goes without the garbage collector."""
        self._frame_dispatch_table.clear()

    # --- h2's ways that are not ours --------------------------------------------------------------------------

    @property
    def open_inbound_streams(self) -> int:
        """h2 asks before it ends the connection because of too many streams; see `too_many_streams`."""
        return 0

    @property
    def open_outbound_streams(self) -> int:
        """h2 asks for each stream we open; who opens them counts himself."""
        self.forget_closed()
        return 0

    def clear_outbound_data_buffer(self) -> None:
        """h2 does this on GOAWAY, when what waits to be sent may be answers to streams that go on."""

    def _handle_data_on_closed_stream(self, events: list[Event], exc: StreamClosedError,
                                      frame: DataFrame) -> tuple[list[Frame], list[Event]]:
        self.abuse.late(len(frame.data))  # it is answered with a reset each time
        return super()._handle_data_on_closed_stream(events, exc, frame)

    def _terminate_connection(self, error_code: ErrorCodes) -> None:
        failed = isinstance(self.decoder, _Decoder) and self.decoder.failed
        super()._terminate_connection(ErrorCodes.COMPRESSION_ERROR if failed else error_code)  # RFC 9113 §4.3

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> H2Stream:
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        stream.__class__ = _Stream
        return stream
