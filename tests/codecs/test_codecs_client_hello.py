"""ClientHellos of a real TLS client, cut in every way, and broken ones."""

from __future__ import annotations

import ssl
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rulesproxy.codecs.client_hello import ClientHelloError, ClientHelloReader, parse_client_hello
from rulesproxy.model.tls import ClientHello


def real_hello(server_name: str | None = "www.A.example", alpn: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """The first flight of OpenSSL, as it goes on the wire."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    conn = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        conn.do_handshake()
    return outgoing.read()


def records(message: bytes, size: int, version: bytes = b"\x03\x01") -> bytes:
    """The handshake message in TLS records of at most `size` bytes."""
    parts = [message[at:at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16" + version + struct.pack(">H", len(part)) + part for part in parts)


def extension(kind: int, body: bytes) -> bytes:
    return struct.pack(">HH", kind, len(body)) + body


def server_name(*names: bytes, kind: int = 0) -> bytes:
    entries = b"".join(struct.pack(">BH", kind, len(name)) + name for name in names)
    return extension(0, struct.pack(">H", len(entries)) + entries)


def message(extensions: bytes | None = b"", *, ciphers: bytes = b"\x13\x01", compression: bytes = b"\x00",
            session: bytes = b"", tail: bytes = b"") -> bytes:
    body = (b"\x03\x03" + bytes(32) + bytes([len(session)]) + session + struct.pack(">H", len(ciphers)) + ciphers
            + bytes([len(compression)]) + compression)
    if extensions is not None:
        body += struct.pack(">H", len(extensions)) + extensions
    body += tail
    return b"\x01" + len(body).to_bytes(3, "big") + body


def parsed(raw: bytes) -> ClientHello:
    hello = parse_client_hello(records(raw, 16384))
    assert hello is not None
    return hello


def test_the_facts_of_a_real_hello() -> None:
    wire = real_hello()
    hello = parse_client_hello(wire)
    assert hello is not None
    assert hello.sni == "www.a.example"
    assert hello.alpn_protocols == (b"h2", b"http/1.1")
    assert 0x1301 in hello.cipher_suites and 0x0304 in hello.supported_versions
    assert {kind for kind, _ in hello.extensions} >= {0, 16, 43}
    assert hello.raw_bytes(wrap_in_record=False) == wire[5:]
    assert hello.raw_bytes() == wire


def test_a_real_hello_without_sni_and_alpn() -> None:
    hello = parse_client_hello(real_hello(None, ()))
    assert hello is not None and hello.sni is None and hello.alpn_protocols == ()


def test_a_hello_may_be_cut_at_every_byte() -> None:
    wire = real_hello()
    whole = parse_client_hello(wire)
    for size in range(len(wire)):
        assert parse_client_hello(wire[:size]) is None
        reader = ClientHelloReader()
        assert reader.feed(wire[:size]) is None
        assert reader.feed(wire[size:] + b"more") == whole


@pytest.mark.parametrize("record", [1, 2, 3, 4, 5, 100, 300])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_hello_may_come_in_many_records_and_segments(record: int, step: int) -> None:
    wire = real_hello()
    cut = records(wire[5:], record)
    reader = ClientHelloReader()
    answers = [reader.feed(cut[at:at + step]) for at in range(0, len(cut), step)]
    assert answers[-1] == parse_client_hello(wire) == parse_client_hello(cut)
    assert answers[:-1] == [None] * (len(answers) - 1)


@pytest.mark.parametrize(("name", "expected"), [
    (b"a.example", "a.example"), (b"A.EXAMPLE", "a.example"), (b"a.example.", "a.example"),
    (b"a_b.example", "a_b.example"), (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
    (b"127.0.0.1", None), (b"::1", None), (b"[::1]", None),
])
def test_server_names(name: bytes, expected: str | None) -> None:
    assert parsed(message(server_name(name))).sni == expected


@pytest.mark.parametrize("name", [
    b"b\xc3\xbccher.example", b"", b"a b", b"a\x00b", b"a..b", b"*.example", b"127.1", b"a.example:443", b"a" * 300,
    b"\r\nGET / HTTP/1.1", b"blocked.example\x00", b"blocked.example..", b" blocked.example",
])
def test_a_name_that_no_rule_can_be_asked_about_is_refused(name: bytes) -> None:
    with pytest.raises(ClientHelloError, match="not a host name"):
        parsed(message(server_name(name)))


def test_hellos_of_old_clients() -> None:
    hello = parsed(message(None))  # no extensions at all
    assert hello.sni is None and hello.extensions == () and hello.supported_versions == (0x0303,)
    assert parsed(message(server_name(b"other", kind=7))).sni is None


def test_a_hello_of_nearly_64_kib_is_read_in_linear_time() -> None:
    raw = message(server_name(b"a.example") + extension(21, bytes(65_400)))
    wire = records(raw, 16384)
    reader = ClientHelloReader()
    started = time.perf_counter()
    answer = None
    for at in range(len(wire)):
        answer = reader.feed(wire[at:at + 1])
    assert answer is not None and answer.sni == "a.example"
    assert time.perf_counter() - started < 5
    assert parse_client_hello(wire) == answer


BROKEN = {
    "not-handshake": b"\x17\x03\x03\x00\x05hello",
    "alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "http": b"GET / HTTP/1.1\r\n",
    "version": b"\x16\x02\x00\x00\x05",
    "empty-record": b"\x16\x03\x01\x00\x00",
    "record-too-long": b"\x16\x03\x01\x40\x01",
    "server-hello": b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
    "too-large": b"\x16\x03\x01\x00\x04\x01\x01\x00\x00",
    "second-record-not-handshake": records(message()[:5], 5) + b"\x17",
    "second-record-other-version": records(message()[:5], 5) + b"\x16\x04",
    "too-many-records": records(b"\x01\x00\xff\x00" + bytes(3000), 1),
    "short-body": records(b"\x01\x00\x00\x03abc", 100),
    "session-too-long": records(message(session=bytes(33)), 1000),
    "no-ciphers": records(message(ciphers=b""), 1000),
    "odd-ciphers": records(message(ciphers=b"\x13\x01\x00"), 1000),
    "no-compression": records(message(compression=b""), 1000),
    "tail": records(message(tail=b"x"), 1000),
    "tail-without-extensions": records(message(None, tail=b"x"), 1000),
    "extension-over-end": records(message(b"\x00\x00\x00\x09ab"), 1000),
    "extension-cut": records(message(b"\x00\x00\x00"), 1000),
    "extension-twice": records(message(extension(23, b"") * 2), 1000),
    "server-name-twice": records(message(server_name(b"a") + server_name(b"b")), 1000),
    "two-names": records(message(server_name(b"a", b"b")), 1000),
    "empty-server-name-extension": records(message(extension(0, b"")), 1000),
    "server-name-tail": records(message(extension(0, b"\x00\x04\x00\x00\x01ax")), 1000),
    "server-name-over-end": records(message(extension(0, b"\x00\x04\x00\x00\x09a")), 1000),
    "alpn-empty-name": records(message(extension(16, b"\x00\x01\x00")), 1000),
    "alpn-over-end": records(message(extension(16, b"\x00\x03\x09h2")), 1000),
    "alpn-tail": records(message(extension(16, b"\x00\x03\x02h2x")), 1000),
    "versions-odd": records(message(extension(43, b"\x03\x03\x04\x03")), 1000),
    "versions-empty": records(message(extension(43, b"")), 1000),
}


@pytest.mark.parametrize("wire", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("step", [1, 100_000], ids=["bytewise", "whole"])
def test_broken_hellos_are_refused(wire: bytes, step: int) -> None:
    reader = ClientHelloReader()
    with pytest.raises(ClientHelloError) as caught:
        for at in range(0, len(wire), step):
            assert reader.feed(wire[at:at + step]) is None
    assert str(caught.value).isprintable()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_only_the_declared_error_comes_out(data: st.DataObject) -> None:
    wire = bytearray(real_hello())
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(wire)))
    try:
        hello = parse_client_hello(bytes(wire[:cut]))
    except ClientHelloError:
        return
    assert hello is None or hello.raw == bytes(wire[5:5 + len(hello.raw)])
