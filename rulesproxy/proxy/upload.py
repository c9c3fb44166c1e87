"""A request body on its way to the origin while the answer may already come.

A task of its own, and only for bodies that are not complete when the request is sent on. When it fails on the
client's side it cuts the origin's connection, so whoever waits for the answer there wakes up and asks `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rulesproxy.codecs.http1 import EndOfBody
from rulesproxy.proxy.bodies import Pump
from rulesproxy.proxy.sides import ClientSide, OriginSide, StaleConnection
from rulesproxy.proxy.watchdog import Watchdog


class Upload:
    """`finish` is awaited with the pump and the end of the body: it fires the hook and sends that end on."""

    __slots__ = ("_client", "_finish", "_origin", "_pump", "_task", "complete", "error")

    def __init__(self, client: ClientSide, origin: OriginSide, pump: Pump,
                 finish: Callable[[Pump, EndOfBody], Awaitable[None]]) -> None:
        self._client = client
        self._origin = origin
        self._pump = pump
        self._finish = finish
        #: Why it failed; the origin closing its side is not a failure: its answer, or the lack of one, is the news.
        self.error: Exception | None = None
        self.complete = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def settle(self) -> None:
        """Wait until the body went through or failed."""
        await asyncio.wait((self._task,))

    async def cancel(self) -> None:
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        client, origin = self._client, self._origin
        before = client.reading
        watchdog = client.reading = origin.writing = Watchdog()
        try:
            await self._finish(self._pump, await self._pump.run(client))
            self.complete = True
        except StaleConnection:
            pass  # the origin wants no more of it; see `error`
        except Exception as exc:
            self.error = exc
            origin.abort()
        finally:
            watchdog.close()
            client.reading = before
