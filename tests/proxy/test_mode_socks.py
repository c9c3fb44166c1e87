"""SOCKS5: CONNECT by name and address, user and password, refusals, rules."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import HELLO, OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.tools import Completed, curl
from tests.support.tunnels import close, reset

SECONDS = 10.0
SOCKS: dict[str, Any] = {"modes": ("socks5@127.0.0.1:0",)}
APP: dict[str, Any] = {"mode": ("socks5@127.0.0.1:0",)}


async def through(proxy: RunningProxy, *arguments: str, kind: str = "--socks5-hostname") -> Completed:
    return await curl("--noproxy", "", kind, proxy.address, "--cacert", str(proxy.ca), *arguments)


async def talk(proxy: RunningProxy, *steps: tuple[bytes, int]) -> bytes:
    """Send each piece and read so many bytes of answer; then read to the end."""
    reader, writer = await proxy.connect()
    try:
        async with asyncio.timeout(SECONDS):
            answer = b""
            for data, length in steps:
                writer.write(data)
                answer += await reader.readexactly(length)
            writer.write_eof()
            return answer + await reader.read()
    finally:
        writer.close()


def connect_to(host: bytes, port: int) -> bytes:
    return b"\x05\x01\x00\x03" + bytes((len(host),)) + host + port.to_bytes(2, "big")


async def greet(connection: OriginConnection) -> None:
    await connection.send(b"220 speaks first\r\n")
    await connection.read_to_end()


# --- what passes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["--socks5-hostname", "--socks5"])
async def test_plain_http_by_name_and_by_address(make_proxy: Any, kind: str) -> None:
    """A client that looks names up itself says them only in Host."""
    seen = []

    class Look:
        def requestheaders(self, flow: Any) -> None:
            seen.append((flow.request.host, flow.client_conn.proxy_mode))

    async with run_origin(HELLO) as server:
        proxy = await make_proxy(Look(), **SOCKS)
        answer = await through(proxy, "-4", f"http://localhost:{server.port}/a", kind=kind)
    assert answer.text == "hello"
    assert seen == [("localhost", "socks5")]
    assert server.requests[0].line == b"GET /a HTTP/1.1"
    assert not proxy.recorder.of("http_connect", "http_connected", "socks5_auth")


async def test_a_tunnel_to_a_name_keeps_to_it(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**SOCKS)
        answer = await through(proxy, "-i", "-H", "Host: other.test", f"http://localhost:{server.port}/")
    assert answer.text.startswith("HTTP/1.1 421 ")


async def test_https_untouched_and_intercepted(make_app: Any, origin_ca: OriginCA) -> None:
    async with run_origin(HELLO, tls=origin_ca.server_context("localhost", "127.0.0.1")) as server:
        app = await make_app("""
  - {name: mark, match: {host: localhost}, action: {rewrite: {response_headers: {set: {x-mark: "yes"}}}}}
""", **APP)
        intercepted = await through(app, "-i", f"https://localhost:{server.port}/")
        untouched = await curl("--noproxy", "", "--socks5-hostname", app.address, "--cacert", str(origin_ca.pem), "-i",
                               f"https://127.0.0.1:{server.port}/")
    assert "x-mark: yes" in intercepted.text
    assert untouched.text.endswith("hello")
    assert "x-mark" not in untouched.text


async def test_a_server_may_speak_first(make_proxy: Any) -> None:
    async with run_origin(greet) as server:
        proxy = await make_proxy(**SOCKS)
        answer = await talk(proxy, (b"\x05\x01\x00", 2), (connect_to(b"127.0.0.1", server.port), 10),
                            (b"", len(b"220 speaks first\r\n")))
        assert await until(lambda: "client_disconnected" in proxy.recorder.names)
    assert answer == b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6) + b"220 speaks first\r\n"
    assert proxy.recorder.of("tcp_start", "tcp_end") == ["tcp_start", "tcp_end"]


async def test_ipv6_addresses(make_proxy: Any) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6 on the loopback interface")
    async with run_origin(HELLO, host="::1") as server:
        proxy = await make_proxy(**SOCKS)
        assert (await through(proxy, "-g", f"http://[::1]:{server.port}/", kind="--socks5")).text == "hello"


async def test_everything_in_one_segment(make_proxy: Any) -> None:
    """Nobody has to wait for answers that are known beforehand."""
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**SOCKS)
        request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n".encode()
        answer = await proxy.talk(b"\x05\x01\x00" + connect_to(b"127.0.0.1", server.port) + request)
    assert answer.startswith(b"\x05\x00\x05\x00\x00\x01" + bytes(6) + b"HTTP/1.1 200 OK")


async def test_one_byte_at_a_time(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**SOCKS)
        reader, writer = await proxy.connect()
        async with asyncio.timeout(SECONDS):
            for byte in b"\x05\x01\x00" + connect_to(b"localhost", server.port):
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            assert await reader.readexactly(12) == b"\x05\x00\x05\x00\x00\x01" + bytes(6)
        writer.close()


async def test_the_status_page_is_there(make_proxy: Any) -> None:
    proxy = await make_proxy(**SOCKS)
    assert "Rules live" in (await through(proxy, "http://rulesproxy.test/")).text


async def test_a_tunnel_to_the_proxy_itself_is_refused(make_proxy: Any) -> None:
    proxy = await make_proxy(**SOCKS)
    answer = await through(proxy, "-i", f"http://127.0.0.1:{proxy.port}/")
    assert answer.text.startswith("HTTP/1.1 502 ")
    assert "this proxy itself" in answer.text


# --- who is there -----------------------------------------------------------------------------------------------


async def test_user_and_password(make_proxy: Any) -> None:
    users = []

    class Look:
        def requestheaders(self, flow: Any) -> None:
            users.append(flow.client_conn.user)

    async with run_origin(HELLO) as server:
        proxy = await make_proxy(Look(), proxy_auth="me:secret", **SOCKS)
        url = f"http://127.0.0.1:{server.port}/"
        right = await through(proxy, url, "--proxy-user", "me:secret")
        wrong = await through(proxy, url, "--proxy-user", "me:guess")
        none = await through(proxy, url)
    assert right.text == "hello"
    assert wrong.code == none.code == 97
    assert users == ["me"]
    assert len(server.connections) == 1
    data = proxy.recorder.arguments("socks5_auth")
    assert [(one.user, one.password, one.valid) for one in data] == [("me", "secret", True), ("me", "guess", False)]


async def test_a_client_that_offers_nothing_is_told_so(make_proxy: Any) -> None:
    proxy = await make_proxy(proxy_auth="me:secret", **SOCKS)
    assert await proxy.talk(b"\x05\x01\x00") == b"\x05\xff"
    assert await proxy.talk(b"\x05\x00") == b"\x05\xff"


async def test_an_addon_may_decide_about_user_and_password(make_proxy: Any) -> None:
    class Judge:
        def socks5_auth(self, data: Any) -> None:
            data.valid = data.username == "guest" and data.client_conn.peername is not None

    async with run_origin(HELLO) as server:
        proxy = await make_proxy(Judge(), proxy_auth="me:secret", **SOCKS)
        url = f"http://127.0.0.1:{server.port}/"
        guest = await through(proxy, url, "--proxy-user", "guest:x")
        me = await through(proxy, url, "--proxy-user", "me:secret")
    assert (guest.text, me.code) == ("hello", 97)


async def test_without_proxy_auth_credentials_are_taken_as_they_are(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**SOCKS)
        url = f"http://127.0.0.1:{server.port}/"
        assert (await through(proxy, url, "--proxy-user", "me:secret")).text == "hello"
    assert [data.valid for data in proxy.recorder.arguments("socks5_auth")] == [True]
    assert proxy.recorder.arguments("client_disconnected")[0].user == "me"


async def test_passwords_are_in_no_log(make_proxy: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    proxy = await make_proxy(proxy_auth="me:secret", **SOCKS)
    assert await proxy.talk(b"\x05\x01\x02\x01\x02me\x05gUeSs") == b"\x05\x02\x01\x01"
    assert any("wrong user or password" in record.getMessage() for record in caplog.records)
    assert "gUeSs" not in caplog.text
    assert "gUeSs" not in repr(proxy.recorder.arguments("socks5_auth"))


# --- what does not pass -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "answer"), [
    (b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x07"),  # BIND
    (b"\x05\x01\x00\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x07"),  # UDP ASSOCIATE
    (b"\x05\x01\x00\x05\x01\x00\x07\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x08"),
    (b"\x05\x01\x00" + connect_to(b"a..b", 80), b"\x05\x00\x05\x01"),
    (b"\x05\x01\x00" + connect_to(b"localhost", 0), b"\x05\x00\x05\x01"),
    (b"\x05\x01\x03", b"\x05\xff"),
    (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b""),
    (b"GET / HTTP/1.1\r\n\r\n", b""),
    (b"", b""),
    (b"\x05", b""),
    (b"\x05\x01\x00\x05\x01", b"\x05\x00"),
])
async def test_refusals(make_proxy: Any, data: bytes, answer: bytes) -> None:
    proxy = await make_proxy(**SOCKS)
    assert (await proxy.talk(data))[:len(answer) or None] == answer
    assert not proxy.recorder.of("server_connect", "tcp_start", "requestheaders")


async def test_a_slow_handshake_ends(make_proxy: Any) -> None:
    proxy = await make_proxy(head_timeout=0.2, **SOCKS)
    assert await proxy.talk(b"\x05\x01", half_close=False) == b""


@pytest.mark.parametrize(("how", "answer"), [
    ("true", b"\x05\x00\x05\x02"), ("{status: 451}", b"\x05\x00\x05\x00"), ("close", b"\x05\x00"),
])
async def test_blocked_by_a_rule(make_app: Any, how: str, answer: bytes) -> None:
    """A page needs a request to answer, so that tunnel is opened."""
    async with run_origin(HELLO) as server:
        app = await make_app(f"  - {{name: no, match: {{host: localhost}}, action: {{block: {how}}}}}\n", **APP)
        got = await app.talk(b"\x05\x01\x00" + connect_to(b"localhost", server.port))
    assert got[:len(answer)] == answer
    assert how == "{status: 451}" or len(got) in (len(answer), 12)
    assert server.connections == []


async def test_a_blocked_tunnel_names_its_rule_in_the_log(make_app: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rulesproxy")
    app = await make_app("  - {name: no-entry, match: {host: shop.test}, action: {block: true}}\n", **APP)
    assert (await through(app, "http://shop.test/")).code == 97
    assert any(" to shop.test:80: refused by rule no-entry" in record.getMessage() for record in caplog.records)


async def test_a_rule_leads_a_relayed_tunnel_elsewhere(make_app: Any, origin_ca: OriginCA) -> None:
    async with run_origin(HELLO, tls=origin_ca.server_context("shop.test")) as server:
        app = await make_app(f"""
  - {{name: away, match: {{host: shop.test}}, action: {{redirect_server: {{to: "127.0.0.1:{server.port}"}}}}}}
""", **APP)
        answer = await curl("--noproxy", "", "--socks5-hostname", app.address, "--cacert", str(origin_ca.pem), "https://shop.test/")
    assert answer.text == "hello"


async def test_listener_says_socks5(make_app: Any) -> None:
    app = await make_app("  - {name: here, match: {listener: socks5}, action: {respond: {body: by SOCKS}}}\n",
                         mode=("socks5@127.0.0.1:0", "regular@127.0.0.1:0"))
    assert (await through(app, "http://shop.test/")).text == "by SOCKS"


async def test_new_rules_end_a_tunnel_they_would_refuse(make_app: Any) -> None:
    async with run_origin(greet) as server:
        app = await make_app("  - {name: other, match: {host: a.test}, action: {block: true}}\n", **APP)
        reader, writer = await app.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(b"\x05\x01\x00" + connect_to(b"localhost", server.port))
            await reader.readuntil(b"first\r\n")
            await app.edit("  - {name: no, match: {host: localhost}, action: {block: true}}\n")
            assert await reader.read() == b""
        writer.close()


async def test_a_waiting_handshake_does_not_hold_up_the_end(make_proxy: Any) -> None:
    proxy = await make_proxy(**SOCKS)
    reader, writer = await proxy.connect()
    assert await until(lambda: any(session.idle for session in proxy.core.sessions))
    begun = asyncio.get_running_loop().time()
    await proxy.proxy.stop(10)
    assert asyncio.get_running_loop().time() - begun < 5
    async with asyncio.timeout(SECONDS):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("pause", [0.1])
async def test_an_addon_may_take_its_time(make_proxy: Any, pause: float) -> None:
    class Slow:
        async def socks5_auth(self, data: Any) -> None:
            await asyncio.sleep(3 * pause)

    proxy = await make_proxy(Slow(), head_timeout=pause, **SOCKS)
    assert (await talk(proxy, (b"\x05\x01\x02", 2), (b"\x01\x02me\x01x", 2))).startswith(b"\x05\x02\x01\x00")


@pytest.mark.parametrize("sent", [0, 1, 3, 5, 12, 20])
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_clients_that_leave_in_the_middle(make_proxy: Any, sent: int, how: str) -> None:
    """Nothing is left of them, which the fixture checks."""
    async with run_origin(greet) as server:
        proxy = await make_proxy(**SOCKS)
        _, writer = await proxy.connect()
        whole = b"\x05\x02\x00\x02" + b"\x01\x02me\x01x" + connect_to(b"localhost", server.port)
        writer.write(whole[:sent])
        if how == "reset":
            reset(writer)
        else:
            await close(writer)
        assert await until(lambda: "client_disconnected" in proxy.recorder.names)


@pytest.mark.parametrize("how", ["hang", "reset"])
async def test_blocked_without_an_answer(make_app: Any, how: str) -> None:
    app = await make_app(f"  - {{name: no, match: {{host: shop.test}}, action: {{block: {how}}}}}\n", **APP)
    reader, writer = await app.connect()
    async with asyncio.timeout(SECONDS):
        writer.write(b"\x05\x01\x00")
        assert await reader.readexactly(2) == b"\x05\x00"
        writer.write(connect_to(b"shop.test", 80))
        if how == "reset":
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1)
    await close(writer)
    assert await until(lambda: "client_disconnected" in app.recorder.names)
