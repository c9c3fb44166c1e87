"""TLS to the proxy itself: clients whose proxy is an https:// one."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from tests.support.certificates import OriginCA
from tests.support.origin import HELLO, OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.tools import Completed, run_tool

SECONDS = 10.0


async def over_tls(proxy: RunningProxy, *arguments: str, host: str = "localhost") -> Completed:
    return await run_tool("curl", "-q", "-sS", "--max-time", "15", "--proxy", f"https://{host}:{proxy.port}",
                          "--proxy-cacert", str(proxy.ca), "--cacert", str(proxy.ca), *arguments)


async def greet(connection: OriginConnection) -> None:
    await connection.send(b"220 speaks first\r\n")
    await connection.read_to_end()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_plain_requests(make_proxy: Any, host: str) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy()
        answer = await over_tls(proxy, f"http://127.0.0.1:{server.port}/", host=host)
    assert answer.text == "hello", answer.err
    assert proxy.recorder.of("tls_clienthello", "tls_start_client", "tls_established_client", "requestheaders") == [
        "tls_clienthello", "tls_start_client", "tls_established_client", "requestheaders"]


async def test_a_tunnel_in_it_and_tls_in_that(make_proxy: Any, origin_ca: OriginCA) -> None:
    seen = []

    class Look:
        def requestheaders(self, flow: Any) -> None:
            client = flow.client_conn
            seen.append((flow.request.scheme, client.sni, client.tls_established, client.error))

    async with run_origin(HELLO, tls=origin_ca.server_context("localhost")) as server:
        proxy = await make_proxy(Look())
        answer = await over_tls(proxy, f"https://localhost:{server.port}/", host="127.0.0.1")
    assert answer.text == "hello", answer.err
    assert seen == [("https", "localhost", True, None)]
    assert proxy.recorder.names.count("tls_established_client") == 2


async def test_an_untouched_tunnel_in_it(make_app: Any, origin_ca: OriginCA) -> None:
    async with run_origin(HELLO, tls=origin_ca.server_context("localhost")) as server:
        app = await make_app("  - {name: x, match: {host: x.test}, action: {respond: {body: x}}}\n")
        answer = await run_tool("curl", "-q", "-sS", "--proxy", f"https://localhost:{app.port}", "--proxy-cacert",
                                str(app.ca), "--cacert", str(origin_ca.pem), f"https://localhost:{server.port}/")
    assert answer.text == "hello", answer.err


@pytest.mark.parametrize("alpn", [["http/1.1"], []])
async def test_what_the_outer_tls_agreed_on_says_nothing_of_the_tunnel(make_proxy: Any, alpn: list[str]) -> None:
    """The client said http/1.1 of its connection to the proxy; what it opens through that is another protocol."""
    async with run_origin(greet) as server:
        proxy = await make_proxy()
        context = ssl.create_default_context(cafile=proxy.ca)
        if alpn:
            context.set_alpn_protocols(alpn)
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context,
                                                           server_hostname="localhost")
            writer.write(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readline() == b"220 speaks first\r\n"
            writer.close()
            await writer.wait_closed()


async def test_who_does_not_trust_the_proxy_stays_out(make_proxy: Any, origin_ca: OriginCA) -> None:
    proxy = await make_proxy()
    answer = await over_tls(proxy, "--proxy-cacert", str(origin_ca.pem), "http://rulesproxy.test/")
    assert answer.code == 60
    assert proxy.recorder.of("tls_failed_client", "requestheaders") == ["tls_failed_client"]


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x16\x03", b"\x16no TLS at all"])
async def test_broken_tls_ends(make_proxy: Any, data: bytes) -> None:
    proxy = await make_proxy()
    assert (await proxy.talk(data))[:2] in (b"\x15\x03", b"")
    assert not proxy.recorder.of("requestheaders", "tls_established_client")


async def test_tls_in_that_tls_is_not_served(make_proxy: Any) -> None:
    proxy = await make_proxy()
    context = ssl.create_default_context(cafile=proxy.ca)
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context,
                                                       server_hostname="localhost")
        writer.write(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
        assert await reader.read() == b""
        writer.close()


async def test_credentials_travel_in_it(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(proxy_auth="me:secret")
        url = f"http://127.0.0.1:{server.port}/"
        assert (await over_tls(proxy, "--proxy-user", "me:secret", url)).text == "hello"
        assert (await over_tls(proxy, "-i", url)).text.startswith("HTTP/1.1 407 ")


async def test_an_upstream_mode_may_be_spoken_to_over_tls(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        second = await make_proxy()
        first = await make_proxy(modes=(f"upstream:http://{second.address}@127.0.0.1:0",))
        answer = await over_tls(first, f"http://127.0.0.1:{server.port}/")
    assert answer.text == "hello"
    assert second.recorder.names.count("requestheaders") == 1
