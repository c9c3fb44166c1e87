"""A zoo of certificates for `localhost`, each wrong in one way, with what a proxy must say about it."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, its key, and who signed it (None: itself)."""

    certificate: x509.Certificate
    key: Key
    issuer: Issued | None = None

    @property
    def chain(self) -> list[x509.Certificate]:
        """From this certificate up to, and without, the root."""
        return [] if self.issuer is None else [self.certificate, *self.issuer.chain]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a certificate is made; the defaults make a good leaf."""

    names: tuple[str, ...] = ("localhost",)
    from_days: int = -2
    until_days: int = 10
    ca: bool = False
    path_length: int | None = None
    purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH
    key: Callable[[], Key] = field(default=lambda: ec.generate_private_key(ec.SECP256R1()))
    only_below: str | None = None
    signs: bool | None = None


def issue(issuer: Issued | None, plan: Plan, subject: str = "leaf") -> Issued:
    """Sign a certificate; without an issuer it signs itself."""
    key = plan.key()
    signer = key if issuer is None else issuer.key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    signs = plan.ca if plan.signs is None else plan.signs
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now + plan.from_days * DAY).not_valid_after(now + plan.until_days * DAY)
        .add_extension(x509.BasicConstraints(ca=plan.ca, path_length=plan.path_length), critical=True)
        .add_extension(x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False),
            critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False))
    if not plan.ca:
        if plan.names:
            names = [x509.DNSName(name) for name in plan.names]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if plan.purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([plan.purpose]), critical=False)
    if plan.only_below is not None:
        builder = builder.add_extension(x509.NameConstraints([x509.DNSName(plan.only_below)], None), critical=True)
    return Issued(builder.sign(signer, hashes.SHA256()), key, issuer)


def _weak() -> Key:
    return rsa.generate_private_key(65537, 1024)


def _rsa() -> Key:
    return rsa.generate_private_key(65537, 2048)


def _under(authority: Plan) -> Callable[[Issued], Issued]:
    """A leaf below an intermediate authority."""
    return lambda root: issue(issue(root, authority, "intermediate"), Plan())


def _without_chain(root: Issued) -> Issued:
    intermediate = issue(root, Plan(ca=True), "intermediate")
    leaf = issue(intermediate, Plan())
    return Issued(leaf.certificate, leaf.key, Issued(intermediate.certificate, intermediate.key))


def _too_long(root: Issued) -> Issued:
    """An authority that may sign leaves only has signed another authority."""
    first = issue(root, Plan(ca=True, path_length=0), "first")
    return issue(issue(first, Plan(ca=True), "second"), Plan())


def _damaged(root: Issued) -> Issued:
    """One bit of the signature is another."""
    leaf = issue(root, Plan())
    der = leaf.certificate.public_bytes(serialization.Encoding.DER)
    return Issued(x509.load_der_x509_certificate(der[:-1] + bytes((der[-1] ^ 1,))), leaf.key, root)


def _with_sha1(root: Issued) -> Issued:
    """Signed as it was usual in 2010, which the library does not do any more."""
    authority = issue(root, Plan(ca=True, key=_rsa), "intermediate")
    leaf = issue(authority, Plan())
    assert isinstance(authority.key, rsa.RSAPrivateKey)
    der = leaf.certificate.public_bytes(serialization.Encoding.DER).replace(_SHA256_WITH_RSA, _SHA1_WITH_RSA)
    body = leaf.certificate.tbs_certificate_bytes.replace(_SHA256_WITH_RSA, _SHA1_WITH_RSA)
    signature = authority.key.sign(body, padding.PKCS1v15(), hashes.SHA1())
    return Issued(x509.load_der_x509_certificate(der[:-len(signature)] + signature), leaf.key, authority)


# The identifiers of RFC 4055 §5 and RFC 3279 §2.2.1, in DER.
_SHA256_WITH_RSA = bytes.fromhex("2a864886f70d01010b")
_SHA1_WITH_RSA = bytes.fromhex("2a864886f70d010105")


@dataclass(frozen=True, slots=True)
class Animal:
    """`make` takes the trusted root; `says` are words of the 502 page."""

    name: str
    make: Callable[[Issued], Issued]
    says: str


ANIMALS = (
    Animal("expired", lambda root: issue(root, Plan(until_days=-1)), "has expired"),
    Animal("not yet valid", lambda root: issue(root, Plan(from_days=2)), "not valid yet"),
    Animal("wrong host", lambda root: issue(root, Plan(names=("elsewhere.test",))), "for other names"),
    Animal("no names", lambda root: issue(root, Plan(names=()), "localhost"), "for other names"),
    Animal("self-signed", lambda root: issue(None, Plan()), "signed its certificate itself"),
    Animal("unknown authority", lambda root: issue(issue(None, Plan(ca=True), "stranger"), Plan()),
           "authority that is not trusted"),
    Animal("intermediate left out", _without_chain, "leaves out an intermediate"),
    Animal("intermediate expired", _under(Plan(ca=True, until_days=-1)), "has expired"),
    Animal("issuer is no authority", _under(Plan(names=("elsewhere.test",))), "without being allowed to"),
    Animal("issuer may not sign", _under(Plan(ca=True, signs=False)), "without being allowed to"),
    Animal("path too long", _too_long, "longer than"),
    Animal("outside name constraints", _under(Plan(ca=True, only_below="allowed.test")), "outside of what it may sign"),
    Animal("weak key", lambda root: issue(root, Plan(key=_weak)), "too short"),
    Animal("weak authority", _under(Plan(ca=True, key=_weak)), "too short"),
    Animal("SHA-1", _with_sha1, "outdated hash"),
    Animal("for clients only", lambda root: issue(root, Plan(purpose=ExtendedKeyUsageOID.CLIENT_AUTH)),
           "not one for servers"),
    Animal("signature wrong", _damaged, "signature in the chain is wrong"),
)


def make_root(folder: Path) -> tuple[Issued, Path]:
    """An authority to trust, and the file to trust it by."""
    root = issue(None, Plan(ca=True), "Zoo root")
    path = folder / "zoo-root.pem"
    path.write_bytes(root.certificate.public_bytes(serialization.Encoding.PEM))
    return root, path


def server_context(issued: Issued, folder: Path, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """A context that shows the certificate, with whatever is above it but the root."""
    path = folder / f"{issued.certificate.serial_number:x}.pem"
    path.touch(mode=0o600)
    chain = issued.chain or [issued.certificate]
    path.write_bytes(issued.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption())
                     + b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(path)
    context.set_alpn_protocols(list(alpn))
    return context
