"""permessage-deflate (RFC 7692): what was agreed on, and the two ends of one direction.

In: pieces of payload as frames bring them. Out: the same, deflated or inflated; never more than there is room for,
which is looked at while inflating. It knows nothing of frames.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

_TAIL = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1: cut from every message
_RAW_INFLATE = -15  # the largest window reads what was made with any
#: zlib makes no raw deflate stream with the smallest window; messages to such a peer go out as they are.
_SMALLEST_WINDOW = 9
#: Streams of deflate in one message. Each begins anew with a copy of the rest, so thousands of empty ones cost much.
_MOST_STREAMS = 256


@dataclass(frozen=True, slots=True)
class Deflate:
    """The parameters of RFC 7692 §7.1, after the handshake."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    def inflater(self, *, client: bool) -> Inflater:
        """For what this end, the client or the server, receives."""
        return Inflater(not (self.server_no_context_takeover if client else self.client_no_context_takeover))

    def deflater(self, *, client: bool) -> Deflater | None:
        """For what this end sends; None where it cannot deflate."""
        if client:
            forget, bits = self.client_no_context_takeover, self.client_max_window_bits
        else:
            forget, bits = self.server_no_context_takeover, self.server_max_window_bits
        return Deflater(not forget, bits) if bits >= _SMALLEST_WINDOW else None


class Inflater:
    """Turns the messages of one direction back. Raises zlib.error for what is not deflate."""

    __slots__ = ("_finished", "_keeps_context", "_stream")

    def __init__(self, keeps_context: bool) -> None:
        self._keeps_context = keeps_context
        self._finished = 0  # streams in the message in hand
        self._stream = zlib.decompressobj(_RAW_INFLATE)  # made at once: it is small, unlike its counterpart

    def feed(self, data: bytes, room: int) -> bytes:
        """What the next piece stands for: at most one byte more than `room`, which tells that it does not fit."""
        inflated = self._stream.decompress(data, room + 1)
        while self._stream.eof and self._stream.unused_data and len(inflated) <= room:
            # RFC 7692 §7.2.3.4: a sender may finish a stream in the middle of a message.
            self._finished += 1
            if self._finished > _MOST_STREAMS:
                raise zlib.error("too many streams in one message")
            rest, self._stream = self._stream.unused_data, zlib.decompressobj(_RAW_INFLATE)
            inflated += self._stream.decompress(rest, room + 1 - len(inflated))
        return inflated

    def finish(self, room: int) -> bytes:
        """The end of a message: what is left of it."""
        inflated = self.feed(_TAIL, room)
        self._finished = 0
        if not self._keeps_context or self._stream.eof:
            self._stream = zlib.decompressobj(_RAW_INFLATE)
        return inflated


class Deflater:
    """Deflates the messages of one direction."""

    __slots__ = ("_bits", "_keeps_context", "_stream")

    def __init__(self, keeps_context: bool, bits: int) -> None:
        self._keeps_context = keeps_context
        self._bits = bits
        self._stream: zlib._Compress | None = None  # a quarter of a megabyte, so not before it is needed

    def whole(self, data: bytes) -> bytes:
        """One message."""
        stream = self._stream or zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -self._bits)
        deflated = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
        self._stream = stream if self._keeps_context else None
        return deflated[:-len(_TAIL)]
