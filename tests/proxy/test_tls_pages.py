"""What pages say of TLS with servers that went wrong, and that following them helps."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.origin import run_origin
from tests.support.stage import SECONDS
from tests.support.tools import require_tool

MakeApp = Callable[..., Awaitable[RunningApp]]


async def test_the_rule_that_a_page_suggests_helps(make_app: MakeApp, origin_ca: OriginCA) -> None:
    """Also where a request is led to a server of another name."""
    async with run_origin(tls=origin_ca.server_context("localhost", self_signed=True)) as origin:
        leads = f'  - {{name: leads, match: {{host: shop.test}}, action: {{map_remote: "https://localhost:{origin.port}"}}}}\n'
        app = await make_app(leads)
        page = (await app.curl("http://shop.test/")).text
        assert page.startswith("502 The server's certificate is not trusted\n")
        [suggested] = re.findall("`(- {.*?}}})`", page)
        await app.edit(f"{leads}  {suggested}\n")
        assert (await app.curl("http://shop.test/")).text == "hello"


async def test_the_rule_that_a_page_suggests_helps_in_front_of_a_server(make_app: MakeApp, origin_ca: OriginCA) -> None:
    async with run_origin(tls=origin_ca.server_context("localhost", self_signed=True)) as origin:
        app = await make_app("  - {name: other, match: {host: other.test}, action: {block: {}}}\n",
                             mode=(f"reverse:https://localhost:{origin.port}@127.0.0.1:0",))
        arguments = ("--noproxy", "*", "-H", "Host: shop.test", f"http://{app.address}/")
        [suggested] = re.findall("`(- {.*?}}})`", (await app.curl(*arguments)).text)
        await app.edit(f"  {suggested}\n")
        assert (await app.curl(*arguments)).text == "hello"


def refuse(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Handshakes that fail for the client's certificate, in a thread: asyncio's servers do not send the alert."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # shut down
            return
        connection.settimeout(SECONDS)
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
            with pytest.raises(ssl.SSLError, match="certificate"):
                secured.do_handshake()
            secured.shutdown(socket.SHUT_WR)
            while secured.recv(65536):  # a reset for what was not read could overtake the alert
                pass


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
@pytest.mark.parametrize(("shown", "words"), [
    (None, "The server may want a certificate of its clients"),
    ("stranger", "The server does not accept the certificate it was shown"),
])
async def test_a_page_says_what_a_server_holds_against_us(
        make_app: MakeApp, origin_ca: OriginCA, tmp_path: Path, alpn: str, shown: str | None, words: str) -> None:
    """In TLS 1.3 a server says so when the handshake is over here."""
    require_tool("curl")
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    certificate = OriginCA(strangers).leaf("me", flaw="client") if shown else None
    context = origin_ca.server_context("localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(origin_ca.pem)
    context.set_alpn_protocols([alpn])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener, context))
        app = await make_app("  - {name: open, match: {host: localhost}, action: {tls: intercept}}\n",
                             upstream_ca=str(origin_ca.pem),
                             client_certs=None if certificate is None else str(certificate))
        got = await app.curl("--cacert", str(app.ca), f"https://localhost:{listener.getsockname()[1]}/")
        listener.shutdown(socket.SHUT_RDWR)
        await refusing
    assert got.text.startswith("502 TLS with the server failed\n")
    assert words in got.text and "client_cert" in got.text
