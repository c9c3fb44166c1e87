"""Every rule file that is shown to somebody holds what its tests say: examples, starter rules, matchers, actions."""

from __future__ import annotations

from pathlib import Path

import pytest

from rulesproxy.cli._rules import ServedFiles
from rulesproxy.compiler import unit
from rulesproxy.compiler.inputs import Disk, FileReader
from rulesproxy.compiler.program import Compiler
from rulesproxy.compiler.simulate import World
from rulesproxy.compiler.testrun import TestRun, render_failures, run_tests
from tests.compiler.rulefiles import Memory

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
UNITS = {f"{kind}-{key}": found.example for kind, units in (("match", unit.matchers()), ("action", unit.actions()))
         for key, found in units.items()}
#: Explained where it stands: an example of one key alone names no host, and may leave tests out.
ACCEPTED = {"decrypts-everything", "untested"}


def run_file(path: str, files: FileReader, profile: str | None = None) -> tuple[TestRun, list[str]]:
    program = Compiler(files).compile([path], profile=profile)
    assert program.rules is not None, program.build.render()
    results = run_tests(program.build, World(program.rules, ServedFiles()))
    assert not results.failed, render_failures(results)
    return results, [warning.code for warning in program.report.warnings]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_file_holds_and_every_rule_is_shown(path: Path) -> None:
    results, warnings = run_file(str(path), Disk())
    assert results.passed
    assert results.untested == ()
    assert warnings == []


def test_the_starter_rules_hold_together() -> None:
    results, warnings = run_file(str(ROOT / "rules"), Disk())
    assert results.passed
    assert warnings == []


def test_the_switch_leads_elsewhere_with_another_profile() -> None:
    path = str(ROOT / "examples" / "staging-switch.yaml")
    assert len(run_file(path, Disk())[0].skipped) == 1
    assert run_file(path, Disk(), "local")[0].skipped == ()


def test_there_are_at_least_eight_example_files() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("name", UNITS)
def test_the_example_of_a_key_holds(name: str) -> None:
    results, warnings = run_file("rules.yaml", Memory({"rules.yaml": UNITS[name]}))
    assert results.passed
    assert set(warnings) <= ACCEPTED
