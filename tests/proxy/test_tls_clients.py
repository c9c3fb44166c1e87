"""TLS with clients: facts, certificates shown and asked for, versions, tickets, odd hellos, pinned clients."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from rulesproxy.model.connection import Client
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.model.tls import ClientHello, Tunnel
from rulesproxy.proxy.pinned import ENOUGH
from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import run_origin
from tests.support.proxy import RunningProxy
from tests.support.tools import run_tool

MakeProxy = Callable[..., Awaitable[RunningProxy]]
MakeApp = Callable[..., Awaitable[RunningApp]]
SECONDS = 10.0
ALERT = b"\x15\x03"


class Facts:
    """Intercepts, and keeps the clients of handshakes by outcome."""

    def __init__(self) -> None:
        self.established: list[Any] = []
        self.failed: list[Any] = []

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)

    def tls_established_client(self, data: Any) -> None:
        self.established.append(data.conn)

    def tls_failed_client(self, data: Any) -> None:
        self.failed.append(data.conn)


@asynccontextmanager
async def tunnel(proxy: RunningProxy, host: str = "localhost", port: int = 9) -> AsyncIterator[
        tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """An open CONNECT tunnel; nothing is dialled before there is a request in it."""
    reader, writer = await proxy.connect()
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            yield reader, writer
    finally:
        writer.close()


async def shake(proxy: RunningProxy, context: ssl.SSLContext, name: str = "localhost", host: str = "localhost",
                session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    """A handshake in a tunnel, in memory; what was agreed on. Raises what the client's ssl raises."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
    async with tunnel(proxy, host) as (reader, writer):
        while True:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                data = await reader.read(65536)
                if not data:
                    raise ConnectionError("the proxy closed the connection") from None
                incoming.write(data)
            except ssl.SSLError:
                writer.write(outgoing.read())
                raise
            else:
                break
        writer.write(outgoing.read())
        # A request to a place that is not there: the answer carries the tickets along.
        client.write(b"GET / HTTP/1.1\r\nHost: " + name.encode() + b"\r\nConnection: close\r\n\r\n")
        writer.write(outgoing.read())
        while data := await reader.read(65536):
            incoming.write(data)
            try:
                while client.read(65536):
                    pass
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                continue
            except ssl.SSLError as exc:  # with TLS 1.3 a server refuses after the client has finished
                raise ConnectionError(exc.reason) from None
    return client


def trusting(proxy: RunningProxy, *more: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=proxy.ca)
    for path in more:
        context.load_verify_locations(path)
    return context


def shown(client: ssl.SSLObject) -> x509.Certificate:
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


# --- facts ------------------------------------------------------------------------------------------------------


async def test_what_is_known_of_a_client(make_proxy: MakeProxy) -> None:
    facts = Facts()
    proxy = await make_proxy(facts)
    context = trusting(proxy)
    context.set_alpn_protocols(["x-unknown", "http/1.1"])
    client = await shake(proxy, context, "shop.test", host="192.0.2.1")
    conn, = facts.established
    assert (conn.sni, conn.alpn, conn.alpn_offers) == ("shop.test", b"http/1.1", (b"x-unknown", b"http/1.1"))
    assert conn.tls and conn.tls_established and not conn.tls_resumed
    assert (conn.tls_version, conn.cipher) == ("TLSv1.3", client.cipher()[0])
    assert conn.mitmcert == shown(client)
    assert conn.certificate_list == []


async def test_what_is_known_when_the_handshake_failed(make_proxy: MakeProxy) -> None:
    facts = Facts()
    proxy = await make_proxy(facts)
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake(proxy, ssl.create_default_context(), "shop.test")
    assert await until(lambda: facts.failed)
    conn, = facts.failed
    assert conn.sni == "shop.test" and "unknown ca" in conn.error
    assert not conn.tls_established and conn.cipher is None and conn.tls_version is None


async def test_a_replaced_context_is_used(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    class Replaces(Facts):
        def tls_start_client(self, data: Any) -> None:
            data.ssl_context = origin_ca.server_context("shop.test")

    facts = Replaces()
    proxy = await make_proxy(facts)
    client = await shake(proxy, trusting(proxy, origin_ca.pem), "shop.test")
    assert shown(client).issuer.rfc4514_string() == "CN=Test origin CA"
    assert facts.established[0].mitmcert is None


# --- custom certificates ----------------------------------------------------------------------------------------


async def test_custom_certificates_are_shown_where_they_are_for(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    leaf, wide = origin_ca.leaf("shop.test"), origin_ca.leaf("*.shop.test")
    facts = Facts()
    proxy = await make_proxy(facts, certs=(f"shop.test={leaf}", f"*.shop.test={wide}"))
    context = trusting(proxy, origin_ca.pem)
    own = [str(shown(await shake(proxy, context, name)).issuer.rfc4514_string()) == "CN=Test origin CA"
           for name in ("shop.test", "www.shop.test", "a.b.shop.test", "other.test")]
    assert own == [True, True, False, False]
    assert facts.established[0].mitmcert.public_key() == x509.load_pem_x509_certificate(leaf.read_bytes()).public_key()


async def test_a_renewed_file_is_noticed_and_a_broken_one_is_not_used(
        make_proxy: MakeProxy, origin_ca: OriginCA, caplog: pytest.LogCaptureFixture) -> None:
    path = origin_ca.leaf("shop.test")
    proxy = await make_proxy(Facts(), certs=(str(path),))
    context = trusting(proxy, origin_ca.pem)
    first = shown(await shake(proxy, context, "shop.test"))
    renewed = origin_ca.leaf("shop.test")
    os.replace(renewed, path)
    second = shown(await shake(proxy, context, "shop.test"))
    assert second != first
    path.write_text("nothing")
    assert shown(await shake(proxy, context, "shop.test")) == second
    assert shown(await shake(proxy, context, "shop.test")) == second
    assert caplog.text.count("stays as it was") == 1
    path.unlink()
    assert shown(await shake(proxy, context, "shop.test")) == second


async def test_options_may_change_while_it_runs(make_app: MakeApp, origin_ca: OriginCA,
                                                caplog: pytest.LogCaptureFixture) -> None:
    app = await make_app("  - {name: open, match: {host: shop.test}, action: {tls: intercept}}\n")
    context = trusting(app, origin_ca.pem)
    assert "rulesproxy" in shown(await shake(app, context, "shop.test")).issuer.rfc4514_string()
    app.app.options.update(certs=(f"shop.test={origin_ca.leaf('shop.test')}",))
    assert "Test origin CA" in shown(await shake(app, context, "shop.test")).issuer.rfc4514_string()
    app.app.options.update(certs=("shop.test=/no/such/file",))
    assert "what was set before holds" in caplog.text
    assert "Test origin CA" in shown(await shake(app, context, "shop.test")).issuer.rfc4514_string()


# --- certificates of clients ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "kind", "accepted"), [
    ("no", "good", True), ("no", "none", True),
    ("optional", "good", True), ("optional", "none", True), ("optional", "stranger", False),
    ("required", "good", True), ("required", "none", False), ("required", "stranger", False),
    ("required", "expired", False),
])
async def test_certificates_of_clients(make_proxy: MakeProxy, origin_ca: OriginCA, tmp_path: Path, wanted: str,
                                       kind: str, accepted: bool) -> None:
    facts = Facts()
    proxy = await make_proxy(facts, request_client_cert=wanted, client_ca=str(origin_ca.pem))
    context = trusting(proxy)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    match kind:
        case "good":
            context.load_cert_chain(origin_ca.leaf("ada", flaw="client"))
        case "stranger":
            context.load_cert_chain(OriginCA(stranger).leaf("ada", flaw="client"))
        case "expired":
            context.load_cert_chain(origin_ca.leaf("ada", flaw="client", from_days=-9, until_days=-1))
    if accepted:
        await shake(proxy, context, "shop.test")
        conn, = facts.established
        names = [certificate.subject.rfc4514_string() for certificate in conn.certificate_list]
        assert names == (["CN=ada"] if kind == "good" and wanted != "no" else [])
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shake(proxy, context, "shop.test")
        assert await until(lambda: facts.failed)
        assert not facts.established


@pytest.mark.parametrize(("kind", "said"), [
    ("distrusts", "unknown ca. Does the client trust this proxy's CA?"),
    ("none", "the peer showed no certificate. request_client_cert=required wants one."),
    ("stranger", "Is the client's certificate signed by an authority in client_ca?"),
    ("old", "the peer offers no TLS version that is allowed here. See tls_version_client_min."),
])
async def test_a_failed_handshake_says_where_to_look(make_proxy: MakeProxy, origin_ca: OriginCA, tmp_path: Path,
                                                     kind: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    facts = Facts()
    proxy = await make_proxy(facts, request_client_cert="required", client_ca=str(origin_ca.pem),
                             tls_version_client_min="TLS1_3")
    context = ssl.create_default_context() if kind == "distrusts" else trusting(proxy)
    if kind == "stranger":
        context.load_cert_chain(OriginCA(tmp_path).leaf("ada", flaw="client"))
    if kind == "old":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shake(proxy, context, "shop.test")
    assert await until(lambda: "TLS to shop.test" in caplog.text)
    [line] = [record.getMessage() for record in caplog.records if "TLS to shop.test" in record.getMessage()]
    assert line.startswith("127.0.0.1:") and line.endswith(said)


# --- versions ---------------------------------------------------------------------------------------------------


def at_most(proxy: RunningProxy, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = trusting(proxy)
    if version < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            context.minimum_version = context.maximum_version = version
    else:
        context.maximum_version = version
    return context


@pytest.mark.parametrize(("minimum", "offered", "accepted"), [
    ("TLS1_3", ssl.TLSVersion.TLSv1_2, False), ("TLS1_3", ssl.TLSVersion.TLSv1_3, True),
    ("TLS1_2", ssl.TLSVersion.TLSv1_1, False), ("TLS1_2", ssl.TLSVersion.TLSv1_2, True),
    ("TLS1_1", ssl.TLSVersion.TLSv1, False), ("TLS1_1", ssl.TLSVersion.TLSv1_1, True),
    ("TLS1", ssl.TLSVersion.TLSv1, True),
])
async def test_versions_of_clients(make_proxy: MakeProxy, minimum: str, offered: ssl.TLSVersion,
                                   accepted: bool) -> None:
    proxy = await make_proxy(Facts(), tls_version_client_min=minimum)
    context = at_most(proxy, offered)
    if accepted:
        client = await shake(proxy, context, "shop.test")
        assert client.version() == offered.name.replace("_", ".")
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shake(proxy, context, "shop.test")


# --- tickets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("client_certificate", [False, True])
async def test_clients_resume_their_sessions(make_proxy: MakeProxy, origin_ca: OriginCA, version: ssl.TLSVersion,
                                             client_certificate: bool) -> None:
    facts = Facts()
    proxy = await make_proxy(facts, client_ca=str(origin_ca.pem),
                             request_client_cert="required" if client_certificate else "no")
    context = at_most(proxy, version)
    if client_certificate:
        context.load_cert_chain(origin_ca.leaf("ada", flaw="client"))
    first = await shake(proxy, context, "shop.test")
    assert not first.session_reused
    second = await shake(proxy, context, "shop.test", session=first.session)
    assert second.session_reused
    assert [conn.tls_resumed for conn in facts.established] == [False, True]
    assert [len(conn.certificate_list) for conn in facts.established] == [client_certificate] * 2


async def test_a_session_for_one_host_is_none_for_another(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Facts())
    context = trusting(proxy)
    first = await shake(proxy, context, "shop.test")
    assert not (await shake(proxy, context, "bank.test", session=first.session)).session_reused


async def test_openssl_resumes_too(make_proxy: MakeProxy, tmp_path: Path) -> None:
    proxy = await make_proxy(Facts())
    arguments = ["s_client", "-proxy", proxy.address, "-connect", "shop.test:443", "-servername", "shop.test",
                 "-CAfile", str(proxy.ca)]
    request = b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"
    session = tmp_path / "session.pem"
    first = await run_tool("openssl", *arguments, "-ign_eof", "-sess_out", str(session), stdin=request)
    assert b"New, TLSv1.3" in first.out and session.exists()
    second = await run_tool("openssl", *arguments, "-ign_eof", "-sess_in", str(session), stdin=request)
    assert b"Reused, TLSv1.3" in second.out


# --- odd hellos -------------------------------------------------------------------------------------------------


def hello(name: str | None = "shop.test", extra: bytes = b"") -> bytes:
    """The ClientHello of a real client, with more extensions at its end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    message = bytearray(outgoing.read()[5:])
    at = _before_extensions(message) - 2
    message[at:at + 2] = (len(message) - at - 2 + len(extra)).to_bytes(2, "big")
    message[1:4] = (len(message) - 4 + len(extra)).to_bytes(3, "big")
    return bytes(message) + extra


def _before_extensions(message: bytes | bytearray) -> int:
    """Where the extensions of a ClientHello begin (RFC 8446 §4.1.2)."""
    at = 4 + 34  # type and length, version and random
    at += 1 + message[at]  # session id
    at += 2 + int.from_bytes(message[at:at + 2], "big")  # cipher suites
    return at + 1 + message[at] + 2  # compression methods, and the length


def in_records(message: bytes, size: int = 16384) -> bytes:
    return b"".join(b"\x16\x03\x01" + len(message[at:at + size]).to_bytes(2, "big") + message[at:at + size]
                    for at in range(0, len(message), size))


def unknown_extension(size: int, number: bytes = b"\x3a\x3a") -> bytes:
    """One that nobody knows (RFC 8701 reserves its number)."""
    return number + size.to_bytes(2, "big") + bytes(size)


async def first_answer(proxy: RunningProxy, *pieces: bytes) -> bytes:
    async with tunnel(proxy) as (reader, writer):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        return await reader.read(65536)


async def test_a_hello_in_pieces(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Facts())
    wire = in_records(hello(), 50)
    pieces = [wire[at:at + 7] for at in range(0, len(wire), 7)]
    assert (await first_answer(proxy, *pieces)).startswith(b"\x16\x03\x03")  # a ServerHello


@pytest.mark.parametrize(("size", "answer"), [(15_000, b"\x16\x03\x03"), (64_000, b"\x16\x03\x03"),
                                              (65_535, ALERT)])
async def test_a_large_hello(make_proxy: MakeProxy, size: int, answer: bytes) -> None:
    """With extensions of `size` bytes, which may be 65535; the whole message may be that long too, not longer."""
    own = hello()
    room = size - (len(own) - _before_extensions(own))
    first = min(room - 4, 60_000)
    extra = unknown_extension(first) + (unknown_extension(room - 8 - first, b"\x4a\x4a") if room > first + 4 else b"")
    message = hello(extra=extra)
    assert len(message) - _before_extensions(message) == size
    proxy = await make_proxy(Facts())
    assert (await first_answer(proxy, in_records(message))).startswith(answer)


@pytest.mark.parametrize("name", [b"blocked.test\0", b"blocked test", b"blocked.test..", b"", b"127.1"])
@pytest.mark.parametrize("verdict", [TlsVerdict.INTERCEPT, TlsVerdict.RELAY])
async def test_a_name_that_is_none_is_refused_with_an_alert(make_proxy: MakeProxy, name: bytes,
                                                           verdict: TlsVerdict) -> None:
    """It must not be a way round rules for hosts: neither is it relayed to a server that may read it leniently."""
    class Decides:
        def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
            return TlsDecision(verdict)

    proxy = await make_proxy(Decides())
    entry = b"\x00" + len(name).to_bytes(2, "big") + name
    extension = len(entry).to_bytes(2, "big") + entry
    message = hello(None, b"\x00\x00" + len(extension).to_bytes(2, "big") + extension)
    assert (await first_answer(proxy, in_records(message))).startswith(ALERT)
    assert "server_connect" not in proxy.recorder.names


async def test_without_a_name_the_connect_host_counts(make_proxy: MakeProxy) -> None:
    facts = Facts()
    proxy = await make_proxy(facts)
    context = trusting(proxy)
    client = await shake(proxy, context, "127.0.0.1", host="127.0.0.1")  # an address is never sent as a name
    names = shown(client).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert facts.established[0].sni is None


@pytest.mark.parametrize("garbage", [
    b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\xff\xff" + bytes(100),
    b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
])
async def test_garbage_is_refused(make_proxy: MakeProxy, garbage: bytes) -> None:
    proxy = await make_proxy(Facts())
    assert (await first_answer(proxy, garbage)).startswith(ALERT)
    assert not any(name.startswith("tls_") for name in proxy.recorder.names)


# --- abort variants ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["tls_clienthello", "tls_start_client", "tls_established_client"])
async def test_a_client_that_leaves_in_a_hook(make_proxy: MakeProxy, hook: str) -> None:
    """The automaton judges what follows; nothing may be left behind."""
    facts, reached, go_on = Facts(), asyncio.Event(), asyncio.Event()

    async def waits(data: Any) -> None:
        reached.set()
        await go_on.wait()

    setattr(facts, hook, waits)
    proxy = await make_proxy(facts)
    task = asyncio.create_task(shake(proxy, trusting(proxy), "shop.test"))
    async with asyncio.timeout(SECONDS):
        await reached.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=SECONDS)
    go_on.set()
    assert await until(lambda: "client_disconnected" in proxy.recorder.names)
    expected = {"tls_clienthello": ["tls_clienthello", "tls_start_client", "tls_failed_client"],
                "tls_start_client": ["tls_clienthello", "tls_start_client", "tls_failed_client"],
                "tls_established_client": ["tls_clienthello", "tls_start_client", "tls_established_client"]}
    assert [name for name in proxy.recorder.names if name.startswith("tls_")] == expected[hook]


async def test_a_context_that_is_none_fails_the_handshake(make_proxy: MakeProxy) -> None:
    class Breaks(Facts):
        def tls_start_client(self, data: Any) -> None:
            data.ssl_context = None

    facts = Breaks()
    proxy = await make_proxy(facts)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shake(proxy, trusting(proxy), "shop.test")
    assert "left no SSL context" in facts.failed[0].error


# --- pinned clients ---------------------------------------------------------------------------------------------


async def refuse(proxy: RunningProxy, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake(proxy, ssl.create_default_context(), name)


async def leave(proxy: RunningProxy, name: str) -> None:
    """Look at the certificate, and go without a word."""
    async with tunnel(proxy, name) as (_, writer):
        await writer.start_tls(trusting(proxy), server_hostname=name)


@pytest.mark.parametrize("give_up", [refuse, leave])
async def test_clients_that_keep_refusing_are_worth_a_word(
        make_app: MakeApp, caplog: pytest.LogCaptureFixture,
        give_up: Callable[[RunningProxy, str], Awaitable[None]]) -> None:
    app = await make_app("  - {name: open, match: {domain: shop.test}, action: {tls: intercept}}\n")
    caplog.set_level(logging.WARNING)
    rule = "- {name: leave-api.shop.test-alone, priority: 1000, match: {domain: api.shop.test}, " \
           "action: {tls: passthrough}}"
    for number in range(1, ENOUGH + 2):
        await give_up(app, "api.shop.test")
        assert await until(lambda count=number: app.recorder.names.count("client_disconnected") == count)
        assert caplog.text.count(rule) == (number >= ENOUGH)  # said once
    page = (await app.curl("http://rulesproxy.test/")).text
    assert rule in page
    # The rule can be pasted as it is: the next tunnel is left alone.
    await app.edit(app.rules.read_text().partition("rules:\n")[2] + f"  {rule}\n")
    decided = app.addons.policy.tls_decision(_tunnel("api.shop.test"))
    assert decided.verdict is TlsVerdict.RELAY


def _tunnel(name: str) -> Tunnel:
    return Tunnel(Client(peername=("127.0.0.1", 1)), name, 443, ClientHello(name, (), (), (), (), b""))


async def test_clients_that_come_to_terms_are_not(make_proxy: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    proxy = await make_proxy(Facts())
    for _ in range(3):
        for _ in range(ENOUGH - 1):
            await leave(proxy, "shop.test")
        await shake(proxy, trusting(proxy), "shop.test")
    assert await until(lambda: not proxy.core.sessions)
    assert "To leave its TLS alone" not in caplog.text
    assert proxy.core.pinned.suggestions == [] and len(proxy.core.pinned) == 0


async def test_an_origin_is_reached_in_the_end(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    """All of it together: an own certificate towards the client, one of ours towards the server."""
    facts = Facts()
    proxy = await make_proxy(facts, certs=(f"localhost={origin_ca.leaf('localhost')}",),
                             client_certs=str(origin_ca.leaf("the-proxy", flaw="client")))
    context = origin_ca.server_context("localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(origin_ca.pem)
    async with run_origin(tls=context) as origin:
        answer = await proxy.curl("--cacert", str(origin_ca.pem), f"https://localhost:{origin.port}/")
    assert answer.text == "hello"
