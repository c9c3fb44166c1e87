"""The example in each matcher file: it compiles without a word, and the tests beside its rules hold."""

from __future__ import annotations

import pytest

from rulesproxy.compiler import unit
from rulesproxy.compiler.program import Compiler
from rulesproxy.compiler.simulate import World
from rulesproxy.compiler.testrun import render_failures, run_tests
from rulesproxy.model.effects import LocalFile
from rulesproxy.model.http import Request, Response
from tests.compiler.rulefiles import Memory


class NoFiles:
    """A disk without files."""

    def exists(self, path: str) -> bool:
        return False

    def open(self, file: LocalFile, request: Request) -> Response:
        return Response.make(404)


@pytest.mark.parametrize("key", sorted(unit.matchers()))
def test_example(key):
    text = unit.matchers()[key].example
    program = Compiler(Memory({"rules.yaml": text})).compile(["rules.yaml"])
    assert program.rules is not None and not program.report.diagnostics, program.report.render({"rules.yaml": text})
    run = run_tests(program.build, World(program.rules, NoFiles()))
    assert run.passed >= 2 and not run.untested
    assert not run.failed, render_failures(run, str)
