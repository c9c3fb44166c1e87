"""dig through every mode that takes DNS: what it sees is what the table of docs/clients.md says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.clients.table import DNS, DNS_REASONS, DNS_WAYS
from tests.acceptance.conftest import MakeResolver
from tests.support.command import RunningCommand, running
from tests.support.tools import run_tool

CELLS = [(transport, way, cell) for transport, cells in DNS.items() for way, cell in zip(DNS_WAYS, cells, strict=True)
         if cell not in DNS_REASONS]
TABLE = {("marked.test", "A"): ["192.0.2.1"], ("plain.test", "A"): ["192.0.2.2"], ("plain.test", "MX"): ["10 a.test."],
         ("marked.test", "TXT"): ['"plain words"'], ("plain.test", "TXT"): ['"some words"']}
#: Datagrams have no names that rules could see: there the words are changed.
RULES = """\
version: 1
rules:
  - {name: spoof, match: {host: marked.test, dns_type: A}, action: {spoof_dns: {A: 192.0.2.99}}}
  - name: datagram
    match: {listener: reverse, direction: to_client}
    action: {udp: {replace: {regex: plain words, with: other words}}}
"""

async def answers(proxy: RunningCommand, way: str, transport: str) -> dict[str, str]:
    what = "DNS" if way == "dns" else way.removeprefix("reverse:")
    host, _, port = (await proxy.address(what)).rpartition(":")
    found = {}
    for question in ("marked.test A", "plain.test A", "plain.test MX", "marked.test TXT", "plain.test TXT"):
        done = await run_tool("dig", f"@{host}", "-p", port, "+tries=1", "+time=8", "+short",
                              "+tcp" if transport == "TCP" else "+notcp", *question.split())
        assert done.code == 0, done.text
        found[question] = done.text.strip()
    return found


@pytest.mark.parametrize(("transport", "way", "asked_over"), CELLS)
async def test_dig(transport: str, way: str, asked_over: str, make_resolver: MakeResolver, tmp_path: Path) -> None:
    """One name is answered by a rule; the rest is what the name server says."""
    resolver = await make_resolver(TABLE)
    (tmp_path / "rules.yaml").write_text(RULES)
    mode = "dns" if way == "dns" else f"{way}://{resolver.address}"
    async with running("run", "rules.yaml", "--mode", f"{mode}@127.0.0.1:0", "--mode", "regular@127.0.0.1:0",
                       "--set", f"resolvers={resolver.address}", cwd=tmp_path) as proxy:
        found = await answers(proxy, way, transport)
    raw = way == "reverse:udp"
    assert found == {
        "marked.test A": "192.0.2.1" if raw else "192.0.2.99", "plain.test A": "192.0.2.2",
        "plain.test MX": "10 a.test.", "plain.test TXT": '"some words"',
        "marked.test TXT": '"other words"' if raw else '"plain words"'}
    assert {asked.transport for asked in resolver.asked} == {asked_over.lower()}
    assert len(resolver.asked) == (5 if raw else 4)
