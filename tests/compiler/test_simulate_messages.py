"""`message` in tests beside the rules, and the story `explain` tells of one."""

from __future__ import annotations

import pytest

from rulesproxy.compiler.explain import Verdict, explain
from rulesproxy.compiler.outcome import Outcome
from rulesproxy.compiler.source import Position
from rulesproxy.compiler.testcase import Expect, TestStep
from rulesproxy.compiler.testmessage import make_message
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.runtime.phase import Phase
from tests.compiler.rulefiles import build_text, errors
from tests.language.playing import compiled, differs, play

_HERE = Position("test", 1, 1)


def on(url: str, content: str | bytes = "hi", direction: str = "to_server") -> TestStep:
    data = content.encode() if isinstance(content, str) else content
    message = make_message(url, data, is_text=isinstance(content, str), direction=direction)
    return TestStep(_HERE, Expect(_HERE), message=message)


def story(text: str, step: TestStep) -> dict[str, tuple[Verdict, str]]:
    [phase] = explain(compiled(text).build.rules, play(text, step)).phases
    return {verdict.rule: (verdict.verdict, verdict.why) for verdict in phase.verdicts}


DROPS = "rules: [{name: r, match: {host: a.test}, action: {websocket: {drop: true}}}]"


def test_the_handshake_is_answered_and_its_tunnel_decrypted() -> None:
    outcome = play(DROPS, on("wss://a.test/live"))
    assert (outcome.tls, outcome.forwarded, outcome.said) == (TlsVerdict.INTERCEPT, None, [])
    assert outcome.acted == {Phase.WEBSOCKET: ["r"]}


def test_a_message_in_a_relayed_tunnel_meets_no_rule() -> None:
    rules = """rules:
      - {name: p, match: {host: a.test}, action: {tls: passthrough}}
      - {name: r, match: {host: a.test}, action: {websocket: {drop: true}}}
    """
    outcome = play(rules, on("wss://a.test/live", "hello"))
    assert (outcome.tls, outcome.forwarded) == (TlsVerdict.RELAY, b"hello")
    assert "r" not in outcome.rules
    assert play(rules, on("tls://b.test:443", "hello")).forwarded == b"hello"


@pytest.mark.parametrize(("rule", "status"), [
    ("{name: b, match: {host: a.test, path: /live}, action: {block: {status: 451}}}", 451),
    ("{name: b, match: {host: a.test}, action: {respond: no}}", 200),
])  # fmt: skip
def test_a_handshake_that_is_refused_has_no_messages(rule: str, status: int) -> None:
    outcome = play(f"rules: [{rule}, {{name: r, match: {{host: a.test}}, action: {{websocket: {{drop: true}}}}}}]",
                   on("ws://a.test/live"))
    assert outcome.response is not None and outcome.response.status_code == status
    assert outcome.said is None and outcome.rules == ["b"]


def test_a_tunnel_that_is_refused_has_no_messages() -> None:
    rules = "rules: [{name: b, match: {host: a.test}, action: {block: {}}}]"
    assert play(rules, on("tcp://a.test:25")).said is None
    assert play(rules, on("tls://a.test:25")).said is None
    assert play(rules, on("udp://a.test:25")).said is None


def test_what_each_side_gets_is_told() -> None:
    rules = """rules: [{name: r, match: {host: a.test}, action: {tcp: {send: [{to: client, text: one}, {to: server, \
text: two}], close: true}}}]"""
    outcome = play(rules, on("tcp://a.test:25", "hi", "to_client"))
    assert [(said.direction, said.content, said.own) for said in outcome.said or ()] == [
        ("to_client", b"hi", False), ("to_client", b"one", True), ("to_server", b"two", True)]
    assert outcome.ended == "closed" and outcome.closed


@pytest.mark.parametrize(("expect", "what"), [
    ("{sent: nothing}", ["sent"]), ("{sent: {text: hello}}", ["sent.text"]), ("{sent: {json: {a: 1}}}", ["sent.json"]),
    ("{closed: false}", ["closed"]), ("{messages: {to_client: x}}", ["messages.to_client"]),
    ("{messages: {to_server: [hi, x]}}", ["messages.to_server"]), ("{no_rule: r}", ["no_rule"]),
    ("{rule: r, sent: {text: {contains: i}}, messages: {to_server: hi, to_client: bye}, closed: true}", []),
    ("{status: 200}", ["status"]),
])  # fmt: skip
def test_expectations_that_are_not_met_are_told(expect: str, what: list[str]) -> None:
    text = f"""rules:
      - name: r
        match: {{host: a.test}}
        action: {{websocket: {{send: {{to: client, text: bye}}, close: 4000}}}}
        tests: [{{message: {{on: GET http://a.test/, text: hi}}, expect: {expect}}}]
    """
    assert differs(text) == what


def test_messages_are_expected_of_conversations_only() -> None:
    text = """rules:
      - name: r
        match: {host: a.test}
        action: {tag: t}
        tests: [{request: GET http://a.test/, expect: {messages: {to_client: a}}}]
    """
    assert differs(text) == ["messages"]


@pytest.mark.parametrize(("message", "said"), [
    ("{on: GET http://a.test/}", "exactly one of text, json and bytes"),
    ("{on: GET http://a.test/, text: a, json: b}", "exactly one of text, json and bytes"),
    ("{on: GET http://a.test/, bytes: xyz}", "neither hexadecimal digits"),
    ("{on: ftp://a.test/, text: a}", "messages come on http"),
    ("{on: 'tcp://a.test', text: a}", "tcp needs a port"),
    ("{on: 'udp://a.test:99999', text: a}", "ort"),
    ("{on: 'http://[a/', text: a}", "IPv6"),
    ("{on: nowhere at all, text: a}", "a message needs a URL"),
    ("{text: a}", 'needs "on"'),
    ("{on: GET http://a.test/, text: a, direction: up}", '"direction" cannot be'),
])  # fmt: skip
def test_mistakes_in_messages(message: str, said: str) -> None:
    found = errors(build_text("version: 1\nrules: []\ntests:\n"
                              f"  - {{message: {message}, expect: {{no_rule: true}}}}\n"))
    assert len(found) == 1 and said in found[0], found


def test_messages_are_named_in_reports() -> None:
    result = build_text("version: 1\nrules: []\ntests:\n  - {message: {on: 'ws://a.test/x', json: {a: 1}, "
                        "opcode: binary, direction: to_client}, expect: {no_rule: true}}\n")
    [test] = result.tests
    message = test.steps[0].message
    assert test.name == "message to_client on http://a.test/x"
    assert message is not None and (message.content, message.is_text) == (b'{"a": 1}', False)


# --- explain -------------------------------------------------------------------------------------------------------

SEVERAL = """rules:
  - {name: first, match: {host: a.test, json: {type: hello}}, action: {websocket: {close: 4001}}}
  - {name: second, match: {host: a.test, direction: to_server}, action: {websocket: {close: 4002, replace: x}}}
  - {name: other, match: {host: a.test, text: bye}, action: {tag: t}}
  - {name: raw, match: {host: a.test}, action: {tcp: {drop: true}}}
"""


def test_explain_says_why_messages_meet_rules_or_do_not() -> None:
    told = story(SEVERAL, on("ws://a.test/", '{"type": "hello"}'))
    assert told == {"first": (Verdict.ACTED, ""), "second": (Verdict.OVERRULED, "first has the close"),
                    "other": (Verdict.MISSED, 'text is "{"type": "hello"}", wanted "bye"')}
    assert story(SEVERAL, on("tcp://a.test:1")).keys() == {"other", "raw"}


def test_explain_tells_the_effects() -> None:
    outcome: Outcome = play(SEVERAL, on("ws://a.test/", "bye"))
    [phase] = explain(compiled(SEVERAL).build.rules, outcome).phases
    assert phase.effects == ("other: Tag(tags=('t',))", "edit: message content set b'x'",
                             "close: CloseWebSocket(code=4002) (rule second)")


def test_rules_that_only_pass_look_at_no_messages() -> None:
    rules = "rules: [{name: p, match: {host: a.test}, action: {pass: {}}}]"
    outcome = play(rules, on("ws://a.test/"))
    assert outcome.forwarded == b"hi"
    assert explain(compiled(rules).build.rules, outcome).phases == ()
