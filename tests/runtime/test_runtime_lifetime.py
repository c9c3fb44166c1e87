"""What has ended leaves memory at once: bodies must not wait for the garbage collector, nor may old rules for ever."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

import rulesproxy.actions
import rulesproxy.matchers  # noqa: F401 — both enter what they define
from rulesproxy.compiler.inputs import Disk
from rulesproxy.compiler.program import Compiler
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request
from rulesproxy.runtime.engine import RuleExchange
from rulesproxy.runtime.ruleset import RuleSet

RULE = """\
version: 1
rules:
  - name: one
    match: {host: a.test}
    action: {rewrite: {headers: {set: {x-a: "%d"}}}}
"""


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def compiled(compiler: Compiler, path: Path, number: int) -> RuleSet:
    path.write_text(RULE % number)
    rules = compiler.compile([str(path)]).rules
    assert rules is not None
    return rules


def failed(rule: object, exc: Exception) -> None:
    raise AssertionError(rule) from exc


def test_a_flow_and_what_it_pins_go_with_its_last_user(tmp_path: Path) -> None:
    rules = compiled(Compiler(Disk()), tmp_path / "rules.yaml", 1)
    flow = HTTPFlow(Client(), Server())
    flow.request = Request.make("GET", "http://a.test/")
    flow.pinned = RuleExchange(rules, flow, flow.client_conn, failed, 1000)
    flow.pinned.request_head()
    assert flow.request.headers["x-a"] == "1"
    seen = weakref.ref(flow)
    del flow
    assert seen() is None


def test_an_old_rule_set_goes_when_the_next_one_took_its_place(tmp_path: Path) -> None:
    compiler = Compiler(Disk())
    old = compiled(compiler, tmp_path / "rules.yaml", 1)
    seen = weakref.ref(old), weakref.ref(next(iter(old.indexes.values())).steps[0].run)
    new = compiled(compiler, tmp_path / "rules.yaml", 2)
    assert new is not old
    del old
    assert [reference() for reference in seen] == [None, None]


def test_after_a_build_the_collector_has_nothing_to_look_at(tmp_path: Path) -> None:
    gc.enable()
    rules = compiled(Compiler(Disk()), tmp_path / "rules.yaml", 1)
    assert not any(thing is rules for thing in gc.get_objects())
