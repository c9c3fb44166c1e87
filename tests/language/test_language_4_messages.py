"""Rule-language 2, 3, 3.1, 4 and 6.3 where they speak of messages: WebSocket, TCP and UDP."""

from __future__ import annotations

from typing import Any

import pytest

from rulesproxy.compiler.check import check
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request
from rulesproxy.model.tcp import TCPFlow, TCPMessage
from rulesproxy.model.tls import ClientHello, Tunnel
from rulesproxy.model.udp import UDPFlow, UDPMessage
from rulesproxy.model.websocket import Opcode, WebSocketData, WebSocketMessage
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.engine import RuleExchange
from rulesproxy.runtime.facts import TunnelFacts
from rulesproxy.runtime.messages import decide_message
from rulesproxy.runtime.phase import Phase
from rulesproxy.runtime.ruleset import RuleSet
from tests.compiler.rulefiles import build_text
from tests.language.playing import mistakes, rules_of


class Failures(list[str]):
    """An error handler that remembers the rules' names."""

    def __call__(self, rule: RuleInfo, exc: Exception) -> None:
        self.append(rule.name)


def websocket(url: str = "http://a.test/live", **headers: str) -> HTTPFlow:
    flow = HTTPFlow(Client(peername=("127.0.0.1", 1), listener="127.0.0.1:8080"), Server())
    flow.request = Request.make("GET", url, b"", Headers((k.encode(), v.encode()) for k, v in headers.items()))
    flow.websocket = WebSocketData()
    return flow


def raw(host: str = "a.test", port: int = 6379) -> TCPFlow:
    flow = TCPFlow(Client(peername=("127.0.0.1", 1), proxy_mode="socks5"), Server(("192.0.2.1", port)))
    flow.tunnel = Tunnel(flow.client_conn, host, port)
    return flow


def datagrams(host: str = "a.test", port: int = 53) -> UDPFlow:
    return UDPFlow(Client(peername=("127.0.0.1", 1)), Server((host, port)))


def say(rules: RuleSet, flow: Any, content: str | bytes, *, to_client: bool = False,
        injected: bool = False, failures: Failures | None = None) -> Any:
    """A message through the rules, as the hook would; answers the message."""
    data = content.encode() if isinstance(content, str) else content
    message: Any
    if isinstance(flow, HTTPFlow):
        kind = Opcode.TEXT if isinstance(content, str) else Opcode.BINARY
        message = WebSocketMessage(kind, not to_client, data, injected=injected)
        assert flow.websocket is not None
        flow.websocket.remember(message)
    else:
        message = (TCPMessage if isinstance(flow, TCPFlow) else UDPMessage)(not to_client, data, injected=injected)
        flow.remember(message)
    decide_message(rules, flow, failures if failures is not None else Failures())
    return message


def acts(rule: str, flow: Any, content: str | bytes = "hi", **more: Any) -> bool:
    """Whether one rule, which tags, takes a message."""
    say(rules_of(f"rules: [{{name: r, match: {{{rule}}}, action: {{tag: t}}}}]"), flow, content, **more)
    return flow.metadata.get("tags") == ["t"]


# --- 2 matchers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [websocket, raw, datagrams])
def test_2_direction_says_who_sent_it(make: Any) -> None:
    assert acts("direction: to_server", make()) and acts("direction: to_client", make(), to_client=True)
    assert not acts("direction: to_server", make(), to_client=True) and not acts("direction: to_client", make())
    assert acts("direction: [to_client, to_server]", make())


@pytest.mark.parametrize(("matcher", "content", "holds"), [
    ("text: hello", "hello", True), ("text: hello", "Hello", False), ("text: [a, b]", "b", True),
    ("text: {prefix: he, not: {contains: x}}", "hex", False), ("text: {regex: '^h.llo$'}", "hällo", True),
    ("text: {gt: 5}", "12", True), ("text: {gt: 5}", "12x", False), ("text: {exact: ''}", "", True),
    ("text: {absent: true}", "", False), ("text: {present: true}", "", True), ("text: 007", "007", True),
    ("text: {contains: \"\\ufffd\"}", b"\xff\xfe", True), ("text: hi", b"hi", True),
    ("text: {regex: '\\x{FFFD}'}", b"\xed\xa0\x80", True),
])  # fmt: skip
def test_2_1_text_is_utf8_with_invalid_bytes_replaced(matcher: str, content: str | bytes, holds: bool) -> None:
    assert acts(matcher, websocket(), content) is holds
    assert acts(matcher, raw(), content) is holds


@pytest.mark.parametrize(("pattern", "content", "holds"), [
    ("{a: 1}", '{"a": 1, "b": 2}', True), ("{a: 1}", '{"a": true}', False), ("{a: 1}", '{"a": 1.0}', True),
    ("{a: {b: x}}", '{"a": {"b": "x", "c": 1}}', True), ("{a: null}", '{"a": null}', True), ("{a: null}", "{}", False),
    ("[2, 1]", "[1, 2, 3]", True), ("[4]", "[1]", False), ("{}", "{}", True), ("{}", "[]", False),
    ("[{id: 1}]", '[{"id": 2}, {"id": 1, "n": 0}]', True), ("text", '"text"', True), ("text", "text", False),
    ("null", "null", True), ("true", "1", False), ("{a: 1}", "{a: 1}", False), ("{a: 1}", '{"a": NaN}', False),
    ("{a: '1'}", '{"a": 1}', False), ("{a: 1}", "[" * 100_000, False), ("{a: 1}", '{"a": ' + "9" * 5000 + "}", False),
    ('{a: "é"}', '{"a": "\\u00e9"}', True),
])  # fmt: skip
def test_2_json_is_a_subset(pattern: str, content: str, holds: bool) -> None:
    assert acts(f"json: {pattern}", websocket(), content) is holds


@pytest.mark.parametrize(("path", "content", "holds"), [
    ("$.a: x", '{"a": "x"}', True), ("$.a: 1", '{"a": 1}', True), ("$.a: '1.5'", '{"a": 1.50}', True),
    ("$.a: 'true'", '{"a": true}', True), ("$.a: 'null'", '{"a": null}', True), ("$.a: {absent: true}", "{}", True),
    ("$.a: {absent: true}", "no json", True), ("$.a: {present: true}", '{"a": ""}', True),
    ("'$.items[*].id': {gt: 5}", '{"items": [{"id": 1}, {"id": 6}]}', True),
    ("'$.items[*].id': {not: 6}", '{"items": [{"id": 1}, {"id": 6}]}', False),
    ("'$..id': 7", '{"a": [{"b": {"id": 7}}]}', True), ("$.a: '{\"b\":1}'", '{"a": {"b": 1}}', True),
    ("$: x", '"x"', True), ("$.a: x", '"{\\"a\\": \\"x\\"}"', False), ("'$[0]': a", '["a"]', True),
    ("'$[?@.n > 1].v': x", '[{"n": 1, "v": "x"}, {"n": 2, "v": "y"}]', False),
    ("'$[?length(@.v) == 3].n': 1", '[{"n": 1, "v": "xyz"}]', True),
    ("'$..a': x", '{"a":' * 380 + '"x"' + "}" * 380, True), ("'$..b': x", "[" * 900 + "]" * 900, False),
])  # fmt: skip
def test_2_json_path_finds_values(path: str, content: str, holds: bool) -> None:
    assert acts(f"json_path: {{{path}}}", websocket(), content) is holds


@pytest.mark.parametrize(("path", "said"), [
    ("a.b", "not a JSONPath"), ("$.a|$.b", "not a JSONPath"), ("$[?search(@.a, 'x')]", "search"),
    ("$..a..b", "one .. is enough"), ("$[?@.a == $.b]", "looks at @ only"), ("$[", "not a JSONPath"),
    ("$" + "[?(@" * 200, "not a JSONPath"),
])  # fmt: skip
def test_2_json_path_is_rfc_9535_and_bounded(path: str, said: str) -> None:
    [message] = mistakes(f"rules: [{{name: r, match: {{json_path: {{{path!r}: x}}}}, action: {{tag: t}}}}]"
                         if "'" not in path else
                         f'rules: [{{name: r, match: {{json_path: {{"{path}": x}}}}, action: {{tag: t}}}}]')
    assert said in message


def test_2_json_is_not_looked_for_in_huge_messages() -> None:
    assert acts("json: {a: 1}", websocket(), '{"a": 1}' + " " * 1000)
    assert not acts("json: {a: 1}", websocket(), '{"a": 1}' + " " * (1024 * 1024))


@pytest.mark.parametrize(("value", "content", "holds"), [
    ("'00 ff'", b"\x00\xff", True), ("00ff", b"\x00\xff\x00", False), ("0x00FF", b"\x00\xff", True),
    ("00:ff", b"\x00\xff", True), ("base64:AP8=", b"\x00\xff", True), ("{prefix: ff}", b"\xff\x00", True),
    ("{suffix: [aa, '00']}", b"\xff\x00", True), ("{contains: 'ff 00', prefix: 01}", b"\x01\xff\x00", True),
    ("{contains: ff00, prefix: 02}", b"\x01\xff\x00", False), ("[01, 02]", b"\x02", True), ("''", b"", True),
    ("0500", b"\x05\x00", True), ("{contains: c3}", "é".encode(), True),
])  # fmt: skip
def test_2_1_bytes_are_raw(value: str, content: bytes, holds: bool) -> None:
    assert acts(f"bytes: {value}", raw(), content) is holds


def test_2_opcode_is_of_websocket_only() -> None:
    assert acts("opcode: text", websocket(), "a") and acts("opcode: binary", websocket(), b"a")
    assert not acts("opcode: text", websocket(), b"a")
    assert not acts("opcode: text", raw(), "a")
    assert "seen" in mistakes("rules: [{name: r, match: {opcode: text}, action: {tcp: {drop: true}}}]")[0]


# --- 4: what the phase sees ----------------------------------------------------------------------------------------


def test_4_websocket_messages_see_the_handshake() -> None:
    flow = websocket("https://a.test:8443/room/7?q=1", cookie="c=1")
    flow.client_conn.sni = "a.test"
    assert acts("host: a.test, port: 8443, scheme: https, path: '/room/{id}', method: GET, query: {q: 1}, "
                "cookies: {c: 1}, sni: a.test, headers: {cookie: {present: true}}, client_ip: 127.0.0.1, "
                "listener: '@8080', direction: to_server", flow)


def test_4_1_request_keys_mean_the_request_as_the_client_sent_it() -> None:
    text = """rules:
      - {name: q, match: {host: a.test}, action: {rewrite: {path: /elsewhere, headers: {set: {x-a: "2"}}}}}
      - {name: r, match: {path: /live, headers: {x-a: "1"}}, action: {websocket: {drop: true}}}
    """
    rules = rules_of(text)
    flow = websocket(**{"x-a": "1"})
    flow.pinned = RuleExchange(rules, flow, flow.client_conn, Failures(), 1000)
    flow.pinned.request_head()
    assert flow.request.path == "/elsewhere"
    assert say(rules, flow, "hi").dropped
    assert "requestheaders" in rules.hooks  # where the request is noted


def test_4_tcp_messages_see_the_tunnel() -> None:
    flow = raw("a.test", 6379)
    assert acts("host: a.test, port: 6379, client_ip: 127.0.0.1, listener: socks5, direction: to_server", flow)
    flow = raw("192.0.2.9", 443)
    flow.client_conn.sni = "b.test"
    assert acts("host: b.test, sni: b.test, port: 443, direction: to_server", flow)
    flow = raw()
    flow.tunnel = None
    assert acts("host: 192.0.2.1, port: 6379, direction: to_server", flow)


def test_4_udp_messages_see_where_they_go() -> None:
    assert acts("host: a.test, port: 53, text: hi", datagrams())


@pytest.mark.parametrize(("match", "action", "said"), [
    ("path: /a", "tcp: {drop: true}", '"tcp" acts in the tcp message phase, where "path" cannot be seen'),
    ("sni: a", "udp: {drop: true}", '"udp" acts in the udp message phase, where "sni" cannot be seen'),
    ("status: 404", "websocket: {drop: true}", '"websocket" acts in the websocket message phase'),
    ("text: a", "rewrite: {headers: {set: {a: b}}}", '"rewrite" acts in the request phase, where "text"'),
    ("text: a", "respond: b", '"respond" acts in the request phase, where "text" cannot be seen'),
    ("text: a", "block: {status: 403}", '"block" acts in the request phase, where "text" cannot be seen'),
    ("text: a", "redirect_server: b", 'where "text" cannot be seen'),
    ("text: a", "tls: intercept", '"tls" acts in the tls phase'),
    ("text: a", "delay: 1s", "messages cannot be delayed"),
    ("host: a", "{websocket: {drop: true}, delay: 1s}", "this cannot be done to messages"),
    ("text: a, status: 200", "tag: t", '"status" is never seen together with the other keys'),
    ("text: a, dns_type: A", "tag: t", "never seen together"),
    ("host: a", "tcp: {send: {to: client, text: '${request.path}'}}", "not known when a message comes"),
    ("host: a", "websocket: {replace: '${request.body}'}", "not known when a message comes"),
    ("host: a", "websocket: {replace: '${response.status}'}", "not known when a message comes"),
])  # fmt: skip
def test_4_1_a_key_that_cannot_be_seen_is_an_error(match: str, action: str, said: str) -> None:
    action = action if action.startswith("{") else f"{{{action}}}"
    assert said in mistakes(f"rules: [{{name: r, match: {{{match}}}, action: {action}}}]")[0]


# --- 3 actions -----------------------------------------------------------------------------------------------------


def changed(action: str, content: str | bytes = "one two", make: Any = websocket, kind: str = "websocket") -> Any:
    return say(rules_of(f"rules: [{{name: r, match: {{host: a.test}}, action: {{{kind}: {action}}}}}]"), make(),
               content)


@pytest.mark.parametrize(("replace", "content", "after"), [
    ("new", "one", b"new"), ("{text: new}", "one", b"new"), ("{json: {a: [1, 'x']}}", "one", b'{"a": [1, "x"]}'),
    ("{bytes: 6e 65 77}", "one", b"new"), ("{bytes: base64:bmV3}", "one", b"new"), ("''", "one", b""),
    ("{text: o, with: 0}", "one two", b"0ne tw0"), ("{regex: '(o)(n)', with: '${match.2}${match.1}'}", "one", b"noe"),
    ("[{text: o, with: 0}, {regex: '0n', with: x}]", "one", b"xe"), ("{regex: O, with: '', ignore_case: true}", "one",
                                                                      b"ne"),
    ("'${request.method} ${request.path} ${vars.v}'", "one", b"GET /live of vars"), ("{text: e, with: é}", b"\xffe",
                                                                                      b"\xff\xc3\xa9"),
])  # fmt: skip
def test_3_replace_changes_the_content(replace: str, content: str | bytes, after: bytes) -> None:
    rules = rules_of("version: 1\nvars: {v: of vars}\n"
                     f"rules: [{{name: r, match: {{host: a.test}}, action: {{websocket: {{replace: {replace}}}}}}}]")
    assert say(rules, websocket(), content).content == after


@pytest.mark.parametrize(("kind", "make"), [("websocket", websocket), ("tcp", raw), ("udp", datagrams)])
def test_3_each_action_is_for_one_kind_of_message(kind: str, make: Any) -> None:
    for other in (websocket, raw, datagrams):
        message = changed("{replace: new}", "old", other, kind)
        assert (message.content == b"new") is (other is make)


def test_3_a_text_message_that_is_no_text_any_more_is_binary() -> None:
    assert changed("{replace: {bytes: ff fe}}").type is Opcode.BINARY
    assert changed("{replace: {bytes: 61}}").type is Opcode.TEXT
    assert changed("{replace: {json: {a: 1}}}", b"\x00").type is Opcode.BINARY


def test_3_captures_of_the_match_stand_in_templates() -> None:
    rules = rules_of("rules: [{name: r, match: {text: {regex: '^ping (.*)'}}, "
                     "action: {websocket: {drop: true, send: {to: client, text: 'pong ${match.1}'}}}}]")
    flow = websocket()
    assert say(rules, flow, "ping 7").dropped
    assert flow.websocket is not None
    [own] = flow.websocket.outbox
    assert (own.content, own.from_client, own.injected, own.type) == (b"pong 7", False, True, Opcode.TEXT)


def test_3_send_goes_to_the_side_it_names() -> None:
    flow = raw()
    say(rules_of("rules: [{name: r, match: {host: a.test}, action: {tcp: {send: [{to: server, bytes: ff}, "
                 "{to: client, json: [1]}]}}}]"), flow, "hi")
    assert [(own.from_client, own.content) for own in flow.outbox] == [(True, b"\xff"), (False, b"[1]")]
    page = websocket()
    say(rules_of("rules: [{name: r, match: {host: a.test}, action: {websocket: {send: {to: server, bytes: ff}}}}]"),
        page, "hi")
    assert page.websocket is not None and page.websocket.outbox[0].type is Opcode.BINARY


@pytest.mark.parametrize(("close", "wanted"), [
    ("true", (1000, "")), ("4001", (4001, "")), ("{code: 1008, reason: no}", (1008, "no")),
    ("{reason: '${request.path}'}", (1000, "/live")),
    ("{reason: '${request.headers.x-long}'}", (1000, "é" * 61)),
])  # fmt: skip
def test_3_websocket_close(close: str, wanted: tuple[int, str]) -> None:
    flow = websocket(**{"x-long": "é" * 100})
    message = say(rules_of(f"rules: [{{name: r, match: {{host: a.test}}, action: {{websocket: {{close: {close}}}}}}}]"),
                  flow, "hi")
    assert flow.websocket is not None and flow.websocket.closing == wanted
    assert not message.dropped  # the message in hand still goes on


@pytest.mark.parametrize(("close", "wanted"), [("true", (True, None)), ("close", (True, None)),
                                              ("reset", (False, Drop.RESET))])
def test_3_tcp_close(close: str, wanted: tuple[bool, Drop | None]) -> None:
    flow = raw()
    say(rules_of(f"rules: [{{name: r, match: {{host: a.test}}, action: {{tcp: {{close: {close}}}}}}}]"), flow, "hi")
    assert ((flow.closing, flow.drop), flow.rule) == (wanted, "r")


def test_3_udp_close() -> None:
    flow = datagrams()
    say(rules_of("rules: [{name: r, match: {host: a.test}, action: {udp: {close: true}}}]"), flow, "hi")
    assert (flow.closing, flow.drop, flow.rule) == (True, None, "r")


def test_3_1_block_ends_the_conversation() -> None:
    rules = rules_of("rules: [{name: no, match: {host: a.test, text: bad}, action: {block: {}}}]")
    page, stream, flow = websocket(), raw(), datagrams()
    for one in (page, stream, flow):
        assert not say(rules, one, "good").dropped
        assert say(rules, one, "bad").dropped
        assert one.rule == "no"
    assert page.websocket is not None and page.websocket.closing == (1008, "blocked by rule no")
    assert (stream.drop, flow.drop) == (Drop.RESET, Drop.CLOSE)


@pytest.mark.parametrize("action", [
    "websocket: {}", "websocket: {drop: false}", "websocket: {drop: true, replace: x}", "websocket: {close: 1005}",
    "websocket: {close: 999}", "websocket: {close: false}", "websocket: {send: {text: x}}",
    "websocket: {send: {to: client}}", "websocket: {send: {to: client, text: a, json: b}}",
    "websocket: {send: {to: nobody, text: a}}", "websocket: {replace: {regex: '('  , with: x}}",
    "websocket: {replace: {regex: x}}", "websocket: {replace: {json: 1, bytes: ff}}",
    "websocket: {replace: {bytes: xyz}}", "websocket: {replace: {text: a, with: $1, regex: b}}",
    "websocket: {replace: [{text: a}]}", "websocket: {replace: {regex: (a), with: '$1'}}", "tcp: {close: hang}",
    "udp: {close: reset}", "udp: {close: 4000}", "websocket: {replace: '${match.1}'}",
    "websocket: {close: {reason: " + "x" * 124 + "}}", "websocket: {send: {to: client, bytes: 'base64:a'}}",
])  # fmt: skip
def test_3_mistakes_in_message_actions(action: str) -> None:
    assert len(mistakes(f"rules: [{{name: r, match: {{host: a.test}}, action: {{{action}}}}}]")) == 1


# --- 4.3 slots, 4.4 edits ------------------------------------------------------------------------------------------


def test_4_3_drop_and_close_are_filled_by_the_first() -> None:
    rules = rules_of("""rules:
      - {name: a, match: {host: a.test}, action: {websocket: {close: 4001}, tag: a}}
      - {name: b, match: {host: a.test}, action: {websocket: {close: 4002, drop: true}, tag: b}}
      - {name: c, match: {host: a.test}, action: {block: {}, tag: c}, priority: -1, unless: {text: x}}
      - {name: d, match: {host: a.test}, action: {websocket: {drop: true}, tag: d}}
    """)
    flow = websocket()
    assert say(rules, flow, "hi").dropped
    assert flow.websocket is not None and flow.websocket.closing == (4001, "")
    assert flow.metadata["tags"] == ["a", "d"]  # b is overruled, and acts whole or not at all


def test_4_3_two_ends_in_one_rule_are_an_error_unless_for_other_kinds() -> None:
    assert "do that once" in mistakes("rules: [{name: r, match: {text: a}, action: [{websocket: {close: true}}, "
                                      "{websocket: {close: 4001}}]}]")[0]
    assert "do that once" in mistakes("rules: [{name: r, match: {text: a}, action: {block: {}, "
                                      "tcp: {close: true}}}]")[0]
    rules = rules_of("rules: [{name: r, match: {host: a.test}, action: {websocket: {close: true}, tcp: {close: true}, "
                     "udp: {close: true}}}]")
    assert set(rules.indexes) == {Phase.WEBSOCKET, Phase.TCP, Phase.UDP}


def test_4_4_replacements_compose() -> None:
    rules = rules_of("""rules:
      - {name: a, match: {host: a.test}, action: {websocket: {replace: {text: base, with: b}}}}
      - {name: b, match: {host: a.test}, action: {websocket: {replace: the base}}}
      - {name: c, match: {host: a.test}, action: {websocket: {replace: lost}}}
      - {name: d, match: {host: a.test}, action: {websocket: {replace: {regex: b$, with: end}}}}
      - {name: e, match: {text: the base}, action: {websocket: {drop: true}}}
    """)
    message = say(rules, websocket(), "hi")
    assert (message.content, message.dropped) == (b"the end", False)  # e looks at the message as it came


def test_4_4_a_later_whole_content_is_a_field_conflict() -> None:
    result = build_text("""version: 1
rules:
  - {name: b, match: {host: a.test}, action: {websocket: {replace: one}}}
  - {name: c, match: {host: a.test}, action: {websocket: {replace: two}}}
""")
    check(result)
    assert "field-conflict" in {warning.code for warning in result.report.warnings}


def test_4_4_every_send_is_done_in_order() -> None:
    rules = rules_of("""rules:
      - {name: a, match: {host: a.test}, action: {udp: {send: {to: client, text: a}}}}
      - {name: b, match: {host: a.test}, action: {udp: {send: [{to: client, text: b}, {to: client, text: c}]}}}
    """)
    flow = datagrams()
    say(rules, flow, "hi")
    assert [own.content for own in flow.outbox] == [b"a", b"b", b"c"]


def test_4_5_pass_leaves_messages_alone() -> None:
    rules = rules_of("""rules:
      - {name: p, match: {host: a.test, text: {prefix: keep}}, action: {pass: {}}}
      - {name: r, match: {domain: test}, action: {websocket: {drop: true}, tag: t}}
    """)
    assert not say(rules, websocket(), "keep this").dropped
    assert say(rules, websocket(), "not this").dropped
    assert "websocket_message" not in rules_of("rules: [{name: p, match: {host: a.test}, action: {pass: {}}}]").hooks


def test_4_5_stop_ends_the_list() -> None:
    rules = rules_of("""rules:
      - {name: a, match: {host: a.test}, action: {tcp: {replace: x}}, stop: true}
      - {name: b, match: {host: a.test}, action: {tcp: {drop: true}}}
    """)
    message = say(rules, raw(), "hi")
    assert (message.content, message.dropped) == (b"x", False)


def test_4_injected_messages_are_not_matched() -> None:
    rules = rules_of("rules: [{name: r, match: {host: a.test}, action: {websocket: {send: {to: client, text: x}}}}]")
    flow = websocket()
    say(rules, flow, "x", to_client=True, injected=True)
    assert flow.websocket is not None and not flow.websocket.outbox


@pytest.mark.parametrize(("action", "phases"), [
    ("{tag: t, websocket: {drop: true}}", {Phase.WEBSOCKET}),
    ("{tag: t, websocket: {drop: true}, tcp: {drop: true}}", {Phase.WEBSOCKET, Phase.TCP}),
    ("{tag: t, websocket: {drop: true}, rewrite: {status: 201}}", {Phase.WEBSOCKET}),
    ("{tag: t}", {Phase.REQUEST}), ("{tag: t, pass: {}}", {Phase.RESPONSE}),
])  # fmt: skip
def test_4_1_tag_and_log_act_in_the_latest_phase(action: str, phases: set[Phase]) -> None:
    for match in ("host: a.test", "host: a.test, path: /x") if "tcp" not in action else ("host: a.test",):
        result = build_text(f"version: 1\nrules: [{{name: r, match: {{{match}}}, action: {action}}}]\n")
        [rule] = result.rules
        assert {p for e in rule.effects if e.op.__name__ == "Tag" for p in e.phases} == phases


# --- 4.8 errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "refused"), [("block: {}", True), ("websocket: {drop: true}", False)])
def test_4_8_a_rule_that_fails_is_skipped_or_refuses(action: str, refused: bool,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    rules = rules_of(f"rules: [{{name: r, match: {{host: a.test, text: x}}, action: {{{action}}}}}]")

    def fail(self: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("rulesproxy.runtime.message_facts.WebSocketFacts.texts", property(fail))
    flow, failures = websocket(), Failures()
    message = say(rules, flow, "x", failures=failures)
    assert failures == ["r"] and message.dropped is refused
    assert flow.websocket is not None
    assert (flow.websocket.closing is not None and flow.websocket.closing[0] == 1011) is refused


# --- 5.1 decrypt set -----------------------------------------------------------------------------------------------


def decrypted(rule: str, host: str = "a.test", port: int = 443) -> bool:
    rules = rules_of(f"rules: [{rule}]")
    hello = ClientHello(host, (), (), (), (), b"")
    decision = rules.decide_tls(TunnelFacts(Tunnel(Client(), host, port, hello)), False)
    return decision is not None and decision.verdict.value == "intercept"


@pytest.mark.parametrize(("rule", "wanted"), [
    ("{name: r, match: {host: a.test, path: /x}, action: {websocket: {drop: true}}}", True),
    ("{name: r, match: {host: a.test, text: x}, action: {tcp: {drop: true}}}", True),
    ("{name: r, match: {host: b.test, text: x}, action: {tcp: {drop: true}}}", False),
    ("{name: r, match: {port: 6379}, action: {tcp: {drop: true}}}", False),
    ("{name: r, match: {host: a.test}, action: {udp: {drop: true}}}", False),
    ("{name: r, match: {host: a.test, text: x}, action: {block: {}}}", False),
    ("{name: r, match: {text: x}, action: {websocket: {close: true}}}", True),
])  # fmt: skip
def test_5_1_message_rules_need_plaintext(rule: str, wanted: bool) -> None:
    assert decrypted(rule) is wanted


@pytest.mark.parametrize(("rule", "codes"), [
    ("{name: r, match: {text: x}, action: {websocket: {drop: true}}}", {"decrypts-everything"}),
    ("{name: r, match: {port: 6379}, action: {tcp: {drop: true}}}", set()),
    ("{name: r, match: {listener: dns, text: x}, action: {udp: {drop: true}}}", set()),
    ("{name: r, match: {host: a.test, text: x}, action: {block: {}}}", {"not-decrypted"}),
])  # fmt: skip
def test_check_knows_message_rules(rule: str, codes: set[str]) -> None:
    result = build_text(f"version: 1\nrules: [{rule}]\n")
    check(result)
    assert {warning.code for warning in result.report.warnings} - {"untested"} == codes


def test_hooks_are_those_of_the_messages_rules_look_at() -> None:
    for kind in ("websocket", "tcp", "udp"):
        hooks = rules_of(f"rules: [{{name: r, match: {{host: a.test}}, action: {{{kind}: {{drop: true}}}}}}]").hooks
        assert hooks & {"websocket_message", "tcp_message", "udp_message"} == {f"{kind}_message"}


# --- 6.3 -----------------------------------------------------------------------------------------------------------


def test_6_3_messages_meet_the_set_of_the_moment() -> None:
    flow = websocket()
    before = rules_of("rules: [{name: a, match: {host: a.test}, action: {websocket: {replace: one}}}]")
    after = rules_of("rules: [{name: a, match: {host: a.test}, action: {websocket: {replace: two}}}]")
    assert [say(rules, flow, "hi").content for rules in (before, after)] == [b"one", b"two"]
