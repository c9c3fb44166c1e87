"""Asking other resolvers: the query goes out as it came, the first answer that fits it comes back as it came.

What an attacker who cannot see the traffic has to guess (RFC 5452): the source port, fresh for each try, and the id.
A datagram with another id, another question, or one that is no whole message is dropped, and the wait goes on for
the honest one. A truncated answer is fetched over TCP.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rulesproxy.model.connection import Address
from rulesproxy.model.dns import DNSError, DNSMessage
from rulesproxy.model.dns_types import op_codes, response_codes
from rulesproxy.model.dns_wire import read_labels
from rulesproxy.net.dial import dial
from rulesproxy.net.local import is_local
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.net.tcp import TCPStream
from rulesproxy.net.udp import UdpExchange

RESOLV_CONF = Path("/etc/resolv.conf")
_RECHECK_SECONDS = 5.0
_SERVER_LIMIT = 3  # as the C library has it: resolv.conf(5), MAXNS
#: What one resolver says about itself, not about the name: the next one may know better.
_ASK_ANOTHER = (response_codes.SERVFAIL, response_codes.NOTIMP, response_codes.REFUSED)

log = logging.getLogger("rulesproxy")


class ForwardError(Exception):
    """No resolver gave a usable answer; the text says which were asked and what went wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came and as it reads, with the id of the query. Truncated only if TCP did not help."""

    wire: bytes
    message: DNSMessage
    server: Address


def parse_resolver(text: str) -> Address:
    """`address`, `address:port` or `[address]:port`. Raises ValueError."""
    host, port = text.strip(), "53"
    if host.startswith("["):
        host, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"not a resolver address: {text!r}")
        port = rest[1:] if rest else port
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    try:
        number = int(port)
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"not a resolver address: {text!r}; write 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53") \
            from None
    if not 0 < number < 65536:
        raise ValueError(f"not a port: {port!r} in {text!r}")
    return host, number


def read_resolv_conf(path: Path = RESOLV_CONF) -> list[Address]:
    """The name servers of a resolv.conf; the local machine where it names none, as resolv.conf(5) says."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    servers = []
    for words in map(str.split, lines):
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                servers.append((str(ipaddress.ip_address(words[1])), 53))
            except ValueError:
                log.warning("%s: %r is not an address", path, words[1])
    return servers[:_SERVER_LIMIT] or [("127.0.0.1", 53)]


class Forwarder:
    """Asks the given resolvers in turn, or the system's when none are given (re-read when the file changes)."""

    def __init__(self, resolvers: Sequence[str] = (), *, timeout: float = 5.0, concurrency: int = 512,
                 resolv_conf: Path = RESOLV_CONF) -> None:
        """`timeout` is for the whole exchange, all servers tried. Raises ValueError for a bad resolver."""
        self._fixed = tuple(parse_resolver(text) for text in resolvers)
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._resolv_conf = resolv_conf
        self._system: list[Address] = []
        self._system_stamp: tuple[int, int] | None = None
        self._recheck_at = 0.0
        self._own: set[Address] = set()

    def exclude(self, address: Address) -> None:
        """Never ask `address`, a listener of this process: a query would come back to us for ever."""
        self._own.add(address)

    def include(self, address: Address) -> None:
        """Undo `exclude`: the listener is gone."""
        self._own.discard(address)

    @property
    def servers(self) -> list[Address]:
        """The resolvers that would be asked now, our own listeners included."""
        return list(self._fixed) or self._system_servers()

    async def exchange(self, query: DNSMessage, wire: bytes | None = None, *, tcp: bool = False) -> Answer:
        """Ask for the one question of `query`; `wire` is its packed form where it is at hand, `tcp` how the client
        asked. Raises ForwardError.
        """
        if query.question is None:
            raise ForwardError("a query needs exactly one question")
        servers = self._usable_servers()
        if query.op_code != op_codes.QUERY:
            # An update is meant for one server, and may fail when it comes twice: its sender knows when to try again.
            servers = servers[:1]
        elif len(servers) == 1 and not tcp:
            servers = servers * 2
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise ForwardError("too many queries wait for their answers") from None
        try:
            return await self._ask_in_turn(servers, query, wire or query.packed, deadline, tcp)
        finally:
            self._slots.release()

    async def _ask_in_turn(self, attempts: list[Address], query: DNSMessage, wire: bytes, deadline: float,
                           tcp: bool) -> Answer:
        now = asyncio.get_running_loop().time
        second_best: Answer | None = None
        failures: dict[Address, str] = {}
        for position, server in enumerate(attempts):
            share = (deadline - now()) / (len(attempts) - position)
            if second_best is not None and second_best.server == server:
                continue
            asking = _Asking(server, query, wire)
            try:
                answer = await (asking.tcp_first(share) if tcp else asking.run(share, deadline))
            except OSError as exc:
                failures[server] = asking.reason or _reason(exc)
                continue
            if answer.message.response_code not in _ASK_ANOTHER:
                return answer
            second_best = second_best or answer
        if second_best is not None:
            return second_best
        raise ForwardError("; ".join(f"{_show(server)}: {reason}" for server, reason in failures.items()))

    # --- which servers ---------------------------------------------------------------------------------------

    def _usable_servers(self) -> list[Address]:
        servers = self.servers
        if not self._own:
            return servers
        usable = [server for server in servers if not self._is_own(server)]
        if not usable:
            raise ForwardError(f"the resolver {_show(servers[0])} is this proxy itself; "
                               "name another with --set resolvers=ADDRESS")
        return usable

    def _is_own(self, server: Address) -> bool:
        host, port = server
        return any(own_port == port and (own == host or ((_is_wildcard(own) or _is_wildcard(host)) and is_local(host)))
                   for own, own_port in self._own)

    def _system_servers(self) -> list[Address]:
        now = asyncio.get_running_loop().time()
        if now >= self._recheck_at or not self._system:
            self._recheck_at = now + _RECHECK_SECONDS
            try:
                status = self._resolv_conf.stat()
                stamp = status.st_mtime_ns, status.st_ino
            except OSError:
                stamp = None
            if stamp != self._system_stamp or not self._system:
                self._system_stamp = stamp
                self._system = read_resolv_conf(self._resolv_conf)
        return list(self._system)


class _Asking:
    """One query to one server. `reason` says why an answer that did arrive was not taken."""

    __slots__ = ("_id", "_query", "_question", "_server", "_wire", "reason")

    def __init__(self, server: Address, query: DNSMessage, wire: bytes) -> None:
        self._server = server
        self._query = query
        self._id = secrets.token_bytes(2)
        self._wire = self._id + wire[2:]
        self._question = wire[12:read_labels(wire, 12)[1] + 4]
        self.reason = ""

    async def run(self, seconds: float, deadline: float) -> Answer:
        """UDP for `seconds`, and then, when TCP is needed, until `deadline`. Raises OSError (also TimeoutError)."""
        async with asyncio.timeout(seconds):
            answer = await self._over_udp()
        if not answer.message.truncation:
            return answer
        try:
            async with asyncio.timeout_at(deadline):
                return await self._over_tcp()
        except OSError as exc:
            log.debug("dns: %s over TCP: %s", _show(self._server), self.reason or _reason(exc))
            return answer  # better than nothing, and it says that it is cut

    async def tcp_first(self, seconds: float) -> Answer:
        """RFC 5625 §4.4.1: over TCP as it came, over UDP only where nobody speaks TCP. Raises OSError."""
        end = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(end):
                return await self._over_tcp(seconds / 2)
        except OSError as exc:
            log.debug("dns: %s over TCP: %s", _show(self._server), self.reason or _reason(exc))
            if self._query.op_code != op_codes.QUERY or asyncio.get_running_loop().time() >= end:
                raise  # an update may have been carried out; and slow is not silent
        async with asyncio.timeout_at(end):
            return await self._over_udp()

    async def _over_udp(self) -> Answer:
        with UdpExchange(self._server) as exchange:
            exchange.send(self._wire)
            while True:
                answer = self._accept(await exchange.receive())
                if answer is not None:
                    return answer

    async def _over_tcp(self, connect_seconds: float | None = None) -> Answer:
        async with asyncio.timeout(connect_seconds):
            stream = await dial([self._server[0]], self._server[1])
        try:
            # RFC 7766 §8: length and message in one write
            await stream.write(len(self._wire).to_bytes(2, "big") + self._wire)
            answer = self._accept(await _read_frame(stream))
        finally:
            stream.abort()
        if answer is None:
            raise ConnectionClosed(self.reason)
        return answer

    def _accept(self, data: bytes) -> Answer | None:
        """The answer, if it is one to this query."""
        if data[:2] != self._id or len(data) < 12 or not data[2] & 0x80:
            self.reason = "an answer to something else"
            return None
        data = self._in_the_case_asked(data)
        wire = self._query.id.to_bytes(2, "big") + data[2:]
        try:
            message = DNSMessage.unpack(wire)
        except DNSError as exc:
            self.reason = f"a malformed answer: {exc}"
            # Some servers cut a message where the datagram ends instead of between records.
            if data[2] & 0x02 and data[12:].startswith(self._question):
                message = self._query.succeed().truncated()
                return Answer(message.packed, message, self._server)
            return None
        if not self._fits(message):
            self.reason = "an answer to another question"
            return None
        return Answer(wire, message, self._server)

    def _in_the_case_asked(self, data: bytes) -> bytes:
        """Clients that vary the case of a name against forged answers look for it in the answer; not all servers
        repeat it."""
        asked, end = self._question, 12 + len(self._question)
        answered = data[12:end]
        if answered == asked or answered[:-4].lower() != asked[:-4].lower() or answered[-4:] != asked[-4:]:
            return data
        return data[:12] + asked + data[end:]

    def _fits(self, message: DNSMessage) -> bool:
        if message.op_code != self._query.op_code:
            return False
        asked, answered = self._query.question, message.question
        if message.questions:
            return asked is not None and answered is not None and asked.key == answered.key
        # RFC 2136 §3.8: an answer to UPDATE may be a header alone. So is that of a server that gave up before reading.
        return message.op_code != op_codes.QUERY or message.response_code in (response_codes.FORMERR, *_ASK_ANOTHER)


async def _read_frame(stream: TCPStream) -> bytes:
    size = int.from_bytes(await _read_exactly(stream, 2), "big")
    return await _read_exactly(stream, size)


async def _read_exactly(stream: TCPStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await stream.read(size - len(data))
        if not piece:
            raise ConnectionClosed("the server closed the connection")
        data += piece
    return data


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _show(server: Address) -> str:
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror.lower()
    return str(exc)
