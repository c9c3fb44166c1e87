"""Acceptance line 2: dig against the command, and requests through it to the names it answers for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.command import RulesProxy
from tests.acceptance.conftest import MakeNginx, MakeResolver, Start
from tests.support.certificates import OriginCA
from tests.support.dns_upstream import FakeResolver
from tests.support.nginx import Nginx
from tests.support.origin import Origin, run_origin
from tests.support.tools import run_tool

TRANSPORTS = pytest.mark.parametrize("transport", ["+notcp", "+tcp"])

#: What the resolver knows; the rules say otherwise for some of it.
TABLE = {
    ("known.test", "A"): ["192.0.2.1", "192.0.2.2"], ("known.test", "MX"): ["10 mail.known.test."],
    ("both.test", "A"): ["127.0.0.1"], ("clients.test", "A"): ["127.0.0.1"], ("proxy.test", "A"): ["127.0.0.1"],
    ("real.test", "A"): ["127.0.0.2"], ("real.test", "AAAA"): ["2001:db8::2"],
    ("legacy.test", "A"): ["192.0.2.3"], ("legacy.test", "AAAA"): ["2001:db8::3"],
    ("open.test", "A"): ["192.0.2.4"], ("open.test", "MX"): ["10 mail.open.test."],
    ("hidden.test", "A"): ["127.0.0.1"], ("self.test", "A"): ["127.0.0.2"],
    ("ads.test", "A"): ["127.0.0.1"], ("refused.test", "A"): ["127.0.0.1"], ("gone.test", "A"): ["127.0.0.1"],
}
RULES = """\
version: 1
rules:
  - name: addresses
    match: {host: spoof.test}
    action:
      spoof_dns: {A: [192.0.2.10, 192.0.2.11], AAAA: "2001:db8::10", TXT: ["one; two", "a \\"quoted\\" text"], ttl: 7}
  - name: alias
    match: {host: alias.test}
    action: {spoof_dns: {CNAME: real.test}}
  - name: gone
    match: {host: gone.test}
    action: {spoof_dns: {rcode: NXDOMAIN}}
  - name: no-ipv6
    match: {host: legacy.test, dns_type: AAAA}
    action: {spoof_dns: {rcode: NOERROR}}
  - name: others-forwarded
    match: {host: open.test}
    action: {spoof_dns: {A: 192.0.2.44, others: forward}}
  - name: everyone
    match: {host: both.test}
    action: {spoof_dns: {A: 127.0.0.2}}
  - name: clients-only
    match: {host: clients.test}
    action: {spoof_dns: {A: 127.0.0.2, for: clients}}
  - name: proxy-only
    match: {host: proxy.test}
    action: {spoof_dns: {A: 127.0.0.2, for: proxy}}
  - name: no-ads
    match: {domain: ads.test}
    action: {block: {}}
  - name: refused
    match: {host: refused.test}
    action: {block: {dns: refuse}}
  - name: hidden
    match: {host: hidden.test, dns_type: A}
    action: {block: {}}
  - name: captured
    match: {host: self.test}
    action: {spoof_dns: {A: 127.0.0.1}}
"""


@dataclass
class Scene:
    proxy: RulesProxy
    resolver: FakeResolver

    async def dig(self, name: str, type_: str, *arguments: str) -> tuple[str, list[str]]:
        """The response code, and the answer as `TYPE data`, after which dig must have nothing to complain of."""
        done = await run_tool("dig", "@127.0.0.1", "-p", str(self.proxy.dns_port), "+tries=1", "+time=5", name, type_,
                              *arguments)
        code = re.search(r"status: (\w+)", done.text)
        assert code, done.text
        assert "WARNING" not in done.text
        section = re.search(r"^;; ANSWER SECTION:\n(.*?)\n\n", done.text, re.DOTALL | re.MULTILINE)
        records = [line.split(maxsplit=4) for line in section[1].splitlines()] if section else []
        return code[1], [f"{record[3]} {record[4]}" for record in records]


@pytest.fixture
async def scene(start: Start, make_resolver: MakeResolver, rules: Path) -> Scene:
    resolver = await make_resolver(TABLE)
    rules.write_text(RULES)
    return Scene(await start(rules, "--set", f"resolvers={resolver.address}", dns=True), resolver)


@TRANSPORTS
async def test_dig_gets_what_the_rules_say(scene: Scene, transport: str) -> None:
    """Records of each type; nothing, and no error, for the types not listed; the resolver is asked for none of it."""
    for name, type_, expected in (
        ("spoof.test", "A", ["A 192.0.2.10", "A 192.0.2.11"]),
        ("SPOOF.test", "AAAA", ["AAAA 2001:db8::10"]),
        ("spoof.test", "TXT", ['TXT "one; two"', 'TXT "a \\"quoted\\" text"']),
        ("spoof.test", "MX", []),
        ("spoof.test", "HTTPS", []),
        ("legacy.test", "AAAA", []),
        ("alias.test", "CNAME", ["CNAME real.test."]),
        ("alias.test", "MX", ["CNAME real.test."]),
    ):
        assert await scene.dig(name, type_, transport) == ("NOERROR", expected), (name, type_)
    for type_ in ("A", "AAAA", "TXT"):
        assert await scene.dig("gone.test", type_, transport) == ("NXDOMAIN", [])
    assert scene.resolver.asked == []


@TRANSPORTS
async def test_the_addresses_of_an_alias_are_looked_up(scene: Scene, transport: str) -> None:
    assert await scene.dig("alias.test", "A", transport) == ("NOERROR", ["CNAME real.test.", "A 127.0.0.2"])
    assert await scene.dig("alias.test", "AAAA", transport) == ("NOERROR", ["CNAME real.test.", "AAAA 2001:db8::2"])
    assert [str(asked.message.question[0].name) for asked in scene.resolver.asked] == ["real.test."] * 2


@TRANSPORTS
async def test_everything_else_is_forwarded(scene: Scene, transport: str) -> None:
    for name, type_, code, expected in (
        ("known.test", "A", "NOERROR", ["A 192.0.2.1", "A 192.0.2.2"]),
        ("known.test", "MX", "NOERROR", ["MX 10 mail.known.test."]),
        ("known.test", "TXT", "NOERROR", []),
        ("nobody.test", "A", "NXDOMAIN", []),
        ("x.spoof.test", "A", "NXDOMAIN", []),
        ("legacy.test", "A", "NOERROR", ["A 192.0.2.3"]),
        ("open.test", "A", "NOERROR", ["A 192.0.2.44"]),
        ("open.test", "MX", "NOERROR", ["MX 10 mail.open.test."]),
    ):
        assert await scene.dig(name, type_, transport) == (code, expected), (name, type_)
    assert len(scene.resolver.asked) == 7  # all but the A of open.test


@TRANSPORTS
async def test_a_block_is_a_name_that_does_not_exist(scene: Scene, transport: str) -> None:
    for type_ in ("A", "AAAA", "HTTPS", "TXT"):
        assert await scene.dig("ads.test", type_, transport) == ("NXDOMAIN", [])
        assert await scene.dig("eu.ads.test", type_, transport) == ("NXDOMAIN", [])
    assert await scene.dig("refused.test", "A", transport) == ("REFUSED", [])
    assert scene.resolver.asked == []


async def test_the_answer_is_to_be_kept_as_long_as_the_rule_says(scene: Scene) -> None:
    for name, ttl in (("spoof.test", 7), ("both.test", 5)):
        done = await run_tool("dig", "@127.0.0.1", "-p", str(scene.proxy.dns_port), "+noall", "+answer", name, "A")
        assert {int(line.split()[1]) for line in done.text.splitlines()} == {ttl}


# --- what the proxy dials ----------------------------------------------------------------------------------------

THERE = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nspoofed host"


@dataclass
class Dialling:
    """nginx on 127.0.0.1, where the resolver sends everybody, and on 127.0.0.2 the origin the rules speak of."""

    scene: Scene
    nginx: Nginx
    there: Origin
    there_tls: Origin
    ca: OriginCA

    async def get(self, host: str) -> str:
        return (await self.scene.proxy.curl(f"http://{host}:{self.nginx.port}/hello")).text

    async def get_tls(self, host: str) -> str:
        """A tunnel no rule needs to look into: the origin's own certificate is what curl checks."""
        url = f"https://{host}:{self.nginx.tls_port}/hello"
        return (await self.scene.proxy.curl("--cacert", str(self.ca.pem), url)).text


@pytest.fixture
async def dialling(scene: Scene, make_nginx: MakeNginx, origin_ca: OriginCA) -> AsyncIterator[Dialling]:
    names = ("both.test", "clients.test", "proxy.test", "alias.test")
    nginx = await make_nginx(names=names)
    async with (run_origin(THERE, host="127.0.0.2", port=nginx.port) as there,
                run_origin(THERE, host="127.0.0.2", port=nginx.tls_port, tls=origin_ca.server_context(*names)) as tls):
        yield Dialling(scene, nginx, there, tls, origin_ca)


async def test_a_request_to_a_spoofed_name_goes_to_the_spoofed_address(dialling: Dialling) -> None:
    for host in ("both.test", "alias.test", "proxy.test"):
        assert await dialling.get(host) == "spoofed host", host
        assert await dialling.get_tls(host) == "spoofed host", host
    assert dialling.nginx.log == []
    assert dialling.there.requests[0].values(b"host") == [f"both.test:{dialling.nginx.port}".encode()]


async def test_a_rule_can_be_for_clients_or_for_the_proxy_only(dialling: Dialling) -> None:
    assert await dialling.scene.dig("clients.test", "A") == ("NOERROR", ["A 127.0.0.2"])
    assert await dialling.get("clients.test") == "hello from nginx\n"
    assert await dialling.get_tls("clients.test") == "hello from nginx\n"
    assert await dialling.scene.dig("proxy.test", "A") == ("NOERROR", ["A 127.0.0.1"])
    assert await dialling.get("proxy.test") == "spoofed host"


async def test_a_name_that_is_not_to_exist_cannot_be_dialled(dialling: Dialling) -> None:
    """The page names the rule. nginx would have answered: the resolver knows the name."""
    done = await dialling.scene.proxy.curl("--include", f"http://gone.test:{dialling.nginx.port}/hello")
    assert done.text.startswith("HTTP/1.1 502 ")
    assert "gone" in done.text.partition("Rule")[2]
    assert dialling.nginx.log == []


async def test_a_block_in_the_dns_phase_is_for_clients(dialling: Dialling) -> None:
    assert await dialling.scene.dig("hidden.test", "A") == ("NXDOMAIN", [])
    assert await dialling.get("hidden.test") == "hello from nginx\n"


async def test_a_name_that_leads_to_the_proxy_serves_clients_only(scene: Scene) -> None:
    """Devices are sent to the proxy by DNS; itself it asks the resolver, else it would dial itself."""
    assert await scene.dig("self.test", "A") == ("NOERROR", ["A 127.0.0.1"])
    async with run_origin(THERE, host="127.0.0.2", port=scene.proxy.port) as there:
        assert (await scene.proxy.curl(f"http://self.test:{scene.proxy.port}/")).text == "spoofed host"
        assert len(there.requests) == 1


async def test_an_edit_is_felt_at_once(scene: Scene, rules: Path) -> None:
    assert await scene.dig("both.test", "A") == ("NOERROR", ["A 127.0.0.2"])
    rules.write_text(RULES.replace("{A: 127.0.0.2}", "{A: 127.0.0.3}"))
    await scene.proxy.wait_for_line("rules live")
    assert await scene.dig("both.test", "A") == ("NOERROR", ["A 127.0.0.3"])
    assert await scene.dig("both.test", "A", "+tcp") == ("NOERROR", ["A 127.0.0.3"])
