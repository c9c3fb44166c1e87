"""An origin for one case: the first connection is the case's to play, later ones are closed at once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from tests.conformance.reach import Streams

Result = TypeVar("Result")


class RawOrigin(Generic[Result]):
    """`result` is what the script returned or raised."""

    def __init__(self, script: Callable[[Streams], Awaitable[Result]]) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._taken = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self._taken:
                self._taken = True
                await self._play((reader, writer))
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _play(self, streams: Streams) -> None:
        try:
            result = await self._script(streams)
        except Exception as exc:
            if not self.result.done():
                self.result.set_exception(exc)
        else:
            if not self.result.done():
                self.result.set_result(result)

    async def end(self) -> None:
        self.result.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)


@asynccontextmanager
async def raw_origin(script: Callable[[Streams], Awaitable[Result]], *, tls: ssl.SSLContext | None = None,
                     ) -> AsyncIterator[RawOrigin[Result]]:
    origin = RawOrigin(script)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, ssl=tls, limit=1 << 20,
                                        ssl_handshake_timeout=10 if tls else None)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        await origin.end()
        await server.wait_closed()
