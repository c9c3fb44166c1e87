"""The origin: nginx with one worker, answering 100 bytes over HTTP and HTTPS as fast as it can."""

from __future__ import annotations

import datetime
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.process import HOST, BenchmarkError, Server, free_port

#: A name and not an address, so that TLS has an SNI and rules have a host to look at.
NAME = "localhost"
BODY = b"0123456789" * 10

_CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
{listen}
        ssl_certificate {folder}/origin.pem;
        ssl_certificate_key {folder}/origin.pem;
        location / {{ return 200 "{body}"; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the origin answers, and the certificate it shows."""

    http_port: int
    https_port: int
    certificate: bytes  # DER
    certificate_file: Path


@contextmanager
def running_origin(folder: Path) -> Iterator[Origin]:
    """Raises BenchmarkError when nginx is not installed."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise BenchmarkError("nginx is needed as the origin: apt-get install nginx-light")
    folder.mkdir()
    certificate = _write_certificate(folder / "origin.pem")
    origin = Origin(free_port(), free_port(), certificate, folder / "origin.pem")
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, listen=_listen(origin), body=BODY.decode()))
    command = [nginx, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    with Server("nginx", command, origin.http_port, folder / "output.log") as server:
        server.wait_until_listening(10)
        yield origin


def _listen(origin: Origin) -> str:
    hosts = [HOST, "[::1]"] if _has_ipv6() else [HOST]  # a refused ::1 would count as the proxy's time
    return "\n".join(f"        listen {host}:{port}{kind};" for host in hosts
                     for port, kind in ((origin.http_port, ""), (origin.https_port, " ssl")))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _write_certificate(path: Path) -> bytes:
    """Certificate and key in one PEM file; the answer is the certificate in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256()))
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM))
    return certificate.public_bytes(serialization.Encoding.DER)
