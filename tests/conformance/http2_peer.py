"""One end of an HTTP/2 connection that sends whatever it is told to, right or wrong, and shows what comes back."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import hpack

from tests.conformance.verdicts import Unmet

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFAULT_MAX_FRAME_SIZE = 16384
#: How long the other side may take for anything a case waits for.
PATIENCE = 5.0

# Flags, RFC 9113 §6
ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FIELDS = 0x20


class Type(IntEnum):
    """RFC 9113 §6"""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Code(IntEnum):
    """RFC 9113 §7"""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Setting(IntEnum):
    """RFC 9113 §6.5.2"""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it came."""

    type: int
    flags: int
    stream: int
    payload: bytes

    @property
    def ack(self) -> bool:
        return bool(self.flags & ACK)

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY frame."""
        at = 4 if self.type == Type.GOAWAY else 0
        return int(struct.unpack_from(">I", self.payload, at)[0])

    @property
    def ends_stream(self) -> bool:
        return self.type in (Type.DATA, Type.HEADERS) and bool(self.flags & END_STREAM)

    def __str__(self) -> str:
        name = Type(self.type).name if self.type <= Type.CONTINUATION else f"type {self.type}"
        code = f" code={self.code}" if self.type in (Type.RST_STREAM, Type.GOAWAY) else ""
        return f"{name}[stream={self.stream} flags={self.flags:#x} length={len(self.payload)}{code}]"


def frame(type: int, payload: bytes = b"", *, stream: int = 0, flags: int = 0) -> bytes:
    """RFC 9113 §4.1, for any values that fit the fields."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", type, flags, stream) + payload


class Peer:
    """What is sent leaves at the next wait, in one write. `stream` is the stream of the request under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, authority: str = "localhost",
                 scheme: str = "http") -> None:
        self._reader = reader
        self._writer = writer
        self._unsent = bytearray()
        self._set_aside: deque[Frame] = deque()
        self._closed = False
        self.authority = authority
        self.scheme = scheme
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.settings: dict[int, int] = {}
        self.stream = 1
        self.log: list[str] = []  # for the report of a failure

    @property
    def max_frame_size(self) -> int:
        return self.settings.get(Setting.MAX_FRAME_SIZE, DEFAULT_MAX_FRAME_SIZE)

    def send(self, data: bytes) -> None:
        self._unsent += data

    async def flush(self) -> None:
        if self._unsent:
            data, self._unsent = bytes(self._unsent), bytearray()
            self._writer.write(data)
            try:
                await self._writer.drain()
            except OSError:
                pass  # closed by the other side: the next read tells

    async def read_exactly(self, size: int) -> bytes:
        await self.flush()
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readexactly(size)

    async def read_to_end(self) -> bytes:
        """Raises TimeoutError when the other side keeps the connection open."""
        await self.flush()
        async with asyncio.timeout(PATIENCE):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""  # a reset is an end, too

    async def next(self) -> Frame | None:
        """The next frame, None when the other side has closed. Raises Unmet after a silence."""
        if self._set_aside:
            return self._set_aside.popleft()
        return await self._receive()

    async def find(self, what: str, matches: Callable[[Frame], bool]) -> Frame:
        """The first frame that matches; those before it stay unread. Raises Unmet."""
        for index, known in enumerate(self._set_aside):
            if matches(known):
                del self._set_aside[index]
                return known
        while (received := await self._receive(what)) is not None:
            if matches(received):
                return received
            self._set_aside.append(received)
        raise Unmet(what, self.seen())

    def seen(self) -> str:
        return ", ".join(self.log) or "nothing"

    async def aclose(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._writer.wait_closed()
        except OSError:
            pass  # TimeoutError is one too: it was reset, or never says goodbye in TLS

    async def _receive(self, what: str = "a frame or the end of the connection") -> Frame | None:
        await self.flush()
        if self._closed:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._reader.readexactly(9)
                received = Frame(head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF,
                                 await self._reader.readexactly(int.from_bytes(head[:3])))
        except TimeoutError:
            raise Unmet(what, f"{self.seen()}, then {PATIENCE:g} s of silence") from None
        except (asyncio.IncompleteReadError, OSError):
            self._closed = True
            self.log.append("closed")
            return None
        self.log.append(str(received))
        self._note(received)
        return received

    def _note(self, received: Frame) -> None:
        if received.type == Type.SETTINGS and not received.ack:
            self.settings.update(struct.iter_unpack(">HI", received.payload))
