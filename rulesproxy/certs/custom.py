"""Certificates of the user's own, shown to clients instead of leaves made here (option `certs`)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from rulesproxy.certs.files import CertificateError
from rulesproxy.model.names import InvalidHost, canonical_host


class FileVersion(tuple[Path, int, int, int]):
    """A file as a cache key: another content is another key."""

    __slots__ = ()

    @classmethod
    def of(cls, path: Path | None) -> FileVersion | None:
        """Raises CertificateError."""
        if path is None:
            return None
        try:
            status = path.stat()
        except OSError as exc:
            raise CertificateError(f"cannot read {path}: {(exc.strerror or str(exc)).lower()}") from exc
        return cls((path, status.st_ino, status.st_size, status.st_mtime_ns))


@dataclass(frozen=True, slots=True)
class CustomCertificate:
    """One entry: `pattern` is a host, `*.name` (one label), `**.name` (any number) or `*` (every host)."""

    pattern: str
    path: Path

    def matches(self, host: str) -> bool:
        if self.pattern == "*":
            return True
        stars, dot, rest = self.pattern.partition(".")
        if stars not in ("*", "**") or not dot:
            return host == self.pattern
        label, _, parent = host.partition(".")
        return (bool(label) and parent == rest) if stars == "*" else host.endswith("." + rest)

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Of several that match the smallest counts: a name before patterns, `*` before `**`, long before short."""
        return "*" in self.pattern, self.pattern.startswith("**") or self.pattern == "*", -len(self.pattern)


class CustomCertificates:
    """The entries of the option `certs`, each `[PATTERN=]FILE`. Raises CertificateError for one that is of no use."""

    def __init__(self, specs: Iterable[str] = ()) -> None:
        self._entries = sorted(map(_parse, specs), key=lambda entry: entry.rank)
        for entry in self._entries:
            if entry.pattern == "*" and not entry.path.exists():  # most likely a pattern that went wrong
                raise CertificateError(f"cannot read {entry.path}: no such file; write HOST=FILE, *.NAME=FILE, "
                                       "**.NAME=FILE or FILE")
            load_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), entry.path)

    def find(self, host: str) -> CustomCertificate | None:
        """The entry for a canonical host."""
        return next((entry for entry in self._entries if entry.matches(host)), None)

    @property
    def expired(self) -> list[CustomCertificate]:
        """Entries that no client will accept any more, or does not accept yet."""
        now = datetime.now(UTC)
        return [entry for entry in self._entries
                if not _within(first_certificate(entry.path), now)]


def _within(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _parse(spec: str) -> CustomCertificate:
    before, equals, after = spec.partition("=")
    if not equals or "/" in before:  # a path may hold an equals sign
        return CustomCertificate("*", Path(spec).expanduser())
    pattern = before.strip()
    stars, dot, rest = pattern.partition(".")
    try:
        if pattern != "*":
            pattern = f"{stars}.{canonical_host(rest)}" if dot and stars in ("*", "**") else canonical_host(pattern)
    except InvalidHost:
        raise CertificateError(f"{before!r} is no host: write HOST=FILE, *.NAME=FILE, **.NAME=FILE or FILE") from None
    return CustomCertificate(pattern, Path(after).expanduser())


def load_chain(context: ssl.SSLContext, path: Path) -> None:
    """Use the certificate, its chain and its key in `path` (PEM). Raises CertificateError."""
    if not os.access(path, os.R_OK):
        reason = "permission denied" if path.exists() else "no such file"
        raise CertificateError(f"cannot read {path}: {reason}")
    try:
        # The callback keeps OpenSSL from asking at the terminal for the password of an encrypted key.
        context.load_cert_chain(path, password=lambda: "")
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"{path}: the private key does not belong to the certificate, which must be the "
                                   "first one in the file") from exc
        raise CertificateError(f"{path} does not hold a certificate and its unencrypted private key in PEM form"
                               ) from exc
    except (OSError, ValueError) as exc:
        raise CertificateError(f"{path} does not hold a certificate and its unencrypted private key in PEM form"
                               ) from exc


def first_certificate(path: Path) -> x509.Certificate:
    """The certificate that a file loaded by `load_chain` shows. Raises CertificateError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError, IndexError) as exc:
        raise CertificateError(f"{path} cannot be read as a certificate: {exc}") from exc
