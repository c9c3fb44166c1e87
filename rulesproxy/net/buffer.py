"""`ChunkBuffer`: received bytes waiting for a reader, handed out without copying where the chunk fits."""

from __future__ import annotations

from collections import deque


class ChunkBuffer:
    """A queue of byte chunks. `size` is the number of bytes in it."""

    __slots__ = ("_chunks", "_offset", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._offset = 0  # how much of the first chunk is gone: a big chunk is never copied to shorten it
        self.size = 0

    def append(self, data: bytes) -> None:
        if data:
            self._chunks.append(data)
            self.size += len(data)

    def prepend(self, data: bytes) -> None:
        if not data:
            return
        if self._offset:
            self._chunks[0] = self._chunks[0][self._offset:]
            self._offset = 0
        self._chunks.appendleft(data)
        self.size += len(data)

    def take(self, limit: int) -> bytes:
        """The next bytes, at most `limit` and never from two chunks. The buffer must not be empty."""
        chunk = self._chunks[0]
        offset = self._offset
        if len(chunk) - offset <= limit:
            self._chunks.popleft()
            if offset:
                chunk = chunk[offset:]
                self._offset = 0
        else:
            chunk = chunk[offset:offset + limit]
            self._offset = offset + limit
        self.size -= len(chunk)
        return chunk

    def joined(self) -> bytes:
        """Everything in the buffer, which keeps it."""
        if not self._chunks:
            return b""
        if len(self._chunks) > 1 or self._offset:
            whole = b"".join(self._chunks)[self._offset:]
            self.clear()
            self.append(whole)
        return self._chunks[0]

    def clear(self) -> None:
        self._chunks.clear()
        self._offset = 0
        self.size = 0
