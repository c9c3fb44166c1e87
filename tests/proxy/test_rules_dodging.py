"""A rule on a host or path is not dodged by writing it differently (reliability R5), and hooks are not either."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.origin import Origin, run_origin

MakeApp = Callable[..., Awaitable[RunningApp]]

SECONDS = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: Everything in .test leads to one origin, so whatever gets past a block is seen there.
RULES = """\
  - {{name: secret, match: {{host: [secret.test, xn--tst-qla.test]}}, action: {{block: {{status: 403}}}}}}
  - {{name: admin, match: {{domain: app.test, path: /admin/**}}, action: {{block: {{status: 403}}}}}}
  - {{name: plain, match: {{scheme: http, domain: test}}, action: {{redirect_server: "127.0.0.1:{plain}"}}}}
  - name: secure
    match: {{scheme: https, domain: test}}
    action: {{redirect_server: {{to: "127.0.0.1:{secure}", sni: localhost}}}}
"""


@dataclass
class Scene:
    app: RunningApp
    plain: Origin
    secure: Origin

    @property
    def received(self) -> bytes:
        return (self.plain.received + self.secure.received).lower()

    async def ask(self, target: str, *fields: str) -> bytes:
        head = "\r\n".join([f"GET {target} HTTP/1.1", *fields, "Connection: close", "", ""])
        return await self.app.talk(head.encode("latin-1"))


@pytest.fixture
async def scene(make_app: MakeApp, origin_ca: OriginCA) -> AsyncIterator[Scene]:
    async with (run_origin(OK) as plain, run_origin(OK, tls=origin_ca.server_context("localhost")) as secure):
        yield Scene(await make_app(RULES.format(plain=plain.port, secure=secure.port)), plain, secure)


@pytest.mark.parametrize("host", [
    "secret.test", "SECRET.Test", "secret.test.", "secret.test:80", "secret.test:", "SECRET.TEST.:80",
    "user:pass@secret.test", "ok.test@secret.test", "secret.test@ok.test", "sec%72et.test", "secret.test%00.ok.test",
    "secret.test\\.ok.test", "secret.test#ok.test", "tést.test", "xn--TST-qla.test", "secret\xad.test", "ok.test ",
    "sec\tret.test", "[secret.test]", "secret.test:80:80", "secret.test:99999", "ok.test,secret.test", "",
])
async def test_spellings_of_a_host(scene: Scene, host: str) -> None:
    answer = await scene.ask(f"http://{host}/", "Host: ok.test")
    assert answer[9:12] in (b"403", b"400"), answer[:80]
    assert scene.received == b""


@pytest.mark.parametrize("field", ["Host: secret.test", "HOST: Secret.test.", "Host: secret.test\r\nHost: ok.test"])
async def test_a_foreign_host_field_does_not_travel(scene: Scene, field: str) -> None:
    answer = await scene.ask("http://ok.test/", field)
    assert answer[9:12] in (b"200", b"400"), answer[:80]
    assert b"secret" not in scene.received


@pytest.mark.parametrize("path", [
    "/admin", "/admin/", "/admin/x", "/admin?x", "/%61dmin/x", "/%61%64%6D%69%6e/", "//admin/x", "/./admin/x",
    "/x/../admin/x", "/x/%2e%2e/admin", "/x/.%2E/admin/x", "/../admin", "///x//..//admin///y", "/admin/../admin/x",
    "/admin;a=b/../admin/x", "/%2e/admin", "/admin/%2e%2e/%61dmin",
])
async def test_spellings_of_a_path(scene: Scene, path: str) -> None:
    answer = await scene.ask(f"http://www.app.test{path}", "Host: www.app.test")
    assert answer.startswith(b"HTTP/1.1 403 "), answer[:80]
    assert b"Rule: admin" in answer
    assert scene.received == b""


async def test_later_requests_of_a_connection(scene: Scene) -> None:
    def get(host: str, more: str = "") -> bytes:
        return f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()

    answer = await scene.app.talk(get("ok.test") + get("secret.test") + get("ok.test") + get("Secret.test:80")
                                  + get("ok.test", "Connection: close\r\n"))
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"403", b"200", b"403", b"200"]
    assert len(scene.plain.requests) == 3


@pytest.mark.parametrize(("connect", "sni", "host", "status"), [
    ("ok.test:443", "ok.test", "ok.test", b"200"),
    ("ok.test:443", "secret.test", "secret.test", b"403"),  # the SNI is the name, whatever was asked of CONNECT
    ("ok.test:443", "SECRET.test", "secret.test.", b"403"),
    ("secret.test:443", "secret.test", "secret.test", b"403"),
    ("secret.test:443", None, "secret.test", b"403"),
    ("ok.test:443", "ok.test", "secret.test", b"421"),
    ("secret.test:443", "secret.test", "ok.test", b"421"),
    ("ok.test:443", "ok.test", "secret.test:443", b"421"),
    ("ok.test:443", "ok.test", "user@secret.test", b"400"),
])
async def test_names_inside_tls(scene: Scene, connect: str, sni: str | None, host: str, status: bytes) -> None:
    # Only the secret host needs to be opened, so `ok.test` is opened by a rule of its own.
    await scene.app.edit("  - {name: open, match: {host: ok.test}, action: {tls: intercept}}\n"
                         + RULES.format(plain=scene.plain.port, secure=scene.secure.port))
    context = ssl.create_default_context(cafile=str(scene.app.ca))
    context.check_hostname = False
    reader, writer = await scene.app.connect()
    async with asyncio.timeout(SECONDS):
        writer.write(f"CONNECT {connect} HTTP/1.1\r\nHost: {connect}\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await writer.start_tls(context, server_hostname=sni or "")
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    assert answer[9:12] == status, answer[:80]
    assert b"secret" not in scene.received


async def test_a_tunnel_is_not_a_way_to_another_host(scene: Scene) -> None:
    connect = b"CONNECT ok.test:80 HTTP/1.1\r\nHost: ok.test\r\n\r\n"
    answer = await scene.app.talk(connect + b"GET / HTTP/1.1\r\nHost: secret.test\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and b"\r\n\r\nHTTP/1.1 421 " in answer
    answer = await scene.app.talk(connect + b"GET http://secret.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n")
    assert b"\r\n\r\nHTTP/1.1 421 " in answer
    assert scene.received == b""
