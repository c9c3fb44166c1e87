"""TLS in a tunnel: intercept it, relay it untouched, or refuse it.

In: a tunnel in which the client started TLS, nothing consumed. The ClientHello is read without answering it, hooks
and the policy decide, and only an intercepted tunnel is ever answered by us: with a leaf for the name the client asked
for. What is inside is served like any other stream. It knows nothing of the protocols inside.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rulesproxy.addons.hooks import Hook
from rulesproxy.certs.files import CertificateError
from rulesproxy.codecs.client_hello import ClientHelloError, ClientHelloReader
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.names import is_ip
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.model.tls import ClientHello, ClientHelloData, TlsData, Tunnel
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.net.tls import NO_CERTIFICATE, NO_VERSION, TLSError, TLSStream
from rulesproxy.proxy.failures import sent_by
from rulesproxy.proxy.grant import Way
from rulesproxy.proxy.pinned import refuses_certificate
from rulesproxy.proxy.relay import open_origin, relay_tunnel
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.upstream.target import UpstreamError

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

_HTTP1 = ("http/1.1",)
_HTTP2 = ("h2", "http/1.1")
# RFC 8446 §6: level fatal, and what it is about
ACCESS_DENIED = b"\x15\x03\x03\x00\x02\x02\x31"
_DECODE_ERROR = b"\x15\x03\x03\x00\x02\x02\x32"
_INTERNAL_ERROR = b"\x15\x03\x03\x00\x02\x02\x50"


@dataclass(slots=True)
class TlsClienthelloHook(Hook):
    """A client starts TLS in a tunnel. `data.ignore_connection` relays it untouched."""

    data: ClientHelloData


@dataclass(slots=True)
class TlsStartClientHook(Hook):
    """TLS with the client is about to be answered: `data.ssl_context` may be replaced."""

    data: TlsData


@dataclass(slots=True)
class TlsEstablishedClientHook(Hook):
    """TLS with the client is up."""

    data: TlsData


@dataclass(slots=True)
class TlsFailedClientHook(Hook):
    """The handshake with the client failed: `data.conn.error` says why."""

    data: TlsData


async def serve_tls(session: Session, stream: PeekableStream, scope: Scope) -> None:
    """Decide about the TLS that begins on the stream and carry it out."""
    tunnel = scope.tunnel
    assert tunnel is not None
    try:
        hello = await _read_client_hello(session, stream)
    except (ClientHelloError, TimeoutError) as exc:
        log.warning("tunnel to %s:%d: no usable ClientHello: %s", tunnel.host, tunnel.port, exc or "too slow")
        await _alert(stream, _DECODE_ERROR)
        return
    tunnel.client_hello = hello
    decision = await _decide(session, scope, hello)
    match decision.verdict:
        case TlsVerdict.RELAY:
            if hello.sni is None and is_ip(tunnel.host):
                session.core.unnamed_relays += 1
            scope.way = Way(decision.route or scope.way.route, decision.via or scope.way.via)
            await relay_tunnel(session, stream, scope)
        case TlsVerdict.REFUSE:
            log.info("TLS to %s:%d refused%s", tunnel.name, tunnel.port,
                     f" by rule {decision.rule}" if decision.rule else "")
            await _alert(stream, ACCESS_DENIED)
        case TlsVerdict.INTERCEPT:
            scope.server_tls = decision.server_tls
            await _intercept(session, stream, scope, hello)


async def serve_own_tls(session: Session, stream: PeekableStream, scope: Scope) -> None:
    """TLS to the proxy itself: it ends here, and inside it the proxy port is served.

    No rule decides about it, and the facts it leaves on the client give way to those of TLS in a tunnel.
    """
    client = session.client
    try:
        hello = await _read_client_hello(session, stream)
    except (ClientHelloError, TimeoutError) as exc:
        log.warning("%s: no usable ClientHello on the proxy port: %s", client.peer, exc or "too slow")
        await _alert(stream, _DECODE_ERROR)
        return
    here = client.sockname or ("127.0.0.1", 0)
    tunnel = Tunnel(client, *here, hello)
    if session.core.addons.active(TlsClienthelloHook):
        await session.core.addons.fire(TlsClienthelloHook(ClientHelloData(client, Server(here), hello, tunnel)))
    inner = await _handshake(session, stream, tunnel.name, hello, TlsData(client, client, Server(here)),
                             _spoken(session))
    if inner is None:
        return
    try:
        await session.serve(PeekableStream(inner), scope)
    finally:
        await inner.aclose()


async def _read_client_hello(session: Session, stream: PeekableStream) -> ClientHello:
    """Raises ClientHelloError, TimeoutError, ConnectionClosed."""
    reader, seen = ClientHelloReader(), 0
    async with asyncio.timeout(session.core.settings.tls_timeout):
        while True:
            data = await stream.peek(seen + 1)
            if len(data) == seen:
                raise ConnectionClosed("the client left in the middle of its ClientHello")
            hello = reader.feed(data[seen:])
            if hello is not None:
                return hello
            seen = len(data)


async def _decide(session: Session, scope: Scope, hello: ClientHello) -> TlsDecision:
    tunnel, addons = scope.tunnel, session.core.addons
    assert tunnel is not None
    if addons.active(TlsClienthelloHook):
        data = ClientHelloData(session.client, Server(scope.destination), hello, tunnel)
        await addons.fire(TlsClienthelloHook(data))
        if data.ignore_connection:
            return TlsDecision(TlsVerdict.RELAY)
    decision = addons.policy.tls_decision(tunnel)
    assert session.grant is not None
    session.grant.tls = decision
    if scope.reverse and decision.verdict is TlsVerdict.RELAY and (decision.rule is None or scope.reverse == "http"):
        return TlsDecision(TlsVerdict.INTERCEPT)  # it was begun with us, who are the server here
    return decision


async def _alert(stream: PeekableStream, alert: bytes) -> None:
    await stream.write(alert)
    await stream.write_eof()


async def _intercept(session: Session, stream: PeekableStream, scope: Scope, hello: ClientHello) -> None:
    client, tunnel = session.client, scope.tunnel
    assert tunnel is not None
    if scope.opened is not None:  # connected while the client was silent, without TLS: of no use now
        await session.core.upstream.close_tunnel(client, *scope.opened)
        scope.opened = None
    inside = replace(scope, scheme="https")
    spoken = _spoken(session)
    if scope.raw:
        try:
            spoken = await _ask_server(session, inside, hello)
        except UpstreamError as exc:
            log.warning("tunnel to %s:%d: %s%s", *scope.relay_destination, exc, sent_by(scope.way.route))
            await _alert(stream, _INTERNAL_ERROR)
            return
    data = TlsData(client, client, Server(scope.destination))
    inner = None
    try:
        inner = await _handshake(session, stream, tunnel.name, hello, data, spoken)
    finally:
        if inner is None and inside.opened is not None:
            await session.core.upstream.close_tunnel(client, *inside.opened)
    if inner is None:
        return
    try:
        await session.serve(PeekableStream(inner), inside)
    finally:
        _note_use(session, inner, tunnel.name, data)
        await inner.aclose()


def _spoken(session: Session) -> tuple[str, ...]:
    """What we speak ourselves inside TLS."""
    return _HTTP2 if session.core.settings.http2 else _HTTP1


async def _ask_server(session: Session, scope: Scope, hello: ClientHello) -> tuple[str, ...]:
    """What the server of a raw connection chooses of the client's protocols: bytes that nobody translates must be of
    one protocol at both ends. Who offers none leaves the server for later. Raises UpstreamError."""
    offers = tuple(offer.decode("ascii") for offer in hello.alpn_protocols if offer.isascii())
    if not offers:
        return ()
    scope.opened = server, _ = await open_origin(session, scope, alpn=offers)
    return (server.alpn.decode("ascii"),) if server.alpn else ()


async def _handshake(session: Session, stream: PeekableStream, name: str, hello: ClientHello,
                     data: TlsData, alpn: tuple[str, ...]) -> TLSStream | None:
    """Answer the client. None when that failed; it is said and the stream can be closed then."""
    core, client = session.core, session.client
    _note_offers(client, hello)
    try:
        presented = core.contexts.present(name, alpn)
    except CertificateError as exc:
        client.error = str(exc)
        log.warning("TLS to %s: %s", name, exc)
        await _alert(stream, _INTERNAL_ERROR)
        return None
    data.ssl_context, client.mitmcert = presented
    try:
        if core.addons.active(TlsStartClientHook):
            await core.addons.fire(TlsStartClientHook(data))
        if data.ssl_context is not presented.context:
            client.mitmcert = None  # which certificate an addon's context shows cannot be asked
        if not isinstance(data.ssl_context, ssl.SSLContext):
            raise TLSError("an addon left no SSL context")
        inner = await TLSStream.server(stream, data.ssl_context, core.settings.tls_timeout)
    except BaseException as exc:
        client.error = f"TLS handshake with the client failed: {str(exc) or 'cancelled'}"
        if core.addons.active(TlsFailedClientHook):
            await core.addons.fire(TlsFailedClientHook(data))
        if not isinstance(exc, TLSError | ConnectionClosed):
            raise
        log.warning("%s: TLS to %s: %s.%s", client.peer, name, exc, _advice(exc))
        if refuses_certificate(exc) and _can_pass_through(session, data):
            core.pinned.refused(client.ip, name)
        return None
    _note_agreement(client, inner)
    if core.addons.active(TlsEstablishedClientHook):
        await core.addons.fire(TlsEstablishedClientHook(data))
    return inner


def _advice(exc: TLSError | ConnectionClosed) -> str:
    """Where to look first when a handshake with a client failed."""
    if isinstance(exc, TLSError) and exc.verify_message:
        return " Is the client's certificate signed by an authority in client_ca?"
    if str(exc) == NO_CERTIFICATE:
        return " request_client_cert=required wants one."
    if str(exc) == NO_VERSION:
        return " See tls_version_client_min."
    return " Does the client trust this proxy's CA?" if refuses_certificate(exc) else ""


def _note_offers(client: Client, hello: ClientHello) -> None:
    """What the client wants; what TLS around this one agreed on, if there was any, is no longer of interest."""
    client.tls = True
    client.sni = hello.sni
    client.alpn_offers = hello.alpn_protocols
    client.alpn = client.cipher = client.tls_version = client.timestamp_tls_setup = client.mitmcert = None
    client.certificate_list = []
    client.tls_resumed = False


def _note_agreement(client: Client, stream: TLSStream) -> None:
    client.timestamp_tls_setup = time.time()
    client.alpn = stream.selected_alpn
    client.cipher = stream.cipher
    client.tls_version = stream.version
    client.tls_resumed = stream.session_reused
    client.certificate_list = stream.peer_certificates


def _can_pass_through(session: Session, data: TlsData) -> bool:
    """False where we are the server that the client wanted: TLS to the proxy itself, and in reverse modes."""
    return data.server.address != session.client.sockname and not session.client.proxy_mode.startswith("reverse")


def _note_use(session: Session, inner: TLSStream, name: str, data: TlsData) -> None:
    """A client that goes away after the handshake, without a word, looked at the certificate and did not like it."""
    if not _can_pass_through(session, data):
        return
    if inner.peer_spoke:
        session.core.pinned.accepted(session.client.ip, name)
    elif inner.closing and not session.core.closing:
        session.core.pinned.refused(session.client.ip, name)
