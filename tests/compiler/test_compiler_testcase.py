"""Tests beside the rules, as data."""

from __future__ import annotations

import datetime

import pytest

from rulesproxy.compiler.testcase import (
    NOT_GIVEN,
    Expected,
    ExpectedDns,
    TestCase,
    TestQuery,
    TestRequest,
    TestTunnel,
    Upstream,
)
from tests.compiler.rulefiles import build_text, errors

RULE = "version: 1\nrules:\n  - name: a\n    match: {host: a.test}\n    action: {log: x}\n    tests:\n"


def case(text: str) -> TestCase:
    result = build_text(RULE + "      - " + text + "\n")
    assert not result.report.has_errors, result.render()
    [only] = result.tests
    return only


def test_a_request_line() -> None:
    test = case("{request: get http://a.test/x?y, expect: {rule: a}}")
    assert (test.rule, test.name, len(test.steps)) == ("a", "a: GET http://a.test/x?y", 1)
    [step] = test.steps
    assert step.request == TestRequest("GET", "http://a.test/x?y")
    assert step.upstream == Upstream() and step.expect.rule == ("a",)
    assert (step.dns, step.tls, step.at, step.client) == (None, None, None, None)


def test_a_bare_url_is_a_get() -> None:
    assert case("{request: 'https://a.test/', expect: {status: 200}}").steps[0].request == TestRequest(
        "GET", "https://a.test/")


@pytest.mark.parametrize("request_text", ["GET wss://a.test/live", "WSS://a.test/live", "{url: wss://a.test/live}"])
def test_a_websocket_is_opened_by_a_request(request_text: str) -> None:
    step = case(f"{{request: {request_text}, expect: {{status: 200}}}}").steps[0]
    assert step.request is not None
    assert (step.request.method, step.request.url) == ("GET", "https://a.test/live")


def test_a_request_mapping() -> None:
    step = case("{request: {method: POST, url: 'http://a.test/', headers: {x-a: 1.10, x-b: [b, c]}, json: {n: 1}},"
                " upstream: {status: 404, headers: {x: y}, body: no}, name: posting, at: 2026-12-31T23:59:59,"
                " client: 192.0.2.7, expect: {status: 404}}").steps[0]
    assert step.request == TestRequest("POST", "http://a.test/", (("x-a", "1.10"), ("x-b", "b"), ("x-b", "c")), None,
                                       {"n": 1})
    assert step.upstream == Upstream(404, (("x", "y"),), "no")
    assert step.at == datetime.datetime(2026, 12, 31, 23, 59, 59)
    assert (step.client, step.name) == ("192.0.2.7", "posting")


def test_what_can_be_expected() -> None:
    expect = case(
        "{request: GET http://a.test/, expect: {rule: [a], no_rule: [a], status: 200, server: 'b.test:443',"
        " headers: {x: 1, y: null, z: {contains: q}, w: {regex: '^a'}, v: {present: true}, u: {present: false}},"
        " body: hello, json: null, closed: true,"
        " sent: {method: GET, url: 'http://b.test/', headers: {x: null}, body: {contains: a}, json: [1], sni: b.test}}}"
    ).steps[0].expect
    assert (expect.rule, expect.no_rule, expect.status, expect.server, expect.closed) == (
        ("a",), ("a",), 200, "b.test:443", True)
    assert expect.headers == (
        ("x", Expected("equal", "1")), ("y", Expected("absent")), ("z", Expected("contains", "q")),
        ("w", Expected("regex", "^a")), ("v", Expected("present")), ("u", Expected("absent")))  # fmt: skip
    assert expect.body == Expected("equal", "hello") and expect.json is None
    sent = expect.sent
    assert sent is not None and not expect.nothing_sent
    assert (sent.method, sent.url, sent.sni, sent.json) == ("GET", "http://b.test/", "b.test", [1])
    assert sent.headers == (("x", Expected("absent")),) and sent.body == Expected("contains", "a")


def test_nothing_expected_is_nothing_said() -> None:
    expect = case("{request: GET http://a.test/, expect: {no_rule: true, sent: nothing}}").steps[0].expect
    assert expect.no_rule_at_all and expect.no_rule == () and expect.nothing_sent and expect.sent is None
    assert expect.json is NOT_GIVEN and expect.body is None and expect.status is None and expect.closed is None


def test_dns_and_tls() -> None:
    dns = case("{dns: {name: A.test, type: aaaa}, expect: {dns: {rcode: noerror, answers: []}}}").steps[0]
    assert dns.dns == TestQuery("A.test", "AAAA") and dns.expect.dns == ExpectedDns("NOERROR", ())
    tls = case("{tls: {sni: a.test, port: 8443}, expect: {tls: intercept}}").steps[0]
    assert tls.tls == TestTunnel("a.test", "a.test", 8443) and tls.expect.tls == "intercept"
    assert case("{tls: {host: 192.0.2.1}, expect: {tls: relay}}").steps[0].tls == TestTunnel(None, "192.0.2.1")


def test_steps_share_what_is_written_once() -> None:
    test = case("{name: two, client: '::1', steps: [{request: GET http://a.test/, expect: {rule: a}},"
                " {dns: {name: a.test}, client: 192.0.2.1, expect: {no_rule: a}}]}")
    assert test.name == "two" and [step.client for step in test.steps] == ["::1", "192.0.2.1"]


def test_tests_of_the_file_belong_to_no_rule() -> None:
    result = build_text("version: 1\nrules: []\ntests:\n  - {request: GET http://a.test/, expect: {no_rule: true}}\n")
    assert [(test.rule, test.pos.line) for test in result.tests] == [("", 4)]


@pytest.mark.parametrize(("text", "message"), [
    ("{expect: {rule: a}}", "exactly one of request, dns, tls and message"),
    ("{request: GET http://a.test/, dns: {name: a}, expect: {rule: a}}", "exactly one of"),
    ("{request: GET http://a.test/}", 'needs "expect"'),
    ("{request: GET a.test, expect: {rule: a}}", "absolute URL"),
    ("{request: GET http://a.test/, at: yesterday, expect: {rule: a}}", "not a time"),
    ("{request: GET http://a.test/, client: me, expect: {rule: a}}", "not an IP address"),
    ("{request: GET http://a.test/, expect: {body: {regex: '('}}}", "missing )"),
    ("{request: GET http://a.test/, expect: {body: {contains: a, regex: b}}}", "or one of contains"),
    ("{tls: {port: 1}, expect: {tls: relay}}", '"sni" or "host"'),
    ("{request: GET http://a.test/, steps: [{request: GET http://a.test/, expect: {rule: a}}]}", "in each step"),
    ("{request: GET http://a.test/, expect: {sent: something}}", '"sent" cannot be the text "something"'),
    ("{request: GET http://a.test/, expect: {}}", "must not be empty"),
])  # fmt: skip
def test_mistakes(text: str, message: str) -> None:
    found = errors(build_text(RULE + f"      - {text}\n"))
    assert len(found) == 1 and message in found[0], found


@pytest.mark.parametrize(("expected", "values", "holds"), [
    (Expected("equal", "a"), ["b", "a"], True), (Expected("equal", "a"), ["ab"], False),
    (Expected("contains", "a"), ["bab"], True), (Expected("contains", "a"), [], False),
    (Expected("regex", "^a+$"), ["aaa"], True), (Expected("regex", "^a+$"), ["ab"], False),
    (Expected("absent"), [], True), (Expected("absent"), [""], False),
    (Expected("present"), [""], True), (Expected("present"), [], False),
])  # fmt: skip
def test_expectations(expected: Expected, values: list[str], holds: bool) -> None:
    assert expected.holds(values) is holds
    assert str(expected)
