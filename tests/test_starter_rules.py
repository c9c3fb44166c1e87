"""The starter rules: correct, tested, and harmless on real traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from rulesproxy.compiler.inputs import Disk
from rulesproxy.compiler.program import Compiler, Program
from rulesproxy.compiler.unit import actions
from rulesproxy.model.connection import Client
from rulesproxy.model.http import Request
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.model.tls import Tunnel
from rulesproxy.packaged import starter_rules
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.facts import DnsFacts, HttpFacts, TunnelFacts
from rulesproxy.runtime.phase import Phase
from tests.support.command import rulesproxy

#: Names of all kinds, none of them in .test.
REAL = ("example.com", "www.example.org", "shop.com", "tracker.com", "api.shop.test.example.com", "localhost",
        "printer.lab", "mybank.com", "xn--bcher-kva.example", "test", "mytest", "192.0.2.1", "2001:db8::1")


@pytest.fixture(scope="module")
def program() -> Program:
    return Compiler(Disk()).compile([str(starter_rules())])


def test_they_compile_without_a_warning(program: Program) -> None:
    assert program.build.render() == ""
    assert program.rules is not None


async def test_their_tests_pass_and_reach_every_rule(tmp_path: Path) -> None:
    done = await rulesproxy("test", starter_rules(), cwd=tmp_path)
    assert done.code == 0, done.text
    rules = sum(text.count("- name:") for text in _texts())
    assert f"{rules} of {rules} rules took effect in a test" in done.text


def test_every_action_is_shown(program: Program) -> None:
    used = {action for rule in program.build.rules for action in rule.actions}
    assert used == set(actions())


def test_every_file_explains_itself_and_names_the_schema() -> None:
    for text in _texts():
        first, second, third, *_ = text.splitlines()
        assert first == "# yaml-language-server: $schema=../schemas/rules.schema.json"
        assert (second, third[:2]) == ("#", "# ")


@pytest.mark.parametrize("name", REAL)
def test_real_traffic_is_left_alone(program: Program, name: str) -> None:
    rules = program.rules
    assert rules is not None
    tunnel = TunnelFacts(Tunnel(Client(), name, 443))
    assert rules.decide(Phase.CONNECT, tunnel, _fail) is None
    assert rules.decide(Phase.DNS, DnsFacts(None, name, "A"), _fail) is None
    host = f"[{name}]" if ":" in name else name
    for scheme in ("http", "https"):
        request = Request.make("GET", f"{scheme}://{host}/admin/users/7")
        assert rules.decide(Phase.REQUEST, HttpFacts(request, None), _fail) is None
    tunnel.scheme = "https"
    assert rules.decide_tls(tunnel, False) is None


def test_nothing_decrypts_everything(program: Program) -> None:
    assert program.rules is not None
    assert program.rules.decrypts_everything == ()
    seen = TunnelFacts(Tunnel(Client(), "shop.test", 443))
    seen.scheme = "https"
    decision = program.rules.decide_tls(seen, False)
    assert decision is not None
    assert decision.verdict is TlsVerdict.INTERCEPT  # the question above can be answered otherwise


def _texts() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(starter_rules().glob("*.yaml"))]


def _fail(rule: RuleInfo, exc: Exception) -> None:
    raise AssertionError(f"{rule.name} failed") from exc
