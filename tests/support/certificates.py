"""A certificate authority for test origins: good leaves, and bad ones of many kinds."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


class OriginCA:
    """Signs leaves for origins. `pem` is the path of its certificate: what a proxy under test is told to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test origin CA")])
        self._serial = 0
        now = _now()
        self._certificate = (
            x509.CertificateBuilder().subject_name(self._name).issuer_name(self._name)
            .public_key(self._key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY).not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256()))
        self.pem = folder / "origin-ca.pem"
        self.pem.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def leaf(self, *names: str, from_days: int = -1, until_days: int = 10, self_signed: bool = False,
             flaw: str = "") -> Path:
        """A PEM file with certificate and key for DNS names and addresses, valid for the given days from now.

        `flaw`: "no SAN" (the name is in the subject only), "client" (for clients, not servers), "IP as name" (an
        address written as a DNS name), "weak key" (RSA with 1024 bits).
        """
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(ec.SECP256R1())
        if flaw == "weak key":
            key = rsa.generate_private_key(65537, 1024)
        signer = key if self_signed else self._key
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "nobody")])
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if flaw == "client" else ExtendedKeyUsageOID.SERVER_AUTH
        now = _now()
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject if self_signed else self._name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + from_days * DAY).not_valid_after(now + until_days * DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False))
        if flaw != "no SAN":
            builder = builder.add_extension(x509.SubjectAlternativeName(
                [x509.DNSName(name) if flaw == "IP as name" else _general_name(name) for name in names]),
                critical=False)
        certificate = builder.sign(signer, hashes.SHA256())
        self._serial += 1
        path = self._folder / f"leaf-{self._serial}.pem"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                              serialization.NoEncryption())
            + certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def server_context(self, *names: str, alpn: tuple[str, ...] = ("http/1.1",), from_days: int = -1,
                       until_days: int = 10, self_signed: bool = False, flaw: str = "") -> ssl.SSLContext:
        """A context for an origin that answers under `names`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if flaw == "weak key":
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(self.leaf(*names, from_days=from_days, until_days=until_days,
                                          self_signed=self_signed, flaw=flaw))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def client_context(self) -> ssl.SSLContext:
        """A context that trusts this authority only."""
        return ssl.create_default_context(cafile=self.pem)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature=True, content_commitment=False, key_encipherment=False,
                         data_encipherment=False, key_agreement=False, key_cert_sign=signs_certificates,
                         crl_sign=signs_certificates, encipher_only=False, decipher_only=False)
