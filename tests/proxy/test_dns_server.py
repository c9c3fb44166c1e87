"""The DNS server on real sockets: dig asks, addons answer, a resolver on loopback behaves well or badly."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from typing import Any

import dns.asyncquery
import dns.message
import dns.rcode
import pytest

from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.options import Options
from rulesproxy.model.dns import DNSFlow, DNSMessage, ResourceRecord, response_codes, types
from rulesproxy.net.dns_forward import Forwarder
from rulesproxy.net.udp import UdpExchange
from rulesproxy.proxy.dns.server import DnsServer
from tests.support.automaton import Recorder
from tests.support.dns_upstream import Asked, FakeResolver, honest, silent, truncating
from tests.support.leaks import nothing_left
from tests.support.tools import run_tool

RR = ResourceRecord

TABLE = {
    ("real.test", "A"): ["192.0.2.1"], ("real.test", "AAAA"): ["2001:db8::1"], ("real.test", "TXT"): ["real"],
    ("alias.test", "CNAME"): ["real.test."], ("version.bind", "TXT"): ["fake"],
    ("big.test", "TXT"): [f"{number:03}" + "x" * 197 for number in range(20)],
    ("odd.test", "TYPE65280"): ["\\# 4 deadbeef"], ("real.test", "ANY"): [],
}


class Spoof:
    """What a rule would do: own some names, in the ways there are to answer."""

    def dns_request(self, flow: DNSFlow) -> None:
        question = flow.request.question
        assert question is not None
        name = question.name
        match question.key[0], question.type:
            case "spoof.test", types.A:
                flow.response = flow.request.succeed([RR.A(name, "192.0.2.99", ttl=5)])
            case "spoof.test", types.AAAA:
                flow.response = flow.request.succeed([RR.AAAA(name, "2001:db8::99", ttl=5)])
            case "spoof.test", types.TXT:
                flow.response = flow.request.succeed([RR.TXT(name, "spoofed")])
            case "spoof.test", _:
                flow.response = flow.request.succeed()
            case "large.test", _:
                flow.response = flow.request.succeed([RR.TXT(name, "x" * 200) for _ in range(5)])
            case "gone.test", _:
                flow.response = flow.request.fail(response_codes.NXDOMAIN)
            case "refused.test", _:
                flow.response = flow.request.fail(response_codes.REFUSED)
            case "killed.test", _:
                flow.kill()
            case "cname.test", _:
                flow.response = flow.request.succeed([RR.CNAME(name, "real.test", ttl=5)])
                flow.follow = "real.test"
            case "follow.test", _:
                flow.follow = "alias.test"
            case "lost.test", _:
                flow.follow = "nowhere.test"


class Running:
    """A server, its upstream, and what its hooks said."""

    def __init__(self, server: DnsServer, upstream: FakeResolver, recorder: Recorder) -> None:
        self.server, self.upstream, self.recorder = server, upstream, recorder
        self.host, self.port = server.address

    async def dig(self, *arguments: str) -> str:
        done = await run_tool("dig", "@127.0.0.1", "-p", str(self.port), "+tries=1", "+time=5", *arguments)
        return done.text

    async def udp(self, wire: bytes, timeout: float = 5) -> bytes:
        """Send a datagram, answer the first that comes back."""
        with UdpExchange(self.server.address) as exchange:
            exchange.send(wire)
            async with asyncio.timeout(timeout):
                return await exchange.receive()

    async def udp_silence(self, wire: bytes) -> None:
        """Send a datagram that gets no answer: the one sent after it is the first to be answered."""
        probe = DNSMessage.make_query("spoof.test", types.TXT, id=0xFEED).packed
        with UdpExchange(self.server.address) as exchange:
            exchange.send(wire)
            exchange.send(probe)
            async with asyncio.timeout(5):
                assert (await exchange.receive())[:2] == b"\xfe\xed"


Make = Callable[..., Awaitable[Running]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """`await make(addon…, upstream=…, timeout=…, **server options)`; hooks must fire in order, nothing is left."""
    async with nothing_left(), AsyncExitStack() as stack:
        async def start(*addons: Any, upstream: FakeResolver | None = None, timeout: float = 5.0,
                        **options: Any) -> Running:
            resolver = await stack.enter_async_context(upstream or FakeResolver(TABLE))
            manager, recorder = AddonManager(Options()), Recorder()
            manager.add(recorder, *(addons or (Spoof(),)))
            server = DnsServer(manager, Forwarder([resolver.address], timeout=timeout), **options)
            await server.start("127.0.0.1", 0)

            async def stop() -> None:
                async with asyncio.timeout(10):
                    await server.stop(5)
                assert recorder.order.finish() == []

            stack.push_async_callback(stop)
            return Running(server, resolver, recorder)

        yield start


@pytest.fixture
async def running(make: Make) -> Running:
    return await make()


def section(output: str, name: str = "ANSWER") -> list[list[str]]:
    """The records of a section of dig's output, as words."""
    match = re.search(rf"^;; {name} SECTION:\n(.*?)\n\n", output, re.DOTALL | re.MULTILINE)
    return [line.split(maxsplit=4) for line in match[1].splitlines()] if match else []


def status(output: str) -> str:
    match = re.search(r"status: (\w+)", output)
    return match[1] if match else ""


# --- answers from addons -----------------------------------------------------------------------------------------

TRANSPORTS = pytest.mark.parametrize("transport", ["+notcp", "+tcp"])


@TRANSPORTS
@pytest.mark.parametrize(("type_", "data"), [("A", "192.0.2.99"), ("AAAA", "2001:db8::99"), ("TXT", '"spoofed"')])
async def test_dig_gets_the_spoofed_answer(running: Running, transport: str, type_: str, data: str) -> None:
    output = await running.dig("spoof.test", type_, transport)
    assert status(output) == "NOERROR"
    assert [record[4] for record in section(output)] == [data]
    assert "WARNING" not in output
    assert running.upstream.asked == []


@TRANSPORTS
@pytest.mark.parametrize(("name", "type_", "expected"), [
    ("spoof.test", "MX", "NOERROR"), ("spoof.test", "ANY", "NOERROR"), ("gone.test", "A", "NXDOMAIN"),
    ("gone.test", "AAAA", "NXDOMAIN"), ("refused.test", "A", "REFUSED"),
])
async def test_dig_gets_the_answers_without_records(running: Running, transport: str, name: str, type_: str,
                                                    expected: str) -> None:
    output = await running.dig(name, type_, transport)
    assert (status(output), section(output)) == (expected, [])
    assert running.upstream.asked == []


@pytest.mark.parametrize("name", ["sPoOf.TeSt", "SPOOF.TEST"])
async def test_the_answer_has_the_case_of_the_question(running: Running, name: str) -> None:
    output = await running.dig(name, "A")
    assert section(output)[0][0] == f"{name}."
    assert section(output, "QUESTION")[0][0] == f";{name}."


@pytest.mark.parametrize(("arguments", "edns"), [(("+noedns",), None), (("+edns=0",), "udp: 1232"),
                                                 (("+bufsize=4096",), "udp: 1232"), (("+dnssec",), "flags: do")])
async def test_edns_is_answered_when_asked(running: Running, arguments: tuple[str, ...], edns: str | None) -> None:
    output = await running.dig("spoof.test", "A", "+nocookie", *arguments)
    assert [record[4] for record in section(output)] == ["192.0.2.99"]
    assert (edns in output) if edns else ("EDNS" not in output)


async def test_an_unknown_edns_version_is_refused_by_name(running: Running) -> None:
    assert status(await running.dig("spoof.test", "+edns=1", "+noednsnegotiation")) == "BADVERS"


@pytest.mark.parametrize("arguments", [("+noedns",), ("+bufsize=512",), ("+bufsize=100",)])
@pytest.mark.parametrize("name", ["large.test", "big.test"], ids=["set by an addon", "received"])
async def test_what_is_too_large_for_the_client_is_truncated(running: Running, name: str,
                                                             arguments: tuple[str, ...]) -> None:
    output = await running.dig(name, "TXT", "+ignore", *arguments)
    assert re.search(r"flags: qr[a-z ]* tc ", output)
    assert section(output) == []


@pytest.mark.parametrize(("name", "count"), [("large.test", 5), ("big.test", 20)])
async def test_dig_fetches_the_rest_over_tcp(running: Running, name: str, count: int) -> None:
    output = await running.dig(name, "TXT", "+bufsize=512")
    assert len(section(output)) == count
    assert "retrying in TCP mode" in output


async def test_a_large_answer_fits_when_the_client_takes_it(running: Running) -> None:
    output = await running.dig("large.test", "TXT", "+bufsize=1232", "+ignore")
    assert len(section(output)) == 5


# --- forwarding --------------------------------------------------------------------------------------------------


@TRANSPORTS
@pytest.mark.parametrize(("name", "type_", "data"), [
    ("real.test", "A", ["192.0.2.1"]), ("rEaL.tEsT", "AAAA", ["2001:db8::1"]), ("real.test", "TXT", ['"real"']),
    ("alias.test", "A", ["real.test.", "192.0.2.1"]), ("odd.test", "TYPE65280", ["\\# 4 DEADBEEF"]),
])
async def test_other_names_are_forwarded(running: Running, transport: str, name: str, type_: str,
                                         data: list[str]) -> None:
    output = await running.dig(name, type_, transport)
    assert [record[4] for record in section(output)] == data
    assert section(output, "QUESTION")[0][0] == f";{name}."
    assert len(running.upstream.asked) == 1


async def test_other_classes_and_any_are_forwarded(running: Running) -> None:
    output = await running.dig("version.bind", "TXT", "CH")
    assert [record[2:] for record in section(output)] == [["CH", "TXT", '"fake"']]
    assert status(await running.dig("real.test", "ANY", "+notcp")) == "NOERROR"


async def test_nxdomain_is_forwarded(running: Running) -> None:
    assert status(await running.dig("nowhere.test")) == "NXDOMAIN"
    assert running.recorder.names == ["dns_request", "dns_response"]


async def test_the_query_goes_out_as_it_came(running: Running) -> None:
    query = DNSMessage.make_query("Real.Test", types.A, id=1234, udp_size=1400)
    assert query.opt is not None
    query.opt.data = b"\0\x0a\0\x08clientco"  # a cookie
    query.reserved = 1
    answer = await running.udp(query.packed)
    assert running.upstream.asked[0].wire[2:] == query.packed[2:]
    assert answer == struct.pack("!H", 1234) + running.upstream.asked[0].answer()[2:]


async def test_nobody_upstream_is_servfail(make: Make) -> None:
    running = await make(upstream=FakeResolver(TABLE, udp=silent, tcp=silent), timeout=0.2)
    for transport in ("+notcp", "+tcp"):
        assert status(await running.dig("real.test", transport)) == "SERVFAIL"
    assert running.recorder.of("dns_request", "dns_response", "dns_error") == ["dns_request", "dns_error"] * 2
    assert "no answer in time" in running.recorder.arguments("dns_error")[0].error.msg


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 40, b"\0" * 12], ids=repr)
async def test_a_malformed_answer_is_servfail_in_time(make: Make, garbage: bytes) -> None:
    running = await make(upstream=FakeResolver(TABLE, udp=lambda asked: [asked.wire[:2] + garbage]), timeout=0.2)
    assert status(await running.dig("real.test")) == "SERVFAIL"
    assert status(await running.dig("spoof.test")) == "NOERROR"  # and it is alive


async def test_rdata_that_does_not_parse_is_relayed(make: Make) -> None:
    def odd(asked: Asked) -> list[bytes]:
        return [asked.wire[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + asked.wire[12:27]
                + b"\xc0\x0c\0\1\0\1\0\0\0\5\0\3abc"]  # an A record of three octets

    running = await make(upstream=FakeResolver(TABLE, udp=odd))
    answer = DNSMessage.unpack(await running.udp(DNSMessage.make_query("real.test", id=5).packed))
    assert [record.data for record in answer.answers] == [b"abc"]


async def test_a_truncated_answer_that_tcp_does_not_mend(make: Make) -> None:
    running = await make(upstream=FakeResolver(TABLE, udp=truncating, tcp=lambda asked: [b"\xff" * 20]))
    assert " tc " in await running.dig("big.test", "TXT", "+ignore")
    # Over TCP "truncated" means nothing to a client: it gets a definite failure.
    assert status(await running.dig("big.test", "TXT", "+tcp")) == "SERVFAIL"


@pytest.mark.parametrize("type_", ["AXFR", "IXFR=1"])
async def test_transfers_are_refused(running: Running, type_: str) -> None:
    output = await running.dig("real.test", type_)
    assert "Transfer failed" in output or status(output) == "REFUSED"
    assert running.upstream.asked == []


def free_port() -> int:
    """A port that neither UDP nor TCP uses just now."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(type=socket.SOCK_STREAM) as tcp:
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            return int(udp.getsockname()[1])


async def test_our_own_listener_is_no_resolver() -> None:
    port = free_port()
    manager, recorder = AddonManager(Options()), Recorder()
    manager.add(recorder)
    server = DnsServer(manager, Forwarder([f"127.0.0.1:{port}"]))
    await server.start("127.0.0.1", port)
    try:
        answer = await dns.asyncquery.udp(dns.message.make_query("real.test", "A"), "127.0.0.1", port=port, timeout=5)
    finally:
        await server.stop(1)
    assert answer.rcode() == dns.rcode.SERVFAIL
    assert recorder.names == ["dns_request", "dns_error"]  # once
    assert "this proxy itself" in recorder.arguments("dns_error")[0].error.msg


# --- following names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "type_", "data"), [
    ("cname.test", "A", ["real.test.", "192.0.2.1"]), ("cname.test", "AAAA", ["real.test.", "2001:db8::1"]),
    ("cname.test", "TXT", ["real.test."]), ("cname.test", "CNAME", ["real.test."]),
    ("follow.test", "A", ["alias.test.", "real.test.", "192.0.2.1"]), ("follow.test", "MX", ["alias.test."]),
])
async def test_an_alias_carries_the_addresses_of_its_target(running: Running, name: str, type_: str,
                                                            data: list[str]) -> None:
    output = await running.dig(name, type_)
    assert [record[4] for record in section(output)] == data
    assert section(output)[0][0] == f"{name}."
    assert running.recorder.names == ["dns_request", "dns_response"]


async def test_an_alias_to_nowhere_says_so(running: Running) -> None:
    output = await running.dig("lost.test")
    assert (status(output), [record[4] for record in section(output)]) == ("NXDOMAIN", ["nowhere.test."])


async def test_an_alias_whose_target_cannot_be_asked_for_is_servfail(make: Make) -> None:
    running = await make(upstream=FakeResolver(rcode=response_codes.REFUSED))
    assert status(await running.dig("cname.test")) == "SERVFAIL"
    assert "REFUSED" in running.recorder.arguments("dns_error")[0].error.msg


# --- hooks -------------------------------------------------------------------------------------------------------


async def test_hooks_over_udp_and_tcp(running: Running) -> None:
    await running.dig("real.test")
    assert running.recorder.names == ["dns_request", "dns_response"]
    flow = running.recorder.arguments("dns_response")[0]
    assert flow.client_conn.proxy_mode == "dns"
    assert flow.client_conn.transport_protocol == "udp"
    assert flow.client_conn.ip == "127.0.0.1"
    assert flow.client_conn.listener == f"127.0.0.1:{running.port}"
    assert flow.server_conn.address == ("127.0.0.1", running.upstream.port)
    assert not flow.live
    running.recorder.events.clear()
    await running.dig("real.test", "+tcp")
    assert running.recorder.names == ["client_connected", "dns_request", "dns_response", "client_disconnected"]
    client = running.recorder.arguments("client_disconnected")[0]
    assert (client.transport_protocol, client.connected, client.timestamp_end is not None) == ("tcp", False, True)


@TRANSPORTS
async def test_a_killed_flow_gets_no_answer(running: Running, transport: str) -> None:
    done = await run_tool("dig", "@127.0.0.1", "-p", str(running.port), "+tries=1", "+time=1", "killed.test", transport)
    assert done.code == 9  # dig: no reply from server
    assert running.recorder.of("dns_request", "dns_response", "dns_error") == ["dns_request", "dns_error"]
    assert running.upstream.asked == []


@pytest.mark.parametrize("hook", ["dns_response", "dns_error"])
async def test_killing_in_later_hooks_keeps_the_answer_back(make: Make, hook: str) -> None:
    class Kill:
        pass

    addon = Kill()
    setattr(addon, hook, lambda flow: flow.kill() if flow.request.question.name == "real.test" else None)
    upstream = FakeResolver(TABLE, udp=honest if hook == "dns_response" else silent)
    running = await make(addon, Spoof(), upstream=upstream, timeout=0.2)
    with UdpExchange(running.server.address) as exchange, pytest.raises(TimeoutError):
        exchange.send(DNSMessage.make_query("real.test").packed)
        async with asyncio.timeout(1):
            await exchange.receive()
    assert running.recorder.names[-1] == "dns_error"
    assert running.recorder.names.count("dns_error") == 1


async def test_the_answer_can_be_changed(make: Make) -> None:
    class Change:
        def dns_response(self, flow: DNSFlow) -> None:
            assert flow.response is not None
            flow.response.answers[0].ipv4_address = "192.0.2.50"
            flow.response.answers[0].ttl = 1

    running = await make(Change())
    assert section(await running.dig("real.test")) == [["real.test.", "1", "IN", "A", "192.0.2.50"]]


async def test_the_query_can_be_changed(make: Make) -> None:
    class Ask:
        async def dns_request(self, flow: DNSFlow) -> None:
            await asyncio.sleep(0)
            flow.request.questions = DNSMessage.make_query("real.test").questions

    running = await make(Ask())
    output = await running.dig("other.test")
    assert section(output, "QUESTION")[0][0] == ";other.test."
    assert section(output)[0][4] == "192.0.2.1"


@pytest.mark.parametrize("garbage", [
    None, "text", DNSMessage(1, False, response_code=99), DNSMessage(1, False, answers=[RR("x" * 64, 1, 1, 0, b"")]),
], ids=["nothing", "text", "code", "name"])
async def test_an_addon_that_sets_garbage_is_servfail(make: Make, garbage: Any) -> None:
    class Garbage:
        def dns_response(self, flow: DNSFlow) -> None:
            if flow.request.question and flow.request.question.name == "real.test":
                flow.response = garbage

    running = await make(Garbage(), Spoof())
    assert status(await running.dig("real.test")) == "SERVFAIL"
    assert status(await running.dig("spoof.test")) == "NOERROR"
    assert running.recorder.names == ["dns_request", "dns_response", "dns_error", "dns_request", "dns_response"]


async def test_an_addon_that_raises_does_not_stop_the_answer(make: Make) -> None:
    class Raise:
        def dns_request(self, flow: DNSFlow) -> None:
            raise RuntimeError("no")

    running = await make(Raise())
    assert status(await running.dig("real.test")) == "NOERROR"


async def test_without_addons_queries_are_just_forwarded() -> None:
    async with FakeResolver(TABLE) as upstream:
        server = DnsServer(AddonManager(Options()), Forwarder([upstream.address]))
        await server.start("127.0.0.1", 0)
        answer = await dns.asyncquery.udp(dns.message.make_query("real.test", "A"), "127.0.0.1",
                                          port=server.address[1], timeout=5)
        await server.stop()
    assert answer.answer[0][0].to_text() == "192.0.2.1"


async def test_client_connected_can_turn_a_client_away(make: Make) -> None:
    class Refuse:
        def client_connected(self, client: Any) -> None:
            client.error = "not you"

    running = await make(Refuse())
    reader, writer = await asyncio.open_connection(*running.server.address)
    with closing(writer):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    assert running.recorder.names[:2] == ["client_connected", "client_disconnected"]


# --- queries in work ---------------------------------------------------------------------------------------------


class Gate:
    """Holds queries until it is opened."""

    def __init__(self) -> None:
        self.seen: list[DNSFlow] = []
        self.open = asyncio.Event()
        self.arrived = asyncio.Condition()

    async def dns_request(self, flow: DNSFlow) -> None:
        question = flow.request.question
        assert question is not None
        if question.name.startswith("probe"):
            flow.response = flow.request.succeed()
            return
        self.seen.append(flow)
        async with self.arrived:
            self.arrived.notify_all()
        await self.open.wait()
        flow.response = flow.request.succeed([RR.TXT(question.name, str(len(self.seen)))])

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(5), self.arrived:
            await self.arrived.wait_for(lambda: len(self.seen) >= count)


async def test_asking_again_while_it_is_in_work_starts_nothing(make: Make) -> None:
    gate = Gate()
    running = await make(gate)
    one = DNSMessage.make_query("a.test", types.TXT, id=7)
    same = DNSMessage.make_query("A.TEST", types.TXT, id=7)
    other_question = DNSMessage.make_query("b.test", types.TXT, id=7)
    other_id = DNSMessage.make_query("a.test", types.TXT, id=8)
    probe = DNSMessage.make_query("probe.test", id=9)
    with UdpExchange(running.server.address) as exchange:
        for query in (one, one, same, other_question, other_id, probe):
            exchange.send(query.packed)
        async with asyncio.timeout(5):
            assert (await exchange.receive())[:2] == b"\0\x09"  # all before it have been looked at
            assert [(flow.request.id, str(flow.request.question)) for flow in gate.seen] \
                == [(7, "a.test TXT"), (7, "b.test TXT"), (8, "a.test TXT")]
            gate.open.set()
            answers = [DNSMessage.unpack(await exchange.receive()) for _ in range(3)]
    assert sorted((answer.id, answer.questions[0].name) for answer in answers) \
        == [(7, "a.test"), (7, "b.test"), (8, "a.test")]


async def test_two_clients_with_the_same_query_are_two_flows(make: Make) -> None:
    gate = Gate()
    running = await make(gate)
    query = DNSMessage.make_query("a.test", types.TXT, id=7).packed
    asking = [asyncio.create_task(running.udp(query)) for _ in range(2)]
    await gate.wait_for(2)
    gate.open.set()
    assert len(await asyncio.gather(*asking)) == 2


async def test_one_peer_is_one_client(running: Running) -> None:
    with UdpExchange(running.server.address) as exchange:
        for id_ in (1, 2):
            exchange.send(DNSMessage.make_query("spoof.test", id=id_).packed)
            async with asyncio.timeout(5):
                await exchange.receive()
    first, second = running.recorder.arguments("dns_request")
    assert first.client_conn is second.client_conn


async def test_remembered_peers_are_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rulesproxy.proxy.dns.server._PEERS_KEPT", 4)
    running = await make()
    for _ in range(10):
        await running.udp(DNSMessage.make_query("spoof.test").packed)
    assert len(running.server._peers) == 4
    clients = [flow.client_conn for flow in running.recorder.arguments("dns_request")]
    assert [client.connected for client in clients] == [False] * 6 + [True] * 4


async def test_queries_beyond_the_limit_are_dropped_or_refused(make: Make) -> None:
    gate = Gate()
    running = await make(gate, in_flight=2)
    with UdpExchange(running.server.address) as exchange:
        for id_ in range(5):
            exchange.send(DNSMessage.make_query("a.test", types.TXT, id=id_).packed)
        await gate.wait_for(2)
        frames = await converse(running, [DNSMessage.make_query("a.test", id=99).packed], 1)
        assert DNSMessage.unpack(frames[0]).response_code == response_codes.SERVFAIL
        gate.open.set()
        async with asyncio.timeout(5):
            assert {(await exchange.receive())[:2] for _ in range(2)} == {b"\0\0", b"\0\1"}
    assert len(gate.seen) == 2


# --- malformed ---------------------------------------------------------------------------------------------------

QUESTION = b"\5spoof\4test\0\0\1\0\1"


@pytest.mark.parametrize(("wire", "code"), [
    (b"\x12\x34\1\0\0\0\0\0\0\0\0\0", 1), (b"\x12\x34\1\0\0\2\0\0\0\0\0\0" + QUESTION * 2, 1),
    (b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + QUESTION[:-1], 1), (b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + QUESTION + b"!", 1),
    (b"\x12\x34\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", 1), (b"\x12\x34\x31\0\0\0\0\0\0\0\0\0", 4),
])
async def test_malformed_queries_are_answered_on_both_transports(running: Running, wire: bytes, code: int) -> None:
    for answer in (await running.udp(wire), (await converse(running, [wire], 1))[0]):
        assert answer[:2] == b"\x12\x34"
        assert answer[3] & 0xF == code
    assert running.recorder.of("dns_request") == []


@pytest.mark.parametrize("wire", [b"", b"\0", b"\x12\x34\1\0", b"\x12\x34\x81\x80\0\1\0\0\0\0\0\0" + QUESTION],
                         ids=repr)
async def test_what_is_no_query_gets_silence_or_the_door(running: Running, wire: bytes) -> None:
    await running.udp_silence(wire)
    assert await converse(running, [wire], 0) == []


# --- TCP ---------------------------------------------------------------------------------------------------------


def frame(wire: bytes) -> bytes:
    return len(wire).to_bytes(2, "big") + wire


async def read_frames(reader: asyncio.StreamReader, count: int) -> list[bytes]:
    async with asyncio.timeout(5):
        return [await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")) for _ in range(count)]


async def converse(running: Running, messages: list[bytes], count: int) -> list[bytes]:
    """Send the messages in one piece, then the end; read `count` answers, after which the server must close."""
    reader, writer = await asyncio.open_connection(*running.server.address)
    with closing(writer):
        writer.write(b"".join(map(frame, messages)))
        writer.write_eof()
        answers = await read_frames(reader, count)
        assert await asyncio.wait_for(reader.read(), 5) == b""
    return answers


async def test_pipelined_queries_are_all_answered(running: Running) -> None:
    queries = [DNSMessage.make_query(["spoof.test", "real.test"][id_ % 2], id=id_).packed for id_ in range(100)]
    answers = await converse(running, queries, 100)
    assert sorted(int.from_bytes(answer[:2], "big") for answer in answers) == list(range(100))
    assert all(len(DNSMessage.unpack(answer).answers) == 1 for answer in answers)


async def test_a_slow_query_does_not_hold_up_the_next(make: Make) -> None:
    gate = Gate()
    running = await make(gate)
    reader, writer = await asyncio.open_connection(*running.server.address)
    with closing(writer):
        writer.write(frame(DNSMessage.make_query("slow.test", types.TXT, id=1).packed)
                     + frame(DNSMessage.make_query("probe.test", id=2).packed))
        assert (await read_frames(reader, 1))[0][:2] == b"\0\2"
        gate.open.set()
        assert (await read_frames(reader, 1))[0][:2] == b"\0\1"


async def test_queries_may_arrive_byte_by_byte(running: Running) -> None:
    reader, writer = await asyncio.open_connection(*running.server.address)
    with closing(writer):
        for octet in frame(DNSMessage.make_query("spoof.test", id=1).packed) * 2:
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(0)
        answers = await read_frames(reader, 2)
    assert [DNSMessage.unpack(answer).answers[0].data_text for answer in answers] == ["192.0.2.99"] * 2


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\x20abc"], ids=["nothing", "half a length", "half a query"])
async def test_an_idle_connection_is_closed(make: Make, sent: bytes) -> None:
    running = await make(idle_timeout=0.1)
    reader, writer = await asyncio.open_connection(*running.server.address)
    with closing(writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_connection_with_a_query_in_work_is_not_idle(make: Make) -> None:
    gate = Gate()
    running = await make(gate, idle_timeout=0.05)
    reader, writer = await asyncio.open_connection(*running.server.address)
    with closing(writer):
        writer.write(frame(DNSMessage.make_query("slow.test", types.TXT).packed))
        await gate.wait_for(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 0.3)
        gate.open.set()
        assert len(await read_frames(reader, 1)) == 1


async def test_a_client_that_leaves_is_no_error(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    running = await make(gate)
    _, writer = await asyncio.open_connection(*running.server.address)
    writer.write(frame(DNSMessage.make_query("slow.test", types.TXT).packed))
    await gate.wait_for(1)
    writer.transport.abort()
    gate.open.set()
    await running.udp(DNSMessage.make_query("probe.test").packed)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


async def test_a_client_that_does_not_read_is_left_behind(make: Make) -> None:
    running = await make(idle_timeout=0.3)
    reader, writer = await asyncio.open_connection(*running.server.address, limit=1024)
    with closing(writer):
        writer.write(frame(DNSMessage.make_query("big.test", types.TXT).packed) * 5000)
        running.recorder.events.clear()
        async with asyncio.timeout(20):
            while "client_disconnected" not in running.recorder.names:
                await running.udp(DNSMessage.make_query("spoof.test").packed)
    del reader


# --- life --------------------------------------------------------------------------------------------------------


async def test_stopping_lets_queries_finish_and_frees_the_port(make: Make) -> None:
    gate = Gate()
    running = await make(gate)
    reader, writer = await asyncio.open_connection(*running.server.address)
    idle_reader, idle_writer = await asyncio.open_connection(*running.server.address)
    with closing(writer), closing(idle_writer):
        writer.write(frame(DNSMessage.make_query("a.test", types.TXT).packed))
        over_udp = asyncio.create_task(running.udp(DNSMessage.make_query("a.test", types.TXT).packed))
        await gate.wait_for(2)
        stopping = asyncio.create_task(running.server.stop(5))
        assert await asyncio.wait_for(idle_reader.read(), 2) == b""  # at once, while the others go on
        gate.open.set()
        assert len(await read_frames(reader, 1)) == 1
        assert len(await over_udp) > 12
        await asyncio.wait_for(stopping, 5)
    with pytest.raises(OSError, match="refused"):
        await running.udp(DNSMessage.make_query("a.test").packed)


async def test_stopping_gives_up_what_takes_too_long(make: Make) -> None:
    gate = Gate()
    running = await make(gate)
    reader, writer = await asyncio.open_connection(*running.server.address)
    with closing(writer):
        writer.write(frame(DNSMessage.make_query("a.test", types.TXT).packed))
        with UdpExchange(running.server.address) as exchange:
            exchange.send(DNSMessage.make_query("a.test", types.TXT).packed)
            await gate.wait_for(2)
            await asyncio.wait_for(running.server.stop(0.05), 5)
        assert await asyncio.wait_for(reader.read(), 5) == b""
    assert running.recorder.names.count("dns_error") == 2
    assert running.recorder.names[-1] == "client_disconnected"


@pytest.mark.parametrize("host", ["::1", "localhost", "0.0.0.0"])
async def test_other_addresses_to_listen_on(host: str) -> None:
    manager, recorder = AddonManager(Options()), Recorder()
    manager.add(recorder, Spoof())
    server = DnsServer(manager, Forwarder())
    try:
        await server.start(host, 0)
    except OSError as exc:
        if exc.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            pytest.skip(f"this machine has no {host}")
        raise
    bound, port = server.address
    try:
        for transport in ("+notcp", "+tcp"):
            target = "127.0.0.1" if bound == "0.0.0.0" else bound
            done = await run_tool("dig", f"@{target}", "-p", str(port), "+short", "spoof.test", transport)
            assert done.text == "192.0.2.99\n"
    finally:
        await server.stop()
    client = recorder.arguments("client_connected")[0]
    assert client.listener == (f"[{bound}]:{port}" if ":" in bound else f"{bound}:{port}")
    assert recorder.order.finish() == []


async def test_a_taken_port_is_an_os_error_and_leaves_nothing(running: Running) -> None:
    second = DnsServer(AddonManager(Options()), Forwarder())
    with pytest.raises(OSError, match="in use"):
        await second.start(*running.server.address)


async def test_a_port_that_is_taken_for_udp_alone_is_an_os_error(make: Make) -> None:
    running = await make()
    host, port = running.server.address
    running.server._tcp.close_accepting()
    second = DnsServer(AddonManager(Options()), Forwarder())
    with pytest.raises(OSError, match="in use"):
        await second.start(host, port)
    with pytest.raises(ConnectionRefusedError):  # the half that had been bound is free again
        await asyncio.open_connection(host, port)
