"""The example in each action file: it compiles without a word, and the tests beside its rules hold."""

from __future__ import annotations

import pytest

from rulesproxy.compiler import unit
from rulesproxy.compiler.program import Compiler
from rulesproxy.compiler.simulate import World
from rulesproxy.compiler.testrun import render_failures, run_tests
from tests.compiler.rulefiles import Memory
from tests.language.playing import LocalFiles


@pytest.mark.parametrize("key", sorted(unit.actions()))
def test_example(key: str) -> None:
    text = unit.actions()[key].example
    program = Compiler(Memory({"rules.yaml": text})).compile(["rules.yaml"])
    assert program.rules is not None and not program.report.diagnostics, program.report.render({"rules.yaml": text})
    run = run_tests(program.build, World(program.rules, LocalFiles("app.css")))
    assert run.passed >= 1 and not run.untested
    assert not run.failed, render_failures(run, str)
    assert f"{key}:" in text
