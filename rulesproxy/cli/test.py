"""Run the tests that stand beside the rules. Nothing touches the network.

Exit status 0 when all pass, 1 when some fail, 2 when the rules do not compile.
"""

from __future__ import annotations

import argparse
import logging
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from rulesproxy.cli._rules import BROKEN, ServedFiles, compiled, print_json
from rulesproxy.cli._rules import add_arguments as add_rules
from rulesproxy.compiler.diagnostics import printable
from rulesproxy.compiler.simulate import World
from rulesproxy.compiler.testcase import TestCase
from rulesproxy.compiler.testrun import TestResult, TestRun, render_failures, run_tests, summary
from rulesproxy.errors import StartupError

SUMMARY = "run the tests in rule files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rules(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="fixes uuid and random (default 0)")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write the results as JUnit XML")


def run(args: argparse.Namespace) -> int:
    program = compiled(args)
    if program is None or program.rules is None:
        return BROKEN
    # What rules log while they are tested is nobody's business.
    logging.getLogger("rulesproxy.rules").addHandler(logging.NullHandler())
    results = run_tests(program.build, World(program.rules, ServedFiles(), seed=args.seed))
    if args.junit is not None:
        _write_junit(args.junit, results)
    if args.json:
        print_json("test", _json(results))
    else:
        sys.stdout.write(render_failures(results) + summary(results))
    return 1 if results.failed else 0


def _json(run: TestRun) -> dict[str, Any]:
    return {"passed": run.passed, "failed": run.failed, "skipped": [test.name for test in run.skipped],
            "untested_rules": list(run.untested), "tests": [_test_json(result) for result in run.results]}


def _test_json(result: TestResult) -> dict[str, Any]:
    pos = result.test.pos
    failures = [{"step": failure.step, "what": difference.what, "expected": difference.expected,
                 "got": difference.got, "file": failure.pos.file, "line": failure.pos.line,
                 "column": failure.pos.column}
                for failure in result.failures for difference in failure.differences]
    return {"name": result.test.name, "rule": result.test.rule or None, "file": pos.file, "line": pos.line,
            "column": pos.column, "passed": result.passed, "failures": failures,
            "rules": [outcome.rules for outcome in result.outcomes]}  # fmt: skip


def _write_junit(path: Path, run: TestRun) -> None:
    suite = ET.Element("testsuite", name="rulesproxy", tests=str(len(run.results)), failures=str(run.failed),
                       skipped=str(len(run.skipped)))
    for result in run.results:
        case = _junit_case(suite, result.test)
        if not result.passed:
            text = render_failures(TestRun((result,)))
            ET.SubElement(case, "failure", message=printable(text.splitlines()[0])).text = text
    for test in run.skipped:
        ET.SubElement(_junit_case(suite, test), "skipped", message="the rule is off")
    try:
        ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as exc:
        raise StartupError(f"cannot write {path}: {exc.strerror}") from None


def _junit_case(suite: ET.Element, test: TestCase) -> ET.Element:
    return ET.SubElement(suite, "testcase", name=printable(test.name), classname=printable(test.rule or "tests"),
                         file=printable(test.pos.file), line=str(test.pos.line))
