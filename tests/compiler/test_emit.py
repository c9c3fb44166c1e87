"""Generated code: readable, deterministic, made of nothing but literals and our own words."""

from __future__ import annotations

import ast
import gc
import linecache
import shutil
import subprocess
import sys
import traceback
import weakref
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.compiler.emit import Emitted, emit_file
from rulesproxy.compiler.ir import All, Leaf, Rule, Test
from rulesproxy.compiler.link import Unit, link
from rulesproxy.compiler.load import load, module_name
from rulesproxy.compiler.source import Position
from rulesproxy.compiler.writer import Module, literal
from rulesproxy.runtime.decision import Decision, RuleInfo
from rulesproxy.runtime.facts import Facts
from rulesproxy.runtime.phase import HTTP_PHASES, Phase
from tests.compiler.generator import draw_case
from tests.compiler.phases import Look, compile_rules, decide, http_facts
from tests.compiler.rulefiles import build_text


def emitted(rules: str) -> Emitted:
    result = build_text(f"version: 1\nrules:\n{rules}")
    assert not result.report.has_errors, result.render()
    return emit_file(tuple(result.rules))


# --- what it looks like --------------------------------------------------------------------------------------------

READABLE = '''\
"""Generated from rule files by rulesproxy."""

from rulesproxy.actions.map_remote import MapRemote
from rulesproxy.actions.respond import Respond
from rulesproxy.runtime.edits import Edit
from rulesproxy.runtime.phase import ANSWER, ROUTE
from rulesproxy.runtime.values import filtered, first, header_text, text

C0 = frozenset({"GET", "HEAD"})
E1 = MapRemote(to="http://staging.test:80", path=None, bases=(), keep_host=False, verify=True)
E2 = Respond(status=200, body=b"hello", coded=False, \
headers=((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")))


def rule_0_request(x, d):
    if x.method not in C0:
        return
    if x.path == "/pay":
        return
    if d.slots & ROUTE:
        return d.overrule(RULES[0], ROUTE)
    e1 = Edit(message="request", field="header", name="x-q", op="set", \
value=(header_text(text(filtered("default", first(x.query("q")), "none"))),))
    d.act(RULES[0], ROUTE)
    d.route = E1
    d.edits += (e1,)


def rule_1_request(x, d):
    if d.slots & ANSWER:
        return d.overrule(RULES[1], ANSWER)
    d.act(RULES[1], ANSWER)
    d.answer = E2
'''


def test_it_reads_as_if_written_by_hand() -> None:
    found = emitted("""\
  - name: staging
    match: {host: a.test, method: [GET, HEAD]}
    unless: {path: /pay}
    action:
      map_remote: http://staging.test:80
      rewrite: {headers: {set: {x-q: '${query.q | default("none")}'}}}
  - {name: mock, match: {host: b.test}, action: {respond: hello}}
""")
    assert found.text == READABLE


@pytest.mark.skipif(shutil.which("ruff") is None and not (Path(sys.executable).parent / "ruff").exists(),
                    reason="ruff is not installed")
def test_the_formatter_leaves_it_alone(tmp_path: Path) -> None:
    texts = [emit_file(tuple(draw_case(Random(seed)).rules)).text for seed in range(120)]
    # Values are not broken over lines, and 320 is the longest line ruff knows.
    texts = [text for text in texts if max(map(len, text.splitlines())) <= 320]
    assert len(texts) > 80
    for number, text in enumerate(texts):
        (tmp_path / f"m{number}.py").write_text(text)
    ruff = shutil.which("ruff") or str(Path(sys.executable).parent / "ruff")
    done = subprocess.run([ruff, "format", "--isolated", "--no-cache", "--line-length", "320", "--diff", str(tmp_path)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""


def test_conditions_that_say_nothing_are_not_printed() -> None:
    found = emitted("  - {name: a, match: {host: a.test, any: [{path: /a}, {}], all: [{}, {}]}, action: {tag: t}}\n")
    text = found.text
    assert " if " not in text


def test_host_keys_at_the_top_are_not_printed() -> None:
    text = emitted("  - {name: a, match: {host: '*.a.test', domain: b.test, path: /a}, action: {tag: t}}\n").text
    assert "x.host" not in text and 'x.path != "/a"' in text


# --- deterministic -------------------------------------------------------------------------------------------------


def test_equal_rules_give_equal_text() -> None:
    for seed in range(40):
        first, second = (emit_file(tuple(draw_case(Random(seed)).rules)) for _ in range(2))
        assert first == second


def test_the_text_knows_no_other_files() -> None:
    """An edit in one file must not change what another is compiled to: no position among all rules is in it."""
    text = "  - {name: %s, match: {host: a.test}, action: {respond: x}}\n"
    alone = build_text("version: 1\nrules:\n" + text % "a").rules
    late = [replace(rule, pos=Position("late.yaml", 900, 5), name="late") for rule in alone]
    assert emit_file(tuple(alone)).text == emit_file(tuple(late)).text


# --- nothing of the user's but literals ----------------------------------------------------------------------------

NAMES = ["import os", '"""', "'''\nimport os", "a\\", "x, d):\n    import os\n#", "\0", "}{", "%s", "é\U0001f600\u2028"]


@pytest.mark.parametrize("name", NAMES)
def test_names_and_descriptions_stay_out(name: str) -> None:
    plain = build_text("version: 1\nrules: [{name: a, match: {host: a.test, path: /a}, action: {block: {}}}]\n").rules
    odd = [replace(rule, name=name, description=name, owner=name, tags=(name,), pos=Position(name, 1, 1))
           for rule in plain]
    assert emit_file(tuple(odd)).text == emit_file(tuple(plain)).text


def test_the_text_is_ascii_and_parses() -> None:
    for seed in range(150):
        text = emit_file(tuple(draw_case(Random(seed)).rules)).text
        assert text.isascii()
        ast.parse(text)


PLAIN_DATA: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.binary(max_size=50),
    lambda inner: st.lists(inner).map(tuple) | st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(PLAIN_DATA)
def test_a_literal_is_one_ascii_expression_for_the_same_value(value: object) -> None:
    text = literal(value)
    assert text.isascii() and text.isprintable()
    assert ast.literal_eval(text) == value
    assert isinstance(ast.parse(text, mode="eval").body, ast.expr)


@given(st.frozensets(st.text() | st.integers()))
def test_a_set_is_printed_in_one_order(value: frozenset[object]) -> None:
    other = frozenset(sorted(value, key=repr, reverse=True))
    assert literal(value) == literal(other)
    assert eval(literal(value), {"frozenset": frozenset}) == value  # noqa: S307 — our own printer's text


def test_floats_without_a_literal() -> None:
    for text in ("inf", "-inf", "nan"):
        assert literal(float(text)) == f'float("{text}")'


def test_other_objects_have_no_literal() -> None:
    with pytest.raises(TypeError):
        literal(object())


def test_long_bytes_are_data_beside_the_text() -> None:
    module = Module()
    long = b"x" * 5000
    assert module.value(long) == module.value(long) == "DATA[0]"
    assert module.value(b"short") == 'b"short"'
    assert module.data == [long]


def test_equal_constants_are_hoisted_once() -> None:
    text = emitted("""\
  - {name: a, match: {host: a.test, method: [GET, PUT]}, action: {respond: same}}
  - {name: b, match: {host: b.test, method: [PUT, GET]}, action: {respond: same}}
""").text
    assert text.count("frozenset(") == text.count("Respond(status") == 1


# --- running it ----------------------------------------------------------------------------------------------------


class _Breaks(Leaf):
    PHASES = HTTP_PHASES

    def holds(self, x: Any) -> bool:
        raise ZeroDivisionError

    def emit(self, module: Module) -> Test:
        return Test("1 / 0")


def broken() -> tuple[Rule, ...]:
    rules = build_text("version: 1\nrules:\n  - {name: a, match: {host: a.test}, action: {tag: t}}\n").rules
    return (replace(rules[0], match=All((rules[0].match, _Breaks(Position("rules.yaml", 3, 20))))),)


def failure_of(rules: tuple[Rule, ...]) -> tuple[RuleInfo, Exception]:
    compiled = link([Unit(rules, emit_file(rules))], "test", {})
    failures: list[tuple[RuleInfo, Exception]] = []
    x = http_facts(replace(draw_case(Random(1)).exchange, host="a.test"))
    compiled.decide(Phase.REQUEST, x, lambda rule, exc: failures.append((rule, exc)))
    [failure] = failures
    return failure


def test_an_exception_in_a_rule_says_where_the_rule_stands() -> None:
    rule, exc = failure_of(broken())
    assert (rule.name, rule.where) == ("a", "rules.yaml:3:12")
    assert exc.__notes__ == ["in the rule a, rules.yaml:3:12"]


def test_a_traceback_shows_the_generated_line() -> None:
    rules = broken()
    compiled = link([Unit(rules, emit_file(rules))], "test", {})
    x = http_facts(replace(draw_case(Random(1)).exchange, host="a.test"))
    shown: list[str] = []
    compiled.decide(Phase.REQUEST, x, lambda rule, exc: shown.extend(traceback.format_exception(exc)))
    assert any("if not (1 / 0):" in line for line in shown)


def test_the_source_map_leads_from_each_line_to_its_rule() -> None:
    found = emitted("""\
  - {name: a, match: {host: a.test, path: /a}, action: {block: {status: 403}}}
  - {name: b, match: {host: a.test, path: /b}, action: {block: {status: 404}}}
""")
    lines = found.text.splitlines()
    places = {lines[number - 1].strip(): position for number, position in found.source_map.items()}
    assert places['if x.path != "/a":'].line == 3
    assert places['if x.path != "/b":'].line == 4
    assert all(lines[number - 1] for number in found.source_map)


def test_linecache_forgets_a_module_with_its_last_rule_set() -> None:
    rules = tuple(build_text("version: 1\nrules: [{name: once, match: {path: /only-here}, action: {tag: t}}]\n").rules)
    name = module_name(emit_file(rules))
    first, second = compile_rules(rules), compile_rules(rules)
    assert name in linecache.cache
    del first
    gc.collect()
    assert name in linecache.cache
    linecache.checkcache()  # what debuggers call: it must not drop a module that has no file
    assert name in linecache.cache
    del second
    gc.collect()
    assert name not in linecache.cache


def test_code_is_shared_by_the_rule_sets_that_use_it_and_then_forgotten() -> None:
    """A process that sees a thousand edits keeps the code of none but the last."""
    rules = tuple(build_text("version: 1\nrules: [{name: once, match: {path: /and-here}, action: {tag: t}}]\n").rules)
    rule_set = compile_rules(rules)
    again = load(emit_file(rules), (RuleInfo("once", "f", 1, 1, 0),))
    code = weakref.ref(again.namespace["rule_0_request"].__code__)
    del again
    gc.collect()
    assert code() is not None
    del rule_set
    gc.collect()
    assert code() is None


def test_modules_are_executed_not_imported() -> None:
    found = emitted("  - {name: a, match: {host: a.test}, action: {respond: x}}\n")
    loaded = load(found, (RuleInfo("a", "f", 1, 1, 0),))
    assert loaded.name not in sys.modules
    decision = Decision()
    loaded.namespace["rule_0_request"](Facts(None, "a.test"), decision)
    assert [rule.name for rule in decision.acted] == ["a"]


def test_the_index_finds_what_a_plain_loop_finds() -> None:
    """The same set asked for many hosts, also when the memory of hosts is full and when hosts come again."""
    case = draw_case(Random(5))
    compiled = compile_rules(case.rules)
    for host in [f"h{n}.{case.exchange.host}" for n in range(5000)] + [case.exchange.host]:
        x = http_facts(replace(case.exchange, host=host)) if host == case.exchange.host else None
        if x is None:
            for index in compiled.indexes.values():
                index.find(host)
        else:
            fresh = compile_rules(case.rules)
            look = Look(Phase.REQUEST, x, False)
            assert [r.name for r in decide(compiled, look).acted] == [r.name for r in decide(fresh, look).acted]
