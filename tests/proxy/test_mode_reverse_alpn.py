"""reverse:tls: nobody translates between its ends, so both agree on the same protocol."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.certs.authority import Authority
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy

SECONDS = 10.0
ORDER = ("tls_start_client", "server_connect", "tls_start_server", "tls_established_client", "tls_established_server",
         "tls_failed_client", "server_connect_error", "tcp_start", "tcp_end", "tcp_error", "server_disconnected",
         "client_disconnected")


def reverse(port: int) -> dict[str, Any]:
    return {"modes": (f"reverse:tls://localhost:{port}@127.0.0.1:0",)}


def trusting(pem: Path, *offers: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pem)
    if offers:
        context.set_alpn_protocols(list(offers))
    return context


async def agreed(proxy: RunningProxy, context: ssl.SSLContext) -> tuple[str | None, bytes]:
    """What the client got of its offers, and what the server then said to hello."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port, ssl=context, server_hostname="localhost")
        try:
            writer.write(b"hello\r\n")
            return writer.get_extra_info("ssl_object").selected_alpn_protocol(), await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()


async def answer(connection: OriginConnection) -> None:
    await connection.read_some()
    await connection.send(b"hello yourself\r\n")


@pytest.fixture
def our_pem(authority: Authority, tmp_path: Path) -> Path:
    path = tmp_path / "ours.pem"
    path.write_bytes(authority.certificate_pem)
    return path


@pytest.mark.parametrize(("offers", "spoken", "chosen"), [
    (("h2", "http/1.1"), ("h2", "http/1.1"), "h2"),
    (("h2", "http/1.1"), ("http/1.1",), "http/1.1"),
    (("http/1.1",), ("h2", "http/1.1"), "http/1.1"),
    (("postgresql",), ("postgresql",), "postgresql"),
    (("imap",), ("smtp",), None),
    (("h2",), (), None),
    ((), ("h2",), None),
])
async def test_the_server_chooses_from_what_the_client_offers(
        offers: tuple[str, ...], spoken: tuple[str, ...], chosen: str | None, make_proxy: Any, our_pem: Path,
        origin_ca: OriginCA) -> None:
    async with run_origin(answer, tls=origin_ca.server_context("localhost", alpn=spoken)) as server:
        proxy = await make_proxy(**reverse(server.port))
        assert await agreed(proxy, trusting(our_pem, *offers)) == (chosen, b"hello yourself\r\n")
    [data] = proxy.recorder.arguments("tls_established_server")
    assert data.server.alpn == (chosen.encode() if chosen else None)


async def test_a_client_that_offers_something_waits_for_the_server(make_proxy: Any, our_pem: Path,
                                                                   origin_ca: OriginCA) -> None:
    async with run_origin(answer, tls=origin_ca.server_context("localhost", alpn=("h2",))) as server:
        proxy = await make_proxy(**reverse(server.port))
        await agreed(proxy, trusting(our_pem, "h2"))
        assert await until(lambda: "client_disconnected" in proxy.recorder.names, SECONDS)
    assert proxy.recorder.of(*ORDER) == [
        "server_connect", "tls_start_server", "tls_established_server", "tls_start_client", "tls_established_client",
        "tcp_start", "tcp_end", "server_disconnected", "client_disconnected"]


async def test_a_client_that_trusts_nobody_leaves_no_server_open(make_proxy: Any, origin_ca: OriginCA) -> None:
    async with run_origin(answer, tls=origin_ca.server_context("localhost", alpn=("h2",))) as server:
        proxy = await make_proxy(**reverse(server.port))
        with pytest.raises(ssl.SSLError):
            await agreed(proxy, trusting(origin_ca.pem, "h2"))
        assert await until(lambda: "client_disconnected" in proxy.recorder.names, SECONDS)
    assert proxy.recorder.of("tls_failed_client", "tcp_start", "server_disconnected") == [
        "tls_failed_client", "server_disconnected"]


async def test_without_the_server_there_is_nothing_to_agree_on(make_proxy: Any, our_pem: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    proxy = await make_proxy(**reverse(port))
    with pytest.raises(ssl.SSLError, match="INTERNAL_ERROR"):
        await agreed(proxy, trusting(our_pem, "h2"))
    assert await until(lambda: "client_disconnected" in proxy.recorder.names, SECONDS)
    assert proxy.recorder.of("server_connect_error", "tls_start_client", "tcp_start") == ["server_connect_error"]
