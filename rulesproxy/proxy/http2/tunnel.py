"""`Http2Tunnel`: a `Stream` whose bytes are the DATA frames of one HTTP/2 stream (RFC 9113 §8.5, RFC 8441)."""

from __future__ import annotations

import asyncio

from h2.errors import ErrorCodes

from rulesproxy.codecs.http1 import EndOfBody
from rulesproxy.model.connection import Address
from rulesproxy.net.buffer import ChunkBuffer
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.proxy.http2.stream import Http2Stream, StreamFailed

#: Bytes that may wait for the stream's window before a writer waits too.
HIGH_WATER = 64 * 1024
#: How long `aclose` waits for a peer that does not take the last bytes.
FLUSH_SECONDS = 5.0
_PIECE = 64 * 1024


class Http2Tunnel:
    """What is read has been taken on: the peer may send as much again. END_STREAM is the half-close, RST_STREAM the
    reset. As streams must, it accepts all bytes of a `write` before it waits: what finds no window waits here, for a
    task that lives as long as something waits.
    """

    __slots__ = ("_closed", "_drained", "_eof", "_flushing", "_stream", "_unsent", "peername", "sockname")

    def __init__(self, stream: Http2Stream) -> None:
        medium = stream.connection.stream
        self.peername: Address | None = medium.peername
        self.sockname: Address | None = medium.sockname
        self._stream = stream
        self._closed = False
        self._eof = False  # nothing more is written
        self._unsent = ChunkBuffer()
        self._flushing: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()

    # --- reading ----------------------------------------------------------------------------------------------

    async def read(self, limit: int = 65536) -> bytes:
        stream = self._stream
        while True:
            if self._closed:
                return b""
            try:
                piece = stream.take()
            except StreamFailed as exc:
                raise ConnectionClosed(f"the peer ended the tunnel: {exc}") from exc
            if isinstance(piece, EndOfBody):
                return b""
            if piece is not None:
                if len(piece) > limit:
                    stream.untake(piece[limit:])
                    piece = piece[:limit]
                stream.consumed()
                return piece
            await stream.arrival()

    @property
    def pending(self) -> bool:
        return self._stream.pending

    # --- writing ----------------------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        if self._eof:
            raise ConnectionClosed("the stream was closed here")
        if not data:
            return
        try:
            sent = 0 if self._unsent.size else self._stream.send_now(data)
        except StreamFailed as exc:
            raise ConnectionClosed(f"the peer ended the tunnel: {exc}") from exc
        if sent < len(data):
            self._unsent.append(data[sent:])
            self._flush()
            if self._unsent.size > HIGH_WATER:
                await self._room()

    async def _room(self) -> None:
        self._drained.clear()
        await self._drained.wait()
        if self._stream.failure is not None:
            raise ConnectionClosed(f"the peer ended the tunnel: {self._stream.failure}")

    def _flush(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        unsent, stream = self._unsent, self._stream
        try:
            while unsent.size:
                await stream.send_data(unsent.take(_PIECE), end=False)
                if unsent.size <= HIGH_WATER:
                    self._drained.set()
            if self._eof:
                await stream.send_data(b"", end=True)
        except StreamFailed:  # whoever writes next is told
            unsent.clear()
        finally:
            self._flushing = None
            self._drained.set()

    async def write_eof(self) -> None:
        if not self._eof:
            self._eof = True
            if self._stream.failure is None:
                self._flush()

    # --- the end ----------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        await self.write_eof()
        self._closed = True
        self._stream.wake_reader()
        if self._flushing is not None:
            await asyncio.wait((self._flushing,), timeout=FLUSH_SECONDS)
        if not self._stream.ended_here:
            self.abort()
        elif self._stream.end is None:  # what still comes is not wanted (RFC 9113 §8.1)
            self._stream.reset(ErrorCodes.NO_ERROR)

    def abort(self) -> None:
        self._closed = self._eof = True
        self._unsent.clear()
        self._stream.reset(ErrorCodes.CONNECT_ERROR)  # RFC 9113 §8.5
        self._stream.wake_reader()

    @property
    def closing(self) -> bool:
        return self._closed or self._stream.failure is not None or self._stream.end is not None

    def __repr__(self) -> str:
        return f"<Http2Tunnel {self._stream.id} {'closed' if self._closed else 'open'}>"
