"""Certificates of the user's own: which host gets which."""

from __future__ import annotations

from pathlib import Path

import pytest

from rulesproxy.certs.client_certificates import check_client_certificates, client_certificate
from rulesproxy.certs.custom import CustomCertificate, CustomCertificates
from rulesproxy.certs.files import CertificateError
from rulesproxy.certs.verdicts import advice, judge
from rulesproxy.certs.versions import VERSIONS
from tests.support.certificates import OriginCA


@pytest.mark.parametrize(("pattern", "host", "matches"), [
    ("*", "a.test", True), ("*", "192.0.2.1", True),
    ("a.test", "a.test", True), ("a.test", "b.a.test", False), ("192.0.2.1", "192.0.2.1", True),
    ("*.a.test", "b.a.test", True), ("*.a.test", "a.test", False), ("*.a.test", "c.b.a.test", False),
    ("*.a.test", ".a.test", False),
    ("**.a.test", "b.a.test", True), ("**.a.test", "c.b.a.test", True), ("**.a.test", "a.test", False),
    ("**.a.test", "xa.test", False), ("::1", "::1", True),
])
def test_patterns(pattern: str, host: str, matches: bool) -> None:
    assert CustomCertificate(pattern, Path("x")).matches(host) is matches


def test_the_most_exact_entry_counts_wherever_it_stands(tmp_path: Path) -> None:
    ca = OriginCA(tmp_path)
    file = ca.leaf("a.test")
    patterns = ["*", "**.test", "**.a.test", "*.a.test", "b.a.test"]
    for order in (patterns, patterns[::-1]):
        custom = CustomCertificates([f"{pattern}={file}" for pattern in order])
        found = [custom.find(host) for host in ("b.a.test", "c.a.test", "d.c.a.test", "z.test", "other.example")]
        assert [entry.pattern for entry in found if entry] == ["b.a.test", "*.a.test", "**.a.test", "**.test", "*"]


def test_a_file_alone_is_for_every_host_and_may_have_an_equals_sign(tmp_path: Path) -> None:
    ca = OriginCA(tmp_path)
    odd = tmp_path / "a=b.pem"
    odd.write_bytes(ca.leaf("a.test").read_bytes())
    entry = CustomCertificates([str(odd)]).find("anything.test")
    assert entry is not None and (entry.pattern, entry.path) == ("*", odd)
    assert CustomCertificates().find("anything.test") is None


def test_names_are_canonical(tmp_path: Path) -> None:
    file = OriginCA(tmp_path).leaf("a.test")
    custom = CustomCertificates([f"A.Test.={file}", f"**.Bücher.test={file}"])
    assert custom.find("a.test") and custom.find("x.xn--bcher-kva.test")
    with pytest.raises(CertificateError, match="write HOST=FILE"):
        CustomCertificates([f"a b={file}"])


@pytest.mark.parametrize("spec", ["a.test:{}", "*.test", "no-such.pem"])
def test_a_pattern_without_its_equals_sign_is_told_what_to_write(tmp_path: Path, spec: str) -> None:
    with pytest.raises(CertificateError, match=r"no such file; write HOST=FILE, \*\.NAME=FILE"):
        CustomCertificates([spec.format(OriginCA(tmp_path).leaf("a.test"))])


def test_expired_ones_are_told(tmp_path: Path) -> None:
    ca = OriginCA(tmp_path)
    good, old = ca.leaf("a.test"), ca.leaf("b.test", from_days=-9, until_days=-1)
    assert [entry.path for entry in CustomCertificates([f"a.test={good}", f"b.test={old}"]).expired] == [old]


def test_client_certificates_by_host(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "a.test.pem").write_bytes(OriginCA(tmp_path).leaf("me", flaw="client").read_bytes())
    assert client_certificate(folder, "A.test") == folder / "a.test.pem"
    assert client_certificate(folder, "b.test") is None
    assert client_certificate(folder, "../certs/a.test") is None  # no host, no file
    assert client_certificate(folder / "a.test.pem", "b.test") == folder / "a.test.pem"
    assert client_certificate(None, "a.test") is None
    check_client_certificates(folder)
    (folder / "c.test.pem").write_text("nothing")
    with pytest.raises(CertificateError, match=r"c\.test\.pem"):
        check_client_certificates(folder)


def test_versions_are_ordered() -> None:
    assert list(VERSIONS) == ["TLS1", "TLS1_1", "TLS1_2", "TLS1_3"]


def test_every_verdict_says_how_to_allow_it() -> None:
    for code in range(100):
        text = advice(judge(code), "shop.test")
        assert "tls: {verify: false}" in text and judge(code).why in text and judge(code).kind
    assert judge(10).kind == "expired" and judge(99).kind == "not trusted"
