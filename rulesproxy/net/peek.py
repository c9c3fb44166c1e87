"""`PeekableStream`: look at what comes next without consuming it."""

from __future__ import annotations

from rulesproxy.net.buffer import ChunkBuffer
from rulesproxy.net.stream import Stream


class PeekableStream:
    """A `Stream` around another, with a buffer in front of its reading side."""

    __slots__ = ("_buffer", "_closed", "inner", "peername", "sockname")

    def __init__(self, inner: Stream) -> None:
        self.inner = inner
        self.peername = inner.peername
        self.sockname = inner.sockname
        self._buffer = ChunkBuffer()
        self._closed = False

    @property
    def buffered(self) -> bytes:
        """What was peeked or put back and is not read yet."""
        return self._buffer.joined()

    async def peek(self, minimum: int = 1) -> bytes:
        """What comes next: at least `minimum` bytes, fewer only when the peer has finished. Raises ConnectionClosed,
        after which the bytes peeked before are still there to read."""
        buffer = self._buffer
        while buffer.size < minimum:
            data = await self.inner.read()
            if not data or self._closed:
                break
            buffer.append(data)
        return buffer.joined()

    def unread(self, data: bytes) -> None:
        """Put bytes back in front of everything else."""
        if not self._closed:
            self._buffer.prepend(data)

    async def read(self, limit: int = 65536) -> bytes:
        if self._buffer.size:
            return self._buffer.take(limit)
        return await self.inner.read(limit)

    async def write(self, data: bytes) -> None:
        await self.inner.write(data)

    async def write_eof(self) -> None:
        await self.inner.write_eof()

    async def aclose(self) -> None:
        self._discard()
        await self.inner.aclose()

    def abort(self) -> None:
        self._discard()
        self.inner.abort()

    @property
    def pending(self) -> bool:
        return self._buffer.size > 0 or self.inner.pending

    @property
    def closing(self) -> bool:
        return self.inner.closing

    def __repr__(self) -> str:
        return f"<PeekableStream buffered={self._buffer.size} over {self.inner!r}>"

    def _discard(self) -> None:
        self._closed = True
        self._buffer.clear()
