"""DNS rules on a `reverse:dns` listener and on `dns`, asked for every odd thing: names, classes, op codes, sizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from rulesproxy.model.dns import DNSFlow, DNSMessage, op_codes, response_codes, types
from rulesproxy.net.udp import UdpExchange
from tests.support.app import RunningApp
from tests.support.dns_bytes import ByteResolver, record, reply
from tests.support.tools import run_tool

RULES = """
  - name: long
    match: {host: long.test}
    action: {spoof_dns: {TXT: [LARGE, LARGE, LARGE, LARGE, LARGE, LARGE, LARGE]}}
  - {name: lab, match: {domain: lab.test}, action: {spoof_dns: {A: 192.0.2.10, TXT: here}}}
  - {name: alias, match: {host: alias.test}, action: {spoof_dns: {CNAME: Far.Test}}}
  - {name: ads, match: {domain: ads.test}, action: {block: {}}}
  - {name: slow, match: {host: slow.test}, action: {delay: 20ms}}
""".replace("LARGE", "x" * 220)
A = record(types.A, b"\xc0\0\2\1")
UPDATE_FLAGS = bytes((op_codes.UPDATE << 3, 0))


class Scene:
    def __init__(self, app: RunningApp, resolver: ByteResolver) -> None:
        self.app, self.resolver = app, resolver

    async def dig(self, *arguments: str) -> str:
        host, port = self.app.dns_address
        return (await run_tool("dig", f"@{host}", "-p", str(port), "+tries=1", "+time=5", *arguments)).text

    async def ask(self, wire: bytes) -> bytes:
        with UdpExchange(self.app.dns_address) as exchange:
            exchange.send(wire)
            async with asyncio.timeout(5):
                return await exchange.receive()


Make = Callable[..., Awaitable[Scene]]


@pytest.fixture(params=["reverse", "dns"])
async def make(make_app: Any, request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """`await make(addon…)`: the app with RULES in that mode, and the resolver it asks."""
    async with AsyncExitStack() as stack:
        async def start(*addons: Any) -> Scene:
            resolver = await stack.enter_async_context(
                ByteResolver(lambda asked, _: [reply(asked, A, flags=bytes((0x80 | asked[2], 0x80)))]))
            if request.param == "reverse":
                app = await make_app(RULES, *addons, mode=(f"reverse:dns://{resolver.address}@127.0.0.1:0",))
            else:
                app = await make_app(RULES, *addons, mode=("dns@127.0.0.1:0",), resolvers=(resolver.address,))
            return Scene(app, resolver)

        yield start


def query(name: bytes, type_: int = types.A, *, class_: int = 1, flags: bytes = b"\1\0") -> bytes:
    return b"\x12\x34" + flags + b"\0\1" + bytes(6) + name + type_.to_bytes(2, "big") + class_.to_bytes(2, "big")


ODD_NAMES = {
    "the root": b"\0", "any octets": b"\x08\0\xff. \\\x80\n@\0", "a dot in a label": b"\5x.lab\4test\0",
    "255 octets": (b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"y" * 61 + b"\0", "a wildcard": b"\1*\4test\0",
    "underscores": b"\5_8443\6_https\4test\0", "an empty-looking one": b"\1.\0", "a space": b"\1 \4test\0",
    "an address": b"\x03127\x010\x010\x011\0", "UTF-8": b"\7b\xc3\xbccher\4test\0",
    "a number": b"\1" + b"1\0", "A-label that is none": b"\6xn--\xff\xff\4test\0", "a bad A-label": b"\5xn--a\4test\0",
    "127 labels": b"\1a" * 127 + b"\0",
}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
async def test_odd_names_pass_the_rules_unharmed(make: Make, name: bytes) -> None:
    scene = await make()
    for type_ in (types.A, types.HTTPS, 65400):
        sent = query(name, type_)
        assert await scene.ask(sent) == reply(sent, A, flags=b"\x81\x80")
    assert len(scene.resolver.asked) == 3


@pytest.mark.parametrize("name", [b"\1a\3LAB\4TeSt\0", b"\3lab\4test\0", b"\3\xff\0.\3lab\4test\0"],
                         ids=["mixed case", "the domain itself", "odd octets in front"])
async def test_rules_know_a_name_in_every_case(make: Make, name: bytes) -> None:
    scene = await make()
    answer = await scene.ask(query(name))
    assert answer[12:12 + len(name)] == name
    message = DNSMessage.unpack(answer)
    assert [str(found.ipv4_address) for found in message.answers] == ["192.0.2.10"]
    assert message.answers[0].name == message.questions[0].name
    assert scene.resolver.asked == []


@pytest.mark.parametrize("class_", [3, 4, 254, 65000])
async def test_other_classes_of_a_spoofed_name_have_no_records(make: Make, class_: int) -> None:
    scene = await make()
    answer = DNSMessage.unpack(await scene.ask(query(b"\3lab\4test\0", types.TXT, class_=class_)))
    assert (answer.response_code, answer.answers, answer.questions[0].class_) == (0, [], class_)
    assert scene.resolver.asked == []


@pytest.mark.parametrize("flags", [UPDATE_FLAGS, b"\x20\0", b"\x10\0", b"\x78\0"],
                         ids=["UPDATE", "NOTIFY", "STATUS", "not assigned"])
@pytest.mark.parametrize("name", [b"\3lab\4test\0", b"\3ads\4test\0", b"\5alias\4test\0"])
async def test_nobody_updates_what_rules_own(make: Make, name: bytes, flags: bytes) -> None:
    scene = await make()
    sent = query(name, types.SOA, flags=flags)
    answer = await scene.ask(sent)
    assert answer == sent[:2] + bytes((0x80 | flags[0], 0x80 | response_codes.REFUSED)) + sent[4:]
    assert scene.resolver.asked == []


async def test_an_update_of_another_name_passes(make: Make) -> None:
    scene = await make()
    sent = query(b"\4zone\4test\0", types.SOA, flags=UPDATE_FLAGS)
    assert await scene.ask(sent) == reply(sent, A, flags=bytes((0x80 | UPDATE_FLAGS[0], 0x80)))


async def test_dig_fetches_a_large_answer_of_a_rule_over_tcp(make: Make) -> None:
    scene = await make()
    output = await scene.dig("long.test", "TXT")
    assert "retrying in TCP mode" in output
    assert output.count("x" * 220) == 7
    cut = await scene.dig("long.test", "TXT", "+ignore")
    assert "flags: qr tc rd ra;" in cut
    assert "x" * 220 not in cut
    assert scene.resolver.asked == []


async def test_an_alias_keeps_its_case_and_is_followed(make: Make) -> None:
    scene = await make()
    assert (await scene.dig("+short", "AlIaS.test")).split() == ["far.test.", "192.0.2.1"]
    asked, _ = scene.resolver.asked[0]
    assert DNSMessage.unpack(asked).questions[0].name == "far.test"


async def test_a_delay_and_a_resolver_that_is_gone(make: Make) -> None:
    scene = await make()
    assert (await scene.dig("+short", "slow.test")).split() == ["192.0.2.1"]
    scene.resolver._transport.close()
    output = await scene.dig("slow.test")
    assert "status: SERVFAIL" in output
    assert scene.app.recorder.of("dns_error") == ["dns_error"]


async def test_scripts_see_what_rules_left(make: Make) -> None:
    seen: list[tuple[str, bool, str]] = []

    class Look:
        def dns_request(self, flow: DNSFlow) -> None:
            seen.append((str(flow.request.question), flow.response is not None, flow.client_conn.proxy_mode))

        def dns_response(self, flow: DNSFlow) -> None:
            assert flow.response is not None
            flow.response.authoritative_answer = True

    scene = await make(Look())
    for name in ("lab.test", "other.test"):
        assert "flags: qr aa rd ra;" in await scene.dig(name)
    mode = scene.app.app.listening[-1][0].name
    assert seen == [("lab.test A", True, mode), ("other.test A", False, mode)]
