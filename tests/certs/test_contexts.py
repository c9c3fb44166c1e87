"""SSL contexts: cached, bounded, and made anew when they must be."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from rulesproxy.certs.authority import Authority
from rulesproxy.certs.contexts import RENEWAL_SECONDS, ServerContexts, client_context
from rulesproxy.certs.files import CertificateError
from rulesproxy.net.memory import memory_pair
from rulesproxy.net.tls import TLSStream


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.load_or_create(tmp_path_factory.mktemp("ca") / "conf")


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[TLSStream, TLSStream]:
    one, other = memory_pair()
    async with asyncio.timeout(10):
        ends = await asyncio.gather(TLSStream.client(one, client, name), TLSStream.server(other, server))
    return ends[0], ends[1]


class TestServerContexts:
    def test_a_host_is_signed_for_once(self, authority: Authority) -> None:
        contexts = ServerContexts(authority)
        first = contexts.for_host("a.example")
        assert contexts.for_host("a.example") is first
        assert contexts.for_host("b.example") is not first
        assert contexts.for_host("a.example", ("h2", "http/1.1")) is not first

    def test_the_least_recently_used_go_first_and_the_number_is_bounded(self, authority: Authority) -> None:
        contexts = ServerContexts(authority, limit=8)
        kept = contexts.for_host("kept.example")
        dropped = contexts.for_host("dropped.example")
        for number in range(300):
            contexts.for_host(f"host{number}.example")
            assert contexts.for_host("kept.example") is kept
            assert len(contexts) <= 8
        assert contexts.for_host("dropped.example") is not dropped

    def test_a_leaf_is_renewed_long_before_it_ends(
            self, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        contexts = ServerContexts(authority)
        first = contexts.for_host("a.example")
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + RENEWAL_SECONDS - 60)
        assert contexts.for_host("a.example") is first
        monkeypatch.setattr(time, "time", lambda: now + RENEWAL_SECONDS + 60)
        assert contexts.for_host("a.example") is not first
        assert len(contexts) == 1

    def test_nothing_older_than_tls_1_2(self, authority: Authority) -> None:
        assert ServerContexts(authority).for_host("a.example").minimum_version is ssl.TLSVersion.TLSv1_2

    @pytest.mark.parametrize("host", ["a.example", "127.0.0.1", "::1", "x" * 60 + ".example"])
    async def test_a_verifying_client_is_content(self, authority: Authority, host: str) -> None:
        server = ServerContexts(authority).for_host(host)
        client, _ = await handshake(server, client_context(extra_ca=authority.path), host)
        assert client.version == "TLSv1.3"
        assert client.peer_certificates[0].issuer == authority.certificate.subject

    def test_a_host_no_certificate_can_name(self, authority: Authority) -> None:
        contexts = ServerContexts(authority)
        with pytest.raises(CertificateError):
            contexts.for_host("")
        assert len(contexts) == 0


class TestClientContext:
    def test_equal_demands_share_a_context(self, authority: Authority) -> None:
        assert client_context() is client_context()
        assert client_context(extra_ca=authority.path) is client_context(extra_ca=authority.path)
        different = [client_context(), client_context(verify=False), client_context(alpn=("h2",)),
                     client_context(min_version="TLS1_3"), client_context(extra_ca=authority.path)]
        assert len(set(map(id, different))) == 5

    def test_verification_is_the_default(self) -> None:
        context = client_context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert not client_context(verify=False).check_hostname

    def test_a_changed_file_makes_a_new_context(self, authority: Authority, tmp_path: Path) -> None:
        roots = tmp_path / "roots.pem"
        roots.write_bytes(authority.certificate_pem)
        first = client_context(extra_ca=roots)
        roots.write_bytes(authority.certificate_pem * 2)
        assert client_context(extra_ca=roots) is not first

    async def test_a_client_certificate_is_shown(self, authority: Authority, tmp_path: Path) -> None:
        chain = tmp_path / "client.pem"
        chain.write_bytes(authority.leaf_key_pem + authority.leaf("client.example").public_bytes(Encoding.PEM))
        server = ServerContexts(authority).for_host("a.example")
        server.verify_mode = ssl.CERT_OPTIONAL
        _, answering = await handshake(server, client_context(extra_ca=authority.path, alpn=()), "a.example")
        assert answering.peer_certificates == []
        server.load_verify_locations(authority.path)
        server.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        client = client_context(verify=False, client_cert=chain)
        one, other = memory_pair()
        results = await asyncio.gather(TLSStream.client(one, client, "a.example"), TLSStream.server(other, server),
                                       return_exceptions=True)
        # The leaf is for servers: that the server says so shows that it was sent.
        assert "unsuitable certificate purpose" in str(results[1])

    @pytest.mark.parametrize(("argument", "content", "reason"), [
        ("extra_ca", None, "cannot read .*: no such file"),
        ("extra_ca", "nonsense", "holds no certificate in PEM form"),
        ("client_cert", None, "cannot read .*: no such file"),
        ("client_cert", "nonsense", "does not hold a certificate and its unencrypted private key"),
    ])
    def test_unusable_files_are_named(self, tmp_path: Path, argument: str, content: str | None, reason: str) -> None:
        path = tmp_path / "file.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(CertificateError, match=reason) as caught:
            client_context(**{argument: path})  # type: ignore[arg-type]
        assert str(path) in str(caught.value)
