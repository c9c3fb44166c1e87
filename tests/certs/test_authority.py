"""The certificate authority: its files, and what it signs judged by openssl."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from rulesproxy.certs import files
from rulesproxy.certs.authority import Authority
from rulesproxy.certs.files import CertificateError, private_file

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    return tmp_path / "conf"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.load_or_create(tmp_path_factory.mktemp("ca") / "conf")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestFiles:
    def test_they_are_private_from_creation(self, confdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        created: list[tuple[str, int]] = []
        real_open = os.open

        def watching_open(path: str | Path, flags: int, mode: int = 0o777) -> int:
            descriptor = real_open(path, flags, mode)
            if flags & os.O_CREAT:
                created.append((Path(path).name, stat.S_IMODE(os.fstat(descriptor).st_mode)))
                assert flags & os.O_EXCL
            return descriptor

        monkeypatch.setattr(os, "open", watching_open)
        old = os.umask(0)
        try:
            Authority.load_or_create(confdir)
        finally:
            os.umask(old)
        assert [created_mode for name, created_mode in created if "ca-key" in name] == [0o600]
        assert mode(confdir) == 0o700
        assert mode(confdir / "ca-key.pem") == 0o600
        assert sorted(path.name for path in confdir.iterdir()) == ["ca-cert.pem", "ca-key.pem"]

    def test_the_second_start_finds_the_same_authority(self, confdir: Path) -> None:
        first = Authority.load_or_create(confdir)
        second = Authority.load_or_create(confdir)
        assert first.certificate_pem == second.certificate_pem == (confdir / "ca-cert.pem").read_bytes()
        assert first.path == confdir / "ca-cert.pem"
        assert first.fingerprint_sha256 == first.certificate.fingerprint(hashes.SHA256()).hex()

    def test_parents_are_made(self, tmp_path: Path) -> None:
        Authority.load_or_create(tmp_path / "a" / "b")
        assert mode(tmp_path / "a" / "b") == 0o700

    @pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o620])
    def test_a_key_open_to_others_is_refused(self, confdir: Path, bits: int) -> None:
        Authority.load_or_create(confdir)
        (confdir / "ca-key.pem").chmod(bits)
        with pytest.raises(CertificateError, match=rf"{confdir}/ca-key\.pem .* chmod 600 "):
            Authority.load_or_create(confdir)

    @pytest.mark.parametrize("bits", [0o755, 0o750, 0o777, 0o701])
    def test_a_folder_open_to_others_is_refused(self, confdir: Path, bits: int) -> None:
        confdir.mkdir()
        confdir.chmod(bits)
        with pytest.raises(CertificateError, match=rf"run: chmod 700 {confdir}$"):
            Authority.load_or_create(confdir)
        assert list(confdir.iterdir()) == []

    @pytest.mark.parametrize("name", ["ca-key.pem", "ca-cert.pem"])
    def test_a_symbolic_link_is_refused(self, confdir: Path, tmp_path: Path, name: str) -> None:
        Authority.load_or_create(confdir)
        (confdir / name).rename(tmp_path / name)
        (confdir / name).symlink_to(tmp_path / name)
        with pytest.raises(CertificateError, match=rf"{name} is a symbolic link"):
            Authority.load_or_create(confdir)

    def test_a_dangling_link_is_refused_and_not_followed(self, confdir: Path, tmp_path: Path) -> None:
        confdir.mkdir(mode=0o700)
        (confdir / "ca-key.pem").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CertificateError, match="symbolic link"):
            Authority.load_or_create(confdir)
        assert not (tmp_path / "elsewhere").exists()

    def test_a_fifo_is_refused_without_hanging(self, confdir: Path) -> None:
        confdir.mkdir(mode=0o700)
        os.mkfifo(confdir / "ca-key.pem", 0o600)
        with pytest.raises(CertificateError, match="not a regular file"):
            Authority.load_or_create(confdir)

    def test_a_file_where_the_folder_should_be(self, confdir: Path) -> None:
        confdir.write_text("")
        with pytest.raises(CertificateError, match=f"cannot create the folder {confdir}: file exists"):
            Authority.load_or_create(confdir)

    def test_a_folder_nobody_can_write_to(self, confdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_arguments: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(CertificateError, match=r"cannot write .*ca-key\.pem: no space left on device"):
            Authority.load_or_create(confdir)
        assert list(confdir.iterdir()) == []

    def test_what_was_published_first_stays(self, tmp_path: Path) -> None:
        files.publish(tmp_path / "file", b"first", 0o600)
        files.publish(tmp_path / "file", b"second", 0o600)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"first")]

    def test_a_crash_between_the_two_files_is_repaired(self, confdir: Path) -> None:
        Authority.load_or_create(confdir)
        key = (confdir / "ca-key.pem").read_bytes()
        (confdir / "ca-cert.pem").unlink()
        again = Authority.load_or_create(confdir)
        assert (confdir / "ca-key.pem").read_bytes() == key
        assert again.certificate_pem == (confdir / "ca-cert.pem").read_bytes()

    @pytest.mark.parametrize("name", ["ca-key.pem", "ca-cert.pem"])
    @pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
    def test_damaged_files_are_named(self, confdir: Path, name: str, content: bytes) -> None:
        Authority.load_or_create(confdir)
        (confdir / name).write_bytes(content)
        with pytest.raises(CertificateError, match=rf"{name} is not .* PEM form"):
            Authority.load_or_create(confdir)

    def test_an_encrypted_key_is_refused(self, confdir: Path) -> None:
        Authority.load_or_create(confdir)
        key = ec.generate_private_key(ec.SECP256R1())
        (confdir / "ca-key.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
        with pytest.raises(CertificateError, match="not an unencrypted private key"):
            Authority.load_or_create(confdir)

    def test_a_key_that_tls_clients_do_not_take_is_refused(self, confdir: Path) -> None:
        Authority.load_or_create(confdir)
        (confdir / "ca-key.pem").write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(CertificateError, match="neither an EC nor an RSA key"):
            Authority.load_or_create(confdir)

    def test_a_certificate_of_another_key_is_refused(self, confdir: Path, tmp_path: Path) -> None:
        Authority.load_or_create(confdir)
        other = Authority.load_or_create(tmp_path / "other")
        (confdir / "ca-cert.pem").write_bytes(other.certificate_pem)
        with pytest.raises(CertificateError, match=r"does not belong to ca-key\.pem"):
            Authority.load_or_create(confdir)

    @pytest.mark.parametrize(("ca", "days", "reason"), [
        (True, -1, "expired on"),
        (False, 1, "not the certificate of an authority"),
    ])
    def test_an_unfit_certificate_is_refused(self, confdir: Path, ca: bool, days: int, reason: str) -> None:
        own_authority(confdir, ec.generate_private_key(ec.SECP256R1()), ca=ca, days=days)
        with pytest.raises(CertificateError, match=reason):
            Authority.load_or_create(confdir)

    def test_many_processes_starting_at_once_make_one_authority(self, confdir: Path) -> None:
        script = ("import sys; from pathlib import Path; from rulesproxy.certs.authority import Authority;"
                  "print('ready', flush=True); sys.stdin.readline();"
                  "print(Authority.load_or_create(Path(sys.argv[1])).fingerprint_sha256)")
        starting = [subprocess.Popen([sys.executable, "-c", script, str(confdir)], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True) for _ in range(4)]
        for process in starting:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in starting:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        fingerprints = {process.communicate(timeout=30)[0].strip() for process in starting}
        assert fingerprints == {Authority.load_or_create(confdir).fingerprint_sha256}
        assert sorted(path.name for path in confdir.iterdir()) == ["ca-cert.pem", "ca-key.pem"]


def own_authority(confdir: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, ca: bool = True,
                  days: int = 30) -> None:
    """Files as a person would bring them: no key identifiers."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own CA")])
    now = datetime.now(UTC)
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(1).not_valid_before(now - timedelta(days=60))
                   .not_valid_after(now + timedelta(days=days))
                   .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
                   .sign(key, hashes.SHA256()))
    confdir.mkdir(mode=0o700)
    (confdir / "ca-cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (confdir / "ca-key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (confdir / "ca-key.pem").chmod(0o600)


HOSTS = [
    "host.example",
    "a.b.c.host.example",
    "*.host.example",
    "under_score.example",
    "xn--bcher-kva.example",
    "localhost",
    "127.0.0.1",
    "2001:db8::1",
    "x" * 60 + ".example",  # 68 characters: no common name holds it
    ".".join(["label" * 12] * 4),  # 243
]


class TestLeaves:
    @needs_openssl
    @pytest.mark.parametrize("host", HOSTS)
    def test_openssl_accepts_them_strictly(self, authority: Authority, host: str, tmp_path: Path) -> None:
        (tmp_path / "leaf.pem").write_bytes(authority.leaf(host).public_bytes(Encoding.PEM))
        kind = "-verify_ip" if ":" in host or host == "127.0.0.1" else "-verify_hostname"
        for checked, verdict in ((host.replace("*", "any"), 0), ("198.51.100.9", 2)):
            result = subprocess.run(
                [str(OPENSSL), "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(authority.path),
                 kind, checked, str(tmp_path / "leaf.pem")], capture_output=True, text=True, timeout=20, check=False)
            assert result.returncode == verdict, result.stderr

    @needs_openssl
    def test_openssl_accepts_the_authority_strictly(self, authority: Authority) -> None:
        subprocess.run([str(OPENSSL), "verify", "-x509_strict", "-CAfile", str(authority.path), str(authority.path)],
                       capture_output=True, timeout=20, check=True)

    @pytest.mark.parametrize("host", HOSTS)
    def test_the_name_is_in_the_right_field(self, authority: Authority, host: str) -> None:
        leaf = authority.leaf(host)
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        if host in ("127.0.0.1", "2001:db8::1"):
            assert [str(ip) for ip in extension.value.get_values_for_type(x509.IPAddress)] == [host]
        else:
            assert extension.value.get_values_for_type(x509.DNSName) == [host]
        assert len(list(extension.value)) == 1
        common_names = [attribute.value for attribute in leaf.subject]
        assert common_names == ([host] if len(host) <= 64 else [])
        assert extension.critical == (common_names == [])

    def test_they_live_199_days_from_yesterday(self, authority: Authority) -> None:
        leaf = authority.leaf("host.example")
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc + timedelta(seconds=1) <= timedelta(days=199)
        assert timedelta(hours=23) < datetime.now(UTC) - leaf.not_valid_before_utc < timedelta(hours=25)
        assert leaf.not_valid_after_utc - datetime.now(UTC) > timedelta(days=190)

    def test_they_do_not_outlive_the_authority(self, confdir: Path) -> None:
        own_authority(confdir, ec.generate_private_key(ec.SECP256R1()), days=30)
        own = Authority.load_or_create(confdir)
        assert own.leaf("host.example").not_valid_after_utc == own.certificate.not_valid_after_utc

    def test_serials_are_random(self, authority: Authority) -> None:
        serials = [authority.leaf("host.example").serial_number for _ in range(64)]
        assert len(set(serials)) == 64
        assert 120 < max(serial.bit_length() for serial in serials) <= 128
        assert min(serials) > 0

    @pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
    def test_an_authority_of_ones_own(self, confdir: Path, key: ec.EllipticCurvePrivateKey) -> None:
        own_authority(confdir, key)
        own = Authority.load_or_create(confdir)
        own.leaf("host.example").verify_directly_issued_by(own.certificate)

    @pytest.mark.parametrize("host", ["", "bücher.example"])
    def test_a_name_no_certificate_can_hold(self, authority: Authority, host: str) -> None:
        with pytest.raises(CertificateError, match="no certificate can be made for"):
            authority.leaf(host)


class TestPrivateFile:
    @pytest.mark.parametrize("in_memory", [True, False])
    def test_nobody_else_can_read_it_and_nothing_is_left(
            self, in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if in_memory and not files._HAS_MEMORY_FILES:
            pytest.skip("this system has no files in memory")
        monkeypatch.setattr(files, "_HAS_MEMORY_FILES", in_memory)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with private_file(b"secret") as path:
            assert Path(path).read_bytes() == b"secret"
            assert list(tmp_path.iterdir()) == ([] if in_memory else [Path(path).parent])
            if not in_memory:
                assert (mode(Path(path)), mode(Path(path).parent)) == (0o600, 0o700)
        assert list(tmp_path.iterdir()) == []
        assert not os.path.exists(path)
