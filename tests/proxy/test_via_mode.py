"""Mode `upstream`: everything through one proxy, unless a rule knows better; and rulesproxy as the proxy at the end."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

import pytest

from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.nginx import Nginx
from tests.support.origin import HELLO, Origin, run_origin
from tests.support.proxy import RunningProxy
from tests.support.upstream_proxies import Asked, connect_proxy

MakeApp = Callable[..., Awaitable[RunningApp]]
MakeProxy = Callable[..., Awaitable[RunningProxy]]

BASIC_ADA = b"Basic " + base64.b64encode(b"ada:secret")
NOTHING = "  - {name: nothing, match: {host: nobody.test}, action: {block: true}}\n"
MARK = "  - {name: mark, match: {host: localhost}, action: {rewrite: {headers: {set: {x-mark: seen}}}}}\n"


def upstream(origin: Origin, scheme: str = "http") -> tuple[str, ...]:
    return (f"upstream:{scheme}://{'localhost' if scheme == 'https' else '127.0.0.1'}:{origin.port}@127.0.0.1:0",)


async def test_plain_requests_are_forwarded_with_the_password_of_the_option(make_app: MakeApp) -> None:
    async with run_origin(HELLO) as proxy:
        app = await make_app(NOTHING, mode=upstream(proxy), upstream_auth="ada:secret")
        assert (await app.curl("http://shop.test/a")).text == "hello"
        assert proxy.requests[0].line == b"GET http://shop.test/a HTTP/1.1"
        assert proxy.requests[0].values(b"proxy-authorization") == [BASIC_ADA]


@pytest.mark.parametrize("decrypted", [False, True])
async def test_tunnels_go_through_with_the_password_of_the_option(make_app: MakeApp, origin_ca: OriginCA,
                                                                 decrypted: bool) -> None:
    asked = Asked()
    async with (run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin,
                run_origin(connect_proxy(asked)) as proxy):
        app = await make_app(MARK if decrypted else NOTHING, mode=upstream(proxy), upstream_auth="ada:secret")
        trust = [] if decrypted else ["--cacert", str(origin_ca.pem)]
        assert (await app.curl(*trust, f"https://localhost:{origin.port}/")).text == "hello"
        assert asked.targets == [f"localhost:{origin.port}"]
        assert asked.connects[0].values(b"proxy-authorization") == [BASIC_ADA]
        assert origin.requests[0].values(b"x-mark") == [b"seen"] * decrypted
        assert origin.requests[0].values(b"proxy-authorization") == []


async def test_a_rule_wins_over_the_mode_and_does_not_learn_its_password(make_app: MakeApp,
                                                                        origin_ca: OriginCA) -> None:
    asked = Asked()
    async with run_origin(HELLO) as origin, run_origin(HELLO) as proxy, run_origin(HELLO) as other:
        app = await make_app(
            '  - {name: near, match: {host: localhost}, action: {upstream_proxy: direct}}\n'
            f'  - {{name: other, match: {{host: a.test}}, action: {{upstream_proxy: "http://127.0.0.1:{other.port}"}}}}\n',
            mode=upstream(proxy), upstream_auth="ada:secret")
        for url in (f"http://localhost:{origin.port}/", "http://a.test/", "http://b.test/"):
            assert (await app.curl(url)).text == "hello"
        assert [request.line for request in origin.requests] == [b"GET / HTTP/1.1"]
        assert [request.line for request in other.requests] == [b"GET http://a.test/ HTTP/1.1"]
        assert [request.line for request in proxy.requests] == [b"GET http://b.test/ HTTP/1.1"]
        assert other.requests[0].values(b"proxy-authorization") == []
    assert asked.connects == []


async def test_a_tunnel_kept_closed_by_rules_goes_directly_when_they_say_so(make_app: MakeApp,
                                                                           origin_ca: OriginCA) -> None:
    asked = Asked()
    async with (run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin,
                run_origin(connect_proxy(asked)) as proxy):
        app = await make_app("  - {name: near, match: {host: localhost}, action: {upstream_proxy: none}}\n",
                             mode=upstream(proxy))
        done = await app.curl("--cacert", str(origin_ca.pem), f"https://localhost:{origin.port}/")
        assert done.text == "hello" and asked.connects == []
        assert "http_connect_upstream" not in app.recorder.names


async def test_pass_leaves_the_mode_its_way(make_app: MakeApp) -> None:
    async with run_origin(HELLO) as proxy:
        app = await make_app("  - {name: hands-off, match: {host: shop.test}, action: {pass: {}}}\n"
                             "  - {name: near, match: {host: shop.test}, action: {upstream_proxy: direct}}\n",
                             mode=upstream(proxy))
        assert (await app.curl("http://shop.test/")).text == "hello"
        assert proxy.requests[0].target == b"http://shop.test/"


async def test_tls_to_the_proxy_of_the_mode(make_app: MakeApp, origin_ca: OriginCA) -> None:
    async with run_origin(HELLO, tls=origin_ca.server_context("localhost")) as proxy:
        app = await make_app(NOTHING, mode=upstream(proxy, "https"))
        assert (await app.curl("http://shop.test/")).text == "hello"
        assert proxy.requests[0].target == b"http://shop.test/"


async def test_a_refused_password_names_the_option(make_app: MakeApp) -> None:
    async with run_origin(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n") as proxy:
        app = await make_app(NOTHING, mode=upstream(proxy), upstream_auth="ada:secret")
        done = await app.curl("-i", "http://shop.test/")
        assert done.text.startswith("HTTP/1.1 502 ") and "upstream_auth" in done.text and "secret" not in done.text


@pytest.mark.parametrize("secured", [False, True])
async def test_another_rulesproxy_that_asks_who_we_are(make_app: MakeApp, make_proxy: MakeProxy, origin_ca: OriginCA,
                                                       secured: bool) -> None:
    async with run_origin(HELLO, tls=origin_ca.server_context("localhost") if secured else None) as origin:
        outer = await make_app(NOTHING, proxy_auth="ada:secret")
        url = f"{'https' if secured else 'http'}://localhost:{origin.port}/"
        rules = MARK.replace("x-mark: seen", "x-mark: inner")
        mode = (f"upstream:http://{outer.address}@127.0.0.1:0",)
        right = await make_app(rules, mode=mode, upstream_auth="ada:secret")
        assert (await right.curl(url)).text == "hello"
        assert origin.requests[0].values(b"x-mark") == [b"inner"]
        wrong = await make_app(rules, mode=mode, upstream_auth="ada:guess")
        done = await wrong.curl("--http1.1", "-i", url)
        assert "HTTP/1.1 502 " in done.text and "407" in done.text and "does not accept" in done.text


async def test_another_rulesproxy_that_speaks_socks(make_app: MakeApp, origin_ca: OriginCA) -> None:
    async with (run_origin(HELLO) as plain,
                run_origin(HELLO, tls=origin_ca.server_context("localhost")) as secured):
        outer = await make_app(NOTHING, mode=("socks5@127.0.0.1:0",))
        app = await make_app(f'  - {{name: out, match: {{host: localhost}}, '
                             f'action: {{upstream_proxy: "socks5://{outer.address}"}}}}\n' + MARK)
        for url in (f"http://localhost:{plain.port}/", f"https://localhost:{secured.port}/"):
            assert (await app.curl(url)).text == "hello"
        assert plain.requests[0].values(b"x-mark") == secured.requests[0].values(b"x-mark") == [b"seen"]


async def test_a_server_behind_the_proxy_is_spoken_to_as_it_likes(
        make_app: MakeApp, make_nginx: Callable[..., Awaitable[Nginx]]) -> None:
    asked = Asked()
    nginx = await make_nginx(names=("localhost",))
    async with run_origin(connect_proxy(asked)) as proxy:
        app = await make_app(MARK, mode=upstream(proxy))
        for version in ("--http2", "--http1.1"):
            done = await app.curl(version, "-o", "/dev/null", "-w", "%{http_code} %{http_version}",
                                  f"https://localhost:{nginx.tls_port}/")
            assert done.text == f"200 {'2' if version == '--http2' else '1.1'}"
        assert asked.targets[0] == f"localhost:{nginx.tls_port}"
