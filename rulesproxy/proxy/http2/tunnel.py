"""`Http2Tunnel`: a `Stream` whose bytes are the DATA frames of one HTTP/2 stream (RFC 9113 §8.5, RFC 8441)."""

from __future__ import annotations

from h2.errors import ErrorCodes

from rulesproxy.codecs.http1 import EndOfBody
from rulesproxy.model.connection import Address
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.proxy.http2.stream import Http2Stream, StreamFailed


class Http2Tunnel:
    """What is read has been taken on: the peer may send as much again. END_STREAM is the half-close, RST_STREAM the
    reset.
    """

    __slots__ = ("_closed", "_stream", "peername", "sockname")

    def __init__(self, stream: Http2Stream) -> None:
        medium = stream.connection.stream
        self.peername: Address | None = medium.peername
        self.sockname: Address | None = medium.sockname
        self._stream = stream
        self._closed = False

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

    async def write(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionClosed("the stream was closed here")
        if data:
            try:
                await self._stream.send_data(data, end=False)
            except StreamFailed as exc:
                raise ConnectionClosed(f"the peer ended the tunnel: {exc}") from exc

    async def write_eof(self) -> None:
        stream = self._stream
        if self._closed or stream.ended_here or stream.failure is not None:
            return
        try:
            await stream.send_data(b"", end=True)
        except StreamFailed:  # the next read tells
            return

    async def aclose(self) -> None:
        if self._closed:
            return
        await self.write_eof()
        self._closed = True
        if self._stream.end is None:  # what still comes is not wanted (RFC 9113 §8.1)
            self._stream.reset(ErrorCodes.NO_ERROR)
        self._stream.wake_reader()

    def abort(self) -> None:
        self._closed = True
        self._stream.reset(ErrorCodes.CONNECT_ERROR)  # RFC 9113 §8.5
        self._stream.wake_reader()

    @property
    def pending(self) -> bool:
        return self._stream.pending

    @property
    def closing(self) -> bool:
        return self._closed or self._stream.failure is not None or self._stream.end is not None

    def __repr__(self) -> str:
        return f"<Http2Tunnel {self._stream.id} {'closed' if self._closed else 'open'}>"
