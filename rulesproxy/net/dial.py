"""`dial`: one TCP connection to whichever of a host's addresses answers first (happy eyeballs, RFC 8305)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from itertools import chain, zip_longest

from rulesproxy.net.tcp import TCPStream

#: RFC 8305 §8, Connection Attempt Delay.
STAGGER_SECONDS = 0.25
CONNECT_SECONDS = 10.0


class DialError(OSError):
    """No connection; the message names each address and its reason."""


async def dial(addresses: Sequence[str], port: int, *, timeout: float = CONNECT_SECONDS) -> TCPStream:
    """Connect to the first of the literal IP `addresses` that accepts; `timeout` is for all of them together.

    Raises DialError, or ValueError when there is no address.
    """
    if not addresses:
        raise ValueError("no address to dial")
    attempts = _Attempts(_interleaved(addresses), port)
    try:
        async with asyncio.timeout(timeout):
            return await attempts.race()
    except TimeoutError:
        raise DialError(attempts.report(f"timed out after {timeout:g} s")) from None
    finally:
        attempts.end()


class _Attempts:
    """The attempts of one `dial`: the next starts when one fails, or after the stagger."""

    def __init__(self, addresses: list[str], port: int) -> None:
        self._addresses = addresses
        self._port = port
        self._reasons: dict[str, str] = {}
        self._tasks: dict[asyncio.Task[TCPStream], str] = {}

    async def race(self) -> TCPStream:
        waiting = list(reversed(self._addresses))
        while waiting or self._tasks:
            if waiting:
                self._start(waiting.pop())
            done, _ = await asyncio.wait(self._tasks, timeout=STAGGER_SECONDS if waiting else None,
                                         return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    del self._tasks[task]
                    return task.result()
                self._reasons[self._tasks.pop(task)] = _reason(error)
        raise DialError(self.report(""))

    def report(self, unfinished: str) -> str:
        """Each tried address with its reason; `unfinished` is the reason of those still under way."""
        reasons = self._reasons | dict.fromkeys(self._tasks.values(), unfinished)
        return "; ".join(f"{_authority(address, self._port)}: {reasons[address]}"
                         for address in self._addresses if address in reasons)

    def end(self) -> None:
        """Drop the attempts that lost, also one that connected in the same instant."""
        for task in self._tasks:
            task.cancel()
            task.add_done_callback(_drop)

    def _start(self, address: str) -> None:
        self._tasks[asyncio.create_task(_connect(address, self._port))] = address


async def _connect(address: str, port: int) -> TCPStream:
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: TCPStream(loop), address, port)
    return stream


def _drop(task: asyncio.Task[TCPStream]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _interleaved(addresses: Sequence[str]) -> list[str]:
    """Families alternate, the first address's family first (RFC 8305 §4); duplicates go."""
    unique = list(dict.fromkeys(addresses))
    first_is_v6 = ":" in unique[0]
    first = [address for address in unique if (":" in address) == first_is_v6]
    second = [address for address in unique if (":" in address) != first_is_v6]
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]


_REASONS = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.ETIMEDOUT: "timed out",
    errno.EMFILE: "too many open files here",
}


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return _REASONS.get(error.errno) or os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def _authority(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
