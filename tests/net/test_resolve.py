"""Look-ups for dialling are kept, joined and bounded; forwarded queries take the honest answer and no other."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import dns.rdatatype
import pytest

from rulesproxy.model.dns import DNSMessage, Question, response_codes, types
from rulesproxy.net.dns_forward import Answer, Forwarder, ForwardError, parse_resolver, read_resolv_conf
from rulesproxy.net.resolve import DnsResolver, ResolveError, SystemResolver
from rulesproxy.net.udp import UdpExchange, listen_udp
from tests.support.dns_upstream import Asked, FakeResolver, Stray, honest, silent, truncating

TABLE = {
    ("a.test", "A"): ["192.0.2.1", "192.0.2.2"], ("a.test", "AAAA"): ["2001:db8::1"], ("v4.test", "A"): ["192.0.2.4"],
    ("alias.test", "CNAME"): ["a.test."], ("empty.test", "TXT"): ["hello"],
    ("big.test", "TXT"): [f"{number:03}" + "x" * 197 for number in range(20)],
    ("odd.test", "TYPE65280"): ["\\# 4 deadbeef"],
}


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    """No task is left behind."""
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def ask(forwarder: Forwarder, name: str, type_: int = types.A, **query: Any) -> Answer:
    async with asyncio.timeout(10):
        return await forwarder.exchange(DNSMessage.make_query(name, type_, id=4711, **query))


# --- resolver addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "address"), [
    ("192.0.2.1", ("192.0.2.1", 53)), ("192.0.2.1:5353", ("192.0.2.1", 5353)), ("::1", ("::1", 53)),
    ("[::1]", ("::1", 53)), ("[2001:db8::1]:5353", ("2001:db8::1", 5353)), (" 192.0.2.1 ", ("192.0.2.1", 53)),
])
def test_resolver_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_resolver(text) == address


@pytest.mark.parametrize("text", ["", "dns.example", "192.0.2", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536",
                                  "192.0.2.1:x", "[::1", "[::1]53", "[192.0.2.1:53", "192.0.2.1:53:53"])
def test_what_is_no_resolver_address(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_resolver(text)


def test_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# comment\n; other\nsearch example\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # x\n"
                    "nameserver nonsense\nnameserver 192.0.2.3\nnameserver 192.0.2.4\noptions timeout:1\n")
    assert read_resolv_conf(file) == [("192.0.2.1", 53), ("2001:db8::1", 53), ("192.0.2.3", 53)]
    assert read_resolv_conf(tmp_path / "absent") == [("127.0.0.1", 53)]


async def test_the_system_file_is_read_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rulesproxy.net.dns_forward._RECHECK_SECONDS", 0)
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\n")
    forwarder = Forwarder(resolv_conf=file)
    assert forwarder.servers == [("192.0.2.1", 53)]
    file.with_suffix(".new").write_text("nameserver 192.0.2.2\n")
    os.rename(file.with_suffix(".new"), file)
    assert forwarder.servers == [("192.0.2.2", 53)]


# --- forwarding ------------------------------------------------------------------------------------------------------


async def test_an_answer_comes_back_with_the_id_of_the_query() -> None:
    async with FakeResolver(TABLE) as upstream:
        answer = await ask(Forwarder([upstream.address]), "A.tEst", udp_size=1232)
    assert answer.message.id == 4711
    assert answer.message.question == Question("A.tEst")
    assert [str(record.ipv4_address) for record in answer.message.answers] == TABLE["a.test", "A"]
    assert answer.wire[2:] == upstream.asked[0].answer()[2:]  # octet by octet, but for the id
    assert upstream.asked[0].wire[2:] == DNSMessage.make_query("A.tEst", udp_size=1232).packed[2:]


async def test_ids_and_ports_are_fresh_each_time() -> None:
    async with FakeResolver(TABLE) as upstream:
        forwarder = Forwarder([upstream.address])
        for _ in range(20):
            await ask(forwarder, "a.test")
    assert len({asked.wire[:2] for asked in upstream.asked}) > 15
    assert len({asked.source[1] for asked in upstream.asked}) > 15


async def test_unknown_types_pass_unharmed() -> None:
    async with FakeResolver(TABLE) as upstream:
        answer = await ask(Forwarder([upstream.address]), "odd.test", 65280)
    assert [record.data for record in answer.message.answers] == [b"\xde\xad\xbe\xef"]


def patched(asked: Asked, position: int, octets: bytes) -> bytes:
    wire = asked.answer()
    return wire[:position] + octets + wire[position + len(octets):]


def other_question(asked: Asked) -> bytes:
    return patched(asked, 13, b"z")


LIES: dict[str, Callable[[Asked], bytes | Stray]] = {
    "another id": lambda asked: patched(asked, 0, bytes((asked.wire[0] ^ 1,))),
    "another question": other_question,
    "another type": lambda asked: patched(asked, 12 + len("a.test") + 2, b"\0\x10"),
    "another class": lambda asked: patched(asked, 12 + len("a.test") + 4, b"\0\3"),
    "another port": lambda asked: Stray(asked.answer().replace(b"\xc0\0\2\1", b"\6\6\6\6")),
    "a query": lambda asked: asked.wire,
    "no question": lambda asked: patched(asked, 4, b"\0\0\0\0\0\0\0\0")[:12],
    "two questions": lambda asked: patched(asked, 4, b"\0\2"),
    "an update": lambda asked: patched(asked, 2, b"\xa8"),
    "nothing": lambda asked: b"",
    "the id alone": lambda asked: asked.wire[:2],
    "garbage": lambda asked: b"\xff" * 100,
    "garbage with the id": lambda asked: asked.wire[:2] + b"\xff" * 100,
    "a cut answer": lambda asked: asked.answer()[:-1],
    "an answer and more": lambda asked: asked.answer() + b"!",
    "too many records": lambda asked: patched(asked, 6, b"\0\x09"),
    "a name that circles": lambda asked: asked.answer()[:24] + b"\xc0\x18" + asked.answer()[26:],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_wrong_answer_is_dropped_and_the_honest_one_used(lie: Callable[[Asked], bytes | Stray]) -> None:
    async with FakeResolver(TABLE, udp=lambda asked: [lie(asked), *honest(asked)]) as upstream:
        answer = await ask(Forwarder([upstream.address], timeout=3), "a.test")
    assert [str(record.ipv4_address) for record in answer.message.answers] == TABLE["a.test", "A"]
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_nothing_but_wrong_answers_is_an_error_in_time(lie: Callable[[Asked], bytes | Stray]) -> None:
    async with FakeResolver(TABLE, udp=lambda asked: [lie(asked)]) as upstream:
        started = time.monotonic()
        with pytest.raises(ForwardError, match=upstream.address):
            await ask(Forwarder([upstream.address], timeout=0.2), "a.test")
        assert time.monotonic() - started < 2
    assert len(upstream.asked) == 2  # tried once more


async def test_silence_is_tried_once_more() -> None:
    async with FakeResolver(TABLE) as upstream:
        upstream.udp = lambda asked: honest(asked) if len(upstream.asked) == 2 else []
        answer = await ask(Forwarder([upstream.address], timeout=0.4), "a.test")
    assert answer.message.answers
    assert upstream.asked[0].wire[:2] != upstream.asked[1].wire[:2]


async def test_the_next_server_is_asked_when_one_is_silent() -> None:
    async with FakeResolver(udp=silent) as one, FakeResolver(TABLE) as other:
        answer = await ask(Forwarder([one.address, other.address], timeout=0.4), "a.test")
    assert answer.server == ("127.0.0.1", other.port)


async def test_nobody_listening_is_noticed_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ForwardError, match=f"127.0.0.1:{port}: connection refused"):
        await ask(Forwarder([f"127.0.0.1:{port}"]), "a.test")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("code", [response_codes.SERVFAIL, response_codes.REFUSED, response_codes.NOTIMP])
async def test_a_server_that_will_not_is_passed_over_for_one_that_will(code: int) -> None:
    async with FakeResolver(rcode=code) as one, FakeResolver(TABLE) as other:
        answer = await ask(Forwarder([one.address, other.address]), "a.test")
        assert answer.message.answers
        alone = await ask(Forwarder([one.address]), "a.test")
        assert alone.message.response_code == code
    assert len(one.asked) == 2  # once each: asking the same server again would not help


async def test_nxdomain_is_an_answer() -> None:
    async with FakeResolver(TABLE) as one, FakeResolver(TABLE) as other:
        answer = await ask(Forwarder([one.address, other.address]), "no.test")
    assert answer.message.response_code == response_codes.NXDOMAIN
    assert other.asked == []


@pytest.mark.parametrize("middle", [truncating, lambda asked: [patched(asked, 2, b"\x83")[:200]]],
                         ids=["between records", "where the datagram ends"])
async def test_a_truncated_answer_is_fetched_over_tcp(middle: Any) -> None:
    async with FakeResolver(TABLE, udp=middle) as upstream:
        answer = await ask(Forwarder([upstream.address]), "big.test", types.TXT)
    assert not answer.message.truncation
    assert len(answer.message.answers) == 20
    assert answer.message.id == 4711
    assert [asked.transport for asked in upstream.asked] == ["udp", "tcp"]


@pytest.mark.parametrize("tcp", [lambda asked: [b"\xff" * 30], lambda asked: [other_question(asked)], silent],
                         ids=["garbage", "another question", "silence"])
async def test_when_tcp_does_not_help_the_truncated_answer_stands(tcp: Any) -> None:
    async with FakeResolver(TABLE, udp=truncating, tcp=tcp) as upstream:
        answer = await ask(Forwarder([upstream.address], timeout=0.5), "big.test", types.TXT)
    assert answer.message.truncation
    assert answer.message.answers == []


async def test_our_own_listeners_are_never_asked() -> None:
    async with FakeResolver(TABLE) as own, FakeResolver(TABLE) as other:
        forwarder = Forwarder([own.address])
        forwarder.exclude(("127.0.0.1", own.port))
        with pytest.raises(ForwardError, match=f"{own.address} is this proxy itself.*resolvers="):
            await ask(forwarder, "a.test")
        both = Forwarder([own.address, other.address])
        both.exclude(("0.0.0.0", own.port))
        assert (await ask(both, "a.test")).server == ("127.0.0.1", other.port)
        assert own.asked == []
        both.include(("0.0.0.0", own.port))
        assert (await ask(both, "a.test")).server == ("127.0.0.1", own.port)


async def test_a_query_without_one_question_is_not_forwarded() -> None:
    with pytest.raises(ForwardError, match="one question"):
        await Forwarder(["127.0.0.1"]).exchange(DNSMessage(1, True))


async def test_waiting_for_a_free_slot_ends_in_time() -> None:
    async with FakeResolver(TABLE) as upstream:
        forwarder = Forwarder([upstream.address], timeout=0.2, concurrency=1)
        await forwarder._slots.acquire()
        with pytest.raises(ForwardError, match="too many queries"):
            await ask(forwarder, "a.test")
        forwarder._slots.release()
        assert (await ask(forwarder, "a.test")).message.answers


# --- UDP -------------------------------------------------------------------------------------------------------------


async def test_a_listener_serves_peers_and_frees_its_port() -> None:
    listener = await listen_udp("127.0.0.1", 0, lambda data, peer: listener.send(data.upper(), peer))
    with UdpExchange(listener.address) as exchange:
        exchange.send(b"hello")
        async with asyncio.timeout(5):
            assert await exchange.receive() == b"HELLO"
    with pytest.raises(OSError, match="in use"):
        await listen_udp(*listener.address, lambda data, peer: None)
    await listener.aclose()
    again = await listen_udp(*listener.address, lambda data, peer: None)
    await again.aclose()
    again.send(b"too late", listener.address)  # nothing happens


# --- the system's resolver -------------------------------------------------------------------------------------------


class Lookups:
    """Stands in for the C library: a table, counted, optionally slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.count = 0
        self.answers = answers
        self.gate = threading.Event()
        self.gate.set()
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: object, *args: object, **options: object) -> list[Any]:
        self.count += 1
        assert self.gate.wait(10)
        if not self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in self.answers]


@pytest.fixture
async def system() -> AsyncIterator[SystemResolver]:
    resolver = SystemResolver()
    yield resolver
    await resolver.aclose()
    for thread in threading.enumerate():
        if thread.name.startswith("rulesproxy-resolve"):
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize(("name", "addresses"), [
    ("192.0.2.1", ("192.0.2.1",)), ("2001:db8::1", ("2001:db8::1",)),
    ("localhost", ("127.0.0.1", "::1")), ("app.localhost", ("127.0.0.1", "::1")),
])
async def test_literals_and_localhost_need_no_look_up(system: SystemResolver, monkeypatch: pytest.MonkeyPatch,
                                                      name: str, addresses: tuple[str, ...]) -> None:
    lookups = Lookups(monkeypatch, "192.0.2.66")
    assert await system.addresses(name) == addresses
    assert lookups.count == 0


async def test_the_hosts_file_counts(system: SystemResolver) -> None:
    assert "127.0.0.1" in await system.addresses(socket.gethostname()) or await system.addresses(socket.gethostname())


async def test_a_result_is_kept_for_a_while(system: SystemResolver, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Lookups(monkeypatch, "192.0.2.1", "192.0.2.2", "192.0.2.1")
    for _ in range(3):
        assert await system.addresses("a.test") == ("192.0.2.1", "192.0.2.2")
    assert lookups.count == 1
    monkeypatch.setattr("rulesproxy.net.resolve.KEPT_SECONDS", 0)
    await system.addresses("b.test")
    await system.addresses("b.test")
    assert lookups.count == 3


async def test_a_failure_is_kept_shorter_and_names_the_host(system: SystemResolver,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Lookups(monkeypatch)
    for _ in range(2):
        with pytest.raises(ResolveError, match=r"a\.test: name or service not known"):
            await system.addresses("a.test")
    assert lookups.count == 1
    assert system._kept["a.test"].seconds == 1.0


@pytest.mark.parametrize("name", ["", "a" * 64 + ".test", "nul\0.test", "127.1", "0x7f.1", "a b", "a:1", "-.test"])
async def test_what_is_no_host_name_is_never_looked_up(system: SystemResolver, monkeypatch: pytest.MonkeyPatch,
                                                       name: str) -> None:
    lookups = Lookups(monkeypatch, "192.0.2.1")
    with pytest.raises(ResolveError, match=r"not a host name|ambiguous"):
        await system.addresses(name)
    assert lookups.count == 0


async def test_a_name_is_looked_up_in_its_canonical_form(system: SystemResolver,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Lookups(monkeypatch, "192.0.2.1")
    await system.addresses("A.Test.")
    await system.addresses("a.test")
    assert lookups.count == 1


async def test_a_name_the_library_cannot_encode_is_a_failure(system: SystemResolver,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> list[object]:
        raise UnicodeError("label too long")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ResolveError, match="not a name that can be looked up"):
        await system.addresses("a.test")


async def test_equal_look_ups_are_joined_and_survive_a_waiter(system: SystemResolver,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Lookups(monkeypatch, "192.0.2.1")
    lookups.gate.clear()
    waiters = [asyncio.create_task(system.addresses("a.test")) for _ in range(5)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    waiters[3].cancel()
    results = asyncio.gather(*waiters, return_exceptions=True)
    lookups.gate.set()
    async with asyncio.timeout(5):
        kinds = [type(result) for result in await results]
    assert kinds == [asyncio.CancelledError, tuple, tuple, asyncio.CancelledError, tuple]
    assert lookups.count == 1


async def test_a_look_up_that_hangs_is_given_up(system: SystemResolver, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Lookups(monkeypatch, "192.0.2.1")
    monkeypatch.setattr("rulesproxy.net.resolve.LOOKUP_SECONDS", 0.05)
    lookups.gate.clear()
    try:
        with pytest.raises(ResolveError, match="no answer within"):
            await system.addresses("a.test")
    finally:
        lookups.gate.set()


async def test_closing_ends_waiters(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Lookups(monkeypatch, "192.0.2.1")
    lookups.gate.clear()
    resolver = SystemResolver()
    waiter = asyncio.create_task(resolver.addresses("a.test"))
    await asyncio.sleep(0)
    await resolver.aclose()
    lookups.gate.set()
    with pytest.raises(ResolveError, match="closed"):
        await waiter
    with pytest.raises(ResolveError, match="closed"):
        await resolver.addresses("b.test")


async def test_what_is_kept_is_bounded(system: SystemResolver, monkeypatch: pytest.MonkeyPatch) -> None:
    Lookups(monkeypatch, "192.0.2.1")
    monkeypatch.setattr("rulesproxy.net.resolve._KEPT_LIMIT", 10)
    for number in range(30):
        await system.addresses(f"n{number}.test")
    assert list(system._kept) == [f"n{number}.test" for number in range(20, 30)]


# --- given DNS servers -----------------------------------------------------------------------------------------------


async def test_given_servers_are_asked_for_both_families() -> None:
    async with FakeResolver(TABLE) as upstream:
        resolver = DnsResolver(Forwarder([upstream.address]))
        assert await resolver.addresses("a.test") == ("2001:db8::1", "192.0.2.1", "192.0.2.2")
        assert await resolver.addresses("v4.test") == ("192.0.2.4",)
        assert await resolver.addresses("alias.test") == ("2001:db8::1", "192.0.2.1", "192.0.2.2")
        assert {asked.honest.question[0].rdtype for asked in upstream.asked} == {dns.rdatatype.A, dns.rdatatype.AAAA}
        asked = len(upstream.asked)
        await resolver.addresses("alias.test")
        assert len(upstream.asked) == asked  # kept
        assert resolver._kept["a.test"].seconds == 300
        assert resolver._kept["alias.test"].seconds == 60  # the CNAME's, the shortest of the chain
        await resolver.aclose()


async def test_failures_of_given_servers_say_why() -> None:
    async with FakeResolver(TABLE) as upstream:
        resolver = DnsResolver(Forwarder([upstream.address], timeout=0.2))
        with pytest.raises(ResolveError, match=r"no\.test: there is no such name"):
            await resolver.addresses("no.test")
        with pytest.raises(ResolveError, match=r"empty\.test: it has no address"):
            await resolver.addresses("empty.test")
        upstream.rcode = response_codes.REFUSED
        with pytest.raises(ResolveError, match="the server answers REFUSED"):
            await resolver.addresses("b.test")
        upstream.udp = silent
        with pytest.raises(ResolveError, match=f"{upstream.address}: no answer in time"):
            await resolver.addresses("c.test")
        await resolver.aclose()


async def test_one_family_that_fails_does_not_take_the_other_down() -> None:
    def only_a(asked: Asked) -> list[bytes]:
        return honest(asked) if asked.honest.question[0].rdtype == dns.rdatatype.A else []

    async with FakeResolver(TABLE, udp=only_a) as upstream:
        resolver = DnsResolver(Forwarder([upstream.address], timeout=0.2))
        assert await resolver.addresses("a.test") == ("192.0.2.1", "192.0.2.2")
        await resolver.aclose()
