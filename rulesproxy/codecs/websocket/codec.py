"""One end of a WebSocket connection: bytes in, whole messages and control frames out, and the way back.

wsproto takes frames apart and puts them together; what lies above is here, entered through its extension interface:
the order of fragments, deflate, and how large a message may become, all judged before the frame has arrived whole, so
that what is kept is bounded by the limit. Everything a peer does wrong is one `WebSocketError` with the close code
that RFC 6455 gives it; afterwards the codec reads nothing more. It knows no clock, no socket and no flow.
"""

from __future__ import annotations

import codecs
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from wsproto.extensions import Extension
from wsproto.frame_protocol import (
    CloseReason,
    Frame,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    ParseFailed,
    RsvBits,
)

from rulesproxy.codecs.websocket.deflate import Deflate
from rulesproxy.model.websocket import may_be_sent

_Proto = FrameDecoder | FrameProtocol
_new_utf8_decoder = codecs.getincrementaldecoder("utf-8")
_NO_STATUS = 1005


class WebSocketError(Exception):
    """The peer broke the protocol, or a limit. `code` is what the Close frame says (RFC 6455 §7.4.1)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message; that of a text is valid UTF-8. `deflated` is how it came."""

    is_text: bool
    content: bytes
    deflated: bool


@dataclass(frozen=True, slots=True)
class Ping:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """`code` is 1005 when the frame had none."""

    code: int
    reason: str


Event = Message | Ping | Pong | Close


class Codec:
    """`client`: this is the client's end, which masks what it sends and takes nothing masked.

    Feed `receive` and take every event it yields before the next call. After a Close it yields nothing more.
    """

    __slots__ = ("_closed", "_decoder", "_incoming", "_protocol", "_whole", "_whole_text")

    def __init__(self, *, client: bool, limit: int, deflate: Deflate | None = None) -> None:
        self._incoming = _Incoming(client, limit, deflate)
        self._decoder = FrameDecoder(client, [self._incoming])
        self._protocol = FrameProtocol(client, [self._incoming])
        self._closed = False
        #: A message in more than one piece, as far as it has come.
        self._whole: bytearray | None = None
        self._whole_text: codecs.IncrementalDecoder | None = None

    # --- reading ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[Event]:
        """What the bytes complete. Raises WebSocketError, after the events before the mistake."""
        decoder = self._decoder
        decoder.receive_bytes(data)
        while not self._closed:
            try:
                frame = decoder.process_buffer()
            except ParseFailed as exc:
                self._closed = True
                raise WebSocketError(int(exc.code), str(exc)) from exc
            if frame is None:
                return
            event = self._event(frame)
            if event is not None:
                yield event

    def _event(self, frame: Frame) -> Event | None:
        payload = frame.payload
        assert isinstance(payload, bytes)
        match frame.opcode:
            case Opcode.PING:
                return Ping(payload)
            case Opcode.PONG:
                return Pong(payload)
            case Opcode.CLOSE:
                self._closed = True
                return _parse_close(payload)
            case _:
                return self._piece(payload, frame.frame_finished and frame.message_finished)

    def _piece(self, payload: bytes, last: bool) -> Message | None:
        incoming, whole = self._incoming, self._whole
        if whole is None and last:
            content = payload  # by far the most messages
            if incoming.is_text and not content.isascii():
                self._check_text(content, last=True)
        else:
            if incoming.is_text:
                self._check_text(payload, last=last)  # at once: RFC 6455 §8.1 lets nobody wait for the end
            if whole is None:
                whole = self._whole = bytearray()
            whole += payload
            if not last:
                return None
            content = bytes(whole)
        message = Message(incoming.is_text, content, incoming.deflated)
        self._whole = self._whole_text = None
        incoming.message_over()
        return message

    def _check_text(self, payload: bytes, *, last: bool) -> None:
        if self._whole_text is None:
            self._whole_text = _new_utf8_decoder()
        try:
            self._whole_text.decode(payload, last)
        except UnicodeDecodeError:
            self._closed = True
            raise WebSocketError(CloseReason.INVALID_FRAME_PAYLOAD_DATA, "text that is not UTF-8") from None

    # --- writing ----------------------------------------------------------------------------------------------

    def message(self, content: bytes, *, is_text: bool, deflated: bool) -> bytes:
        """One unfragmented message, `deflated` where that was agreed on. Raises UnicodeDecodeError for text that is
        not UTF-8, TypeError for what is not bytes."""
        if not isinstance(content, bytes | bytearray | memoryview):
            raise TypeError(f"the content of a message is bytes, not {type(content).__name__}")
        self._incoming.deflates = deflated
        return bytes(self._protocol.send_data(str(content, "utf-8") if is_text else content))

    def ping(self, payload: bytes) -> bytes:
        return bytes(self._protocol.ping(payload))

    def pong(self, payload: bytes) -> bytes:
        return bytes(self._protocol.pong(payload))

    def close(self, code: int, reason: str = "") -> bytes:
        """A Close frame. Codes that may not be sent (1005, 1006, …) leave it empty (RFC 6455 §7.4.1)."""
        if not may_be_sent(code):
            return bytes(self._protocol.close())
        return bytes(self._protocol.close(code, reason))


class _Incoming(Extension):
    """What a frame is part of: order, size and compression of messages, at their frames.

    wsproto asks about a header again when not all of it had arrived, so `frame_inbound_header` keeps what it is told
    until the next data frame only.
    """

    name = "permessage-deflate"

    def __init__(self, client: bool, limit: int, deflate: Deflate | None) -> None:
        self._limit = limit
        self._inflater = deflate.inflater(client=client) if deflate is not None else None
        self._deflater = deflate.deflater(client=client) if deflate is not None else None
        self.deflates = False
        #: Of the message in hand.
        self.is_text = False
        self.deflated = False
        self._begun = False
        self._size = 0
        self._is_data = False  # the frame in hand

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def message_over(self) -> None:
        self._begun = False
        self._size = 0

    def frame_inbound_header(self, proto: _Proto, opcode: Opcode, rsv: RsvBits, payload_length: int) -> RsvBits:
        self._is_data = not opcode.iscontrol()
        if self._is_data:
            if (opcode is Opcode.CONTINUATION) is not self._begun:
                raise ParseFailed("a continuation of nothing" if not self._begun else "a message within a message")
            if not self._begun:
                self.is_text = opcode is Opcode.TEXT
                self.deflated = bool(rsv.rsv1)
            if not self.deflated and self._size + payload_length > self._limit:
                raise _too_big()
        # RFC 7692 §6: the bit belongs to the first frame of a message.
        first = self._is_data and not self._begun
        return RsvBits(self._inflater is not None and first, False, False)

    def frame_inbound_payload_data(self, proto: _Proto, data: bytes) -> bytes:
        if not self._is_data:
            return data
        self._begun = True
        if self.deflated:
            data = self._inflate(data)
        self._size += len(data)
        return data

    def frame_inbound_complete(self, proto: _Proto, fin: bool) -> bytes | None:
        if not (self._is_data and self.deflated and fin):
            return None
        data = self._inflate(None)
        self._size += len(data)
        return data

    def _inflate(self, data: bytes | None) -> bytes:
        """A piece, or the end."""
        inflater, room = self._inflater, self._limit - self._size
        assert inflater is not None
        try:
            inflated = inflater.feed(data, room) if data is not None else inflater.finish(room)
        except zlib.error:
            raise ParseFailed("not deflated", CloseReason.INVALID_FRAME_PAYLOAD_DATA) from None
        if len(inflated) > room:
            raise _too_big()
        return inflated

    def frame_outbound(self, proto: _Proto, opcode: Opcode, rsv: RsvBits, data: bytes,
                       fin: bool) -> tuple[RsvBits, bytes]:
        if not self.deflates or self._deflater is None or opcode.iscontrol():
            return rsv, data
        return RsvBits(True, False, False), self._deflater.whole(data)


def _too_big() -> ParseFailed:
    return ParseFailed("a message larger than is allowed here", CloseReason.MESSAGE_TOO_BIG)


def _parse_close(payload: bytes) -> Close:
    """RFC 6455 §5.5.1, §7.4."""
    if not payload:
        return Close(_NO_STATUS, "")
    if len(payload) == 1:
        raise WebSocketError(CloseReason.PROTOCOL_ERROR, "half a close code")
    (code,) = struct.unpack_from("!H", payload)
    if not may_be_sent(code):
        raise WebSocketError(CloseReason.PROTOCOL_ERROR, f"a close with the code {code}")
    try:
        return Close(code, payload[2:].decode("utf-8"))
    except UnicodeDecodeError:
        raise WebSocketError(CloseReason.INVALID_FRAME_PAYLOAD_DATA, "a close reason that is not UTF-8") from None
