"""proxy_auth over HTTP: who is asked, who is let through, and who hears of the password."""

from __future__ import annotations

import base64
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.addons.errors import OptionsError
from rulesproxy.app import App, make_options
from rulesproxy.proxy.settings import Settings
from tests.support.certificates import OriginCA
from tests.support.origin import HELLO, run_origin
from tests.support.tools import curl

AUTH: dict[str, Any] = {"proxy_auth": "me:secret"}


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


class Look:
    """What hooks see of a client and its credentials."""

    def __init__(self) -> None:
        self.users: list[str | None] = []
        self.fields: list[str] = []

    def requestheaders(self, flow: Any) -> None:
        self.users.append(flow.client_conn.user)
        self.fields += [name.lower() for name in flow.request.headers]

    http_connect = requestheaders


async def test_plain_requests(make_proxy: Any) -> None:
    look = Look()
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(look, **AUTH)
        url = f"http://127.0.0.1:{server.port}/"
        right = await proxy.curl("--proxy-user", "me:secret", url, url)
        wrong = await proxy.curl("-i", "--proxy-user", "me:guess", url)
        none = await proxy.curl("-i", url)
    assert right.text == "hellohello"
    assert look.users == ["me", "me"]
    assert "proxy-authorization" not in look.fields
    for refused in (wrong, none):
        assert refused.text.startswith("HTTP/1.1 407 ")
        assert 'proxy-authenticate: basic realm="rulesproxy"' in refused.text.lower()
        assert "hello" not in refused.text
    assert len(server.requests) == 2
    assert all(request.values(b"proxy-authorization") == [] for request in server.requests)


async def test_tunnels_are_asked_once_and_what_is_in_them_never(make_proxy: Any, origin_ca: OriginCA) -> None:
    look = Look()
    async with run_origin(HELLO, tls=origin_ca.server_context("localhost")) as server:
        proxy = await make_proxy(look, **AUTH)
        url = f"https://localhost:{server.port}/"
        right = await proxy.curl("--proxy-user", "me:secret", url, url)
        wrong = await proxy.curl("--proxy-user", "me:guess", url)
        none = await proxy.curl(url)
    assert right.text == "hellohello"
    assert look.users == ["me"] * 3
    assert "proxy-authorization" not in look.fields
    assert wrong.code == none.code == 56  # curl: the CONNECT failed
    assert b"407" in wrong.err
    assert proxy.recorder.of("http_connect", "http_connect_error") == ["http_connect"]


async def test_a_client_that_waits_to_be_asked(make_proxy: Any) -> None:
    """It sends its credentials with a second request on the same connection."""
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**AUTH)
        answer = await proxy.curl("-v", "--proxy-anyauth", "--proxy-user", "me:secret", "-d", "body",
                                  f"http://127.0.0.1:{server.port}/")
    assert answer.text == "hello"
    assert server.requests[0].body == b"body"


async def test_every_request_brings_its_own(make_proxy: Any) -> None:
    """A connection may carry the requests of many users, of whom one is known."""
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**AUTH)
        target = f"http://127.0.0.1:{server.port}/"
        head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        answer = await proxy.talk(
            f"{head}Proxy-Authorization: {basic('me:secret')}\r\n\r\n{head}\r\n"
            f"{head}Proxy-Authorization: {basic('me:secret')}\r\nConnection: close\r\n\r\n".encode())
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"407", b"200"]
    assert len(server.requests) == 2


@pytest.mark.parametrize("value", [
    "Basic", "Basic !!!", "Basic bWU=", basic("me:secret")[:-1], "Bearer abc", "Negotiate abc", "",
    basic("me:secretx"), basic("me:"), basic(":secret"), basic("ME:secret"),
    basic("me:secret") + "\r\nProxy-Authorization: " + basic("me:secret"),
])
async def test_what_does_not_count(make_proxy: Any, value: str) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**AUTH)
        answer = await proxy.talk(f"GET http://127.0.0.1:{server.port}/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                                  f"Proxy-Authorization: {value}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 407 ")
    assert server.connections == []


async def test_a_scheme_in_any_case(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**AUTH)
        value = basic("me:secret").replace("Basic ", "bAsIc  ")
        answer = await proxy.talk(f"GET http://127.0.0.1:{server.port}/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                                  f"Proxy-Authorization: {value}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_the_status_page_is_for_users_too(make_proxy: Any) -> None:
    proxy = await make_proxy(**AUTH)
    assert (await proxy.curl("-i", "http://rulesproxy.test/")).text.startswith("HTTP/1.1 407 ")
    assert "Rules live" in (await proxy.curl("--proxy-user", "me:secret", "http://rulesproxy.test/")).text


async def test_a_refused_upload_is_not_taken_for_a_request(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**AUTH)
        smuggled = f"GET http://127.0.0.1:{server.port}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        answer = await proxy.talk(f"POST http://127.0.0.1:{server.port}/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                                  f"Content-Length: {len(smuggled)}\r\n\r\n".encode() + smuggled)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert server.connections == []


async def test_passwords_are_in_no_log_and_no_page(make_proxy: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    proxy = await make_proxy(**AUTH)
    answer = await proxy.curl("-i", "--proxy-user", "me:gUeSs", "http://127.0.0.1:9/")
    assert answer.text.startswith("HTTP/1.1 407 ")
    for secret in ("gUeSs", "secret", base64.b64encode(b"me:gUeSs").decode()):
        assert secret not in caplog.text + answer.text
    assert any("wrong user or password ('me')" in record.getMessage() for record in caplog.records)


async def test_an_addon_may_ask_for_itself(make_proxy: Any) -> None:
    """Without the option credentials are the addon's affair, and so is the challenge."""
    from rulesproxy.model.http import Response

    class Ask:
        def requestheaders(self, flow: Any) -> None:
            if "proxy-authorization" not in flow.request.headers:
                flow.response = Response.make(407, b"who?", {"Proxy-Authenticate": "Basic realm=mine"})

    async with run_origin(HELLO) as server:
        proxy = await make_proxy(Ask())
        url = f"http://127.0.0.1:{server.port}/"
        asked = await proxy.curl("-i", url)
        known = await proxy.curl("--proxy-user", "me:secret", url)
    assert "Proxy-Authenticate: Basic realm=mine" in asked.text
    assert known.text == "hello"
    assert server.requests[0].values(b"proxy-authorization") == []


async def test_the_challenge_of_an_origin_stays_here(make_proxy: Any) -> None:
    """RFC 9110 §11.7.1: it is for the next client only, which is this proxy."""
    answer = b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=evil\r\nContent-Length: 0\r\n\r\n"
    async with run_origin(answer) as server:
        proxy = await make_proxy()
        got = await proxy.curl("-i", f"http://127.0.0.1:{server.port}/")
    assert got.text.startswith("HTTP/1.1 407 ")
    assert "realm" not in got.text


async def test_reverse_modes_ask_nobody(make_app: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with run_origin(HELLO) as server:
        app = await make_app("  - {name: x, match: {host: x.test}, action: {block: true}}\n",
                             mode=(f"reverse:http://127.0.0.1:{server.port}@127.0.0.1:0",), **AUTH)
        assert (await curl(f"http://{app.address}/")).text == "hello"
    assert sum("proxy_auth does not hold here" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(("mode", "said"), [("regular@127.0.0.1:0", 1), ("upstream:http://127.0.0.1:9@127.0.0.1:0", 0)])
async def test_a_password_that_nobody_is_told_is_said(make_app: Any, caplog: pytest.LogCaptureFixture, mode: str,
                                                      said: int) -> None:
    await make_app("  - {name: x, match: {host: x.test}, action: {block: true}}\n", mode=(mode,), upstream_auth="a:b")
    assert sum("upstream_auth is not used" in record.getMessage() for record in caplog.records) == said


async def test_users_of_a_file_and_a_change_of_mind(make_app: Any, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("me:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    async with run_origin(HELLO) as server:
        app = await make_app("  - {name: x, match: {host: x.test}, action: {block: true}}\n", proxy_auth=f"@{users}")
        url = f"http://127.0.0.1:{server.port}/"
        assert (await app.curl("--proxy-user", "me:secret", url)).text == "hello"
        assert (await app.curl("-i", "--proxy-user", "me:guess", url)).text.startswith("HTTP/1.1 407 ")
        app.app.options.proxy_auth = "you:other"
        assert (await app.curl("-i", "--proxy-user", "me:secret", url)).text.startswith("HTTP/1.1 407 ")
        assert (await app.curl("--proxy-user", "you:other", url)).text == "hello"
        app.app.options.proxy_auth = "nonsense"  # is said in the log, and what was set before holds
        assert (await app.curl("--proxy-user", "you:other", url)).text == "hello"
        app.app.options.proxy_auth = None
        assert (await app.curl(url)).text == "hello"


async def test_an_option_that_makes_no_sense_is_said_at_the_start(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\nrules: []\n")
    app = App(make_options(tmp_path / "conf", mode=("regular@127.0.0.1:0",), proxy_auth="me"), [str(rules)])
    with pytest.raises(OptionsError, match="option proxy_auth: write user:password"):
        await app.start()


def test_settings_do_not_show_secrets() -> None:
    options = make_options(proxy_auth="me:tOpSeCrEt", upstream_auth="me:tOpSeCrEt")
    assert "tOpSeCrEt" not in repr(Settings.from_options(options))


async def test_http2_clients_are_asked_too(make_proxy: Any) -> None:
    proxy = await make_proxy(**AUTH)
    answer = await curl("-i", "--http2-prior-knowledge", f"http://{proxy.address}/")
    assert answer.text.startswith("HTTP/2 407")
    assert 'proxy-authenticate: Basic realm="rulesproxy"' in answer.text
    known = await curl("-i", "--http2-prior-knowledge", "-H", f"Proxy-Authorization: {basic('me:secret')}",
                       f"http://{proxy.address}/")
    assert not known.text.startswith("HTTP/2 407")
