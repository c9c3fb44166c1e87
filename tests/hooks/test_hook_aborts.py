"""Acceptance line 3, second half: each scenario again, and at each of its hooks somebody leaves, or kills the flow.

While a handler of that hook is at work the client (or the server) vanishes, by FIN or by RST, or the client resets its
HTTP/2 streams, and the handler goes on when the proxy has had the time to notice; or the handler calls `flow.kill()`,
on the flow in hand or on the last one seen. Then the automaton must be satisfied, what was killed must have ended as
the hooks page says, nobody may be left waiting, no session, flow, task or descriptor may remain, and the same proxy
must answer a fresh request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from h2.exceptions import ProtocolError

from rulesproxy.certs.authority import Authority
from rulesproxy.model.flow import Flow, HTTPFlow
from rulesproxy.net import tcp
from tests.hooks.expectations import EXPECTED, Expected
from tests.hooks.scenarios_other import SCENARIOS
from tests.hooks.scene import SECONDS, Scene, scene, turns
from tests.support.automaton import ALL_NAMES, LIFE_CYCLE, Recorder
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import run_origin

#: Where nobody answers but the proxy itself.
_NO_SERVER = ("answered_at_head", "answered_in_request", "connect_failed", "tunnel_refused", "client_tls_failed",
              "reverse_udp_failed", "dns_answered_udp", "dns_answered_tcp", "dns_killed_udp", "dns_killed_tcp")
_HTTP2 = ("http2_streams", "http2_to_http1", "grpc_streaming", "websocket_over_http2", "tunnel_over_http2")
_NO_FLOW = ("client_", "server_", "tls_", "socks5_")
#: Of these, the end of the server's connection belongs to the scenario; others end with the proxy.
_BOUND = ("tunnel_relayed", "server_tls_failed", "websocket", "websocket_meddled", "websocket_over_http2",
          "tcp_client_first", "tcp_server_first", "tcp_reset", "reverse_tcp", "reverse_udp", "reverse_udp_failed")

#: scenario, hook, which time it fires (from 1), what happens there
Case = tuple[str, str, int, str]


def _cases() -> Iterator[Case]:
    for name, expected in EXPECTED.items():
        order = _order(name, expected)
        for place, hook in enumerate(order):
            for action in _actions(name, order, place):
                yield name, hook, order[:place + 1].count(hook), action


def _order(name: str, expected: Expected) -> list[str]:
    order = [*expected.order, *(hook for flow in expected.together for hook in flow), *expected.then]
    if name in _BOUND:
        order.append("server_disconnected")
    return [hook for hook in order if hook not in LIFE_CYCLE or hook == "update"]


def _actions(name: str, order: list[str], place: int) -> Iterator[str]:
    datagrams = "udp" in name
    if order[place] != "client_disconnected":
        yield from ["client FIN"] if datagrams else ["client FIN", "client RST"]
    if name in _HTTP2 and "requestheaders" in order[:place + 1] and order[place] != "client_disconnected":
        yield "client resets"
    if name not in _NO_SERVER:
        yield from ["server FIN", "server RST"] if "server_connected" in order[:place + 1] and not datagrams else [
            "server FIN"]
    if any(not hook.startswith(_NO_FLOW) for hook in order[:place + 1]):
        yield "kill"


class Saboteur:
    """Acts once, in the handler of one hook, the n-th time it fires. `struck` is how many hooks had fired then."""

    def __init__(self, hook: str, time: int, action: str) -> None:
        self._hook, self._time, self._action = hook, time, action
        self._flow: Flow | None = None
        self.scene: Scene | None = None
        self.struck: int | None = None
        self.killed: Flow | None = None

    async def enter(self, name: str, argument: Any) -> None:
        for seen in argument if isinstance(argument, list) else [argument]:
            if isinstance(seen, Flow):
                self._flow = seen
        if name != self._hook or self.struck is not None:
            return
        self._time -= 1
        if self._time:
            return
        assert self.scene is not None
        self.struck = len(self.scene.recorder.events)
        self.scene.cut = True
        try:
            await self._act(self.scene)
        finally:
            await turns()

    async def _act(self, scene: Scene) -> None:
        party, _, how = self._action.partition(" ")
        if how == "resets":
            for peer in scene.peers:
                await peer.give_up()
        elif party == "client":
            scene.client_goes(reset=how == "RST")
        elif party == "server":
            scene.server_goes(reset=how == "RST")
        elif self._flow is not None and self._flow.killable:
            self.killed = self._flow
            self._flow.kill()

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        return False


def _define_handlers() -> None:
    def make(name: str) -> Any:
        async def handler(self: Saboteur, argument: Any) -> None:
            await self.enter(name, argument)

        return handler

    for name in ALL_NAMES:
        if name not in LIFE_CYCLE or name == "update":
            setattr(Saboteur, name, make(name))


_define_handlers()


@pytest.mark.parametrize(("name", "hook", "time", "action"), list(_cases()))
async def test_abort(name: str, hook: str, time: int, action: str, no_leaks: None, authority: Authority,
                     origin_ca: OriginCA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "PROBE_SECONDS", 1)  # when a half-closed client is asked whether it is still there
    saboteur = Saboteur(hook, time, action)
    async with run_origin() as fresh, scene(authority, origin_ca, saboteur) as made:
        saboteur.scene = made
        await _play(name, made, saboteur)
        made.client_goes(reset=False)
        assert await until(lambda: not made.sessions, SECONDS), (made.recorder.names, made.sessions)
        made.return_client()
        await _request(made, fresh.port)
    recorder = made.recorder
    assert saboteur.struck is not None, f"{hook} did not fire: {recorder.names}"
    alive = [argument for _, argument in recorder.events if isinstance(argument, Flow) and argument.live]
    assert not alive
    if saboteur.killed is not None:
        later = [name for name, argument in recorder.events[saboteur.struck:] if argument is saboteur.killed]
        assert later == _after_kill(recorder, saboteur.killed, saboteur.struck)


async def _play(name: str, made: Scene, saboteur: Saboteur) -> None:
    """Until the peers that are still there have come to their ends: nobody may be left waiting."""
    play = asyncio.ensure_future(SCENARIOS[name](made))
    try:
        if name.startswith("reverse_udp"):  # a datagram that does not come is nothing to be noticed
            await until(lambda: play.done() or (made.cut and made.running is not None
                                                and "client_disconnected" in made.recorder.names), SECONDS)
            play.cancel()
        async with asyncio.timeout(SECONDS):
            await asyncio.wait((play,))
            if not made.cut:  # what fires only when the client has left
                await until(lambda: made.cut)
    finally:
        play.cancel()
        await asyncio.wait((play,))
    failure = None if play.cancelled() else play.exception()
    if failure is not None and not (made.cut and _is_end(failure)):
        raise failure


def _is_end(failure: BaseException) -> bool:
    """What a peer finds that was cut off, or hears another answer than usual: but an answer it hears."""
    return (isinstance(failure, OSError | EOFError | AssertionError | ProtocolError)
            and not isinstance(failure, TimeoutError))


async def _request(made: Scene, port: int) -> None:
    wire = await made.connect()
    await wire.send(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n" % port)
    assert await wire.answer() == b"hello"
    assert await wire.rest() == b""
    await wire.close()


def _after_kill(recorder: Recorder, flow: Flow, struck: int) -> list[str]:
    """What still fires for a flow that is killed, from the hooks page."""
    before = {name for name, argument in recorder.events[:struck] if argument is flow}
    if not isinstance(flow, HTTPFlow):  # tcp, udp, dns
        return [] if before & {f"{flow.type}_end", f"{flow.type}_error"} else [f"{flow.type}_error"]
    if flow.request.method == "CONNECT":
        return ["http_connect_error"] if before == {"http_connect"} else []
    if "websocket_start" in before:
        return [] if "websocket_end" in before else ["websocket_end"]
    return [] if before & {"response", "error"} else ["error"]
