"""Attempts to reach the proxy's own ports and pages through the proxy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from rulesproxy.model.policy import NameAnswer
from tests.support.app import RunningApp
from tests.support.origin import run_origin
from tests.support.proxy import RunningProxy
from tests.support.tools import curl

MakeApp = Callable[..., Awaitable[RunningApp]]
MakeProxy = Callable[..., Awaitable[RunningProxy]]

SECONDS = 10.0
NOTHING = "  - {name: nothing, match: {host: nobody.test}, action: {block: true}}\n"
SPELLINGS = ["127.0.0.1", "localhost", "LOCALHOST.", "x.localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0",
             "[::ffff:0:0]", "spoofed.test", "alias.test", "0", "0x7f000001", "2130706433", "127.1", "017700000001",
             "[::]"]


class Spoof:
    """What a rule or a hostile name server says."""

    def resolve(self, name: str, client: object) -> NameAnswer | None:
        return {"spoofed.test": NameAnswer(("127.0.0.1",)), "alias.test": NameAnswer(alias="localhost")}.get(name)


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("form", ["GET", "CONNECT"])
async def test_no_spelling_of_its_own_address_leads_back(make_proxy: MakeProxy, host: str, form: str) -> None:
    proxy = await make_proxy(Spoof())
    place = f"{host}:{proxy.port}"
    line = f"CONNECT {place}" if form == "CONNECT" else f"GET http://{place}/"
    inner = f"GET / HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n"
    answer = await proxy.talk(f"{line} HTTP/1.1\r\nHost: {place}\r\n\r\n{inner if form == 'CONNECT' else ''}".encode(),
                              half_close=form == "GET")
    assert b"HTTP/1.1 200 OK" not in answer
    assert b"HTTP/1.1 502 " in answer or b"HTTP/1.1 400 " in answer
    assert proxy.recorder.names.count("client_connected") == 1


def other_address() -> str:
    """An address of this machine that is not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
        return "" if address.startswith("127.") else address


async def test_a_wildcard_listener_does_not_call_itself_by_another_address(make_proxy: MakeProxy) -> None:
    address = other_address()
    if not address:
        pytest.skip("this machine has no address but its loopback ones")
    proxy = await make_proxy(modes=("regular@0.0.0.0:0",))
    answer = await curl("-i", f"http://{address}:{proxy.port}/", proxy=f"127.0.0.1:{proxy.port}")
    assert "502 Bad Gateway" in answer.text
    assert "this proxy itself" in answer.text
    assert proxy.recorder.names.count("client_connected") == 1


async def test_a_rule_cannot_send_the_proxy_to_itself(make_app: MakeApp) -> None:
    app = await make_app(NOTHING)
    await app.edit(f"  - {{name: loop, match: {{host: a.test}}, action: {{redirect_server: 127.0.0.1:{app.port}}}}}\n")
    assert "502 Bad Gateway" in (await app.curl("-i", "http://a.test/")).text
    assert app.recorder.names.count("client_connected") == 1


async def test_the_dns_port_is_not_reached_through_the_proxy(make_app: MakeApp) -> None:
    app = await make_app(NOTHING, mode=("regular@127.0.0.1:0", "dns@127.0.0.1:0"))
    port = app.dns_address[1]
    answer = await app.talk(f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"this proxy itself" in answer


def _free_port() -> int:
    """Free for UDP and TCP."""
    for _ in range(100):
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            return int(udp.getsockname()[1])
    raise AssertionError("no port is free for both")


async def test_a_name_server_that_is_this_one_is_not_asked(make_app: MakeApp) -> None:
    port = _free_port()
    app = await make_app(NOTHING, mode=("regular@127.0.0.1:0", f"dns@127.0.0.1:{port}"),
                         resolvers=(f"127.0.0.1:{port}",))
    async with asyncio.timeout(SECONDS):
        answer = await app.talk(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert "dns_request" not in app.recorder.names


# --- http://rulesproxy.test/ ------------------------------------------------------------------------------------

@pytest.mark.parametrize("raw", [
    b"POST http://rulesproxy.test/ HTTP/1.1\r\nHost: rulesproxy.test\r\nContent-Length: 0\r\n\r\n",
    b"DELETE http://rulesproxy.test/rules HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n",
    b"GET /rules HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET http://127.0.0.1/rules HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n",
    b"GET https://rulesproxy.test/rules HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n",
    b"CONNECT rulesproxy.test:80 HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n"
    b"GET /rules HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n",
    b"CONNECT rulesproxy.test:443 HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n",
    b"GET http://x.rulesproxy.test/rules HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n",
], ids=range(9))
async def test_the_pages_of_the_proxy_are_read_in_one_way_only(make_app: MakeApp, raw: bytes) -> None:
    app = await make_app(NOTHING)
    answer = await app.talk(raw)
    assert b"HTTP/1.1 200 OK" not in answer
    assert b"nobody.test" not in answer
    assert b'"digest"' not in answer


async def test_no_page_says_what_keys_and_rules_hold(make_app: MakeApp) -> None:
    app = await make_app("  - name: \"<script>alert(1)</script>\\e[31m\"\n"
                         "    match: {host: a.test}\n    action: {respond: {body: secret-text}}\n")
    for path in ("/", "/rules", "/ca.pem", "/ca.crt", "/..%2fca-key.pem", "/../ca-key.pem", "/ca-key.pem"):
        for accept in ("text/html", "*/*"):
            done = await app.curl("-i", "--path-as-is", "-H", f"Accept: {accept}", f"http://rulesproxy.test{path}")
            assert "PRIVATE KEY" not in done.text
            assert "secret-text" not in done.text
            assert "<script>" not in done.text or "application/json" in done.text or "text/plain" in done.text
            assert path == "/ca.crt" or "\x1b" not in done.text


async def test_the_pages_cannot_be_moved_by_an_origin(make_app: MakeApp) -> None:
    app = await make_app("  - {name: m, match: {host: a.test}, action: {map_remote: \"http://rulesproxy.test/\"}}\n")
    async with run_origin():
        done = await app.curl("-i", "http://a.test/rules")
        assert "digest" not in done.text
