"""Rule language, section 4: phases and order (4.4, edits, has a file of its own). The name of a test begins with its
sentence's number."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.compiler.emit import emit_file
from rulesproxy.compiler.ir import All, Leaf, Rule, Test
from rulesproxy.compiler.link import Unit, link
from rulesproxy.compiler.source import Position
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request, Response
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.rules_addon import Rules
from rulesproxy.runtime.phase import HTTP_PHASES, Phase
from rulesproxy.runtime.ruleset import RuleSet
from tests.compiler.rulefiles import build_text
from tests.language.playing import (
    LocalFiles,
    compiled,
    dns,
    exchange,
    got_header,
    holds,
    http,
    mistakes,
    play,
    sent_header,
    text_of,
    tls,
)

SET_A = 'rewrite: {headers: {set: {x-a: "1"}}}'


# --- 4.1 -----------------------------------------------------------------------------------------------------------

ONE_LIST = """\
rules:
  - {name: third, match: {host: a.test}, action: {respond: third}}
  - {name: fourth, match: {host: a.test}, action: {respond: fourth}}
  - {name: first, match: {host: a.test}, action: {respond: first}, priority: 2}
  - {name: second, match: {host: a.test}, action: {respond: second}, priority: 1}
  - {name: last, match: {host: a.test}, action: {respond: last}, priority: -1}
"""


def test_4_1_higher_priority_first_then_position() -> None:
    outcome = play(ONE_LIST, http("http://a.test/"))
    assert outcome.rules == ["first"]
    assert [lost.rule for lost in outcome.overruled] == ["second", "third", "fourth", "last"]


def test_4_1_one_list_for_all_protocols() -> None:
    text = """\
rules:
  - {name: low, match: {domain: a.test}, action: {spoof_dns: 192.0.2.1, respond: low}}
  - {name: high, match: {domain: a.test}, action: {block: {}}, priority: 1}
"""
    assert play(text, dns("a.test")).rules == ["high"]
    assert play(text, http("http://a.test/")).rules == ["high"]
    assert play(text, http("https://a.test/")).rules == ["high"]
    turned = text.replace("priority: 1", "priority: -1")
    assert play(turned, dns("a.test")).rules == play(turned, http("http://a.test/")).rules == ["low"]


def test_4_1_rules_see_the_message_as_it_entered_the_phase() -> None:
    text = f"""\
rules:
  - {{name: sets, match: {{host: a.test}}, action: {{{SET_A}}}}}
  - {{name: reads, match: {{host: a.test, headers: {{x-a: "1"}}}}, action: {{tag: seen}}}}
  - name: sets-response
    match: {{host: a.test}}
    action: {{rewrite: {{status: 404, response_headers: {{set: {{x-b: "1"}}}}}}}}
  - {{name: reads-response, match: {{host: a.test, status: 404}}, action: {{tag: seen}}}}
  - {{name: reads-header, match: {{host: a.test, response_headers: {{x-b: "1"}}}}, action: {{tag: seen}}}}
"""
    assert play(text, http("http://a.test/")).rules == ["sets", "sets-response"]
    outcome = play(text, http("http://a.test/", headers={"x-a": "1"}, status=404, answer_headers={"x-b": "1"}))
    assert outcome.rules == ["sets", "reads", "sets-response", "reads-response", "reads-header"]


def test_4_1_response_rules_read_the_request_as_the_client_sent_it() -> None:
    text = """\
rules:
  - name: moves
    match: {host: a.test}
    action: {rewrite: {method: PUT, path: /new, headers: {set: {x-a: changed}}, query: {remove: [q]}}}
  - name: reads
    match: {host: a.test, method: GET, path: /old, headers: {x-a: sent}, query: {q: "1"}, status: 200}
    action: {rewrite: {response_headers: {set: {x-seen: "${request.method} ${request.path} ${query.q}"}}}}
"""
    outcome = play(text, http("GET http://a.test/old?q=1", headers={"x-a": "sent"}))
    assert got_header(outcome, "x-seen") == ["GET /old 1"]
    assert outcome.sent is not None and (outcome.sent.method, outcome.sent.url) == ("PUT", "http://a.test/new")


def test_4_1_response_keys_read_what_the_answering_rule_made() -> None:
    text = """\
rules:
  - {name: answers, match: {host: a.test}, action: {respond: {status: 404, headers: {x-b: made}}}}
  - {name: reads, match: {host: a.test, status: 404, response_headers: {x-b: made}}, action: {tag: seen}}
"""
    assert play(text, http("http://a.test/")).rules == ["answers", "reads"]


@pytest.mark.parametrize(("match", "action"), [
    ("status: 404", "rewrite: {method: PUT}"),
    ("status: 404", "redirect_server: b.test"),
    ("path: /a", "spoof_dns: 192.0.2.1"),
    ("path: /a", "tls: passthrough"),
    ("dns_type: A", "respond: hello"),
    ("response_headers: {x-a: b}", "map_remote: http://b.test"),
])
def test_4_1_a_key_that_the_action_cannot_see_is_an_error(match: str, action: str) -> None:
    [message] = mistakes(f"rules: [{{name: a, match: {{{match}}}, action: {{{action}}}}}]")
    assert "cannot be seen" in message
    assert match.partition(":")[0] in message


@pytest.mark.parametrize(("match", "other", "phase"), [
    ("host: a.test", "", Phase.REQUEST),
    ("host: a.test, status: 200", "", Phase.RESPONSE),
    ("host: a.test", "rewrite: {response_headers: {set: {x-a: b}}}", Phase.RESPONSE),
    ("host: a.test", "rewrite: {headers: {set: {x-a: b}}}", Phase.REQUEST),
    ("host: a.test", "map_remote: http://b.test", Phase.REQUEST),
    ("host: a.test, sni: a.test", "tls: intercept", Phase.TLS),
    ("host: a.test", "spoof_dns: 192.0.2.1", Phase.DNS),
])
def test_4_1_companions_act_in_the_latest_phase_the_rule_needs(match: str, other: str, phase: Phase) -> None:
    actions = ", ".join(part for part in (other, "delay: 10ms", "tag: t", "log: l") if part)
    [rule] = compiled(f"rules: [{{name: a, match: {{{match}}}, action: {{{actions}}}}}]").build.rules
    notes = [effect for effect in rule.effects if effect.kind == "note"]
    assert len(notes) == 3
    assert {effect.phases for effect in notes} == {frozenset((phase,))}


def test_4_1_a_delay_counts_before_or_after_the_origin() -> None:
    text = """\
rules:
  - {name: before, match: {host: a.test}, action: {delay: 20ms}}
  - {name: after, match: {host: a.test, status: 200}, action: {delay: 1s}}
"""
    pacing = play(text, http("http://a.test/")).pacing
    assert pacing is not None
    assert (pacing.request, pacing.response) == (pytest.approx(0.02), pytest.approx(1.0))


def test_4_1_a_rule_acts_once_per_exchange() -> None:
    text = """\
rules:
  - name: both
    match: {host: a.test}
    action: {redirect_server: b.test, rewrite: {headers: {set: {x-a: "1"}}, response_headers: {add: {x-b: "1"}}},
             tag: once, delay: 10ms}
"""
    outcome = play(text, http("http://a.test/"))
    assert (outcome.rules, outcome.tags) == (["both"], ["once"])
    assert got_header(outcome, "x-b") == ["1"]


def test_4_1_the_response_part_of_a_rule_follows_its_request_part() -> None:
    """It acted on the request, so it acts on the response, whoever moved or changed the request since."""
    text = """\
rules:
  - name: a
    match: {host: a.test, path: /old}
    action: {rewrite: {path: /new, response_headers: {set: {x-b: "1"}}}}
"""
    assert got_header(play(text, http("http://a.test/old")), "x-b") == ["1"]
    assert got_header(play(text, http("http://a.test/new")), "x-b") == []


ROUTED = """\
rules:
  - {name: route, match: {host: a.test}, action: {redirect_server: "127.0.0.2:8443"}}
"""


def test_4_1_a_relayed_tunnel_is_routed_at_connect() -> None:
    outcome = play(ROUTED, http("https://a.test/"))
    assert (outcome.tls, outcome.server) == (TlsVerdict.RELAY, "127.0.0.2:8443")
    assert outcome.acted == {Phase.CONNECT: ["route"]}


def test_4_1_in_a_decrypted_tunnel_routes_are_per_request() -> None:
    text = ROUTED + "  - {name: opens, match: {host: a.test}, action: {tls: intercept}}\n"
    outcome = play(text, http("https://a.test/"))
    assert (outcome.tls, outcome.server) == (TlsVerdict.INTERCEPT, "127.0.0.2:8443")
    assert outcome.acted[Phase.REQUEST] == ["route"]
    assert outcome.acted.get(Phase.CONNECT, []) == []


# --- 4.2 -----------------------------------------------------------------------------------------------------------

READS_BODY = "  - {name: reads, match: {host: a.test, path: /r}, action: {rewrite: {body: {json_merge: {n: 1}}}}}\n"


def head_of(text: str, path: str) -> HTTPFlow:
    """A flow whose request head was decided; the body is still to come."""
    request = Request.make("POST", f"http://a.test{path}", '{"a": 1}')
    request.raw_content = None
    flow = exchange(text, request)
    flow.pinned.request_head()
    return flow


def test_4_2_without_a_rule_that_needs_the_body_it_streams() -> None:
    text = f"rules:\n  - {{name: sets, match: {{host: a.test}}, action: {{{SET_A}}}}}\n{READS_BODY}"
    flow = head_of(text, "/other")
    assert flow.pinned.waits_for_request is False
    assert flow.request.headers["x-a"] == "1"


def test_4_2_with_one_it_is_buffered_and_nothing_takes_effect_before() -> None:
    text = f"rules:\n  - {{name: sets, match: {{host: a.test}}, action: {{{SET_A}, tag: t}}}}\n{READS_BODY}"
    flow = head_of(text, "/r")
    assert flow.pinned.waits_for_request is True
    assert "x-a" not in flow.request.headers
    assert flow.metadata == {}
    flow.request.raw_content = b'{"a": 1}'
    flow.pinned.request_body()
    assert flow.request.json() == {"a": 1, "n": 1}
    assert flow.request.headers["x-a"] == "1"
    assert flow.metadata == {"tags": ["t"]}


def test_4_2_below_a_certain_answer_nobody_waits() -> None:
    text = """\
rules:
  - {name: answers, match: {host: a.test}, action: {respond: certain}}
  - name: late
    match: {host: a.test}
    action: {respond: "${request.json.a | default(0)}"}
"""
    flow = head_of(text, "/")
    assert flow.pinned.waits_for_request is False
    assert flow.response is not None and flow.response.content == b"certain"


def test_4_2_above_a_certain_answer_the_body_is_waited_for() -> None:
    text = """\
rules:
  - name: early
    match: {host: a.test, path: /r}
    action: {respond: "${request.json.a | default(0)}"}
  - {name: answers, match: {host: a.test}, action: {respond: certain}}
"""
    assert head_of(text, "/r").pinned.waits_for_request is True
    assert head_of(text, "/other").pinned.waits_for_request is False


def test_4_2_the_response_is_decided_at_its_head_or_when_complete() -> None:
    merges = "rewrite: {response_body: {json_merge: {n: 1}}}"
    text = f"rules: [{{name: m, match: {{host: a.test, status: 200}}, action: {{{merges}}}}}]"
    for status, waits in ((200, True), (404, False)):
        flow = exchange(text, Request.make("GET", "http://a.test/"))
        flow.pinned.request_head()
        flow.pinned.request_body()
        flow.response = Response.make(status, b"{}")
        flow.response.raw_content = None
        flow.pinned.response_head()
        assert flow.pinned.waits_for_response is waits


# --- 4.3 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [
    ("block: {}", "respond: mock"), ("respond: mock", "redirect: /x"), ("redirect: /x", "map_local: f"),
    ("map_local: f", "block: {}"), ("block: close", "respond: mock"),
])
def test_4_3_the_answer_slot(first: str, second: str) -> None:
    assert_overruled(first, second, http("http://a.test/"))


@pytest.mark.parametrize(("first", "second"), [
    ("redirect_server: b.test", "map_remote: http://c.test"), ("map_remote: http://b.test", "rewrite: {host: c.test}"),
    ("rewrite: {port: 81}", "redirect_server: c.test"), ("rewrite: {url: http://b.test/}", "rewrite: {scheme: https}"),
])
def test_4_3_the_route_slot(first: str, second: str) -> None:
    assert_overruled(first, second, http("http://a.test/"))


def test_4_3_the_name_slot() -> None:
    assert_overruled("spoof_dns: 192.0.2.1", "spoof_dns: 192.0.2.2", dns("a.test"))
    assert_overruled("spoof_dns: 192.0.2.1", "block: {}", dns("a.test"))
    assert_overruled("block: {}", "spoof_dns: 192.0.2.2", dns("a.test"))


def test_4_3_the_tls_slot() -> None:
    text = """\
rules:
  - {name: first, match: {host: a.test}, action: {tls: passthrough}}
  - {name: second, match: {host: a.test}, action: {tls: refuse}}
"""
    outcome = play(text, tls("a.test"))
    assert (outcome.tls, outcome.rules) == (TlsVerdict.RELAY, ["first"])


def assert_overruled(first: str, second: str, step: Any) -> None:
    text = f"""\
rules:
  - {{name: first, match: {{host: a.test}}, action: {{{first}}}}}
  - {{name: second, match: {{host: a.test}}, action: {{{second}}}}}
"""
    outcome = play(text, step)
    assert outcome.rules == ["first"]
    assert [(lost.rule, lost.winner) for lost in outcome.overruled] == [("second", "first")]


def test_4_3_different_slots_have_different_winners() -> None:
    text = """\
rules:
  - {name: routes, match: {host: a.test}, action: {redirect_server: b.test}}
  - {name: answers, match: {host: a.test}, action: {respond: mock}}
"""
    outcome = play(text, http("http://a.test/"))
    assert outcome.rules == ["routes", "answers"]


def test_4_3_a_filled_answer_leaves_the_route_unused() -> None:
    text = """\
rules:
  - {name: routes, match: {host: a.test}, action: {redirect_server: b.test}}
  - {name: answers, match: {host: a.test}, action: {respond: mock}}
"""
    outcome = play(text, http("http://a.test/"))
    assert (outcome.sent, outcome.server, text_of(outcome)) == (None, None, "mock")


def test_4_3_a_rule_acts_whole_or_not_at_all() -> None:
    text = """\
rules:
  - {name: first, match: {host: a.test}, action: {redirect_server: b.test}}
  - name: second
    match: {host: a.test}
    action: {redirect_server: c.test, rewrite: {headers: {set: {x-a: "1"}}, response_headers: {set: {x-b: "1"}}},
             tag: t, delay: 1s}
"""
    outcome = play(text, http("http://a.test/"))
    assert outcome.server == "b.test:80"
    assert sent_header(outcome, "x-a") == got_header(outcome, "x-b") == []
    assert (outcome.tags, outcome.pacing) == ([], None)


@pytest.mark.parametrize("actions", [
    "block: {}, respond: x", "respond: x, redirect: /y", "redirect_server: b.test, map_remote: http://c.test",
    "redirect_server: b.test, rewrite: {host: c.test}", "redirect: /y, map_local: f",
])
def test_4_3_two_effects_for_one_slot_are_an_error(actions: str) -> None:
    [message] = mistakes(f"rules: [{{name: a, match: {{host: a.test}}, action: {{{actions}}}}}]")
    assert "both" in message


# --- 4.5 -----------------------------------------------------------------------------------------------------------

PASSES = """\
rules:
  - {name: above, match: {host: a.test}, action: {rewrite: {headers: {set: {x-a: above}}}}}
  - {name: passes, match: {host: a.test}, action: {pass: {}}}
  - name: below
    match: {domain: test}
    action: {block: {status: 403}, rewrite: {headers: {set: {x-b: below}}, response_headers: {set: {x-c: below}}}}
  - {name: names, match: {domain: test}, action: {spoof_dns: 192.0.2.1}}
"""


def test_4_5_pass_leaves_every_empty_slot_alone_in_every_phase() -> None:
    outcome = play(PASSES, http("http://a.test/"))
    assert (outcome.rules, outcome.server) == (["above", "passes"], "a.test:80")
    assert play(PASSES, dns("a.test")).answer is None
    assert play(PASSES, dns("b.test")).rcode == "NOERROR"


def test_4_5_effects_above_a_pass_stand() -> None:
    assert sent_header(play(PASSES, http("http://a.test/")), "x-a") == ["above"]


def test_4_5_a_slot_filled_above_stays_filled() -> None:
    text = """\
rules:
  - {name: routes, match: {host: a.test}, action: {redirect_server: b.test}}
  - {name: passes, match: {host: a.test}, action: {pass: {}}}
  - {name: blocks, match: {host: a.test}, action: {block: {}}}
"""
    outcome = play(text, http("http://a.test/"))
    assert (outcome.rules, outcome.server) == (["routes", "passes"], "b.test:80")


def test_4_5_pass_acts_only_where_its_keys_are_seen() -> None:
    text = """\
rules:
  - {name: passes, match: {host: a.test, path: /free}, action: {pass: {}}}
  - {name: blocks, match: {host: a.test}, action: {block: {}}}
"""
    assert play(text, http("http://a.test/free")).rules == ["passes"]
    assert play(text, http("http://a.test/other")).rules == ["blocks"]
    assert play(text, dns("a.test")).rules == ["blocks"]


STOPS = """\
rules:
  - {name: stops, match: {host: a.test, path: /s}, action: {tag: one}, stop: true}
  - {name: below, match: {host: a.test}, action: {tag: two}}
  - {name: response, match: {host: a.test, status: 200}, action: {tag: three}}
"""


def test_4_5_stop_ends_the_list_for_that_phase() -> None:
    assert play(STOPS, http("http://a.test/s")).tags == ["one", "three"]
    assert play(STOPS, http("http://a.test/other")).tags == ["two", "three"]


def test_4_5_stop_needs_that_the_rule_took_effect() -> None:
    text = """\
rules:
  - {name: answers, match: {host: a.test}, action: {respond: first}}
  - {name: loses, match: {host: a.test}, action: {respond: second}, stop: true}
  - {name: tags, match: {host: a.test}, action: {tag: t}}
"""
    assert play(text, http("http://a.test/")).rules == ["answers", "tags"]


# --- 4.6 -----------------------------------------------------------------------------------------------------------

ON_RESPONSES = "  - {name: marks, match: {host: a.test}, action: {rewrite: {response_headers: {set: {x-m: marked}}}}}\n"


@pytest.mark.parametrize(("action", "marked"), [
    ("respond: mock", ["marked"]), ("redirect: /x", ["marked"]), ("map_local: f", ["marked"]),
    ("block: {}", []), ("block: {status: 451, body: no}", []),
])
def test_4_6_answers_pass_response_rules_and_block_pages_do_not(action: str, marked: list[str]) -> None:
    text = f"rules:\n  - {{name: answers, match: {{host: a.test}}, action: {{{action}}}}}\n{ON_RESPONSES}"
    assert got_header(play(text, http("http://a.test/")), "x-m") == marked


def test_4_6_the_proxys_own_error_pages_do_not_either() -> None:
    gone = "{name: gone, match: {host: a.test}, action: {spoof_dns: {rcode: NXDOMAIN}}}"
    text = f"rules:\n  - {gone}\n{ON_RESPONSES}"
    outcome = play(text, http("http://a.test/"))
    assert (outcome.response and outcome.response.status_code, got_header(outcome, "x-m")) == (502, [])
    text = f"""\
rules:
  - {{name: breaks, match: {{host: a.test}}, action: {{respond: {{headers: {{x-q: "${{query.q | default(1)}}"}}}}}}}}
{ON_RESPONSES}"""
    outcome = play(text, http("http://a.test/?q=%0d%0a"))
    assert (outcome.response and outcome.response.status_code, got_header(outcome, "x-m")) == (500, [])


@pytest.mark.parametrize(("action", "status"), [
    ("respond: {status: 200, body: instead}", 200), ("redirect: {to: /x, status: 307}", 307),
    ("block: {status: 502}", 502), ("block: {}", 403),
])
def test_4_6_answers_on_response_keys_replace_the_origins(action: str, status: int) -> None:
    text = f"rules: [{{name: a, match: {{host: a.test, status: 503}}, action: {{{action}}}}}]"
    outcome = play(text, http("http://a.test/", status=503, answer="broken"))
    assert outcome.response is not None and outcome.response.status_code == status
    assert "broken" not in text_of(outcome)
    assert outcome.sent is not None
    assert text_of(play(text, http("http://a.test/", status=200, answer="fine"))) == "fine"


def test_4_6_a_file_can_stand_in_for_the_origins_answer() -> None:
    text = "rules: [{name: a, match: {host: a.test, path: /x.txt, status: 404}, action: {map_local: {path: files/}}}]"
    step = http("http://a.test/x.txt", status=404, answer="missing")
    assert text_of(play(text, step, files=LocalFiles("x.txt"))) == "x.txt"


def test_4_6_the_new_answer_is_not_matched_again() -> None:
    text = """\
rules:
  - {name: answers, match: {host: a.test, status: 503}, action: {respond: {status: 404}}}
  - {name: again, match: {host: a.test, status: 404}, action: {respond: {status: 200}}}
"""
    outcome = play(text, http("http://a.test/", status=503))
    assert outcome.response is not None and outcome.response.status_code == 404


# --- 4.7 -----------------------------------------------------------------------------------------------------------


async def test_4_7_rules_first_then_scripts_with_the_last_word(tmp_path: Path) -> None:
    from rulesproxy.app import App, make_options

    rule = f"{{name: a, match: {{host: a.test}}, action: {{{SET_A}}}}}"
    (tmp_path / "rules.yaml").write_text(f"version: 1\nrules: [{rule}]\n")
    seen: list[str | None] = []

    class Script:
        def requestheaders(self, flow: HTTPFlow) -> None:
            seen.append(flow.request.headers.get("x-a"))
            flow.request.headers["x-a"] = "the last word"

    app = App(make_options(tmp_path, ["mode=regular@127.0.0.1:0"]), [str(tmp_path / "rules.yaml")], addons=[Script()])
    await app.start()
    try:
        from rulesproxy.proxy.http_hooks import RequestheadersHook

        flow = HTTPFlow(Client(), Server())
        flow.request = Request.make("GET", "http://a.test/")
        await app.addons.fire(RequestheadersHook(flow))
    finally:
        await app.stop()
    assert seen == ["1"]
    assert flow.request.headers["x-a"] == "the last word"


# --- 4.8 -----------------------------------------------------------------------------------------------------------


class _Breaks(Leaf):
    """A leaf whose generated code raises."""

    PHASES = HTTP_PHASES

    def holds(self, x: Any) -> bool:
        raise ZeroDivisionError

    def emit(self, module: Any) -> Test:
        return Test("1 / 0")


def broken_rules(action: str, **changes: Any) -> RuleSet:
    """A rule that raises, in front of one that tags."""
    rules = build_text(f"""\
version: 1
rules:
  - {{name: breaks, match: {{host: a.test}}, action: {{{action}}}}}
  - {{name: tags, match: {{host: a.test}}, action: {{tag: reached}}}}
""").rules
    leaf = _Breaks(Position("rules.yaml", 3, 5))
    file: tuple[Rule, ...] = (replace(rules[0], match=All((rules[0].match, leaf)), **changes), rules[1])
    return link([Unit(file, emit_file(file))], "test", {})


class _Options:
    rules = ("digest:test",)
    decrypt = "auto"
    rule_body_limit = 1000


def addon(rules: RuleSet) -> Rules:
    found = Rules(_Options(), lambda paths: rules, refresh=lambda: None)
    found.configure({"rules"})
    return found


def through(rules: Rules) -> HTTPFlow:
    flow = HTTPFlow(Client(), Server())
    flow.request = Request.make("GET", "http://a.test/")
    rules.requestheaders(flow)
    return flow


@pytest.mark.parametrize(("action", "changes", "refused"), [
    ("block: {}", {}, True), ("block: {status: 403}", {}, True), ("respond: mock", {}, False), (SET_A, {}, False),
    ("block: {}", {"on_error": "skip"}, False), ("respond: mock", {"on_error": "refuse"}, True),
])
def test_4_8_a_rule_that_raises(action: str, changes: dict[str, Any], refused: bool) -> None:
    flow = through(addon(broken_rules(action, **changes)))
    if refused:
        assert flow.response is not None and flow.response.status_code == 500
        page = flow.response.get_text() or ""
        assert "breaks" in page and "rules.yaml:3:" in page
    else:
        assert flow.response is None
        assert flow.metadata == {"tags": ["reached"]}


def test_4_8_it_is_counted_and_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    rules = addon(broken_rules(SET_A))
    with caplog.at_level(logging.ERROR, "rulesproxy.rules"):
        for _ in range(5):
            through(rules)
    assert rules.failures == {"breaks": 5}
    [record] = [record for record in caplog.records if "breaks" in record.getMessage()]
    assert "rules.yaml:3:" in record.getMessage() and "ZeroDivisionError" in record.getMessage()


def test_4_8_a_rule_that_cannot_decide_about_tls_refuses_it() -> None:
    """`tls: refuse` counts as an effect that refuses."""
    rules = build_text("version: 1\nrules: [{name: a, match: {host: a.test}, action: {tls: refuse}}]").rules
    [info] = link([Unit(tuple(rules), emit_file(tuple(rules)))], "test", {}).rules
    assert info.refuses_on_error is True


# --- the table -----------------------------------------------------------------------------------------------------

TABLE = """\
rules:
  - name: dns
    match: {host: dns.test, dns_type: A, client_ip: 127.0.0.1, listener: dns}
    action: {spoof_dns: 192.0.2.1, tag: t, log: l}
    tests: [{dns: {name: dns.test}, expect: {rule: dns, dns: {answers: [192.0.2.1]}}}]
  - name: connect
    match: {host: connect.test, port: 443, client_ip: 127.0.0.1, listener: regular}
    action: {block: {}}
    tests: [{request: GET https://connect.test/, expect: {rule: connect, status: 403, tls: refuse}}]
  - name: tls
    match: {host: tls.test, port: 443, sni: tls.test, scheme: https}
    action: {tls: passthrough}
    tests: [{request: GET https://tls.test/, expect: {rule: tls, tls: relay}}]
  - name: tls-block
    match: {sni: blocked.test}
    action: {block: {}}
    tests: [{tls: {sni: blocked.test, host: 192.0.2.7}, expect: {rule: tls-block, tls: refuse, closed: true}}]
  - name: request
    match: {host: request.test, method: GET, path: /a, query: {q: "1"}, headers: {x-a: b}, cookies: {c: d},
            scheme: https, port: 443, sni: request.test, client_ip: 127.0.0.1, listener: regular}
    action: {redirect_server: {to: "http://b.test", keep_host: false}, rewrite: {headers: {set: {x-b: c}}}}
    tests:
      - request: {url: "https://request.test/a?q=1", headers: {x-a: b, cookie: c=d}}
        expect: {rule: request, server: "b.test:80", sent: {headers: {x-b: c}}}
  - name: response
    match: {host: response.test, status: 200, response_headers: {x-a: b}, method: GET}
    action: {rewrite: {response_headers: {set: {x-b: c}}}, delay: 1ms}
    tests:
      - {request: GET http://response.test/, upstream: {headers: {x-a: b}}, expect: {rule: response, headers: {x-b: c}}}
"""


def test_4_the_table_of_phases() -> None:
    holds(TABLE)


def test_4_plain_http_has_no_connect_phase() -> None:
    text = "rules: [{name: a, match: {host: a.test, listener: regular}, action: {block: {}}}]"
    outcome = play(text, http("http://a.test/"))
    assert outcome.acted == {Phase.REQUEST: ["a"]}
