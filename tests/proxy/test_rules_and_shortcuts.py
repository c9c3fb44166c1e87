"""Ways past the proxy are not offered to clients of hosts that it decrypts: HTTP/3, and encrypted ClientHellos."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from rulesproxy.model.flow import HTTPFlow
from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.dns_upstream import FakeResolver
from tests.support.origin import run_origin
from tests.support.tools import run_tool

MakeApp = Callable[..., Awaitable[RunningApp]]

RULES = """\
  - {name: page, match: {host: mock.test}, action: {respond: mock}}
  - {name: asked, match: {sni: sni.test}, action: {rewrite: {response_headers: {set: {x-a: b}}}}}
  - {name: opened, match: {host: opened.test}, action: {tls: intercept}}
  - {name: closed, match: {host: closed.test}, action: {tls: passthrough}}
"""
NAMES = ("mock.test", "sni.test", "opened.test", "closed.test", "other.test")
HINTS = '1 . alpn="h2,h3" ipv4hint="192.0.2.1" ech="AAUAAQIDBA=="'


class Script:
    def request(self, flow: HTTPFlow) -> None: ...


async def https_record(app: RunningApp, name: str, *options: str) -> str:
    """The HTTPS record as dig prints it, by number so that any version of dig knows it."""
    host, port = app.dns_address
    done = await run_tool("dig", f"@{host}", "-p", str(port), name, "TYPE65", "+tries=1", "+time=5", *options)
    assert done.code == 0, done.text
    return done.text


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize(("script", "decrypt", "hidden"), [
    (False, "auto", {"mock.test", "sni.test", "opened.test"}),
    (False, "none", set()),
    (True, "auto", {"mock.test", "sni.test", "opened.test", "other.test"}),
    (True, "named", {"mock.test", "sni.test", "opened.test"}),
])
async def test_names_that_are_decrypted_lose_their_hints(make_app: MakeApp, script: bool, decrypt: str,
                                                         hidden: set[str], transport: str) -> None:
    addons = [Script()] if script else []
    async with FakeResolver({(name, "HTTPS"): [HINTS] for name in NAMES}) as resolver:
        app = await make_app(RULES, *addons, mode=("regular@127.0.0.1:0", "dns@127.0.0.1:0"),
                             resolvers=(resolver.address,), decrypt=decrypt)
        for name in NAMES:
            text = await https_record(app, name, transport)
            # dig writes what it knows in words and the rest in hexadecimal; ech is key 5, h3 is 02 68 33
            compact = "".join(text.split()).lower()
            has_ech = "ech=" in text or "000500050005000102030" in compact or "00050007000500010203" in compact
            has_h3 = "h3" in text or "026833" in compact
            assert ("192.0.2.1" in text or "c0000201" in compact), text
            assert (has_ech, has_h3) == ((False, False) if name in hidden else (True, True)), (name, text)


async def test_intercepted_answers_do_not_offer_http3(make_app: MakeApp, origin_ca: OriginCA) -> None:
    answer = (b'HTTP/1.1 200 OK\r\nAlt-Svc: h3=":443"; ma=9, h2=":443"\r\nalt-svc: h3-29=":443"\r\n'
              b"Content-Length: 2\r\n\r\nok")
    app = await make_app("  - {name: opened, match: {host: localhost}, action: {tls: intercept}}\n")
    async with run_origin(answer, tls=origin_ca.server_context("localhost")) as origin, run_origin(answer) as plain:
        opened = (await app.curl("-i", f"https://localhost:{origin.port}/")).text
        assert 'alt-svc: h2=":443"\r\n' in opened
        assert "h3" not in opened
        # plain HTTP was never secure: nothing is lost, and nothing changed
        assert 'h3=":443"; ma=9, h2=":443"' in (await app.curl("-i", f"http://localhost:{plain.port}/")).text


async def test_a_rule_for_a_server_name_opens_that_name_only(make_app: MakeApp, origin_ca: OriginCA) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    app = await make_app("  - {name: asked, match: {sni: localhost}, action: {rewrite: {response_headers: "
                         "{set: {x-a: b}}}}}\n", decrypt="named")
    assert app.app.rules.current is not None
    assert app.app.rules.current.decrypts_everything == ()
    async with run_origin(answer, tls=origin_ca.server_context("localhost")) as origin:
        assert "x-a: b\r\n" in (await app.curl("-i", f"https://localhost:{origin.port}/")).text
    async with run_origin(answer, tls=origin_ca.server_context("127.0.0.1")) as other:
        # not opened: the client sees the origin's own certificate, which it does not know
        assert (await app.curl(f"https://127.0.0.1:{other.port}/")).code == 60
