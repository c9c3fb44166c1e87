"""`memory_pair`: two streams joined back to back without a socket, bounded like one."""

from __future__ import annotations

import asyncio

from rulesproxy.model.connection import Address
from rulesproxy.net.buffer import ChunkBuffer
from rulesproxy.net.stream import ConnectionClosed

HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024


class _Pipe:
    """One direction: bytes on their way, and who waits at either end."""

    __slots__ = ("buffer", "drainers", "eof", "reader", "reader_gone", "reset")

    def __init__(self) -> None:
        self.buffer = ChunkBuffer()
        self.reader: asyncio.Future[None] | None = None
        self.drainers: list[asyncio.Future[None]] = []
        self.eof = False  # the writer has finished
        self.reader_gone = False  # nobody will read any more
        self.reset = False  # the writer aborted

    def wake_reader(self) -> None:
        if self.reader is not None and not self.reader.done():
            self.reader.set_result(None)

    def wake_drainers(self) -> None:
        for waiter in self.drainers:
            if not waiter.done():
                waiter.set_result(None)


class MemoryStream:
    """One end of a `memory_pair`."""

    __slots__ = ("_closed", "_incoming", "_outgoing", "peername", "sockname")

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self.peername: Address | None = None
        self.sockname: Address | None = None

    async def read(self, limit: int = 65536) -> bytes:
        pipe = self._incoming
        while not pipe.buffer.size:
            if self._closed or pipe.eof:
                return b""
            if pipe.reset:
                raise ConnectionClosed("connection reset by peer")
            if pipe.reader is not None:
                raise RuntimeError("two tasks read from one stream")
            pipe.reader = asyncio.get_running_loop().create_future()
            try:
                await pipe.reader
            finally:
                pipe.reader = None
        data = pipe.buffer.take(limit)
        if pipe.drainers and pipe.buffer.size <= LOW_WATER:
            pipe.wake_drainers()
        return data

    async def write(self, data: bytes) -> None:
        pipe = self._outgoing
        if self._closed or pipe.eof or pipe.reader_gone:
            raise self._connection_closed()
        pipe.buffer.append(data)
        pipe.wake_reader()
        if pipe.buffer.size > HIGH_WATER:
            await self._drained()

    async def write_eof(self) -> None:
        self._outgoing.eof = True
        self._outgoing.wake_reader()

    async def aclose(self) -> None:
        if not self._closed:
            self._outgoing.eof = True
            self._end()

    def abort(self) -> None:
        if not self._closed:
            self._outgoing.reset = True
            self._outgoing.buffer.clear()
            self._end()

    @property
    def pending(self) -> bool:
        return self._incoming.buffer.size > 0

    @property
    def closing(self) -> bool:
        incoming = self._incoming
        return self._closed or incoming.eof or incoming.reset or self._outgoing.reader_gone

    def __repr__(self) -> str:
        return f"<MemoryStream {'closed' if self._closed else 'open'} buffered={self._incoming.buffer.size}>"

    async def _drained(self) -> None:
        pipe = self._outgoing
        waiter = asyncio.get_running_loop().create_future()
        pipe.drainers.append(waiter)
        try:
            await waiter
        finally:
            pipe.drainers.remove(waiter)
        if self._closed or pipe.reader_gone:
            raise self._connection_closed()

    def _end(self) -> None:
        self._closed = True
        self._incoming.reader_gone = True
        self._incoming.buffer.clear()
        for pipe in (self._incoming, self._outgoing):
            pipe.wake_reader()
            pipe.wake_drainers()

    def _connection_closed(self) -> ConnectionClosed:
        return ConnectionClosed("the stream was closed here" if self._closed or self._outgoing.eof
                                else "the peer closed the stream")


def memory_pair() -> tuple[MemoryStream, MemoryStream]:
    """Two ends: what one writes the other reads. A write that leaves more than `HIGH_WATER` unread waits."""
    one, other = _Pipe(), _Pipe()
    return MemoryStream(one, other), MemoryStream(other, one)
