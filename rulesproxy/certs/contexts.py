"""SSL contexts: one per host towards clients, one per set of demands towards servers."""

from __future__ import annotations

import logging
import ssl
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rulesproxy.certs import versions
from rulesproxy.certs.authority import Authority
from rulesproxy.certs.custom import CustomCertificate, CustomCertificates, FileVersion, first_certificate, load_chain
from rulesproxy.certs.files import CertificateError, private_file
from rulesproxy.certs.keylog import keylog_path, log_keys

log = logging.getLogger("rulesproxy.certs")

HTTP1 = ("http/1.1",)
#: Leaves are made anew after this, far from their end, however long the process lives.
RENEWAL_SECONDS = 30 * 24 * 3600
#: Contexts kept while secrets are logged: each of them holds the file open.
KEYLOG_LIMIT = 64

_CLIENT_CERTIFICATE = {"no": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


# --- towards clients --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientDemands:
    """What is asked of clients. `client_cert` is `no`, `optional` or `required`, and needs a `client_ca` then."""

    min_version: str = versions.DEFAULT
    client_cert: str = "no"
    client_ca: Path | None = None


class Presented(NamedTuple):
    """What a client is answered with: a context, and the certificate that it shows."""

    context: ssl.SSLContext
    certificate: x509.Certificate


class _Entry(NamedTuple):
    made: float
    version: FileVersion | None
    presented: Presented


_Key = tuple[str | CustomCertificate, tuple[str, ...]]


class ServerContexts:
    """The contexts with which clients are answered, least recently used ones dropped beyond `limit`.

    A context serves all connections to its host, so that clients can resume their sessions.
    """

    def __init__(self, authority: Authority, limit: int = 1024) -> None:
        self._authority = authority
        self._limit = limit
        self._demands = ClientDemands()
        self._custom = CustomCertificates()
        self._contexts: OrderedDict[_Key, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    def configure(self, demands: ClientDemands, custom: CustomCertificates) -> None:
        """Change what new handshakes get. Raises CertificateError; nothing has changed then."""
        _server_context(demands, ())
        self._demands, self._custom = demands, custom
        self._contexts.clear()

    def for_host(self, host: str, alpn: tuple[str, ...] = HTTP1) -> ssl.SSLContext:
        """The context for a canonical host: it presents a certificate for that host whatever SNI then says.

        `alpn` in order of preference, empty for none. Raises CertificateError for a host no certificate can name.
        """
        return self.present(host, alpn).context

    def present(self, host: str, alpn: tuple[str, ...] = HTTP1) -> Presented:
        """The same, with the certificate."""
        custom = self._custom.find(host)
        key: _Key = (custom or host, alpn)
        known = self._contexts.get(key)
        now = time.time()
        version = None
        if custom is not None:
            version = _version(custom)
            if known is not None and version in (known.version, None):
                return known.presented
        elif known is not None and now - known.made < RENEWAL_SECONDS:
            self._contexts.move_to_end(key)
            return known.presented
        try:
            presented = self._from_file(custom, alpn) if custom is not None else self._forged(host, alpn)
        except CertificateError as exc:
            if custom is None or known is None:
                raise
            log.error("the certificate for %s stays as it was: %s", custom.pattern, exc)
            presented = known.presented
        self._keep(key, _Entry(now, version, presented))
        return presented

    def _keep(self, key: _Key, entry: _Entry) -> None:
        self._contexts[key] = entry
        self._contexts.move_to_end(key)
        if len(self._contexts) > (self._limit if keylog_path() is None else min(self._limit, KEYLOG_LIMIT)):
            self._contexts.popitem(last=False)

    def _forged(self, host: str, alpn: tuple[str, ...]) -> Presented:
        authority = self._authority
        leaf = authority.leaf(host)
        context = _server_context(self._demands, alpn)
        chain = leaf.public_bytes(Encoding.PEM) + authority.certificate_pem
        with private_file(authority.leaf_key_pem + chain) as path:
            context.load_cert_chain(path)
        log.debug("certificate made for %s", host)
        return Presented(context, leaf)

    def _from_file(self, custom: CustomCertificate, alpn: tuple[str, ...]) -> Presented:
        context = _server_context(self._demands, alpn)
        load_chain(context, custom.path)
        return Presented(context, first_certificate(custom.path))


def _version(custom: CustomCertificate) -> FileVersion | None:
    """None while the file is away, as it may be for a moment when it is being replaced."""
    try:
        return FileVersion.of(custom.path)
    except CertificateError:
        return None


def _server_context(demands: ClientDemands, alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    versions.require(context, demands.min_version)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 1
    log_keys(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if demands.client_cert != "no":
        if demands.client_ca is None:
            raise CertificateError("option request_client_cert: certificates of clients are checked against an "
                                   "authority: name it with client_ca")
        if not demands.client_ca.is_file():
            raise CertificateError(f"option client_ca: cannot read {demands.client_ca}: no such file")
        _load_roots(context, demands.client_ca)
        context.verify_mode = _CLIENT_CERTIFICATE[demands.client_cert]
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


# --- towards servers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerDemands:
    """What is asked of a server, and shown to it.

    With `verify` the system's roots and those in `extra_ca` (PEM) are trusted and the name is checked. `client_cert`
    is a PEM file with certificate and key.
    """

    verify: bool = True
    alpn: tuple[str, ...] = HTTP1
    extra_ca: Path | None = None
    client_cert: Path | None = None
    min_version: str = versions.DEFAULT


class ClientContexts:
    """The contexts with which servers are spoken to, kept until a file they were made from changes. For any thread."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._lock = Lock()
        self._contexts: OrderedDict[tuple[object, ...], ssl.SSLContext] = OrderedDict()

    def find(self, demands: ServerDemands) -> ssl.SSLContext | None:
        """The context, if there is one already. Raises CertificateError for files that cannot be read."""
        key = _key(demands)
        with self._lock:
            context = self._contexts.get(key)
            if context is not None:
                self._contexts.move_to_end(key)
            return context

    def make(self, demands: ServerDemands) -> ssl.SSLContext:
        """A new one: some 20 ms, for the system's roots are read. Raises CertificateError for unusable files."""
        key = _key(demands)
        context = _client_context(demands)
        with self._lock:
            self._contexts[key] = context
            if len(self._contexts) > self._limit:
                self._contexts.popitem(last=False)
        return context


#: Shared by all proxies of the process: what they are made from is in their key.
CLIENT_CONTEXTS = ClientContexts()


def client_context(*, verify: bool = True, alpn: tuple[str, ...] = HTTP1, extra_ca: Path | None = None,
                   client_cert: Path | None = None, min_version: str = versions.DEFAULT) -> ssl.SSLContext:
    """The context for these `ServerDemands`, made if need be. Raises CertificateError for files that cannot be used."""
    demands = ServerDemands(verify, alpn, extra_ca, client_cert, min_version)
    return CLIENT_CONTEXTS.find(demands) or CLIENT_CONTEXTS.make(demands)


def _key(demands: ServerDemands) -> tuple[object, ...]:
    return (demands, FileVersion.of(demands.extra_ca), FileVersion.of(demands.client_cert), keylog_path())


def _client_context(demands: ServerDemands) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    versions.require(context, demands.min_version)
    context.options |= ssl.OP_NO_RENEGOTIATION
    log_keys(context)
    if demands.alpn:
        context.set_alpn_protocols(list(demands.alpn))
    if demands.verify:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate in extra_ca is trust enough
        context.hostname_checks_common_name = False  # RFC 9525 §2: names stand in subjectAltName or nowhere
        context.load_default_certs()
        if demands.extra_ca is not None:
            _load_roots(context, demands.extra_ca)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if demands.client_cert is not None:
        load_chain(context, demands.client_cert)
    return context


def _load_roots(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as exc:  # ssl.SSLError is one
        raise CertificateError(f"{path} holds no certificate in PEM form that can be trusted") from exc
