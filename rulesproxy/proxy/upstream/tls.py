"""TLS with servers: hooks, certificate verification, and errors that say what is wrong and how to allow it.

In: a connected stream and the `Target` it is for. Out: a `TLSStream`, with the facts noted on the `Server`, or one
`UpstreamError`. It does not know how the stream came to be: a socket, a tunnel through another proxy.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509

from rulesproxy.addons.hooks import Hook
from rulesproxy.certs.client_certificates import client_certificate
from rulesproxy.certs.contexts import CLIENT_CONTEXTS, ServerDemands
from rulesproxy.certs.files import CertificateError
from rulesproxy.certs.verdicts import advice, judge
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.effects import TlsDemands
from rulesproxy.model.names import is_ip
from rulesproxy.model.tls import TlsData
from rulesproxy.net.sessions import SessionCache
from rulesproxy.net.stream import ConnectionClosed, Stream
from rulesproxy.net.tls import TLSError, TLSStream
from rulesproxy.proxy.upstream.target import Target, UpstreamError, failure_status, place

if TYPE_CHECKING:
    from rulesproxy.proxy.core import Core


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


class ServerTls:
    """What all connections of a proxy to its servers share: contexts and sessions."""

    def __init__(self) -> None:
        self.sessions = SessionCache()
        self._making: dict[ServerDemands, asyncio.Task[ssl.SSLContext]] = {}

    async def context(self, demands: ServerDemands) -> ssl.SSLContext:
        """The context for these demands. A new one is made in a thread: it reads all roots of the system. Raises
        CertificateError."""
        context = CLIENT_CONTEXTS.find(demands)
        if context is not None:
            return context
        task = self._making.get(demands)
        if task is None:
            task = self._making[demands] = asyncio.create_task(asyncio.to_thread(CLIENT_CONTEXTS.make, demands))
            task.add_done_callback(lambda _: self._making.pop(demands))
        return await asyncio.shield(task)


async def start_tls(core: Core, client: Client, server: Server, stream: Stream, target: Target) -> TLSStream:
    """TLS over `stream`, which stays the caller's to close when this fails. Raises UpstreamError."""
    addons = core.addons
    name = target.server_name
    server.tls = True
    server.sni = None if is_ip(name) else name
    server.alpn_offers = tuple(protocol.encode("ascii") for protocol in target.alpn)
    data = TlsData(server, client, server, await _context(core, server, target))
    try:
        if addons.active(TlsStartServerHook):
            await addons.fire(TlsStartServerHook(data))
        secured = await _shake_hands(core, server, stream, name, data.ssl_context)
    except BaseException as exc:
        server.error = f"TLS with {place(server.address)} failed: {str(exc) or 'cancelled'}"
        if addons.active(TlsFailedServerHook):
            await addons.fire(TlsFailedServerHook(data))
        if isinstance(exc, (TLSError, ConnectionClosed)):
            raise _tls_error(exc, server.error, target) from exc
        raise
    if addons.active(TlsEstablishedServerHook):
        await addons.fire(TlsEstablishedServerHook(data))
    return secured


async def _shake_hands(core: Core, server: Server, stream: Stream, name: str, context: Any) -> TLSStream:
    """Connect, resuming a session where there is one, and note on `server` what was agreed on."""
    if not isinstance(context, ssl.SSLContext):
        raise TLSError("an addon left no SSL context")
    sessions, origin = core.server_tls.sessions, (context, name, server.address)
    session, certificates = sessions.take(origin)
    try:
        secured = await TLSStream.client(stream, context, name, timeout=core.settings.tls_timeout, session=session)
    except (TLSError, ConnectionClosed):
        sessions.forget(origin)
        raise
    server.alpn, server.cipher, server.tls_version = secured.selected_alpn, secured.cipher, secured.version
    server.tls_resumed = secured.session_reused
    # A resumed handshake shows no certificate: what was seen before stands.
    server.certificate_list = certificates if server.tls_resumed and certificates else _certificates(secured)
    server.timestamp_tls_setup = time.time()
    sessions.watch(origin, secured, server.certificate_list)
    return secured


async def _context(core: Core, server: Server, target: Target) -> ssl.SSLContext:
    settings, wanted = core.settings, target.server_tls or _NOTHING_WANTED
    if wanted.client_cert is not None:
        certificate: Path | None = Path(wanted.client_cert)
    else:
        certificate = client_certificate(settings.client_certs, target.server_name)
    demands = ServerDemands(target.verify, target.alpn, settings.upstream_ca, certificate,
                            wanted.min_version or settings.tls_version_server_min)
    try:
        return await core.server_tls.context(demands)
    except CertificateError as exc:
        server.error = str(exc)
        hint = ("See `client_cert` of that rule." if wanted.client_cert is not None
                else "See --set upstream_ca=FILE and --set client_certs=PLACE.")
        raise UpstreamError(str(exc), title="TLS is not set up", hint=hint, rule=wanted.rule) from exc


def _certificates(stream: TLSStream) -> list[x509.Certificate]:
    try:
        return stream.peer_certificates
    except ValueError:  # unverified and malformed: what OpenSSL lets pass, the parser need not
        return []


def _tls_error(exc: TLSError | ConnectionClosed, message: str, target: Target) -> UpstreamError:
    if isinstance(exc, TLSError) and exc.verify_message:
        verdict = judge(exc.verify_code)
        return UpstreamError(message, title="The server's certificate is not trusted",
                             hint=advice(verdict, target.server_name), untrusted=verdict)
    return UpstreamError(message, failure_status(exc), title=TLS_FAILED, hint=_hint(exc))


def _hint(exc: OSError) -> str:
    """What to do about a handshake that failed for another reason than the certificate."""
    if isinstance(exc, TLSError):
        return certificate_hint(exc.alert) or (_ALLOW_OLDER if "protocol" in str(exc) or "version" in str(exc) else "")
    return f"It gave no reason. {_ALLOW_OLDER} {_SHOW_ONE}"


def certificate_hint(alert: str) -> str:
    """What to do about an alert of a server that is about the client's certificate, which is ours; empty for others."""
    if alert in _CERTIFICATE_WANTED:
        return _SHOW_ONE
    return _SHOW_ANOTHER if alert in _CERTIFICATE_REFUSED else ""


TLS_FAILED = "TLS with the server failed"
_ALLOW_OLDER = ("The server may speak only TLS that is older than allowed here: see --set "
                "tls_version_server_min=VERSION, or `tls: {min_version: TLS1}` on a rule for this host.")
_SHOW_ONE = ("The server may want a certificate of its clients: see --set client_certs=PLACE, or `tls: {client_cert: "
             "FILE}` on a rule for this host.")
_SHOW_ANOTHER = ("The server does not accept the certificate it was shown: see `client_cert` on the rule for this "
                 "host, or --set client_certs=PLACE.")
_NOTHING_WANTED = TlsDemands()
_CERTIFICATE_WANTED = ("certificate required", "handshake failure", "bad certificate")
_CERTIFICATE_REFUSED = ("unknown ca", "certificate unknown", "certificate expired", "certificate revoked",
                        "unsupported certificate", "decrypt error")
