"""One HTTP/1 message on its way out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rulesproxy.codecs.http1 import Framing, FramingKind, encode_chunk, encode_last_chunk, safe_trailers
from rulesproxy.model.headers import Fields


class Http1Writer:
    """A `MessageWriter` that frames what it sends."""

    __slots__ = ("_first", "_framing", "_write")

    def __init__(self, first: bytes, framing: Framing, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._first = first
        self._framing = framing
        self._write = write

    async def send(self, pieces: list[bytes]) -> None:
        await self._write(self._encoded(pieces))

    async def finish(self, pieces: list[bytes], trailers: Fields) -> None:
        data = self._encoded(pieces) if pieces else self._first
        if self._framing.kind is FramingKind.CHUNKED:
            data += encode_last_chunk(safe_trailers(trailers) if trailers else ())
        if data:
            await self._write(data)

    def _encoded(self, pieces: list[bytes]) -> bytes:
        first, self._first = self._first, b""
        if pieces and self._framing.kind is FramingKind.CHUNKED:
            pieces = [encode_chunk(pieces[0] if len(pieces) == 1 else b"".join(pieces))]
        if not first:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return b"".join((first, *pieces)) if pieces else first
