"""Tests written beside the rules (rule-language 7) as data. Running them is somebody else's work."""

from __future__ import annotations

import datetime
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any

import re2

from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.source import Mapping, Node, Position, Scalar, Sequence, to_data
from rulesproxy.compiler.testmessage import TestMessage, build_message, http_url

Fields = tuple[tuple[str, str], ...]

#: Stands where no JSON is given; None is the JSON value null.
NOT_GIVEN: Any = type("NotGiven", (), {"__repr__": lambda self: "NOT_GIVEN"})()

_SUBJECTS = ("request", "dns", "tls", "message")
_REQUEST_LINE = re.compile(r"([A-Za-z!#$%&'*+.^_`|~-]+)\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a value must be: `op` is equal, contains, regex, absent or present."""

    op: str
    text: str = ""

    def holds(self, values: list[str]) -> bool:
        """True if any of the values there are is as expected (absent: if there is none)."""
        match self.op:
            case "absent":
                return not values
            case "present":
                return bool(values)
            case "equal":
                return self.text in values
            case "contains":
                return any(self.text in value for value in values)
        return any(re2.compile(self.text, _quiet()).search(value) is not None for value in values)

    def __str__(self) -> str:
        return self.op if self.op in ("absent", "present") else f"{self.op} {self.text!r}"


def _quiet() -> re2.Options:
    """Without this RE2 writes what it refuses to standard error."""
    options = re2.Options()
    options.log_errors = False
    return options


ExpectedFields = tuple[tuple[str, Expected], ...]


@dataclass(frozen=True, slots=True)
class TestRequest:
    __test__ = False  # not a pytest class

    method: str
    url: str
    headers: Fields = ()
    body: str | None = None
    json: Any = NOT_GIVEN


@dataclass(frozen=True, slots=True)
class TestQuery:
    """A DNS query."""

    __test__ = False

    name: str
    type: str = "A"


@dataclass(frozen=True, slots=True)
class TestTunnel:
    """A ClientHello inside a tunnel to `host`:`port`."""

    __test__ = False

    sni: str | None
    host: str
    port: int = 443


@dataclass(frozen=True, slots=True)
class Upstream:
    """What the origin would answer."""

    status: int = 200
    headers: Fields = ()
    body: str | None = None
    json: Any = NOT_GIVEN


@dataclass(frozen=True, slots=True)
class Sent:
    """What the origin must have been sent; None where nothing is said."""

    method: str | None = None
    url: str | None = None
    headers: ExpectedFields = ()
    body: Expected | None = None
    json: Any = NOT_GIVEN
    sni: str | None = None


@dataclass(frozen=True, slots=True)
class ExpectedDns:
    rcode: str | None = None
    answers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ExpectedMessages:
    """The texts each side gets."""

    to_client: tuple[str, ...] | None = None
    to_server: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """What must hold; None (or empty) where nothing is said. `nothing_sent`: the origin must not be asked."""

    pos: Position = field(compare=False)
    rule: tuple[str, ...] = ()
    no_rule: tuple[str, ...] = ()
    no_rule_at_all: bool = False
    status: int | None = None
    headers: ExpectedFields = ()
    body: Expected | None = None
    json: Any = NOT_GIVEN
    server: str | None = None
    via: str | None = None
    sent: Sent | None = None
    nothing_sent: bool = False
    dns: ExpectedDns | None = None
    tls: str | None = None
    closed: bool | None = None
    messages: ExpectedMessages | None = None


@dataclass(frozen=True, slots=True)
class TestStep:
    """One thing that happens and what must come of it. Exactly one of request, dns, tls and message is given."""

    __test__ = False

    pos: Position = field(compare=False)
    expect: Expect
    upstream: Upstream = Upstream()
    request: TestRequest | None = None
    dns: TestQuery | None = None
    tls: TestTunnel | None = None
    message: TestMessage | None = None
    name: str = ""
    at: datetime.datetime | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True)
class TestCase:
    """A test: its steps in order, one unless `steps` was written. `rule` is the rule it stands under, or empty."""

    __test__ = False

    pos: Position = field(compare=False)
    name: str
    rule: str
    steps: tuple[TestStep, ...]


def build_test(node: Node, report: Report, rule: str = "", index: int = 0) -> TestCase | None:
    """A test from a node of the right shape; None after an error."""
    if not isinstance(node, Mapping):
        return None
    steps = node.get("steps")
    if isinstance(steps, Sequence):
        alone = next((key for key, _ in node if key.text in (*_SUBJECTS, "upstream", "expect")), None)
        if alone is not None:
            report.error(alone, f'a test with steps has "{alone.text}" in each step, not beside them')
            return None
        built = [_step(step, node, report) for step in steps if isinstance(step, Mapping)]
    else:
        built = [_step(node, node, report)]
    done = tuple(step for step in built if step is not None)
    if len(done) < len(built):
        return None
    return TestCase(node.pos, _text(node, "name") or _default_name(done, rule, index), rule, done)


def _default_name(steps: tuple[TestStep, ...], rule: str, index: int) -> str:
    first = steps[0]
    what = f"test {index + 1}"
    if first.request is not None:
        what = f"{first.request.method} {first.request.url}"
    elif first.dns is not None:
        what = f"DNS {first.dns.name} {first.dns.type}"
    elif first.tls is not None:
        what = f"TLS {first.tls.sni or first.tls.host}"
    elif first.message is not None:
        what = f"message {first.message.direction} on {first.message.url}"
    return f"{rule}: {what}" if rule else what


def _step(node: Mapping, test: Mapping, report: Report) -> TestStep | None:
    subjects = [key for key, _ in node if key.text in _SUBJECTS]
    if len(subjects) != 1:
        report.error(subjects[1] if subjects else node, "a test has exactly one of request, dns, tls and message")
        return None
    expect = node.get("expect")
    if not isinstance(expect, Mapping):
        report.error(node, 'a test needs "expect"')
        return None
    errors = report.error_count
    step = TestStep(
        node.pos, _expect(expect, report), _upstream(node.get("upstream")), _request(node.get("request"), report),
        _query(node.get("dns")), _tunnel(node.get("tls"), report),
        build_message(node.get("message"), report), _text(node, "name") or "",
        _time(node.get("at") or test.get("at"), report), _client(node.get("client") or test.get("client"), report),
    )  # fmt: skip
    return step if report.error_count == errors else None


# --- what happens --------------------------------------------------------------------------------------------------


def _request(node: Node | None, report: Report) -> TestRequest | None:
    if node is None:
        return None
    if isinstance(node, Mapping):
        url = node.get("url") or node
        request = TestRequest((_text(node, "method") or "GET").upper(), http_url(_text(node, "url") or ""),
                              _fields(node.get("headers")), _text(node, "body"), _json(node, "json"))
    else:
        url, written = node, node.text.strip() if isinstance(node, Scalar) else ""
        found = _REQUEST_LINE.fullmatch(written)
        request = TestRequest(found[1].upper(), http_url(found[2])) if found else TestRequest("GET", http_url(written))
    if not re.fullmatch(r"https?://[^/?#\s]+\S*", request.url):
        report.error(url, "a request needs an absolute URL", help='as "GET https://shop.test/items"')
    return request


def _query(node: Node | None) -> TestQuery | None:
    if not isinstance(node, Mapping):
        return None
    return TestQuery(_text(node, "name") or "", (_text(node, "type") or "A").upper())


def _tunnel(node: Node | None, report: Report) -> TestTunnel | None:
    if not isinstance(node, Mapping):
        return None
    sni, host, port = _text(node, "sni"), _text(node, "host"), node.get("port")
    if not (sni or host):
        report.error(node, 'a tls test needs "sni" or "host"')
    return TestTunnel(sni, host or sni or "", port.value if isinstance(port, Scalar) else 443)


def _upstream(node: Node | None) -> Upstream:
    if not isinstance(node, Mapping):
        return Upstream()
    return Upstream(_integer(node, "status") or 200, _fields(node.get("headers")), _text(node, "body"),
                    _json(node, "json"))


def _time(node: Node | None, report: Report) -> datetime.datetime | None:
    if not isinstance(node, Scalar):
        return None
    try:
        return datetime.datetime.fromisoformat(node.text)
    except ValueError:
        report.error(node, f'"{node.text}" is not a time', help="as 2026-12-31T23:59:59")
        return None


def _client(node: Node | None, report: Report) -> str | None:
    if not isinstance(node, Scalar):
        return None
    try:
        return str(ipaddress.ip_address(node.text))
    except ValueError:
        report.error(node, f'"{node.text}" is not an IP address')
        return None


# --- what must hold ------------------------------------------------------------------------------------------------


def _expect(node: Mapping, report: Report) -> Expect:
    no_rule, sent = node.get("no_rule"), node.get("sent")
    at_all = isinstance(no_rule, Scalar) and no_rule.value is True
    return Expect(
        node.pos, _texts(node.get("rule")), () if at_all else _texts(no_rule), at_all, _integer(node, "status"),
        _expected_fields(node.get("headers"), report), _expected(node.get("body"), report), _json(node, "json"),
        _text(node, "server"), _text(node, "via"), _sent(sent, report), isinstance(sent, Scalar), _dns(node.get("dns")),
        _text(node, "tls"), _flag(node.get("closed")), _messages(node.get("messages")),
    )  # fmt: skip


def _sent(node: Node | None, report: Report) -> Sent | None:
    if not isinstance(node, Mapping):
        return None
    return Sent(_text(node, "method"), _text(node, "url"), _expected_fields(node.get("headers"), report),
                _expected(node.get("body") or node.get("text"), report), _json(node, "json"), _text(node, "sni"))


def _messages(node: Node | None) -> ExpectedMessages | None:
    if not isinstance(node, Mapping):
        return None
    client, server = node.get("to_client"), node.get("to_server")
    return ExpectedMessages(None if client is None else _texts(client), None if server is None else _texts(server))


def _dns(node: Node | None) -> ExpectedDns | None:
    if not isinstance(node, Mapping):
        return None
    rcode, answers = _text(node, "rcode"), node.get("answers")
    return ExpectedDns(rcode.upper() if rcode else None, None if answers is None else _texts(answers))


def _expected(node: Node | None, report: Report) -> Expected | None:
    match node:
        case None:
            return None
        case Scalar():
            return Expected("absent") if node.is_null else Expected("equal", node.text)
        case Mapping() if len(node) == 1:
            key, value = node.entries[0]
            if isinstance(value, Scalar):
                return _test_of(key.text, value, report)
    report.error(node, "an expectation is a text or one of contains, regex, absent and present")
    return None


def _test_of(op: str, value: Scalar, report: Report) -> Expected:
    if op in ("absent", "present"):
        opposite = "present" if op == "absent" else "absent"
        return Expected(op if value.value is True else opposite)
    if op == "regex":
        try:
            re2.compile(value.text, _quiet())
        except re2.error as error:
            report.error(value, f"not a regular expression: {_reason(error)}")
    return Expected(op, value.text)


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _expected_fields(node: Node | None, report: Report) -> ExpectedFields:
    if not isinstance(node, Mapping):
        return ()
    found = [(key.text, _expected(value, report)) for key, value in node]
    return tuple((name, expected) for name, expected in found if expected is not None)


# --- plain values --------------------------------------------------------------------------------------------------


def _text(node: Mapping, key: str) -> str | None:
    value = node.get(key)
    return value.text if isinstance(value, Scalar) else None


def _texts(node: Node | None) -> tuple[str, ...]:
    if isinstance(node, Sequence):
        return tuple(item.text for item in node if isinstance(item, Scalar))
    return (node.text,) if isinstance(node, Scalar) else ()


def _integer(node: Mapping, key: str) -> int | None:
    value = node.get(key)
    return value.value if isinstance(value, Scalar) and isinstance(value.value, int) else None


def _flag(node: Node | None) -> bool | None:
    return node.value is True if isinstance(node, Scalar) else None


def _json(node: Mapping, key: str) -> Any:
    value = node.get(key)
    return NOT_GIVEN if value is None else to_data(value)


def _fields(node: Node | None) -> Fields:
    if not isinstance(node, Mapping):
        return ()
    return tuple((key.text, text) for key, value in node for text in _texts(value))
