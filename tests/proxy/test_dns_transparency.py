"""What the DNS server forwards passes octet by octet (RFC 5625): every type, option, op code, name and size."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, closing
from typing import Any

import pytest

from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.options import Options
from rulesproxy.model.dns import DNSFlow, DNSMessage, ResourceRecord, op_codes, response_codes, types
from rulesproxy.net.dns_forward import Forwarder
from rulesproxy.net.udp import UdpExchange
from rulesproxy.proxy.dns.server import DnsServer
from tests.support.automaton import Recorder
from tests.support.dns_bytes import ByteResolver, Script, question_end, record, reply
from tests.support.leaks import nothing_left
from tests.support.tools import run_tool

SECONDS = 5.0
TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp"])
OPT = b"\0\0\x29\x10\0\0\0\0\0"  # up to the length of its options
DO = b"\0\0\x29\x10\0\0\0\x80\0"


class Scene:
    """A DNS server with a scripted resolver behind it."""

    def __init__(self, server: DnsServer, resolver: ByteResolver, recorder: Recorder) -> None:
        self.server, self.resolver, self.recorder = server, resolver, recorder

    async def ask(self, wire: bytes, transport: str = "udp") -> bytes:
        async with asyncio.timeout(SECONDS):
            if transport == "udp":
                with UdpExchange(self.server.address) as exchange:
                    exchange.send(wire)
                    return await exchange.receive()
            reader, writer = await asyncio.open_connection(*self.server.address)
            with closing(writer):
                writer.write(len(wire).to_bytes(2, "big") + wire)
                return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))

    async def dig(self, *arguments: str) -> str:
        host, port = self.server.address
        return (await run_tool("dig", f"@{host}", "-p", str(port), "+tries=1", "+time=5", *arguments)).text


Make = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """`await make(script, addon…, timeout=…)`; hooks must fire in order, nothing is left."""
    async with nothing_left(), AsyncExitStack() as stack:
        async def start(script: Script, *addons: Any, timeout: float = SECONDS) -> Scene:
            resolver = await stack.enter_async_context(ByteResolver(script))
            manager, recorder = AddonManager(Options()), Recorder()
            manager.add(recorder, *addons)
            server = DnsServer(manager, Forwarder([resolver.address], timeout=timeout))
            await server.start("127.0.0.1", 0)

            async def stop() -> None:
                async with asyncio.timeout(10):
                    await server.stop(5)
                assert recorder.order.finish() == []

            stack.push_async_callback(stop)
            return Scene(server, resolver, recorder)

        yield start


def query(name: bytes, type_: int = types.A, *, class_: int = 1, flags: bytes = b"\1\0", counts: bytes = bytes(6),
          rest: bytes = b"", id_: int = 0x1234) -> bytes:
    """A query for a name in wire form."""
    return (id_.to_bytes(2, "big") + flags + b"\0\1" + counts + name + type_.to_bytes(2, "big")
            + class_.to_bytes(2, "big") + rest)


def with_options(options: bytes = b"", *, name: bytes = b"\1a\4test\0", type_: int = types.A) -> bytes:
    return query(name, type_, counts=b"\0\0\0\0\0\1", rest=OPT + len(options).to_bytes(2, "big") + options)


NAME = b"\4name\4test\0"
A = record(types.A, b"\xc0\0\2\1")
LONGEST = (b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"y" * 61 + b"\0"
RRSIG = record(types.RRSIG, b"\0\1\x0f\2" + bytes(range(12)) + b"\0\0\4name\4test\0" + bytes(range(64)))
#: Service parameters with a mandatory list, ALPN, a port, hints, ech and one from the private range.
SVCB = (b"\0\1\0" + b"\0\0\0\2\0\1" + b"\0\1\0\3\2h2" + b"\0\3\0\2\x20\xfb" + b"\0\4\0\4\xc0\0\2\1" + b"\0\5\0\3ech"
        + b"\xff\0\0\4priv")

ANSWERS = {
    "A": (NAME, types.A, A, 1),
    "a private type": (NAME, 65400, record(65400, bytes(range(256))), 1),
    "an empty record": (NAME, 65401, record(65401, b""), 1),
    "NULL": (NAME, types.NULL, record(types.NULL, b"\xc0\x0c\0\xff" * 10), 1),
    "data that looks compressed": (NAME, 65402, record(65402, b"\xc0\x0c"), 1),
    "an A record of three octets": (NAME, types.A, record(types.A, b"abc"), 1),
    "HTTPS": (NAME, types.HTTPS, record(types.HTTPS, SVCB), 1),
    "SVCB under a label with underscores": (b"\5_8443\6_https\4test\0", types.SVCB, record(types.SVCB, SVCB), 1),
    "TXT of many strings": (NAME, types.TXT, record(types.TXT, b"\0\xff" + b"\xfe" * 255 + b"\3a\0b"), 1),
    "a signed answer": (NAME, types.A, A + RRSIG, 2),
    "a chain, compressed at every turn": (
        NAME, types.A, record(types.CNAME, b"\1b\xc0\x11") + record(types.CNAME, b"\1c\xc0\x11", owner=b"\xc0\x27")
        + record(types.A, b"\xc0\0\2\1", owner=b"\xc0\x35"), 3),
    "a CNAME to itself": (NAME, types.A, record(types.CNAME, b"\xc0\x0c"), 1),
    "MX compressed": (NAME, types.MX, record(types.MX, b"\0\x0a\4mail\xc0\x0c"), 1),
    "owner names in other cases": (NAME, types.A, record(types.A, b"\xc0\0\2\1", owner=b"\4NaMe\4TEST\0"), 1),
    "the root": (b"\0", types.NS, record(types.NS, b"\1a\0", owner=b"\0"), 1),
    "a name of 255 octets": (LONGEST, types.A, A, 1),
    "a label of any octets": (b"\x08\0\xff. \\\x80\n@\0", types.A, A, 1),
    "a label with a dot": (b"\3a.b\4test\0", types.A, A, 1),
    "ANY": (NAME, types.ANY, A + record(types.HINFO, b"\7RFC8482\0"), 2),
    "MAILB": (NAME, 253, b"", 0),
    "TKEY": (NAME, types.TKEY, record(types.TKEY, b"\1k\0" + bytes(16), class_=255), 1),
    "class CHAOS": (b"\7version\4bind\0", types.TXT, record(types.TXT, b"\1x", class_=3), 1),
    "class 65000": (NAME, types.A, record(types.A, b"?", class_=65000), 1),
    "class ANY": (NAME, types.A, A, 1),
}
CLASSES = {"class CHAOS": 3, "class 65000": 65000, "class ANY": 255}


@TRANSPORTS
@pytest.mark.parametrize("case", ANSWERS)
async def test_every_type_and_name_passes_octet_by_octet(make: Make, case: str, transport: str) -> None:
    name, type_, records, count = ANSWERS[case]
    scene = await make(lambda asked, _: [reply(asked, records, counts=count.to_bytes(2, "big") + bytes(4))])
    sent = query(name, type_, class_=CLASSES.get(case, 1))
    answer = await scene.ask(sent, transport)
    (asked, how), = scene.resolver.asked
    assert asked[2:] == sent[2:]
    assert how == transport  # RFC 5625 §4.4.1
    assert answer == sent[:2] + scene.resolver.said[0][2:]
    assert scene.recorder.of("dns_request", "dns_response", "dns_error") == ["dns_request", "dns_response"]


OPTIONS = {
    "no options": b"", "NSID": b"\0\3\0\0", "client subnet": b"\0\x08\0\7\0\1\x18\0\xc0\0\2",
    "a client cookie": b"\0\x0a\0\x08clientco", "both cookies": b"\0\x0a\0\x10clientcoserverco",
    "padding": b"\0\x0c\0\x20" + bytes(32), "one nobody knows": b"\xfd\xe9\0\3abc", "keepalive": b"\0\x0b\0\0",
    "twice the same": b"\xfd\xe9\0\1a" * 2, "many": b"\0\3\0\0" + b"\0\x0a\0\x08clientco" + b"\0\x0c\0\4\0\0\0\0",
}


@TRANSPORTS
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_edns_options_pass_both_ways(make: Make, options: bytes, transport: str) -> None:
    back = options + b"\xfd\xea\0\2ok"
    sent = with_options(options)
    opt = DO + len(back).to_bytes(2, "big") + back
    scene = await make(lambda asked, _: [reply(asked, A + opt, counts=b"\0\1\0\0\0\1")])
    answer = await scene.ask(sent, transport)
    assert scene.resolver.asked[0][0][2:] == sent[2:]
    assert answer[2:] == scene.resolver.said[0][2:]


HEADERS = {"AA": b"\x85\x80", "AD": b"\x81\xa0", "CD": b"\x81\x90", "Z": b"\x81\xc0", "no RA": b"\x81\0",
           "NXDOMAIN": b"\x81\x83", "REFUSED": b"\x81\x85", "a code nobody knows": b"\x81\x8f"}


@TRANSPORTS
@pytest.mark.parametrize("flags", HEADERS.values(), ids=HEADERS)
async def test_header_bits_and_codes_pass(make: Make, flags: bytes, transport: str) -> None:
    scene = await make(lambda asked, _: [reply(asked, A, flags=flags)])
    assert (await scene.ask(query(NAME), transport))[2:4] == flags


@pytest.mark.parametrize("flags", [b"\1\x20", b"\1\x10", b"\1\x40", b"\0\0", b"\3\0", b"\5\0"],
                         ids=["AD", "CD", "Z", "no RD", "TC", "AA"])
async def test_the_bits_of_a_query_pass(make: Make, flags: bytes) -> None:
    scene = await make(lambda asked, _: [reply(asked, A)])
    await scene.ask(query(NAME, flags=flags))
    assert scene.resolver.asked[0][0][2:4] == flags


async def test_an_opt_record_nobody_asked_for_passes(make: Make) -> None:
    """The resolver is wrong (RFC 6891 §6.1.1), but a proxy does not judge, and clients do not mind."""
    scene = await make(lambda asked, _: [reply(asked, A + OPT + b"\0\0", counts=b"\0\1\0\0\0\1")])
    assert (await scene.ask(query(NAME))).endswith(A + OPT + b"\0\0")
    assert "status: NOERROR" in await scene.dig("+noedns", "name.test")


async def test_an_extended_code_passes(make: Make) -> None:
    """BADCOOKIE is 23: seven in the header, one in the OPT record."""
    opt = b"\0\0\x29\x04\xd0\1\0\0\0\0\0"
    scene = await make(lambda asked, _: [reply(asked, opt, flags=b"\x81\x87", counts=b"\0\0\0\0\0\1")])
    answer = await scene.ask(with_options())
    assert DNSMessage.unpack(answer).response_code == response_codes.BADCOOKIE
    assert scene.recorder.arguments("dns_response")[0].response.response_code == response_codes.BADCOOKIE


async def test_dig_validates_what_it_sees(make: Make) -> None:
    def script(asked: bytes, _: str) -> list[bytes]:
        opt = DO + b"\0\0"
        return [reply(asked, A + RRSIG + opt, flags=b"\x81\xa0", counts=b"\0\2\0\0\0\1")]

    scene = await make(script)
    output = await scene.dig("+dnssec", "+nocookie", "name.test")
    assert "flags: qr rd ra ad;" in output
    assert "RRSIG" in output
    assert "flags: do;" in output
    assert "WARNING" not in output


# --- the case of names -------------------------------------------------------------------------------------------


def lower(asked: bytes, _: str) -> list[bytes]:
    """A resolver that repeats the question in lower case, as some do."""
    end = question_end(asked)
    return [reply(asked, A, question=asked[12:end - 4].lower() + asked[end - 4:end])]


def upper(asked: bytes, _: str) -> list[bytes]:
    end = question_end(asked)
    return [reply(asked, A, question=asked[12:end - 4].upper() + asked[end - 4:end])]


@TRANSPORTS
@pytest.mark.parametrize("script", [lower, upper])
async def test_the_answer_has_the_case_of_the_question_whatever_the_resolver_says(
        make: Make, script: Script, transport: str) -> None:
    scene = await make(script)
    sent = query(b"\x0cwWw.eXaMpLe2\4TeSt\0")
    assert await scene.ask(sent, transport) == reply(sent, A)
    flow = scene.recorder.arguments("dns_response")[0]
    assert flow.response.questions == flow.request.questions


async def test_dig_accepts_the_answer_of_such_a_resolver(make: Make) -> None:
    scene = await make(lower)
    output = await scene.dig("NaMe.tEsT")
    assert ";NaMe.tEsT." in output
    assert "Question section mismatch" not in output
    assert "NaMe.tEsT.\t" in output  # the record points to the question, and has its case


async def test_only_ascii_letters_compare_without_case(make: Make) -> None:
    """0xE4 and 0xC4 are one letter in Latin-1, `@` and a backquote differ by the same bit: four names to DNS."""
    def script(asked: bytes, _: str) -> Iterable[bytes]:
        for label in (b"\xc4`", b"\xe4@", b"\xc4@"):
            yield reply(asked, record(types.A, b"\6\6\6\6"), question=b"\2" + label + asked[15:question_end(asked)])
        yield reply(asked, A)

    scene = await make(script)
    sent = query(b"\2\xe4`\4test\0")
    assert await scene.ask(sent) == reply(sent, A)


# --- sizes -------------------------------------------------------------------------------------------------------


def big(size: int) -> bytes:
    """TXT records that make an answer to `NAME` of `size` octets, and how many they are in front."""
    room = size - 12 - len(NAME) - 4
    records = []
    while room:
        data = min(room, 1000) if not 0 < room - 1000 < 20 else 500
        records.append(record(65400, bytes(data - 12)))
        room -= data
    return len(records).to_bytes(2, "big") + b"".join(records)


def sized(size: int) -> Script:
    records = big(size)
    return lambda asked, _: [reply(asked, records[2:], counts=records[:2] + bytes(4))]


def truncating(size: int) -> Script:
    whole = sized(size)
    return lambda asked, how: whole(asked, how) if how == "tcp" else [reply(asked, flags=b"\x83\x80",
                                                                            counts=bytes(6))]


def asking_for(size: int) -> bytes:
    return query(NAME, 65400, counts=b"\0\0\0\0\0\1", rest=b"\0\0\x29" + size.to_bytes(2, "big") + bytes(6))


@pytest.mark.parametrize("size", [512, 513, 1232, 1233, 1500, 4096, 9000])
async def test_an_answer_as_large_as_the_client_takes_passes_whole(make: Make, size: int) -> None:
    scene = await make(sized(size))
    answer = await scene.ask(asking_for(size))
    assert len(answer) == size
    assert answer[2:] == scene.resolver.said[0][2:]


@pytest.mark.parametrize(("sent", "size"), [(query(NAME, 65400), 513), (asking_for(0), 513), (asking_for(1400), 1401)],
                         ids=["no EDNS", "a size of 0", "a size of 1400"])
async def test_a_larger_one_is_cut(make: Make, sent: bytes, size: int) -> None:
    scene = await make(sized(size))
    answer = DNSMessage.unpack(await scene.ask(sent))
    assert answer.truncation
    assert answer.answers == []
    assert answer.questions == DNSMessage.unpack(sent).questions


@pytest.mark.parametrize("size", [513, 4096, 65535])
async def test_a_client_gets_over_tcp_what_udp_could_not_carry(make: Make, size: int) -> None:
    scene = await make(truncating(size))
    cut = DNSMessage.unpack(await scene.ask(query(NAME, 65400)))
    assert (cut.truncation, cut.answers) == (True, [])
    assert scene.resolver.transports == ["udp", "tcp"]
    answer = await scene.ask(query(NAME, 65400), "tcp")
    assert len(answer) == size
    assert answer[2:] == scene.resolver.said[-1][2:]
    assert scene.resolver.transports == ["udp", "tcp", "tcp"]


async def test_dig_does_so_by_itself(make: Make) -> None:
    scene = await make(truncating(65535))
    output = await scene.dig("name.test", "TYPE65400")
    assert "retrying in TCP mode" in output
    assert "MSG SIZE  rcvd: 65535" in output


async def test_a_cut_answer_over_udp_is_fetched_whole_if_the_client_has_room(make: Make) -> None:
    scene = await make(truncating(3000))
    assert len(await scene.ask(asking_for(4096))) == 3000


async def test_an_answer_made_here_of_64_kib_comes_over_tcp(make: Make) -> None:
    class Large:
        def dns_request(self, flow: DNSFlow) -> None:
            flow.response = flow.request.succeed([ResourceRecord("name.test", 65400, 1, 5, bytes(65000))])

    scene = await make(lambda asked, how: [], Large())
    assert DNSMessage.unpack(await scene.ask(query(NAME))).truncation
    assert len(DNSMessage.unpack(await scene.ask(query(NAME), "tcp")).answers[0].data) == 65000
    output = await scene.dig("name.test", "TYPE65400")
    assert "retrying in TCP mode" in output
    assert scene.resolver.asked == []


@pytest.mark.parametrize(("takes", "data", "cut"), [(4096, 1100, False), (4096, 1300, True), (1000, 1100, True)])
async def test_an_answer_made_here_stays_below_what_needs_fragments(make: Make, takes: int, data: int,
                                                                    cut: bool) -> None:
    class Large:
        def dns_request(self, flow: DNSFlow) -> None:
            flow.response = flow.request.succeed([ResourceRecord("name.test", 65400, 1, 5, bytes(data))])

    scene = await make(lambda asked, how: [], Large())
    assert DNSMessage.unpack(await scene.ask(asking_for(takes))).truncation is cut


async def test_an_answer_made_here_that_fits_nowhere_is_servfail(make: Make) -> None:
    class TooLarge:
        def dns_request(self, flow: DNSFlow) -> None:
            flow.response = flow.request.succeed([ResourceRecord("name.test", 65400, 1, 5, bytes(40000))] * 2)

    scene = await make(lambda asked, how: [], TooLarge())
    for transport in ("udp", "tcp"):
        assert DNSMessage.unpack(await scene.ask(query(NAME), transport)).response_code == response_codes.SERVFAIL
    assert "65535" in scene.recorder.arguments("dns_error")[0].error.msg


async def test_a_changed_answer_is_packed_anew_and_says_the_same(make: Make) -> None:
    """A handler that changes one record leaves the others, of whatever type, as they were."""
    class Change:
        def dns_response(self, flow: DNSFlow) -> None:
            assert flow.response is not None
            flow.response.answers[0].ttl = 7

    records = [types.A, 65400, types.RRSIG, types.HTTPS, types.MX]
    wire = (A + record(65400, b"\xc0\x0c\0") + RRSIG + record(types.HTTPS, SVCB)
            + record(types.MX, b"\0\1\4mail\xc0\x0c"))
    scene = await make(lambda asked, _: [reply(asked, wire + OPT + b"\0\0", counts=b"\0\5\0\0\0\1")], Change())
    before = DNSMessage.unpack(reply(query(NAME), wire + OPT + b"\0\0", counts=b"\0\5\0\0\0\1"))
    after = DNSMessage.unpack(await scene.ask(with_options(name=NAME)))
    assert [answer.type for answer in after.answers] == records
    assert after.answers[0].ttl == 7
    assert after.answers[1:] == before.answers[1:]
    assert after.additionals == before.additionals


# --- transports --------------------------------------------------------------------------------------------------


async def test_over_udp_where_nobody_speaks_tcp(make: Make) -> None:
    scene = await make(lambda asked, how: [reply(asked, A)])
    scene.resolver._server.close()
    sent = query(NAME)
    assert await scene.ask(sent, "tcp") == reply(sent, A)
    assert scene.resolver.transports == ["udp"]


async def test_tcp_that_ends_without_an_answer_is_not_the_end(make: Make) -> None:
    def script(asked: bytes, how: str) -> list[bytes]:
        if how == "tcp":
            raise ConnectionResetError
        return [reply(asked, A)]

    scene = await make(script)
    sent = query(NAME)
    assert await scene.ask(sent, "tcp") == reply(sent, A)
    assert scene.resolver.transports == ["tcp", "udp"]


async def test_slow_tcp_is_waited_for(make: Make) -> None:
    """No second query over UDP, which might be answered with less."""
    scene = await make(lambda asked, how: [], timeout=0.4)
    assert DNSMessage.unpack(await scene.ask(query(NAME), "tcp")).response_code == response_codes.SERVFAIL
    assert scene.resolver.transports == ["tcp"]


async def test_pipelined_queries_are_answered_as_the_answers_come(make: Make) -> None:
    """Two hundred queries of one id each and four ids of one question, in and out of order, each its own answer."""
    scene = await make(lambda asked, _: [reply(asked, record(65400, asked[12:question_end(asked)]))])
    names = [f"n{number % 50}".encode() for number in range(200)]
    sent = [query(bytes((len(name),)) + name + b"\4test\0", 65400, id_=number) for number, name in enumerate(names)]
    reader, writer = await asyncio.open_connection(*scene.server.address)
    with closing(writer):
        writer.write(b"".join(len(wire).to_bytes(2, "big") + wire for wire in sent))
        async with asyncio.timeout(20):
            answers = [await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")) for _ in sent]
    assert sorted(answers) == sorted(reply(wire, record(65400, wire[12:])) for wire in sent)


async def test_one_id_and_many_questions_at_once(make: Make) -> None:
    """From one socket, the resolver answering in reverse: every answer goes with its question."""
    sent = [query(bytes((2,)) + f"n{number}".encode() + b"\4test\0", 65400, id_=7) for number in range(8)]
    scene = await make(lambda asked, _: [reply(asked, record(65400, asked[12:question_end(asked)]))])
    scene.resolver.hold_udp = len(sent)
    with UdpExchange(scene.server.address) as exchange:
        for wire in sent:
            exchange.send(wire)
        async with asyncio.timeout(SECONDS):
            answers = [await exchange.receive() for _ in sent]
    assert sorted(answers) == sorted(reply(wire, record(65400, wire[12:])) for wire in sent)


async def test_many_clients_with_the_same_id(make: Make) -> None:
    scene = await make(lambda asked, _: [reply(asked, record(65400, asked[12:question_end(asked)]))])
    sent = [query(bytes((3,)) + f"c{number:02}".encode() + b"\4test\0", 65400, id_=9) for number in range(30)]
    answers = await asyncio.gather(*(scene.ask(wire, how) for wire, how in zip(
        sent, itertools.cycle(["udp", "tcp"]), strict=False)))
    assert answers == [reply(wire, record(65400, wire[12:])) for wire in sent]
    ids = {asked[:2] for asked, _ in scene.resolver.asked}
    assert len(ids) > 20  # none goes out with the id it came with


# --- damaged answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_a_damaged_answer_passes_as_it_is_or_not_at_all(make: Make, seed: int) -> None:
    """Bits flipped, pieces lost or doubled: what cannot be read is dropped, and the honest answer behind it counts."""
    rng = random.Random(seed)
    damaged: list[bytes] = []

    def script(asked: bytes, _: str) -> list[bytes]:
        honest = reply(asked, A + RRSIG + OPT + b"\0\0", counts=b"\0\2\0\0\0\1")
        damaged.append(damage(honest, rng))
        return [damaged[-1], honest]

    scene = await make(script)
    sent = with_options(name=NAME)
    honest = reply(sent, A + RRSIG + OPT + b"\0\0", counts=b"\0\2\0\0\0\1")
    passed = 0
    for _ in range(100):
        answer = await scene.ask(sent)
        hurt = sent[:2] + damaged[-1][2:]
        if answer != honest:
            passed += 1
            if not hurt[2] & 2:  # one that says it is cut is fetched over TCP
                assert len(answer) == len(hurt)
                # Only the case of the name is put right.
                assert answer == hurt[:12] + answer[12:22] + hurt[22:] and answer[12:22].lower() == hurt[12:22].lower()
    assert 0 < passed < 100
    assert scene.recorder.of("dns_error") == []


def damage(wire: bytes, rng: random.Random) -> bytes:
    hurt = bytearray(wire)
    match rng.randrange(4):
        case 0:
            hurt[rng.randrange(len(hurt))] ^= 1 << rng.randrange(8)
        case 1:
            del hurt[rng.randrange(len(hurt)):]
        case 2:
            at = rng.randrange(len(hurt))
            hurt[at:at] = hurt[at:at + rng.randrange(1, 20)]
        case _:
            for _ in range(8):
                hurt[rng.randrange(2, len(hurt))] = rng.randrange(256)
    return bytes(hurt)


# --- answers of a header alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [response_codes.FORMERR, response_codes.SERVFAIL, response_codes.NOTIMP,
                                  response_codes.REFUSED])
@TRANSPORTS
async def test_a_header_that_says_no_is_an_answer(make: Make, code: int, transport: str) -> None:
    """Servers that gave up before they read the question cannot repeat it."""
    scene = await make(lambda asked, _: [asked[:2] + bytes((0x81, 0x80 | code)) + bytes(8)])
    answer = await scene.ask(with_options(), transport)
    assert (answer[3] & 0xF, len(answer)) == (code, 12)
    assert scene.recorder.of("dns_response", "dns_error") == ["dns_response"]


@pytest.mark.parametrize("code", [response_codes.NOERROR, response_codes.NXDOMAIN])
async def test_a_header_that_says_anything_else_is_not(make: Make, code: int) -> None:
    scene = await make(lambda asked, _: [asked[:2] + bytes((0x81, 0x80 | code)) + bytes(8), reply(asked, A)])
    assert (await scene.ask(query(NAME))).endswith(A)


# --- other op codes ----------------------------------------------------------------------------------------------


UPDATE = query(NAME, types.SOA, flags=bytes((op_codes.UPDATE << 3, 0)), counts=b"\0\1\0\2\0\0",
               rest=record(types.ANY, b"", owner=b"\3www\xc0\x0c", class_=255, ttl=0)
               + record(types.A, b"", owner=b"\3www\xc0\x0c", class_=255, ttl=0)
               + record(types.A, b"\xc0\0\2\7", owner=b"\3www\xc0\x0c"))
OTHER_OP_CODES = {
    "NOTIFY": query(NAME, types.SOA, flags=b"\x24\0", counts=b"\0\1\0\0\0\0",
                    rest=record(types.SOA, b"\0\0" + bytes(20))),
    "UPDATE": UPDATE,
    "UPDATE, signed": UPDATE[:10] + b"\0\1" + UPDATE[12:] + record(types.TSIG, b"\1h\0" + bytes(12), class_=255, ttl=0),
    "STATUS": query(NAME, flags=b"\x10\0"),
    "one that is not assigned": query(NAME, flags=b"\x78\0"),
}


@TRANSPORTS
@pytest.mark.parametrize("sent", OTHER_OP_CODES.values(), ids=OTHER_OP_CODES)
async def test_other_op_codes_pass(make: Make, sent: bytes, transport: str) -> None:
    scene = await make(lambda asked, _: [reply(asked, flags=bytes((0x80 | asked[2], 0)), counts=bytes(6))])
    answer = await scene.ask(sent, transport)
    assert [asked[2:] for asked, _ in scene.resolver.asked] == [sent[2:]]
    assert answer == reply(sent, flags=bytes((0x80 | sent[2], 0)), counts=bytes(6))
    assert scene.recorder.arguments("dns_request")[0].request.op_code == sent[2] >> 3


async def test_an_answer_with_another_op_code_is_dropped(make: Make) -> None:
    def script(asked: bytes, _: str) -> list[bytes]:
        return [reply(asked, flags=b"\x81\x80", counts=bytes(6)), asked[:2] + bytes((0x80 | asked[2], 5)) + bytes(8)]

    scene = await make(script)
    answer = await scene.ask(UPDATE)
    assert answer[2:] == bytes((0x80 | UPDATE[2], 5)) + bytes(8)  # RFC 2136 §3.8: a header may be all


@TRANSPORTS
async def test_an_update_goes_out_once(make: Make, transport: str) -> None:
    scene = await make(lambda asked, how: [], timeout=0.3)
    answer = await scene.ask(UPDATE, transport)
    assert answer[2:4] == bytes((0x80 | UPDATE[2], 0x80 | response_codes.SERVFAIL))
    assert scene.resolver.transports == [transport]


async def test_two_updates_with_one_id_are_two(make: Make) -> None:
    scene = await make(lambda asked, how: [reply(asked, flags=b"\xa8\0", counts=bytes(6))])
    other = UPDATE[:-1] + b"\x08"
    with UdpExchange(scene.server.address) as exchange:
        for wire in (UPDATE, other):
            exchange.send(wire)
        async with asyncio.timeout(SECONDS):
            for _ in range(2):
                await exchange.receive()
    assert sorted(asked[2:] for asked, _ in scene.resolver.asked) == sorted((UPDATE[2:], other[2:]))


async def test_nsupdate_works_through_it(make: Make) -> None:
    scene = await make(lambda asked, _: [reply(asked, flags=bytes((0x80 | asked[2], 0)), counts=bytes(6))])
    host, port = scene.server.address
    script = f"server {host} {port}\nzone name.test\nupdate add www.name.test 60 A 192.0.2.7\nsend\n"
    done = await run_tool("nsupdate", "-t", "5", stdin=script.encode())
    assert (done.code, done.text + done.err.decode()) == (0, "")
    flow = scene.recorder.arguments("dns_response")[0]
    assert str(flow.request.question) == "name.test SOA"
    assert [str(added) for added in flow.request.authorities] == ["www.name.test 60 A 192.0.2.7"]
