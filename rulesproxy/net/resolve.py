"""Names to addresses for dialling: through the system's resolver, or through given DNS servers.

Both keep results for a short time and join equal look-ups: a page that opens fifty connections to one host asks once.
A look-up is a task of its own, so a waiter that gives up does not take it away from the others.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from rulesproxy.model.dns import DNSError, DNSMessage
from rulesproxy.model.dns_types import response_codes, types
from rulesproxy.model.names import InvalidHost, canonical_host, is_ip
from rulesproxy.net.dns_forward import Forwarder, ForwardError

LOOKUP_SECONDS = 5.0
KEPT_SECONDS = 5.0
FAILURE_KEPT_SECONDS = 1.0
_TTL_LIMIT = 86_400.0
_KEPT_LIMIT = 4096
_THREADS = 16  # getaddrinfo blocks; a resolver that hangs must not take every thread there is

_LOCALHOST = ("127.0.0.1", "::1")


class ResolveError(OSError):
    """The name has no address, or nobody could be asked. The text names it and says why."""


class Resolver(Protocol):
    async def addresses(self, name: str) -> tuple[str, ...]:
        """The literal addresses of a host name, best first, at least one. Raises ResolveError."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Found:
    addresses: tuple[str, ...]
    seconds: float
    error: str = ""
    until: float = 0.0


class _KeepingResolver:
    """What both resolvers share: literals, keeping, joining. Subclasses look one name up and never raise."""

    def __init__(self) -> None:
        self._kept: dict[str, _Found] = {}
        self._running: dict[str, asyncio.Task[_Found]] = {}
        self._closed = False

    async def addresses(self, name: str) -> tuple[str, ...]:
        try:
            # getaddrinfo stops at a NUL and knows odd spellings of IPv4 such as `0x7f.1`: neither gets there.
            name = canonical_host(name)
        except InvalidHost as exc:
            raise ResolveError(str(exc)) from None
        if is_ip(name):
            return (name,)
        if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 §6.3
            return _LOCALHOST
        found = self._kept.get(name)
        if found is None or found.until <= asyncio.get_running_loop().time():
            found = await self._join(name)
        if found.error:
            raise ResolveError(f"cannot find the address of {name}: {found.error}")
        return found.addresses

    async def _join(self, name: str) -> _Found:
        if self._closed:
            raise ResolveError("the resolver is closed")
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.get_running_loop().create_task(self._look_up_and_keep(name))
            task.add_done_callback(lambda _: self._running.pop(name, None))
        await asyncio.wait({task})  # unlike awaiting the task, this does not cancel it when the waiter is cancelled
        if task.cancelled():
            raise ResolveError("the resolver was closed")
        return task.result()

    async def _look_up_and_keep(self, name: str) -> _Found:
        found = await self._look_up(name)
        until = asyncio.get_running_loop().time() + found.seconds
        found = _Found(found.addresses, found.seconds, found.error, until)
        self._kept.pop(name, None)
        self._kept[name] = found
        if len(self._kept) > _KEPT_LIMIT:
            del self._kept[next(iter(self._kept))]
        return found

    async def _look_up(self, name: str) -> _Found:
        raise AssertionError("subclasses look up")

    async def aclose(self) -> None:
        """End running look-ups; whoever waits for one gets ResolveError."""
        self._closed = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        self._kept.clear()


class SystemResolver(_KeepingResolver):
    """The C library's resolver (hosts file, split DNS and all), in threads of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="rulesproxy-resolve")

    async def _look_up(self, name: str) -> _Found:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await loop.run_in_executor(self._pool, _getaddrinfo, name)
        except TimeoutError:
            return _failure(f"no answer within {LOOKUP_SECONDS:g} s")
        except OSError as exc:
            return _failure((exc.strerror or str(exc)).lower())
        except UnicodeError:  # the idna codec of the standard library has limits of its own
            return _failure("not a name that can be looked up")
        return _Found(found, KEPT_SECONDS) if found else _failure("it has no address")

    async def aclose(self) -> None:
        await super().aclose()
        # Not waited for: a thread inside getaddrinfo cannot be interrupted, idle ones end at once.
        self._pool.shutdown(wait=False, cancel_futures=True)


def _getaddrinfo(name: str) -> tuple[str, ...]:
    results = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in results))


class DnsResolver(_KeepingResolver):
    """Asks DNS servers through a Forwarder, A and AAAA at once, and keeps results as long as their TTL says."""

    def __init__(self, forwarder: Forwarder) -> None:
        super().__init__()
        self._forwarder = forwarder

    async def _look_up(self, name: str) -> _Found:
        results = await asyncio.gather(self._ask(name, types.AAAA), self._ask(name, types.A))
        addresses = tuple(dict.fromkeys(address for found in results for address in found.addresses))
        if addresses:
            return _Found(addresses, min(found.seconds for found in results if found.addresses))
        return next((found for found in results if found.error), _failure("it has no address"))

    async def _ask(self, name: str, type_: int) -> _Found:
        try:
            message = (await self._forwarder.exchange(DNSMessage.make_query(name, type_, udp_size=1232))).message
            if message.response_code != response_codes.NOERROR:
                code = response_codes.to_str(message.response_code)
                return _failure("there is no such name" if code == "NXDOMAIN" else f"the server answers {code}")
            chain = message.chain(name, type_)
            if type_ == types.A:
                addresses = [str(record.ipv4_address) for record in chain if record.type == type_]
            else:
                addresses = [str(record.ipv6_address) for record in chain if record.type == type_]
        except (ForwardError, DNSError) as exc:
            return _failure(str(exc))
        if not addresses:
            return _Found((), FAILURE_KEPT_SECONDS)
        return _Found(tuple(addresses), min(_TTL_LIMIT, *(record.ttl for record in chain)))


def _failure(reason: str) -> _Found:
    return _Found((), FAILURE_KEPT_SECONDS, reason)
