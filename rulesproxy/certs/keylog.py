"""SSLKEYLOGFILE: the secrets of every TLS connection in a file, for packet analysers (RFC 9850)."""

from __future__ import annotations

import os
import ssl

from rulesproxy.certs.files import CertificateError

VARIABLE = "SSLKEYLOGFILE"


def keylog_path() -> str | None:
    """The file to write to, None when nobody asked for it."""
    return os.environ.get(VARIABLE) or None


def prepare_keylog() -> str | None:
    """Make sure that the file can be written, by its owner only when it is made here. Raises CertificateError."""
    path = keylog_path()
    if path is not None:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as exc:
            raise CertificateError(f"{VARIABLE}: cannot write {path}: {(exc.strerror or str(exc)).lower()}") from exc
    return path


def log_keys(context: ssl.SSLContext) -> None:
    """Have the secrets of the context's connections written, if that was asked for. Raises CertificateError."""
    path = prepare_keylog()
    if path is not None:
        context.keylog_filename = path
