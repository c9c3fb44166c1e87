"""Certificates that this proxy shows to servers that ask for one (option `client_certs`)."""

from __future__ import annotations

import ssl
from pathlib import Path

from rulesproxy.certs.custom import load_chain
from rulesproxy.certs.files import CertificateError
from rulesproxy.model.names import InvalidHost, canonical_host


def client_certificate(place: Path | None, server_name: str) -> Path | None:
    """The file for a server: `place` itself, or the one called NAME.pem when it is a folder; None for none."""
    if place is None or not place.is_dir():
        return place
    try:
        path = place / f"{canonical_host(server_name)}.pem"
    except InvalidHost:
        return None
    return path if path.is_file() else None


def check_client_certificates(place: Path | None) -> None:
    """Raises CertificateError for a file, or one of the `*.pem` in a folder, that is of no use."""
    if place is None:
        return
    files = sorted(place.glob("*.pem")) if place.is_dir() else [place]
    if not files:
        raise CertificateError(f"{place} holds no HOST.pem")
    for file in files:
        load_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file)
