"""SSL contexts: one per host towards clients, one per set of demands towards servers."""

from __future__ import annotations

import logging
import ssl
import time
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from rulesproxy.certs.authority import Authority
from rulesproxy.certs.files import CertificateError, private_file

log = logging.getLogger("rulesproxy.certs")

HTTP1 = ("http/1.1",)
#: Leaves are made anew after this, far from their end, however long the process lives.
RENEWAL_SECONDS = 30 * 24 * 3600


class ServerContexts:
    """The contexts with which clients are answered, least recently used ones dropped beyond `limit`."""

    def __init__(self, authority: Authority, limit: int = 1024) -> None:
        self._authority = authority
        self._limit = limit
        self._contexts: OrderedDict[tuple[str, tuple[str, ...]], tuple[float, ssl.SSLContext]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    def for_host(self, host: str, alpn: tuple[str, ...] = HTTP1) -> ssl.SSLContext:
        """The context for a canonical host: it presents a leaf for that host whatever SNI then says.

        `alpn` in order of preference, empty for none. Raises CertificateError for a host no certificate can name.
        """
        key = (host, alpn)
        known = self._contexts.get(key)
        now = time.time()
        if known is not None and now - known[0] < RENEWAL_SECONDS:
            self._contexts.move_to_end(key)
            return known[1]
        context = self._create(host, alpn)
        self._contexts[key] = (now, context)
        self._contexts.move_to_end(key)
        if len(self._contexts) > self._limit:
            self._contexts.popitem(last=False)
        return context

    def _create(self, host: str, alpn: tuple[str, ...]) -> ssl.SSLContext:
        authority = self._authority
        leaf = authority.leaf(host).public_bytes(Encoding.PEM)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 1
        if alpn:
            context.set_alpn_protocols(list(alpn))
        with private_file(authority.leaf_key_pem + leaf + authority.certificate_pem) as path:
            context.load_cert_chain(path)
        log.debug("certificate made for %s", host)
        return context


def client_context(*, verify: bool = True, alpn: tuple[str, ...] = HTTP1, extra_ca: Path | None = None,
                   client_cert: Path | None = None,
                   min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    """The context with which servers are spoken to, cached until a file it was made from changes.

    With `verify` the system's roots and those in `extra_ca` (PEM) are trusted and the name is checked. `client_cert`
    is a PEM file with certificate and key. Raises CertificateError for files that cannot be used.
    """
    return _client_context(verify, alpn, _FileVersion.of(extra_ca), _FileVersion.of(client_cert), min_version)


class _FileVersion(tuple[Path, int, int, int]):
    """A file as a cache key: another content is another key."""

    __slots__ = ()

    @classmethod
    def of(cls, path: Path | None) -> _FileVersion | None:
        if path is None:
            return None
        try:
            status = path.stat()
        except OSError as exc:
            raise CertificateError(f"cannot read {path}: {(exc.strerror or str(exc)).lower()}") from exc
        return cls((path, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _client_context(verify: bool, alpn: tuple[str, ...], extra_ca: _FileVersion | None,
                    client_cert: _FileVersion | None, min_version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = min_version
    context.options |= ssl.OP_NO_RENEGOTIATION
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if verify:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate in extra_ca is trust enough
        context.hostname_checks_common_name = False  # RFC 9525 §2: names stand in subjectAltName or nowhere
        context.load_default_certs()
        if extra_ca is not None:
            _load_roots(context, extra_ca[0])
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_cert is not None:
        _load_client_certificate(context, client_cert[0])
    return context


def _load_roots(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as exc:  # ssl.SSLError is one
        raise CertificateError(f"{path} holds no certificate in PEM form that can be trusted") from exc


def _load_client_certificate(context: ssl.SSLContext, path: Path) -> None:
    try:
        # The callback keeps OpenSSL from asking at the terminal for the password of an encrypted key.
        context.load_cert_chain(path, password=lambda: "")
    except (OSError, ValueError) as exc:
        raise CertificateError(f"{path} does not hold a certificate and its unencrypted private key in PEM form"
                               ) from exc
