"""Runs the tests that stand beside the rules (rule-language 7) and says what is different from what they expect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rulesproxy.compiler.build import Build
from rulesproxy.compiler.diagnostics import printable
from rulesproxy.compiler.outcome import Outcome
from rulesproxy.compiler.simulate import World, simulate
from rulesproxy.compiler.source import Position
from rulesproxy.compiler.testcase import NOT_GIVEN, Expect, Expected, ExpectedDns, ExpectedFields, Sent, TestCase
from rulesproxy.model.headers import Headers
from rulesproxy.model.names import host_for_url
from rulesproxy.model.policy import TlsVerdict

_LONG = 300


@dataclass(frozen=True, slots=True)
class Difference:
    """One expectation that did not come true."""

    what: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A step with differences. `step` counts from 1."""

    pos: Position
    step: int
    outcome: Outcome
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class TestResult:
    __test__ = False  # not a pytest class

    test: TestCase
    outcomes: tuple[Outcome, ...]
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True, slots=True)
class TestRun:
    """All results. `untested` names the enabled rules that no passed test made take effect; `skipped` are tests that
    stand under a rule that is off.
    """

    __test__ = False

    results: tuple[TestResult, ...]
    untested: tuple[str, ...] = ()
    rules: int = 0
    skipped: tuple[TestCase, ...] = ()
    passed: int = field(init=False)
    failed: int = field(init=False)

    def __post_init__(self) -> None:
        passed = sum(result.passed for result in self.results)
        object.__setattr__(self, "passed", passed)
        object.__setattr__(self, "failed", len(self.results) - passed)


def run_tests(build: Build, world: World) -> TestRun:
    """Run the tests of the files, in order; each starts anew. Those of a rule that is off are skipped."""
    off = {rule.name for rule in build.rules if not rule.enabled}
    results = tuple(_run(test, world) for test in build.tests if test.rule not in off)
    acted = {name for result in results if result.passed for outcome in result.outcomes for name in outcome.rules}
    enabled = [rule.name for rule in build.rules if rule.enabled]
    return TestRun(results, tuple(name for name in enabled if name not in acted), len(enabled),
                   tuple(test for test in build.tests if test.rule in off))


def _run(test: TestCase, world: World) -> TestResult:
    outcomes = simulate(world, test.steps)
    failures = []
    for number, (step, outcome) in enumerate(zip(test.steps, outcomes, strict=True), 1):
        differences = tuple(compare(step.expect, outcome))
        if differences:
            failures.append(Failure(step.expect.pos, number, outcome, differences))
    return TestResult(test, tuple(outcomes), tuple(failures))


# --- comparing -------------------------------------------------------------------------------------------------------


def compare(expect: Expect, outcome: Outcome) -> Iterable[Difference]:
    """Every expectation that the outcome does not meet."""
    yield from _rules(expect, outcome)
    yield from _answer(expect, outcome)
    if outcome.said is not None:
        yield from _messages(expect, outcome)
    elif expect.messages is not None:
        yield Difference("messages", "messages", "no conversation")
    if expect.server is not None and not _is_server(expect.server, outcome):
        yield Difference("server", expect.server, outcome.server or "no server is asked")
    via = "no server is asked" if outcome.server is None else outcome.via or "direct"
    if expect.via is not None and expect.via.lower() != via:
        yield Difference("via", expect.via, via)
    if expect.nothing_sent and outcome.sent is not None:
        yield Difference("sent", "nothing", f"{outcome.sent.method} {outcome.sent.url}")
    if expect.sent is not None and outcome.said is None:
        yield from _sent(expect.sent, outcome)
    if expect.dns is not None:
        yield from _dns(expect.dns, outcome)
    if expect.tls is not None and (outcome.tls is None or outcome.tls is not TlsVerdict(expect.tls)):
        yield Difference("tls", expect.tls, outcome.tls.value if outcome.tls is not None else "no TLS")
    if expect.closed is not None and expect.closed != outcome.closed:
        yield Difference("closed", _flag(expect.closed), _flag(outcome.closed))


def _rules(expect: Expect, outcome: Outcome) -> Iterable[Difference]:
    acted = outcome.rules
    shown = ", ".join(acted) or "no rule"
    for name in expect.rule:
        if name not in acted:
            lost = next((o for o in outcome.overruled if o.rule == name), None)
            yield Difference("rule", name, f"{shown}; {name} is overruled by {lost.winner}" if lost else shown)
    for name in expect.no_rule:
        if name in acted:
            yield Difference("no_rule", f"not {name}", shown)
    if expect.no_rule_at_all and acted:
        yield Difference("no_rule", "no rule", shown)


def _answer(expect: Expect, outcome: Outcome) -> Iterable[Difference]:
    response = outcome.response
    if response is None:
        for what, wanted in (("status", expect.status), ("headers", expect.headers or None), ("body", expect.body)):
            if wanted is not None:
                yield Difference(what, str(wanted) if what != "headers" else "a response", "no response")
        if expect.json is not NOT_GIVEN:
            yield Difference("json", _json(expect.json), "no response")
        return
    if expect.status is not None and expect.status != response.status_code:
        yield Difference("status", str(expect.status), str(response.status_code))
    yield from _fields("headers", expect.headers, response.headers)
    yield from _content("", expect.body, expect.json, response.get_content(strict=False) or b"")


def _fields(what: str, expected: ExpectedFields, headers: Headers) -> Iterable[Difference]:
    for name, test in expected:
        values = headers.get_all(name)
        if not test.holds(values):
            yield Difference(f"{what}.{name}", _expected(test), ", ".join(values) if values else "absent")


def _content(prefix: str, body: Expected | None, document: Any, content: bytes, *,
             text_key: str = "body") -> Iterable[Difference]:
    text = content.decode("utf-8", "replace")
    if body is not None and not body.holds([text] if text else [] if body.op in ("absent", "present") else [""]):
        yield Difference(f"{prefix}{text_key}", _expected(body), _cut(text) or "empty")
    if document is not NOT_GIVEN:
        try:
            got = json.loads(text)
        except ValueError:
            yield Difference(f"{prefix}json", _json(document), f"no JSON: {_cut(text) or 'empty'}")
            return
        if not _equal(got, document):
            yield Difference(f"{prefix}json", _json(document), _json(got))


def _equal(a: Any, b: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _sent(expect: Sent, outcome: Outcome) -> Iterable[Difference]:
    sent = outcome.sent
    if sent is None:
        yield Difference("sent", "a request", "nothing")
        return
    for what, wanted, got in (("method", expect.method, sent.method), ("url", expect.url, sent.url),
                              ("sni", expect.sni, sent.sni)):
        if wanted is not None and wanted != got:
            yield Difference(f"sent.{what}", wanted, got or "none")
    yield from _fields("sent.headers", expect.headers, sent.headers)
    yield from _content("sent.", expect.body, expect.json, sent.body)


def _messages(expect: Expect, outcome: Outcome) -> Iterable[Difference]:
    """What becomes of a message, and what each side gets."""
    content = outcome.forwarded
    if expect.nothing_sent and content is not None:
        yield Difference("sent", "nothing", _cut(content.decode("utf-8", "replace")) or "an empty message")
    if expect.sent is not None:
        if content is None:
            yield Difference("sent", "a message", "nothing")
        else:
            yield from _content("sent.", expect.sent.body, expect.sent.json, content, text_key="text")
    for direction in ("to_client", "to_server") if expect.messages is not None else ():
        wanted = getattr(expect.messages, direction)
        got = [said.content.decode("utf-8", "replace") for said in outcome.said or () if said.direction == direction]
        if wanted is not None and list(wanted) != got:
            yield Difference(f"messages.{direction}", _json(list(wanted)), _json(got))


def _dns(expect: ExpectedDns, outcome: Outcome) -> Iterable[Difference]:
    if expect.rcode is not None and expect.rcode != outcome.rcode:
        yield Difference("dns.rcode", expect.rcode, outcome.rcode or "forwarded")
    if expect.answers is not None:
        wanted = sorted(answer.removesuffix(".") for answer in expect.answers)
        if outcome.answer is None or sorted(outcome.records) != wanted:
            yield Difference("dns.answers", ", ".join(wanted) or "none",
                             "forwarded" if outcome.answer is None else ", ".join(outcome.records) or "none")


def _is_server(expected: str, outcome: Outcome) -> bool:
    """`expected` is host:port, the host by name or by the address that rules put in its place."""
    if outcome.server is None:
        return False
    port = outcome.server.rpartition(":")[2]
    known = [outcome.server, *(f"{host_for_url(address)}:{port}" for address in outcome.addresses)]
    return expected.lower() in known


def _expected(test: Expected) -> str:
    return test.text if test.op == "equal" else f"{test.op} {test.text}".strip()


def _json(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False, sort_keys=True))


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def _flag(value: bool) -> str:
    return "true" if value else "false"


# --- reports ---------------------------------------------------------------------------------------------------------


def render_failures(run: TestRun) -> str:
    """Each failure with its place, and expectation beside outcome."""
    lines = []
    for result in run.results:
        for failure in result.failures:
            step = f", step {failure.step}" if len(result.test.steps) > 1 else ""
            lines.append(f"FAILED {printable(str(failure.pos))}: {printable(result.test.name)}{step}")
            width = max(len(difference.what) for difference in failure.differences)
            for difference in failure.differences:
                lines.append(f"  {difference.what:<{width}}  expected  {printable(difference.expected)}")
                lines.append(f"  {'':<{width}}  got       {printable(difference.got)}")
            lines += [f"  note: rule {printable(rule.name)} failed: {type(exc).__name__}: {printable(str(exc))}"
                      for rule, exc in failure.outcome.failures]
    return "".join(f"{line}\n" for line in lines)


def summary(run: TestRun) -> str:
    """The last line: how many passed, and which rules no test made act."""
    total = len(run.results)
    tests = f"{run.passed} of {total} tests passed" if run.failed else f"{total} test{'s' * (total != 1)} passed"
    if run.skipped:
        tests += f", {len(run.skipped)} skipped (their rule is off)"
    covered = run.rules - len(run.untested)
    return f"{tests}; {covered} of {run.rules} rules took effect in a test{_named(run.untested)}\n"


def _named(names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(map(printable, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f" (not: {shown})"
