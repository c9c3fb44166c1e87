"""One HTTP/2 message on its way out."""

from __future__ import annotations

from typing import Protocol

from rulesproxy.codecs.http1 import safe_trailers
from rulesproxy.codecs.http2 import trailer_block
from rulesproxy.model.headers import Field, Fields


class _Write(Protocol):
    """What a side does with the parts: `block` opens the message, `trailers` and `end` end it."""

    async def __call__(self, block: list[Field] | None, pieces: list[bytes], trailers: list[Field], *,
                       end: bool) -> None: ...


class Http2Writer:
    """A `MessageWriter` that hands a side the head with the first pieces."""

    __slots__ = ("_block", "_write")

    def __init__(self, block: list[Field], write: _Write) -> None:
        self._block: list[Field] | None = block
        self._write = write

    async def send(self, pieces: list[bytes]) -> None:
        await self._write(self._take_block(), pieces, [], end=False)

    async def finish(self, pieces: list[bytes], trailers: Fields) -> None:
        block = trailer_block(safe_trailers(trailers)) if trailers else []
        await self._write(self._take_block(), pieces, block, end=True)

    def _take_block(self) -> list[Field] | None:
        block, self._block = self._block, None
        return block
