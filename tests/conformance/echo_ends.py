"""The far end of a WebSocket case: a server or a client of the `websockets` library that sends back what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.conformance.reach import SECONDS
from tests.conformance.verdicts import Unmet

_ALWAYS_ABLE = [ClientPerMessageDeflateFactory(client_max_window_bits=True)]


async def _echo(connection: ServerConnection | ClientConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # the case is over


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """The port of a server for messages of any size, which takes any compression."""
    async with serve(_echo, "127.0.0.1", 0, max_size=None, ping_interval=None, close_timeout=SECONDS) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def echo_client(url: str, proxy: str | None, *, compress: bool) -> None:
    """Returns when the connection is over, however it ends."""
    try:
        async with connect(url, proxy=proxy, max_size=None, ping_interval=None, close_timeout=SECONDS,
                           compression=None, extensions=_ALWAYS_ABLE if compress else None) as connection:
            await _echo(connection)
    except (WebSocketException, OSError, EOFError):
        pass  # the proxy or the case refused or cut


@asynccontextmanager
async def running_client(url: str, proxy: str | None, *, compress: bool) -> AsyncIterator[None]:
    """An echo client in the background. It must be over soon after the case: whoever is in between told it so."""
    task = asyncio.create_task(echo_client(url, proxy, compress=compress))
    try:
        yield
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.shield(task)
        except TimeoutError:
            raise Unmet("an end of the client's connection", "an open one") from None
    finally:
        task.cancel()
        await asyncio.wait([task])
