"""Through a SOCKS5 proxy: what it is asked, who it is told to be asking, and what becomes of its refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from rulesproxy.model.effects import Via
from rulesproxy.model.policy import NameAnswer
from tests.support.certificates import OriginCA
from tests.support.hook_logs import ANSWER, CONNECTED, DISCONNECTED, REQUEST, Decide, assert_log
from tests.support.origin import HELLO, OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.upstream_proxies import Asked, Through, run_proxy_script, socks_proxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]

SECONDS = 10.0
ADA = ("ada", "secret")


@pytest.mark.parametrize("dribble", [False, True])
async def test_plain_requests_go_through_with_their_own_form(make_proxy: MakeProxy, dribble: bool) -> None:
    asked = Asked()
    async with run_origin(HELLO) as origin, run_proxy_script(socks_proxy(asked, dribble=dribble), "socks5") as (_, via):
        proxy = await make_proxy(Through(via))
        assert (await proxy.curl(f"http://localhost:{origin.port}/a")).text == "hello"
        assert asked.targets == [f"localhost:{origin.port}"]
        assert origin.requests[0].line == b"GET /a HTTP/1.1"
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, "server_connect", "server_connected", *ANSWER,
                                          *DISCONNECTED])
        server = proxy.recorder.arguments("server_connected")[0].server
        assert server.via == ("socks5", (via.host, via.port)) and server.address == ("localhost", origin.port)


@pytest.mark.parametrize("intercepted", [False, True])
async def test_tunnels_go_through(make_proxy: MakeProxy, origin_ca: OriginCA, intercepted: bool) -> None:
    asked = Asked()
    async with (run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin,
                run_proxy_script(socks_proxy(asked), "socks5") as (_, via)):
        proxy = await make_proxy(*([Decide()] if intercepted else []), Through(via))
        trust = [] if intercepted else ["--cacert", str(origin_ca.pem)]
        assert (await proxy.curl(*trust, f"https://localhost:{origin.port}/")).text == "hello"
        assert asked.targets == [f"localhost:{origin.port}"]


async def test_names_are_left_to_the_proxy(make_proxy: MakeProxy) -> None:
    asked = Asked()
    async with run_origin(HELLO) as origin:
        elsewhere = socks_proxy(asked, instead=("127.0.0.1", origin.port))
        async with run_proxy_script(elsewhere, "socks5") as (_, via):
            proxy = await make_proxy(Through(via))
            assert (await proxy.curl("http://only.there.invalid/")).text == "hello"
            assert asked.targets == ["only.there.invalid:80"]


class Spoofed:
    def resolve(self, name: str, client: object) -> NameAnswer | None:
        return {"here.test": NameAnswer(("127.0.0.1",)), "alias.test": NameAnswer(alias="localhost"),
                "gone.test": NameAnswer(rcode="NXDOMAIN", rule="gone")}.get(name)


async def test_what_rules_say_of_a_name_is_asked_for(make_proxy: MakeProxy) -> None:
    asked = Asked()
    async with run_origin(HELLO) as origin, run_proxy_script(socks_proxy(asked), "socks5") as (_, via):
        proxy = await make_proxy(Through(via), Spoofed())
        for host in ("here.test", "alias.test"):
            assert (await proxy.curl(f"http://{host}:{origin.port}/")).text == "hello"
        assert asked.targets == [f"127.0.0.1:{origin.port}", f"localhost:{origin.port}"]
        assert "gone" in (await proxy.curl("-i", "http://gone.test/")).text
        assert len(asked.targets) == 2


async def test_connections_are_kept_by_server_and_by_user(make_proxy: MakeProxy) -> None:
    asked = Asked()
    script = socks_proxy(asked, auth=ADA)
    async with run_origin(HELLO) as one, run_origin(HELLO) as other, run_proxy_script(script, "socks5") as (_, via):
        through = Through(replace(via, auth=ADA))
        proxy = await make_proxy(through, record=False)
        for origin in (one, other, one, other):
            assert (await proxy.curl(f"http://localhost:{origin.port}/")).text == "hello"
        assert asked.auth == [ADA, ADA]
        through.via = replace(via, auth=("bob", "x"))
        done = await proxy.curl("-i", f"http://localhost:{one.port}/")
        assert done.text.startswith("HTTP/1.1 502 ") and "does not accept" in done.text
        assert asked.auth == [ADA, ADA, ("bob", "x")] and len(asked.targets) == 2


async def test_a_missing_password_is_told_with_the_rule(make_proxy: MakeProxy) -> None:
    async with run_proxy_script(socks_proxy(Asked(), auth=ADA), "socks5") as (_, via):
        proxy = await make_proxy(Through(replace(via, rule="office")))
        done = await proxy.curl("-i", "http://shop.test/")
        assert done.text.startswith("HTTP/1.1 502 ")
        assert "wants a user" in done.text and "rule office" in done.text


@pytest.mark.parametrize(("reply", "status", "words"), [
    (5, 502, "connection refused"), (2, 502, "not allowed"), (4, 502, "host unreachable"), (6, 504, "timed out"),
    (99, 502, "reply 99"),
])
async def test_refusals_are_told(make_proxy: MakeProxy, reply: int, status: int, words: str) -> None:
    async with run_proxy_script(socks_proxy(Asked(), reply=reply), "socks5") as (_, via):
        proxy = await make_proxy(Through(via))
        done = await proxy.curl("-i", "http://shop.test/")
        assert done.text.startswith(f"HTTP/1.1 {status} ")
        assert words in done.text and str(via) in done.text and "shop.test:80" in done.text
        assert proxy.recorder.names.count("server_connect_error") == 1


@pytest.mark.parametrize("answer", [b"", b"\x05", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\x00\x05\x00"])
async def test_what_is_no_socks_is_told(make_proxy: MakeProxy, answer: bytes) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_some()
        await connection.send(answer)

    async with run_proxy_script(script, "socks5") as (_, via):
        proxy = await make_proxy(Through(via))
        done = await proxy.curl("-i", "http://shop.test/")
        assert done.text.startswith("HTTP/1.1 502 ") and str(via) in done.text


async def test_a_silent_proxy_is_given_up(make_proxy: MakeProxy) -> None:
    async def silent(connection: OriginConnection) -> None:
        await connection.read_to_end()

    async with run_proxy_script(silent, "socks5") as (_, via):
        proxy = await make_proxy(Through(via), connect_timeout=0.3)
        assert (await proxy.curl("-i", "http://shop.test/")).text.startswith("HTTP/1.1 504 ")


async def test_what_a_server_says_first_may_come_with_the_answer(make_proxy: MakeProxy) -> None:
    async def greet(connection: OriginConnection) -> None:
        await connection.send(b"220 ready\r\n")
        assert await connection.read_until(b"\n") == b"QUIT\r\n"

    async with run_origin(greet) as origin, run_proxy_script(socks_proxy(Asked(), together=True), "socks5") as (_, via):
        proxy = await make_proxy(Through(via), record=False)
        reader, writer = await proxy.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readuntil(b"\n") == b"220 ready\r\n"
            writer.write(b"QUIT\r\n")
            assert await reader.read() == b""
            writer.close()


async def test_this_proxy_is_no_way_to_go(make_proxy: MakeProxy) -> None:
    through = Through(Via("socks5", "127.0.0.1", 9))
    proxy = await make_proxy(through)
    through.via = Via("socks5", "127.0.0.1", proxy.port)
    assert "this proxy itself" in (await proxy.curl("-i", "http://shop.test/")).text
