"""Expected logs of hooks, put together from the pieces the hooks page names, and small addons that act in one hook."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.model.tls import Tunnel
from tests.support.automaton import Recorder
from tests.support.leaks import until
from tests.support.proxy import RunningProxy
from tests.support.tools import Completed, run_tool

MakeProxy = Callable[..., Awaitable[RunningProxy]]

CONNECTED = ["client_connected"]
DISCONNECTED = ["client_disconnected"]
DIALLED = ["server_connect", "server_connected"]
REQUEST = ["requestheaders", "request"]
ANSWER = ["responseheaders", "response"]
TUNNEL = ["http_connect", "http_connected", "tls_clienthello"]
INTERCEPTED = [*TUNNEL, "tls_start_client", "tls_established_client"]
SERVER_TLS = ["tls_start_server", "tls_established_server"]


class Decide:
    """Gives one verdict on every TLS tunnel, as the rules do."""

    def __init__(self, verdict: TlsVerdict = TlsVerdict.INTERCEPT) -> None:
        self.verdict = verdict

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
        return TlsDecision(self.verdict)


class At:
    """Does something in one hook, and does not make the proxy buffer."""

    def __init__(self, hook: str, act: Callable[[Any], None]) -> None:
        setattr(self, hook, act)

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        return False


async def assert_log(recorder: Recorder, expected: list[str], servers: int = 1) -> None:
    """The log is exactly `expected` once the client has left and all of `servers` connections are closed."""
    await until(lambda: recorder.names.count("client_disconnected") >= expected.count("client_disconnected")
                and recorder.names.count("server_disconnected") >= servers)
    assert [name for name in recorder.names if name != "server_disconnected"] == expected
    assert recorder.names.count("server_disconnected") == servers


def url(port: int, path: str = "/", scheme: str = "http", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{port}{path}"


async def openssl(proxy: RunningProxy, port: int, *arguments: str, request: bytes = b"") -> Completed:
    """s_client through the proxy to `localhost:port`; it ends when the other side does."""
    return await run_tool("openssl", "s_client", "-proxy", proxy.address, "-connect", f"localhost:{port}",
                          "-servername", "localhost", "-verify_return_error", "-ign_eof", *arguments, stdin=request)


CLOSING_GET = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
