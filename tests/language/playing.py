"""Short words for tests of what rules do: rules as text, exchanges as one call, outcomes to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rulesproxy.compiler.outcome import Outcome
from rulesproxy.compiler.program import Compiler, Program
from rulesproxy.compiler.simulate import BODY_LIMIT, World, simulate
from rulesproxy.compiler.source import Position
from rulesproxy.compiler.testcase import NOT_GIVEN, Expect, TestQuery, TestRequest, TestStep, TestTunnel, Upstream
from rulesproxy.compiler.testrun import TestRun, render_failures, run_tests
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.effects import LocalFile
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request, Response
from rulesproxy.runtime.engine import RuleExchange
from rulesproxy.runtime.ruleset import RuleSet
from tests.compiler.rulefiles import Memory

_HERE = Position("test", 1, 1)
Fields = Mapping[str, str]
_NONE: Fields = {}


class LocalFiles:
    """Files by name; their content is their name."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def exists(self, root: str, path: str) -> bool:
        return path in self.names

    def open(self, file: LocalFile, request: Request) -> Response:
        found = file.path in self.names
        return Response.make(file.status if found else 404, file.path if found else "no such file")


def compiled(text: str) -> Program:
    """A rule file from its rules (`version: 1` may be left out)."""
    text = text if "version:" in text else f"version: 1\n{text}"
    program = Compiler(Memory({"rules.yaml": text, "body.txt": "from a file"})).compile(["rules.yaml"])
    assert program.rules is not None, program.build.render()
    return program


def rules_of(text: str) -> RuleSet:
    rules = compiled(text).rules
    assert rules is not None
    return rules


def mistakes(text: str) -> list[str]:
    """The messages of a file that must not compile."""
    program = Compiler(Memory({"rules.yaml": f"version: 1\n{text}"})).compile(["rules.yaml"])
    assert program.rules is None
    return [error.message for error in program.report.errors]


def play(text: str, *steps: TestStep, limit: int = BODY_LIMIT, named: bool = False,
         files: LocalFiles | None = None) -> Outcome:
    """The outcome of the last step."""
    world = World(rules_of(text), files or LocalFiles(), body_limit=limit, named_only=named)
    return simulate(world, steps)[-1]


def run(text: str) -> TestRun:
    """Run the tests inside a rule file."""
    program = compiled(text)
    assert program.rules is not None
    return run_tests(program.build, World(program.rules, LocalFiles()))


def holds(text: str) -> None:
    """Every test inside the rule file holds, and there is one."""
    results = run(text)
    assert results.passed and not results.failed, render_failures(results)


def differs(text: str) -> list[str]:
    """What the tests inside a rule file expected and did not get."""
    return [difference.what for result in run(text).results for failure in result.failures
            for difference in failure.differences]


# --- what happens --------------------------------------------------------------------------------------------------


def http(request: str, *, headers: Fields = _NONE, body: str | None = None, json: Any = NOT_GIVEN, status: int = 200,
         answer: str | None = None, answer_json: Any = NOT_GIVEN, answer_headers: Fields = _NONE,
         client: str | None = None) -> TestStep:
    """`"GET http://a.test/"` and what the origin would answer."""
    method, _, url = request.rpartition(" ")
    return TestStep(
        _HERE, Expect(_HERE), Upstream(status, tuple(answer_headers.items()), answer, answer_json),
        request=TestRequest(method or "GET", url, tuple(headers.items()), body, json), client=client)


def dns(name: str, type_: str = "A") -> TestStep:
    return TestStep(_HERE, Expect(_HERE), dns=TestQuery(name, type_))


def tls(sni: str | None, host: str = "", port: int = 443) -> TestStep:
    return TestStep(_HERE, Expect(_HERE), tls=TestTunnel(sni, host or sni or "", port))


def exchange(text: str, request: Request, *, limit: int = BODY_LIMIT) -> HTTPFlow:
    """A flow whose exchange is to be taken step by step: it is `flow.pinned`."""
    flow = HTTPFlow(Client(peername=("127.0.0.1", 1)), Server())
    flow.request = request
    flow.pinned = RuleExchange(rules_of(text), flow, flow.client_conn, lambda rule, exc: None, limit)
    return flow


def sent_header(outcome: Outcome, name: str) -> list[str]:
    assert outcome.sent is not None
    return outcome.sent.headers.get_all(name)


def got_header(outcome: Outcome, name: str) -> list[str]:
    assert outcome.response is not None
    return outcome.response.headers.get_all(name)


def text_of(outcome: Outcome) -> str:
    assert outcome.response is not None
    return outcome.response.get_text() or ""
