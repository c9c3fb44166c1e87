"""TLS with servers: hooks, certificate verification, and errors that say what is wrong and how to allow it.

In: a connected stream and the `Target` it is for. Out: a `TLSStream`, with the facts noted on the `Server`, or one
`UpstreamError`. It does not know how the stream came to be: a socket, a tunnel through another proxy.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from rulesproxy.addons.hooks import Hook
from rulesproxy.certs.contexts import client_context
from rulesproxy.certs.files import CertificateError
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.names import is_ip
from rulesproxy.model.tls import TlsData
from rulesproxy.net.stream import ConnectionClosed, Stream
from rulesproxy.net.tls import TLSError, TLSStream
from rulesproxy.proxy.target import Target, UpstreamError, failure_status, place

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


async def start_tls(core: Core, client: Client, server: Server, stream: Stream, target: Target) -> TLSStream:
    """TLS over `stream`, which stays the caller's to close when this fails. Raises UpstreamError."""
    addons = core.addons
    name = target.server_name
    server.tls = True
    server.sni = None if is_ip(name) else name
    server.alpn_offers = tuple(protocol.encode("ascii") for protocol in target.alpn)
    context = _context(core, server, target)
    if addons.active(TlsStartServerHook):
        data = TlsData(server, client, server, context)
        await addons.fire(TlsStartServerHook(data))
        context = data.ssl_context
    try:
        secured = await TLSStream.client(stream, context, name, timeout=core.settings.tls_timeout)
    except BaseException as exc:
        server.error = f"TLS with {place(server.address)} failed: {str(exc) or 'cancelled'}"
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


def _context(core: Core, server: Server, target: Target) -> ssl.SSLContext:
    settings = core.settings
    try:
        return client_context(verify=target.verify, alpn=target.alpn, extra_ca=settings.upstream_ca)
    except CertificateError as exc:
        server.error = str(exc)
        raise UpstreamError(str(exc), title="TLS is not set up", hint="See --set upstream_ca=FILE.") from exc


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
    return UpstreamError(message, failure_status(exc), title="TLS with the server failed")
