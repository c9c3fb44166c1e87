"""Open and close connections to servers: hooks, name, dial; TLS is in server_tls.py.

In: a `Target`, the client it is for, and the `Server` object that hooks see. Out: a `Stream` ready for the first
request, or one `UpstreamError` that says what failed and what to do about it. It does not know what will be sent:
reuse is the pool's affair (upstream.py), retrying the exchange's.

Order (docs/addons.md): `server_connect`, then `server_connect_error`, or `server_connected` followed for TLS by
`tls_start_server` and `tls_established_server` or `tls_failed_server`. Whatever was connected ends with
`server_disconnected`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rulesproxy.addons.hooks import Hook
from rulesproxy.model.connection import Client, ConnectionState, Server, ServerConnectionHookData
from rulesproxy.model.names import InvalidHost, canonical_host, is_ip
from rulesproxy.net.dial import DialError, dial
from rulesproxy.net.resolve import ResolveError
from rulesproxy.net.stream import Stream
from rulesproxy.proxy.server_tls import TlsEstablishedServerHook, TlsFailedServerHook, TlsStartServerHook, start_tls
from rulesproxy.proxy.target import Target, UpstreamError, failure_status, place

if TYPE_CHECKING:
    from rulesproxy.proxy.core import Core

__all__ = [
    "Connector",
    "ServerConnectErrorHook",
    "ServerConnectHook",
    "ServerConnectedHook",
    "ServerDisconnectedHook",
    "Target",
    "TlsEstablishedServerHook",
    "TlsFailedServerHook",
    "TlsStartServerHook",
    "UpstreamError",
]


@dataclass(slots=True)
class ServerConnectHook(Hook):
    """Before dialling: `data.server.address` redirects, `data.server.error` prevents."""

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
        stream = await self._connect_tcp(client, server)
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

    async def _connect_tcp(self, client: Client, server: Server) -> Stream:
        addons = self._addons
        try:
            if addons.active(ServerConnectHook):
                await addons.fire(ServerConnectHook(ServerConnectionHookData(server, client)))
                if server.error:
                    raise UpstreamError(server.error, title="Connection refused by an addon")
            return await self._dial(client, server)
        except BaseException as exc:
            if not server.error:
                server.error = str(exc) or "cancelled"
            server.timestamp_end = time.time()
            if addons.active(ServerConnectErrorHook):
                await addons.fire(ServerConnectErrorHook(ServerConnectionHookData(server, client)))
            raise

    async def _dial(self, client: Client, server: Server) -> Stream:
        if server.address is None:
            raise UpstreamError("no server address is known for this request")
        host, port = server.address
        addresses = await self._addresses(client, host, port)
        server.timestamp_start = time.time()
        try:
            stream = await dial(addresses, port, timeout=self._core.settings.connect_timeout)
        except DialError as exc:
            # The reason names addresses; whoever asked for a name wants to read that too.
            message = str(exc) if is_ip(host) else f"{place(server.address)}: {exc}"
            raise UpstreamError(message, failure_status(exc)) from exc
        server.peername, server.sockname = stream.peername, stream.sockname
        server.timestamp_tcp_setup = time.time()
        server.state = ConnectionState.OPEN
        return stream

    async def _addresses(self, client: Client, host: str, port: int) -> tuple[str, ...]:
        """Where a host is: rules first, then the resolver. Never an address of this proxy itself."""
        try:
            name = canonical_host(host)
        except InvalidHost as exc:
            raise UpstreamError(str(exc), title="Not a host name") from None
        if is_ip(name):
            found: tuple[str, ...] = (name,)
        else:
            spoofed, name = self._spoofed(client, name)
            # A spoofed answer that is this proxy serves clients only (rule-language 3.3).
            found = self._without_own(spoofed, port) or await self._looked_up(name)
        usable = self._without_own(found, port)
        if not usable:
            raise UpstreamError(f"{place((host, port))} is this proxy itself", title="Request loop",
                                hint="The request would come back here for ever. Point it at another server.")
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
