"""One end of a WebSocket connection that sends whatever frames it is told to, and shows what comes back."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum

from tests.conformance.reach import Streams
from tests.conformance.verdicts import Unmet

#: How long the other side may take for anything a case waits for.
PATIENCE = 10.0
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MASK = b"\x37\xfa\x21\x3d"
_TAIL = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1


class Op(IntEnum):
    """RFC 6455 §5.2"""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Event:
    """A whole message or a control frame that came."""

    op: Op
    payload: bytes

    def __str__(self) -> str:
        shown = self.payload[:24]
        return f"{self.op.name} {shown!r}{'…' if len(self.payload) > 24 else ''} ({len(self.payload)} bytes)"


@dataclass(slots=True)
class Deflate:
    """permessage-deflate as agreed, from this end: what it sends with, and what it must be able to read with."""

    out_bits: int = 15
    in_bits: int = 15
    out_fresh: bool = False  # no context takeover
    in_fresh: bool = False
    _out: zlib._Compress | None = None
    _in: zlib._Decompress | None = None

    def compress(self, payload: bytes) -> bytes:
        if self._out is None or self.out_fresh:
            self._out = zlib.compressobj(1, zlib.DEFLATED, -self.out_bits)
        return (self._out.compress(payload) + self._out.flush(zlib.Z_SYNC_FLUSH))[:-len(_TAIL)]

    def decompress(self, payload: bytes) -> bytes:
        if self._in is None or self.in_fresh:
            self._in = zlib.decompressobj(-self.in_bits)
        return self._in.decompress(payload + _TAIL)


@dataclass(slots=True)
class Agreement:
    """The parameters of one offer or answer, by name; a parameter without a value is there with ''."""

    parameters: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Agreement | None:
        """Of an extension in a Sec-WebSocket-Extensions field; None: it is not permessage-deflate."""
        name, *parts = (part.strip() for part in text.split(";"))
        if name != "permessage-deflate":
            return None
        pairs = (part.partition("=") for part in parts)
        return cls({key.strip(): value.strip().strip('"') for key, _, value in pairs})

    def __str__(self) -> str:
        return "; ".join(["permessage-deflate",
                          *(f"{key}={value}" if value else key for key, value in self.parameters.items())])

    def seen_from(self, *, client: bool) -> Deflate:
        ours, theirs = ("client", "server") if client else ("server", "client")

        def bits(side: str) -> int:
            return int(self.parameters.get(f"{side}_max_window_bits") or 15)

        return Deflate(bits(ours), bits(theirs), f"{ours}_no_context_takeover" in self.parameters,
                       f"{theirs}_no_context_takeover" in self.parameters)


class Peer:
    """`client` masks what it sends and expects no masks, a server the other way round."""

    def __init__(self, streams: Streams, *, client: bool) -> None:
        self._reader, self._writer = streams
        self.client = client
        self.deflate: Deflate | None = None
        self.ended = False  # the other side has closed the TCP connection
        self.log: list[str] = []

    # the opening handshake, RFC 6455 §4

    async def open(self, host: str, offers: str = "") -> None:
        extensions = f"Sec-WebSocket-Extensions: {offers}\r\n" if offers else ""
        self._writer.write((f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n").encode())
        head = await self._head()
        if not head.startswith("HTTP/1.1 101"):
            raise Unmet("101", head)
        if _value(head, "sec-websocket-accept") != _accept(_KEY):
            raise Unmet(_accept(_KEY), head)
        self._agree(_value(head, "sec-websocket-extensions"))

    async def answer(self, accept: str = "") -> None:
        """`accept`: the extension the server takes, whatever was offered."""
        head = await self._head()
        extensions = f"Sec-WebSocket-Extensions: {accept}\r\n" if accept else ""
        self._writer.write(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            f"Sec-WebSocket-Accept: {_accept(_value(head, 'sec-websocket-key'))}\r\n"
                            f"{extensions}\r\n").encode())
        if accept and "permessage-deflate" not in _value(head, "sec-websocket-extensions"):
            raise Unmet("an offer of permessage-deflate", head)
        self._agree(accept)

    # frames

    def frame(self, op: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
        """RFC 6455 §5.2, for any values that fit the fields."""
        first = fin << 7 | rsv << 4 | op
        masked = self.client << 7
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", first, masked | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", first, masked | 126, size)
        else:
            head = struct.pack(">BBQ", first, masked | 127, size)
        return head + (_MASK + mask(payload) if self.client else payload)

    async def send(self, data: bytes, *, chop: int = 0) -> None:
        """`chop`: so many bytes at a time, each handed to the network before the next."""
        try:
            for start in range(0, len(data), chop or len(data) or 1):
                self._writer.write(data[start:start + chop] if chop else data)
                await self._writer.drain()
                if chop:
                    await asyncio.sleep(0)  # let others read it before the next piece
        except OSError:
            pass  # the other side has closed: reading tells

    async def message(self, payload: bytes, *, binary: bool, fragment: int = 0) -> None:
        """A message, compressed when that was agreed, in frames of at most `fragment` bytes."""
        op = Op.BINARY if binary else Op.TEXT
        rsv = 0
        if self.deflate is not None:
            payload, rsv = self.deflate.compress(payload), 4
        size = fragment or max(len(payload), 1)
        parts = [payload[start:start + size] for start in range(0, len(payload), size)] or [b""]
        await self.send(b"".join(
            self.frame(op if number == 0 else Op.CONTINUATION, part, fin=number == len(parts) - 1,
                       rsv=rsv if number == 0 else 0)
            for number, part in enumerate(parts)))

    async def next(self, seconds: float = PATIENCE) -> Event | None:
        """The next message or control frame, None at the end. Raises Unmet after a silence."""
        try:
            async with asyncio.timeout(seconds):
                event = await self._next()
        except TimeoutError:
            raise Unmet("a frame or the end", f"{self.seen()}, then {seconds:g} s of silence") from None
        self.log.append(str(event) if event else "end")
        return event

    def seen(self) -> str:
        return ", ".join(self.log) or "nothing"

    async def aclose(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._writer.wait_closed()
        except OSError:
            pass  # it was reset

    async def _next(self) -> Event | None:
        parts: list[bytes] = []
        op, compressed = Op.CONTINUATION, False
        while True:
            try:
                fin, rsv, code, payload = await self._frame()
            except (asyncio.IncompleteReadError, OSError):
                self.ended = True
                return None
            if code >= Op.CLOSE:
                return Event(Op(code), payload)
            if not parts:
                op, compressed = Op(code), bool(rsv & 4)
            parts.append(payload)
            if fin:
                whole = b"".join(parts)
                return Event(op, self._inflated(whole) if compressed else whole)

    def _inflated(self, payload: bytes) -> bytes:
        if self.deflate is None:
            raise Unmet("no compressed message: that was not agreed", self.seen())
        try:
            return self.deflate.decompress(payload)
        except zlib.error as exc:
            raise Unmet("a message compressed as agreed", exc) from None

    async def _frame(self) -> tuple[bool, int, int, bytes]:
        first, second = await self._reader.readexactly(2)
        size = second & 127
        if size == 126:
            size = int.from_bytes(await self._reader.readexactly(2))
        elif size == 127:
            size = int.from_bytes(await self._reader.readexactly(8))
        if bool(second & 128) is self.client:
            raise Unmet("masks from clients only", f"a frame with first byte {first:#x}")
        key = b"" if self.client else await self._reader.readexactly(4)
        payload = await self._reader.readexactly(size)
        return bool(first & 128), first >> 4 & 7, first & 15, mask(payload, key) if key else payload

    async def _head(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")

    def _agree(self, extensions: str) -> None:
        agreement = Agreement.read(extensions) if extensions else None
        self.deflate = agreement.seen_from(client=self.client) if agreement else None


def mask(payload: bytes, key: bytes = _MASK) -> bytes:
    """RFC 6455 §5.3, as one number."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(size)


def _accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def _value(head: str, name: str) -> str:
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""
