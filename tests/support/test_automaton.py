"""The automaton itself: it accepts the orders of the hooks page and rejects others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rulesproxy.model.connection import Client, ConnectionState, Server, ServerConnectionHookData
from rulesproxy.model.flow import Error, HTTPFlow
from rulesproxy.model.http import Request, Response
from rulesproxy.model.tls import TlsData
from tests.support.automaton import ALL_NAMES, TABLES, HookOrder


class World:
    """Objects hooks are about, kept as the proxy would keep them, and the automaton that is told."""

    def __init__(self) -> None:
        self.order = HookOrder()
        self.client = Client(peername=("127.0.0.1", 1))
        self.server = Server(("127.0.0.1", 80))
        self.flow = self.new_flow()
        self.tunnel = self.new_flow("CONNECT")

    def new_flow(self, method: str = "GET") -> HTTPFlow:
        flow = HTTPFlow(self.client, self.server)
        flow.request = Request.make(method, "http://example.test/")
        return flow

    def fire(self, *hooks: str) -> World:
        for hook in hooks:
            self._one(hook)
        return self

    def _one(self, hook: str) -> None:
        if hook == "next flow":
            self.flow = self.new_flow()
        elif hook == "next server":
            self.server = Server(("127.0.0.1", 80))
        elif hook.startswith("client_"):
            self.order.feed(hook, self.client)
        elif hook.startswith("server_"):
            self._server_facts(hook)
            self.order.feed(hook, ServerConnectionHookData(self.server, self.client))
        elif hook.startswith("tls_"):
            self._tls_facts(hook)
            self.order.feed(hook, TlsData(self.server, self.client, self.server))
        elif hook.startswith("http_connect"):
            self.order.feed(hook, self.tunnel)
        elif hook == "done":
            self.order.feed(hook)
        else:
            self._flow_facts(hook)
            self.order.feed(hook, self.flow)

    def _server_facts(self, hook: str) -> None:
        match hook:
            case "server_connected":
                self.server.state, self.server.peername = ConnectionState.OPEN, ("127.0.0.1", 80)
            case "server_connect_error":
                self.server.error = "refused"
            case "server_disconnected":
                self.server.state = ConnectionState.CLOSED

    def _tls_facts(self, hook: str) -> None:
        match hook:
            case "tls_established_client":
                self.client.timestamp_tls_setup = 1.0
            case "tls_established_server":
                self.server.timestamp_tls_setup = 1.0
            case "tls_failed_server":
                self.server.error = "bad certificate"

    def _flow_facts(self, hook: str) -> None:
        match hook:
            case "responseheaders":
                self.flow.response = Response.make(200)
            case "error":
                self.flow.error = Error("failed")


PLAIN = ("client_connected", "requestheaders", "request", "server_connect", "server_connected", "responseheaders",
         "response")
BYE = ("client_disconnected", "server_disconnected")
TUNNEL = ("client_connected", "http_connect", "http_connected")
INTERCEPTED = (*TUNNEL, "tls_clienthello", "tls_start_client", "tls_established_client", "requestheaders", "request",
               "server_connect", "server_connected", "tls_start_server", "tls_established_server", "responseheaders",
               "response")

GOOD = {
    "plain": (*PLAIN, *BYE),
    "kept connections": (*PLAIN, "next flow", "requestheaders", "request", "responseheaders", "response", *BYE),
    "server closes first": (*PLAIN, "server_disconnected", "client_disconnected"),
    "no request at all": ("client_connected", "client_disconnected"),
    "answered at the head": ("client_connected", "requestheaders", "responseheaders", "response",
                             "client_disconnected"),
    "answered during the upload": ("client_connected", "requestheaders", "server_connect", "server_connected",
                                   "responseheaders", "response", "request", *BYE),
    "connect refused": ("client_connected", "requestheaders", "request", "server_connect", "server_connect_error",
                        "error", "client_disconnected"),
    "killed at the head": ("client_connected", "requestheaders", "error", "client_disconnected"),
    "cut in the answer": (*PLAIN[:-1], "error", *BYE),
    "intercepted": (*INTERCEPTED, *BYE),
    "relayed": (*TUNNEL, "tls_clienthello", "server_connect", "server_connected", "server_disconnected",
                "client_disconnected"),
    "tunnel refused": (*TUNNEL[:-1], "http_connect_error", "client_disconnected"),
    "client does not trust us": (*TUNNEL, "tls_clienthello", "tls_start_client", "tls_failed_client",
                                 "client_disconnected"),
    "origin's certificate is bad": (*INTERCEPTED[:-3], "tls_failed_server", "server_disconnected", "error",
                                    "client_disconnected"),
    "retried on a fresh connection": (*PLAIN, "next flow", "requestheaders", "request", "server_disconnected",
                                      "next server", "server_connect", "server_connected", "responseheaders",
                                      "response", *BYE),
    "TLS to the proxy": ("client_connected", "tls_clienthello", "tls_start_client", "tls_established_client",
                         *PLAIN[1:], *BYE),
    "done": (*PLAIN, *BYE, "done"),
}

BAD = {
    "request before requestheaders": ("client_connected", "request"),
    "requestheaders twice": ("client_connected", "requestheaders", "requestheaders"),
    "request twice": ("client_connected", "requestheaders", "request", "request"),
    "response without responseheaders": ("client_connected", "requestheaders", "request", "response"),
    "responseheaders twice": (*PLAIN[:-1], "responseheaders"),
    "response twice": (*PLAIN, "response"),
    "error after response": (*PLAIN, "error"),
    "response after error": (*PLAIN[:-1], "error", "response"),
    "error twice": ("client_connected", "requestheaders", "error", "error"),
    "request after error": ("client_connected", "requestheaders", "error", "request"),
    "responseheaders after error": ("client_connected", "requestheaders", "error", "responseheaders"),
    "next request before the answer": ("client_connected", "requestheaders", "request", "next flow",
                                       "requestheaders"),
    "client_connected twice": ("client_connected", "client_connected"),
    "client_disconnected twice": ("client_connected", "client_disconnected", "client_disconnected"),
    "request without a client": ("requestheaders",),
    "request after the client left": ("client_connected", "client_disconnected", "requestheaders"),
    "client left in the middle": ("client_connected", "requestheaders", "client_disconnected"),
    "server_connected without server_connect": ("client_connected", "requestheaders", "request", "server_connected"),
    "server_connect for nobody": ("client_connected", "server_connect"),
    "server_connect after the answer": (*PLAIN, "next server", "server_connect"),
    "connected and error": (*PLAIN, "server_connect_error"),
    "error and connected": ("client_connected", "requestheaders", "request", "server_connect",
                            "server_connect_error", "server_connected"),
    "disconnected after a failed connect": ("client_connected", "requestheaders", "request", "server_connect",
                                            "server_connect_error", "server_disconnected"),
    "server_disconnected twice": (*PLAIN, "server_disconnected", "server_disconnected"),
    "TLS before TCP": ("client_connected", "requestheaders", "request", "server_connect", "tls_start_server"),
    "TLS established without start": (*PLAIN[:-2], "tls_established_server"),
    "TLS established and failed": (*INTERCEPTED[:-2], "tls_failed_server"),
    "hello outside a tunnel": (*PLAIN, "tls_clienthello"),
    "handshake without hello": (*TUNNEL, "tls_start_client"),
    "client TLS established and failed": (*INTERCEPTED[:6], "tls_failed_client"),
    "request before TLS is up": (*INTERCEPTED[:5], "requestheaders"),
    "request after TLS failed": (*INTERCEPTED[:5], "tls_failed_client", "requestheaders"),
    "tunnel connected and refused": (*TUNNEL, "http_connect_error"),
    "tunnel connected twice": (*TUNNEL, "http_connected"),
    "tunnel without http_connect": ("client_connected", "http_connected"),
    "anything after done": ("done", "client_connected"),
}

UNFINISHED = {
    "client never left": PLAIN,
    "server never closed": (*PLAIN, "client_disconnected"),
    "connect without outcome": ("client_connected", "requestheaders", "request", "server_connect"),
    "request without outcome": ("client_connected", "requestheaders", "request"),
    "tunnel without outcome": ("client_connected", "http_connect"),
    "handshake without outcome": (*TUNNEL, "tls_clienthello", "tls_start_client"),
}


@pytest.mark.parametrize("hooks", GOOD.values(), ids=GOOD)
def test_order_of_the_page_is_accepted(hooks: tuple[str, ...]) -> None:
    assert World().fire(*hooks).order.finish() == []


@pytest.mark.parametrize("hooks", BAD.values(), ids=BAD)
def test_wrong_order_is_rejected_at_its_last_hook(hooks: tuple[str, ...]) -> None:
    world = World().fire(*hooks[:-1])
    assert world.order.violations == []
    assert len(world.fire(hooks[-1]).order.violations) >= 1


@pytest.mark.parametrize("hooks", UNFINISHED.values(), ids=UNFINISHED)
def test_what_never_ends_is_rejected_at_the_end(hooks: tuple[str, ...]) -> None:
    world = World().fire(*hooks)
    assert world.order.violations == []
    assert world.order.finish() != []


def _clear_error(world: World) -> None:
    world.flow.error = None
    world.order.feed("error", world.flow)


def _clear_response(world: World) -> None:
    world.flow.response = None
    world.order.feed("responseheaders", world.flow)


def _not_connected(world: World) -> None:
    world.fire("server_connect")
    world.order.feed("server_connected", ServerConnectionHookData(world.server, world.client))


def _no_reason(world: World) -> None:
    world.fire("server_connect")
    world.order.feed("server_connect_error", ServerConnectionHookData(world.server, world.client))


@pytest.mark.parametrize("act", [_clear_error, _clear_response, _not_connected, _no_reason])
def test_argument_without_the_fact_of_the_hook_is_rejected(act: Callable[[World], None]) -> None:
    world = World().fire("client_connected", "requestheaders", "request")
    act(world)
    assert len(world.order.violations) == 1


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_state_of_a_table_is_defined_and_reachable(table: Any) -> None:
    reached = {following for moves in table.values() for following in moves.values()} | {"start"}
    assert reached == set(table)


def test_every_hook_of_the_page_is_known() -> None:
    page = """load configure running update done client_connected client_disconnected server_connect server_connected
        server_connect_error server_disconnected requestheaders request responseheaders response error http_connect
        http_connected http_connect_error http_connect_upstream tls_clienthello tls_start_client tls_start_server
        tls_established_client tls_established_server tls_failed_client tls_failed_server socks5_auth websocket_start
        websocket_message websocket_end tcp_start tcp_message tcp_end tcp_error udp_start udp_message udp_end udp_error
        dns_request dns_response dns_error"""
    assert set(ALL_NAMES) == set(page.split())
