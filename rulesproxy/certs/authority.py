"""`Authority`: the certificate authority clients trust, kept in the configuration folder, and the leaves it signs."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rulesproxy.certs.files import CertificateError, ensure_private_folder, publish, read_file

CA_LIFETIME = timedelta(days=3650)
#: Clients differ on clocks more than one thinks.
BACKDATING = timedelta(days=1)
#: From notBefore to notAfter, both inclusive (RFC 5280 §4.1.2.5), 199 days: the ceiling for public certificates.
LEAF_LIFETIME = timedelta(days=199, seconds=-1)

_CN_LIMIT = 64  # RFC 5280, ub-common-name
_SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Authority:
    """A CA key and certificate, and one leaf key for the life of the process."""

    def __init__(self, key: _SigningKey, certificate: x509.Certificate, path: Path) -> None:
        self._key = key
        self.certificate = certificate
        #: Where the certificate (not the key) is.
        self.path = path
        self.certificate_pem = certificate.public_bytes(Encoding.PEM)
        self.certificate_der = certificate.public_bytes(Encoding.DER)
        self.fingerprint_sha256 = hashlib.sha256(self.certificate_der).hexdigest()
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_public_key = leaf_key.public_key()
        self.leaf_key_pem = leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._leaf_extensions = _leaf_extensions(self._leaf_public_key, certificate)

    @classmethod
    def load_or_create(cls, confdir: Path) -> Authority:
        """The CA of `confdir` (`ca-key.pem`, `ca-cert.pem`), made when there is none.

        Processes that start at the same moment end up with one CA: each file is published once, and everybody goes
        on with the one that was. Raises CertificateError.
        """
        ensure_private_folder(confdir)
        key = _load_or_create_key(confdir / "ca-key.pem")
        path = confdir / "ca-cert.pem"
        content = read_file(path, secret=False)
        if content is None:
            publish(path, _ca_certificate(key).public_bytes(Encoding.PEM), 0o644)
            content = read_file(path, secret=False)
        certificate = _parse_certificate(path, content or b"")
        _check(certificate, key, path)
        return cls(key, certificate, path)

    def leaf(self, host: str) -> x509.Certificate:
        """A certificate for a canonical host name or address. Raises CertificateError when none can be made."""
        now = datetime.now(UTC)
        not_after = min(now - BACKDATING + LEAF_LIFETIME, self.certificate.not_valid_after_utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)] if 0 < len(host) <= _CN_LIMIT else [])
        try:
            names = x509.SubjectAlternativeName([_general_name(host)])
            builder = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(self.certificate.subject)
                .public_key(self._leaf_public_key)
                .serial_number(_serial())
                .not_valid_before(now - BACKDATING)
                .not_valid_after(not_after)
                # RFC 5280 §4.2.1.6: critical when the subject is empty
                .add_extension(names, critical=not subject.rdns)
            )
            for extension, critical in self._leaf_extensions:
                builder = builder.add_extension(extension, critical)
            return builder.sign(self._key, hashes.SHA256())
        except ValueError as exc:
            raise CertificateError(f"no certificate can be made for {host!r}: {exc}") from exc


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not host:
            raise ValueError("the name is empty") from None
        return x509.DNSName(host)


def _leaf_extensions(public_key: ec.EllipticCurvePublicKey,
                     issuer: x509.Certificate) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """What all leaves share, with whether it is critical."""
    return (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(ca=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        (_authority_key_identifier(issuer), False),
    )


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _load_or_create_key(path: Path) -> _SigningKey:
    content = read_file(path, secret=True)
    if content is None:
        key = ec.generate_private_key(ec.SECP256R1())
        publish(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        content = read_file(path, secret=True) or b""
    try:
        loaded = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as exc:
        raise CertificateError(f"{path} is not an unencrypted private key in PEM form; repair it, or remove it and "
                               "ca-cert.pem to start with a new authority") from exc
    if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CertificateError(f"{path} is neither an EC nor an RSA key")
    return loaded


def _ca_certificate(key: _SigningKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "rulesproxy"),
                      x509.NameAttribute(NameOID.COMMON_NAME, "rulesproxy CA")])
    start = datetime.now(UTC) - BACKDATING
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(_serial())
        .not_valid_before(start)
        .not_valid_after(start + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def _parse_certificate(path: Path, content: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError as exc:
        raise CertificateError(f"{path} is not a certificate in PEM form; remove it to have it made anew") from exc


def _check(certificate: x509.Certificate, key: _SigningKey, path: Path) -> None:
    if certificate.public_key() != key.public_key():
        raise CertificateError(f"{path} does not belong to ca-key.pem; restore the right one, or remove both files "
                               "to start with a new authority")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise CertificateError(f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; remove it to have it "
                               "made anew, then trust the new one")
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_authority = False
    if not is_authority:
        raise CertificateError(f"{path} is not the certificate of an authority (basicConstraints CA:TRUE)")


def _serial() -> int:
    # RFC 5280 §4.1.2.2: positive; 128 random bits, so that no two authorities of one name ever collide
    return secrets.randbits(128) or 1


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature=not ca, content_commitment=False, key_encipherment=False,
                         data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca,
                         encipher_only=False, decipher_only=False)
