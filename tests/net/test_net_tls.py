"""`TLSStream`: what was agreed on, how handshakes fail, how connections end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pairs import contexts, over_tls

from rulesproxy.certs.contexts import client_context
from rulesproxy.net.memory import MemoryStream, memory_pair
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.net.tls import TLSError, TLSStream

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def trusting(version: ssl.TLSVersion | None = None, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """A client's context that trusts the test authority, fresh so that a test may change it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(contexts()[1])
    context.set_alpn_protocols(list(alpn))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


async def connected(client: ssl.SSLContext, server: ssl.SSLContext | None = None, *,
                    name: str | None = "host.example") -> tuple[TLSStream, TLSStream]:
    one, other = memory_pair()
    server = server or contexts()[0].for_host("host.example")
    ends = await asyncio.gather(TLSStream.client(one, client, name), TLSStream.server(other, server))
    return ends[0], ends[1]


async def failing(client: ssl.SSLContext, server: ssl.SSLContext, name: str | None) -> tuple[TLSError, BaseException]:
    """What each side says about a handshake that the client ends."""
    one, other = memory_pair()
    answering = asyncio.create_task(TLSStream.server(other, server))
    with pytest.raises(TLSError) as caught:
        await TLSStream.client(one, client, name)
    await one.aclose()
    await asyncio.wait([answering])
    error = answering.exception()
    assert error is not None
    return caught.value, error


class TestAgreement:
    @pytest.mark.parametrize("version", VERSIONS)
    async def test_the_facts_are_known_at_both_ends(self, version: ssl.TLSVersion) -> None:
        client, server = await connected(trusting(version))
        assert client.version == server.version == version.name.replace("_", ".")
        assert client.cipher == server.cipher != ""
        assert client.selected_alpn == server.selected_alpn == b"http/1.1"
        assert client.server_hostname == "host.example"
        assert server.peer_certificates == []
        leaf = client.peer_certificates[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["host.example"]

    async def test_no_alpn_in_common_is_none(self) -> None:
        client, server = await connected(trusting(alpn=("h2",)))
        assert client.selected_alpn is None
        assert server.selected_alpn is None

    async def test_the_server_prefers(self) -> None:
        preferring = contexts()[0].for_host("host.example", alpn=("h2", "http/1.1"))
        client, _ = await connected(trusting(alpn=("http/1.1", "h2")), preferring)
        assert client.selected_alpn == b"h2"

    async def test_an_address_is_verified_but_not_sent_as_sni(self) -> None:
        server = contexts()[0].for_host("127.0.0.1")
        seen: list[str | None] = []
        server.sni_callback = lambda _object, name, _context: seen.append(name)
        await connected(trusting(), server, name="127.0.0.1")
        server.sni_callback = None
        assert seen == [None]

    @pytest.mark.parametrize("name", ["", ".example", "a" * 64 + ".example", "a..example", "nul\0.example"])
    async def test_an_impossible_server_name_is_a_readable_error(self, name: str) -> None:
        one, _ = memory_pair()
        with pytest.raises(TLSError, match="cannot be used as a server name"):
            await TLSStream.client(one, trusting(), name)


class TestFragments:
    async def test_a_peeked_client_hello_is_not_lost(self) -> None:
        one, other = memory_pair()
        peekable = PeekableStream(other)
        dialling = asyncio.create_task(TLSStream.client(one, trusting(), "host.example"))
        assert (await peekable.peek(6))[0] == 22
        server = await TLSStream.server(peekable, contexts()[0].for_host("host.example"))
        client = await dialling
        await client.write(b"x")
        assert await server.read() == b"x"

    @pytest.mark.parametrize("version", VERSIONS)
    async def test_records_may_come_byte_by_byte(self, version: ssl.TLSVersion) -> None:
        """Handshake, data and a half-close in the middle of a record."""
        one, client_side = memory_pair()
        server_side, other = memory_pair()

        async def drip(source: MemoryStream, target: MemoryStream) -> None:
            while data := await source.read():
                for byte in data:
                    if not target._outgoing.reader_gone:
                        await target.write(bytes([byte]))
                    await asyncio.sleep(0)
            await target.write_eof()

        drips = [asyncio.create_task(drip(client_side, server_side)),
                 asyncio.create_task(drip(server_side, client_side))]
        client, server = await asyncio.gather(
            TLSStream.client(one, trusting(version), "host.example"),
            TLSStream.server(other, contexts()[0].for_host("host.example")))
        await server.write(b"first ")
        reading = asyncio.create_task(client.read())
        for _ in range(10):  # part of the record has arrived
            await asyncio.sleep(0)
        assert not reading.done()
        await client.write_eof()
        await server.write(b"second")
        await server.aclose()
        text = await reading
        while data := await client.read():
            text += data
        assert text == b"first second"
        assert not client.ragged_eof
        assert await server.read() == b""
        await client.aclose()
        await asyncio.gather(*drips)


class TestEnds:
    async def test_an_end_with_close_notify_is_not_ragged(self) -> None:
        client, server = await connected(trusting())
        await server.write(b"body")
        await server.aclose()
        assert await client.read() == b"body"
        assert await client.read() == b""
        assert not client.ragged_eof
        assert client.closing

    async def test_an_end_without_close_notify_is_ragged(self) -> None:
        client, server = await connected(trusting())
        await server.write(b"body")
        await server.inner.aclose()
        assert await client.read() == b"body"
        assert await client.read() == b""
        assert client.ragged_eof
        assert await client.read() == b""

    async def test_an_end_within_a_record_is_ragged(self) -> None:
        client, server = await connected(trusting())
        assert isinstance(server.inner, MemoryStream)
        server._object.write(b"cut")
        await server.inner.write(server._outgoing.read()[:-1])
        await server.inner.aclose()
        assert await client.read() == b""
        assert client.ragged_eof

    async def test_closing_ones_own_end_is_not_ragged(self) -> None:
        client, _ = await connected(trusting())
        reading = asyncio.create_task(client.read())
        await asyncio.sleep(0)
        await client.aclose()
        assert await reading == b""
        assert not client.ragged_eof

    async def test_a_flipped_bit_is_an_error(self) -> None:
        client, server = await connected(trusting())
        await client.write(b"warm up, tickets out of the way")
        await server.read()
        server._object.write(b"intact")
        server._object.write(b"damaged")
        records = bytearray(server._outgoing.read())
        records[-1] ^= 1
        await server.inner.write(bytes(records))
        assert await client.read() == b"intact"
        with pytest.raises(ConnectionClosed, match=r"bad record mac|decryption failed"):
            while await client.read():
                pass

    async def test_a_client_that_must_show_a_certificate_learns_so_when_it_reads(self, tmp_path: Path) -> None:
        demanding = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        write_chain(tmp_path / "server.pem", self_signed("host.example"))
        demanding.load_cert_chain(tmp_path / "server.pem")
        demanding.verify_mode = ssl.CERT_REQUIRED
        one, other = memory_pair()
        answering = asyncio.create_task(TLSStream.server(other, demanding))
        client = await TLSStream.client(one, client_context(verify=False, alpn=()), "host.example")
        with pytest.raises(TLSError, match="peer showed no certificate"):
            await answering
        with pytest.raises(ConnectionClosed, match="TLS alert: certificate required"):
            await client.read()

    async def test_aclose_does_not_wait_for_a_peer_that_takes_nothing(self) -> None:
        client, _ = await connected(trusting())
        writing = asyncio.create_task(client.write(bytes(2**20)))
        await asyncio.sleep(0)
        async with asyncio.timeout(3):
            await client.aclose()
        with pytest.raises(ConnectionClosed):
            await writing


class TestFailedHandshakes:
    async def test_a_peer_that_leaves(self) -> None:
        for side in ("client", "server"):
            one, other = memory_pair()
            await other.aclose()
            with pytest.raises(ConnectionClosed):
                if side == "client":
                    await TLSStream.client(one, trusting(), "host.example")
                else:
                    await TLSStream.server(one, contexts()[0].for_host("host.example"))

    async def test_a_silent_peer_times_out_and_the_stream_stays_the_callers(self) -> None:
        one, other = memory_pair()
        with pytest.raises(TLSError, match=r"timed out after 0\.05 s"):
            await TLSStream.client(one, trusting(), "host.example", timeout=0.05)
        assert not one.closing
        assert (await other.read())[0] == 22

    async def test_a_server_that_does_not_speak_tls(self) -> None:
        one, other = memory_pair()
        await other.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(TLSError, match="does not speak TLS"):
            await TLSStream.client(one, trusting(), "host.example")

    async def test_a_client_that_does_not_speak_tls(self) -> None:
        one, other = memory_pair()
        await other.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(TLSError, match="HTTP request"):
            await TLSStream.server(one, contexts()[0].for_host("host.example"))

    async def test_no_common_version(self) -> None:
        old, new = trusting(ssl.TLSVersion.TLSv1_2), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        new.minimum_version = ssl.TLSVersion.TLSv1_3
        client_error, server_error = await failing(old, new, "host.example")
        assert str(client_error) == "the peer refused with the TLS alert: protocol version"
        assert str(server_error) == "the peer offers no TLS version that is allowed here"

    async def test_a_client_that_does_not_trust_us_tells_why(self) -> None:
        _, error = await failing(client_context(), contexts()[0].for_host("host.example"), "host.example")
        assert isinstance(error, TLSError)
        assert str(error) == "the peer refused with the TLS alert: unknown ca"


def self_signed(name: str, *, start: timedelta = timedelta(days=-1), end: timedelta = timedelta(days=10),
                ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
                   .serial_number(1).not_valid_before(now + start).not_valid_after(now + end)
                   .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
                   .sign(key, hashes.SHA256()))
    return key, certificate


def write_chain(path: Path, pair: tuple[ec.EllipticCurvePrivateKey, x509.Certificate]) -> None:
    path.write_bytes(pair[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                     + pair[1].public_bytes(Encoding.PEM))


BAD_ORIGINS: dict[str, tuple[Callable[[], tuple[ec.EllipticCurvePrivateKey, x509.Certificate]], str]] = {
    "another name": (lambda: self_signed("other.example"),
                     "hostname mismatch, certificate is not valid for 'host.example'"),
    "expired": (lambda: self_signed("host.example", start=timedelta(days=-9), end=timedelta(days=-1)),
                "certificate has expired"),
    "not valid yet": (lambda: self_signed("host.example", start=timedelta(days=1)),
                      "certificate is not yet valid"),
}


class TestVerification:
    @pytest.mark.parametrize("kind", list(BAD_ORIGINS))
    async def test_a_trusted_root_does_not_excuse(self, kind: str, tmp_path: Path) -> None:
        make, reason = BAD_ORIGINS[kind]
        pair = make()
        write_chain(tmp_path / "chain.pem", pair)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(tmp_path / "chain.pem")
        error, _ = await failing(client_context(extra_ca=tmp_path / "chain.pem"), server, "host.example")
        assert str(error) == f"certificate verify failed: {reason}"
        assert error.verify_message is not None
        assert error.verify_message.lower().startswith(reason[:20])

    async def test_self_signed(self, tmp_path: Path) -> None:
        write_chain(tmp_path / "chain.pem", self_signed("host.example"))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(tmp_path / "chain.pem")
        error, _ = await failing(client_context(), server, "host.example")
        assert str(error) == "certificate verify failed: self-signed certificate"

    async def test_unknown_authority(self) -> None:
        error, _ = await failing(client_context(), contexts()[0].for_host("host.example"), "host.example")
        assert str(error) == "certificate verify failed: self-signed certificate in certificate chain"

    async def test_wrong_address(self) -> None:
        error, _ = await failing(trusting(), contexts()[0].for_host("127.0.0.1"), "127.0.0.2")
        assert str(error) == (
            "certificate verify failed: IP address mismatch, certificate is not valid for '127.0.0.2'")

    async def test_without_verification_anything_goes(self, tmp_path: Path) -> None:
        write_chain(tmp_path / "chain.pem", self_signed("other.example", end=timedelta(hours=-1)))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(tmp_path / "chain.pem")
        client, _ = await connected(client_context(verify=False), server)
        assert client.peer_certificates[0].subject.rfc4514_string() == "CN=other.example"

    async def test_tls_in_tls(self) -> None:
        inner = await over_tls(*await connected(trusting()))
        await inner[0].write(b"nested")
        assert await inner[1].read() == b"nested"
