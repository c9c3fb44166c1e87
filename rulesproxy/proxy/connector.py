"""Open and close connections to servers: hooks, name, dial, TLS.

In: a `Target`, the client it is for, and the `Server` object that hooks see. Out: a `Stream` ready for the first
request, or one `UpstreamError` that says what failed and what to do about it. It does not know what will be sent:
reuse is the pool's affair (upstream.py), retrying the exchange's.

Order (docs/addons.md): `server_connect`, then `server_connect_error`, or `server_connected` followed for TLS by
`tls_start_server` and `tls_established_server` or `tls_failed_server`. Whatever was connected ends with
`server_disconnected`.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509

from rulesproxy.addons.hooks import Hook
from rulesproxy.certs.contexts import client_context
from rulesproxy.certs.files import CertificateError
from rulesproxy.model.connection import Address, Client, ConnectionState, Server, ServerConnectionHookData
from rulesproxy.model.names import InvalidHost, authority, canonical_host, is_ip
from rulesproxy.model.policy import NameAnswer
from rulesproxy.model.tls import TlsData
from rulesproxy.net.dial import DialError, dial
from rulesproxy.net.resolve import ResolveError
from rulesproxy.net.stream import ConnectionClosed, Stream
from rulesproxy.net.tls import TLSError, TLSStream

if TYPE_CHECKING:
    from rulesproxy.proxy.core import Core


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


@dataclass(slots=True)
class TlsStartServerHook(Hook):
    """TLS with the server is about to start: `data.ssl_context` may be replaced."""

    data: TlsData


@dataclass(slots=True)
class TlsEstablishedServerHook(Hook):
    """TLS with the server is up, and its certificate was verified unless that is switched off."""

    data: TlsData


@dataclass(slots=True)
class TlsFailedServerHook(Hook):
    """TLS with the server failed: `data.conn.error` says why."""

    data: TlsData


class Target(NamedTuple):
    """What a request needs of a connection: equal targets can share one.

    `host` and `port` are what was asked for, before `server_connect` or a look-up changes where that leads. `sni` is
    the name sent and verified (an address is verified, never sent); None: `host`. `spoofed` is what rules answer for
    the host, which may be different for another client or after an edit.
    """

    host: str
    port: int
    scheme: str = "http"
    sni: str | None = None
    verify: bool = True
    alpn: tuple[str, ...] = ()
    spoofed: NameAnswer | None = None

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def server_name(self) -> str:
        return self.sni or self.host

    def __str__(self) -> str:
        return f"{self.scheme}://{authority(self.host, self.port, self.scheme)}"


class UpstreamError(Exception):
    """No connection: what to show the client. `status` is 502 or 504, `rule` the rule that is to blame, if one is."""

    def __init__(self, message: str, status: int = 502, *, title: str = "Server unreachable", hint: str = "",
                 rule: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.title = title
        self.hint = hint
        self.rule = rule


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
                return await self._start_tls(client, server, stream, target)
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
            raise UpstreamError(str(exc) if is_ip(host) else f"{_place(server.address)}: {exc}", _status(exc)) from exc
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
            raise UpstreamError(f"{_place((host, port))} is this proxy itself", title="Request loop",
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

    # --- TLS --------------------------------------------------------------------------------------------------

    async def _start_tls(self, client: Client, server: Server, stream: Stream, target: Target) -> Stream:
        addons = self._addons
        name = target.server_name
        server.tls = True
        server.sni = None if is_ip(name) else name
        server.alpn_offers = tuple(protocol.encode("ascii") for protocol in target.alpn)
        context = self._tls_context(server, target)
        if addons.active(TlsStartServerHook):
            data = TlsData(server, client, server, context)
            await addons.fire(TlsStartServerHook(data))
            context = data.ssl_context
        try:
            secured = await TLSStream.client(stream, context, name, timeout=self._core.settings.tls_timeout)
        except BaseException as exc:
            server.error = f"TLS with {_place(server.address)} failed: {str(exc) or 'cancelled'}"
            if addons.active(TlsFailedServerHook):
                await addons.fire(TlsFailedServerHook(TlsData(server, client, server, context)))
            if isinstance(exc, (TLSError, ConnectionClosed)):
                raise _tls_error(exc, server.error) from exc
            raise
        server.alpn, server.cipher, server.tls_version = secured.selected_alpn, secured.cipher, secured.version
        server.certificate_list = _certificates(secured)
        server.timestamp_tls_setup = time.time()
        if addons.active(TlsEstablishedServerHook):
            await addons.fire(TlsEstablishedServerHook(TlsData(server, client, server, context)))
        return secured

    def _tls_context(self, server: Server, target: Target) -> ssl.SSLContext:
        settings = self._core.settings
        try:
            return client_context(verify=target.verify, alpn=target.alpn, extra_ca=settings.upstream_ca)
        except CertificateError as exc:
            server.error = str(exc)
            raise UpstreamError(str(exc), title="TLS is not set up", hint="See --set upstream_ca=FILE.") from exc


def _place(address: Address | None) -> str:
    return authority(address[0], address[1], "") if address else "?"


def _certificates(stream: TLSStream) -> list[x509.Certificate]:
    try:
        return stream.peer_certificates
    except ValueError:  # unverified and malformed: what OpenSSL lets pass, the parser need not
        return []


def _tls_error(exc: TLSError | ConnectionClosed, message: str) -> UpstreamError:
    if isinstance(exc, TLSError) and exc.verify_message:
        return UpstreamError(
            message, title="The server's certificate is not trusted",
            hint="If you expect this certificate, allow it for one destination with `verify: false` on the rule that "
                 "leads there, or for all of them with --set verify_upstream=false.")
    return UpstreamError(message, _status(exc), title="TLS with the server failed")


def _status(exc: OSError) -> int:
    """504 when the server was silent, 502 when it refused (RFC 9110 §15.6)."""
    return 504 if "timed out" in str(exc) else 502
