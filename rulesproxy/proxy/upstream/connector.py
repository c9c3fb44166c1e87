"""Open and close connections to servers: hooks, name, dial; TLS is in tls.py, other proxies are in via.py.

In: a `Target`, the client it is for, and the `Server` object that hooks see. Out: a `Stream` ready for the first
request, or one `UpstreamError` that says what failed and what to do about it. It does not know what will be sent:
reuse is the pool's affair (pool.py), retrying the exchange's.

Order (docs/addons.md): `server_connect`, then `server_connect_error`, or `server_connected` followed for TLS by
`tls_start_server` and `tls_established_server` or `tls_failed_server`. Whatever was connected ends with
`server_disconnected`. Through an HTTP proxy `http_connect_upstream` comes after `server_connect`; the connection counts
as made when that proxy has made its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rulesproxy.addons.hooks import Hook
from rulesproxy.model.connection import Address, Client, ConnectionState, Server, ServerConnectionHookData
from rulesproxy.model.effects import Via
from rulesproxy.model.names import InvalidHost, canonical_host, is_ip
from rulesproxy.model.policy import NameAnswer
from rulesproxy.net.dial import DialError, dial
from rulesproxy.net.resolve import ResolveError
from rulesproxy.net.stream import Stream
from rulesproxy.proxy.upstream.target import Target, UpstreamError, failure_status, place
from rulesproxy.proxy.upstream.tls import start_tls
from rulesproxy.proxy.upstream.via import after_hook, open_way, secure, seen

if TYPE_CHECKING:
    from rulesproxy.proxy.core import Core

@dataclass(slots=True)
class ServerConnectHook(Hook):
    """Before dialling: `data.server.address` redirects, `data.server.via` (`("http", ("proxy", 3128))` or None) leads
    through a proxy or past it, `data.server.error` prevents."""

    data: ServerConnectionHookData


@dataclass(slots=True)
class ServerConnectedHook(Hook):
    """TCP is up; TLS, if any, has not started."""

    data: ServerConnectionHookData


@dataclass(slots=True)
class ServerConnectErrorHook(Hook):
    """The connection was prevented or failed: `data.server.error` says why."""

    data: ServerConnectionHookData


@dataclass(slots=True)
class ServerDisconnectedHook(Hook):
    """A connection that had been made is closed."""

    data: ServerConnectionHookData


class Connector:
    """Makes connections and ends them, firing the hooks of both."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._addons = core.addons

    async def connect(self, client: Client, server: Server, target: Target) -> Stream:
        """Connect `server`, whose address says where to, and do TLS when the target wants it. Raises UpstreamError."""
        stream = await self._connect_tcp(client, server, target)
        try:
            if self._addons.active(ServerConnectedHook):
                await self._addons.fire(ServerConnectedHook(ServerConnectionHookData(server, client)))
            if target.tls:
                return await start_tls(self._core, client, server, stream, target)
        except BaseException:
            stream.abort()
            await self.disconnect(client, server, stream)
            raise
        return stream

    def placed(self, client: Client, target: Target) -> Target:
        """The target as a key: with what rules answer for the names that are dialled. Through a proxy that takes
        requests for any server, all of those are one target."""
        via = target.via
        spoofed = self._answer(client, target.host)
        if via is None:  # rules without a say, the common case, cost no second target
            return target if spoofed is None else target._replace(spoofed=spoofed)
        via_spoofed = self._answer(client, via.host)
        # Not where the proxy would look a name up elsewhere; what is refused here it must not be asked for.
        absolute_form = (target.absolute_form and spoofed is None
                         and not self._core.is_own_address(target.host, target.port))
        target = target._replace(spoofed=spoofed, via_spoofed=via_spoofed, absolute_form=absolute_form)
        if absolute_form and not self._addons.active(ServerConnectHook):
            return target._replace(host=via.host, port=via.port)
        return target

    def _answer(self, client: Client, host: str) -> NameAnswer | None:
        return None if is_ip(host) else self._addons.policy.resolve(host, client)

    async def disconnect(self, client: Client, server: Server, stream: Stream) -> None:
        """Close a connection made here; `server_disconnected` fires once it is closed."""
        if server.state is ConnectionState.CLOSED:
            return
        server.state = ConnectionState.CLOSED
        server.timestamp_end = time.time()
        try:
            await stream.aclose()
        finally:
            if self._addons.active(ServerDisconnectedHook):
                await self._addons.fire(ServerDisconnectedHook(ServerConnectionHookData(server, client)))

    # --- TCP --------------------------------------------------------------------------------------------------

    async def _connect_tcp(self, client: Client, server: Server, target: Target) -> Stream:
        addons = self._addons
        via = target.via
        try:
            server.via = seen(via)
            if addons.active(ServerConnectHook):
                await addons.fire(ServerConnectHook(ServerConnectionHookData(server, client)))
                if server.error:
                    raise UpstreamError(server.error, title="Connection refused by an addon")
                via = after_hook(server, via)
            if server.address is None:
                raise UpstreamError("no server address is known for this request")
            if via is None:
                stream = await self._dial(client, server, server.address)
            else:
                stream = await self._go_through(client, server, target, via, server.address)
            server.state = ConnectionState.OPEN
            return stream
        except BaseException as exc:
            if not server.error:
                server.error = str(exc) or "cancelled"
            server.timestamp_end = time.time()
            if addons.active(ServerConnectErrorHook):
                await addons.fire(ServerConnectErrorHook(ServerConnectionHookData(server, client)))
            raise

    async def _go_through(self, client: Client, server: Server, target: Target, via: Via, to: Address) -> Stream:
        """A connection made by another proxy, or one to that proxy if it forwards what is sent."""
        tunnel = not (target.absolute_form and via == target.via)
        where = self._behind(client, to) if tunnel else to
        try:
            stream = await self._dial(client, server, (via.host, via.port))
        except UpstreamError as exc:
            raise UpstreamError(f"upstream proxy {via}: {exc.message}", exc.status, title=exc.title, hint=exc.hint,
                                rule=exc.rule or via.rule) from exc
        try:
            if via.scheme == "https":
                stream = await secure(self._core, stream, via)
            return await open_way(self._core, client, server, stream, via, where) if tunnel else stream
        except BaseException:
            stream.abort()
            await stream.aclose()
            raise

    def _behind(self, client: Client, to: Address) -> Address:
        """What the proxy is asked for: a name is its to look up, unless rules say where it is."""
        host, port = to
        name = _canonical(host)
        if not is_ip(name):
            spoofed, name = self._spoofed(client, name)
            name = next(iter(self._without_own(spoofed, port)), name)
        if self._core.is_own_address(name, port):
            raise _loop(to)
        return name, port

    async def _dial(self, client: Client, server: Server, address: Address) -> Stream:
        host, port = address
        addresses = await self.addresses(client, host, port)
        server.timestamp_start = time.time()
        try:
            stream = await dial(addresses, port, timeout=self._core.settings.connect_timeout)
        except DialError as exc:
            # The reason names addresses; whoever asked for a name wants to read that too.
            message = str(exc) if is_ip(host) else f"{place(address)}: {exc}"
            raise UpstreamError(message, failure_status(exc)) from exc
        server.peername, server.sockname = stream.peername, stream.sockname
        server.timestamp_tcp_setup = time.time()
        return stream

    async def addresses(self, client: Client, host: str, port: int) -> tuple[str, ...]:
        """Where a host is: rules first, then the resolver. Never an address of this proxy itself."""
        name = _canonical(host)
        if is_ip(name):
            found: tuple[str, ...] = (name,)
        else:
            spoofed, name = self._spoofed(client, name)
            # A spoofed answer that is this proxy serves clients only (rule-language 3.3).
            found = self._without_own(spoofed, port) or await self._looked_up(name)
        usable = self._without_own(found, port)
        if not usable:
            raise _loop((host, port))
        return usable

    def _without_own(self, addresses: tuple[str, ...], port: int) -> tuple[str, ...]:
        return tuple(address for address in addresses if not self._core.is_own_address(address, port))

    def _spoofed(self, client: Client, name: str) -> tuple[tuple[str, ...], str]:
        """The addresses that rules give a name, and the name to look up where they give none."""
        answer = self._addons.policy.resolve(name, client)
        if answer is None:
            return (), name
        if answer.alias:
            return (), answer.alias
        if answer.rcode != "NOERROR" or not answer.addresses:
            outcome = answer.rcode if answer.rcode != "NOERROR" else "no address"
            raise UpstreamError(f"the name {name} is answered with {outcome} by a rule", title="Name not resolved",
                                rule=answer.rule)
        return answer.addresses, name

    async def _looked_up(self, name: str) -> tuple[str, ...]:
        try:
            return await self._core.resolver.addresses(name)
        except ResolveError as exc:
            raise UpstreamError(str(exc), title="Name not resolved") from exc


def _canonical(host: str) -> str:
    try:
        return canonical_host(host)
    except InvalidHost as exc:
        raise UpstreamError(str(exc), title="Not a host name") from None


def _loop(address: Address) -> UpstreamError:
    return UpstreamError(f"{place(address)} is this proxy itself", title="Request loop",
                         hint="The request would come back here for ever. Point it at another server.")
