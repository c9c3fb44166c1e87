"""Rule language, section 5: what is derived from the rules. The name of a test begins with its sentence's number."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.manager import AddonManager
from rulesproxy.compiler.check import check
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.dns import DNSFlow, DNSMessage, ResourceRecord
from rulesproxy.model.dns_types import types
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request, Response
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.proxy.dns.exchange import hide_shortcuts
from rulesproxy.rules_addon import Rules
from tests.compiler.rulefiles import build_text
from tests.language.playing import compiled, exchange, got_header, http, play, rules_of, sent_header, text_of, tls

INTERCEPT, RELAY, REFUSE = TlsVerdict.INTERCEPT, TlsVerdict.RELAY, TlsVerdict.REFUSE


def rules(*lines: str) -> str:
    """`match | action` lines as rules r0, r1, …"""
    out = ["rules:"]
    for number, line in enumerate(lines):
        match, _, action = line.partition(" | ")
        match, _, unless = match.partition(" unless ")
        exception = f", unless: {{{unless}}}" if unless else ""
        out.append(f"  - {{name: r{number}, match: {{{match}}}{exception}, action: {{{action}}}}}")
    return "\n".join([*out, ""])


# --- 5.1 -----------------------------------------------------------------------------------------------------------

PAGE = "host: a.test | respond: page"
CASES = {
    # the walk: what is certain, what is possible
    "5.1-nothing-says-anything": (["host: b.test | respond: page"], RELAY, None),
    "5.1-a-certain-rule-needs-plaintext": ([PAGE], INTERCEPT, "r0"),
    "5.1-a-possible-rule-needs-plaintext": (["host: a.test, path: /x | respond: page"], INTERCEPT, "r0"),
    "5.1-a-certain-intercept": (["host: a.test | tls: intercept"], INTERCEPT, "r0"),
    "5.1-a-certain-passthrough": (["host: a.test | tls: passthrough"], RELAY, "r0"),
    "5.1-a-certain-pass": (["host: a.test | pass: {}"], RELAY, "r0"),
    "5.1-a-certain-refusal": (["host: a.test | tls: refuse"], REFUSE, "r0"),
    # in order
    "5.1-passthrough-above-plaintext": (["host: a.test | tls: passthrough", PAGE], RELAY, "r0"),
    "5.1-passthrough-below-plaintext": ([PAGE, "host: a.test | tls: passthrough"], INTERCEPT, "r0"),
    "5.1-pass-above-plaintext": (["host: a.test | pass: {}", PAGE], RELAY, "r0"),
    "5.1-intercept-above-passthrough": (["host: a.test | tls: intercept", "host: a.test | tls: passthrough"],
                                        INTERCEPT, "r0"),
    "5.1-a-possible-pass-settles-nothing": (["host: a.test, path: /x | pass: {}", PAGE], INTERCEPT, "r1"),
    # what needs no plaintext
    "5.1-a-bare-block-decrypts-nothing": (["host: b.test, path: /x | block: {status: 403}", "host: c.test | block: {}"],
                                          RELAY, None),
    "5.1-a-server-alone-decrypts-nothing": (["host: a.test | redirect_server: 127.0.0.1"], RELAY, None),
    "5.1-a-server-with-another-host-does": (["host: a.test | redirect_server: {to: b.test, keep_host: false}"],
                                            INTERCEPT, "r0"),
    "5.1-a-name-decrypts-nothing": (["host: a.test | spoof_dns: 192.0.2.1"], RELAY, None),
    # exceptions count when they are certain
    "5.1-a-certain-unless": (["domain: test unless host: a.test | respond: page"], RELAY, None),
    "5.1-a-possible-unless": (["domain: test unless path: /x | respond: page"], INTERCEPT, "r0"),
    "5.1-a-certain-not": (["domain: test, not: {host: a.test} | respond: page"], RELAY, None),
    "5.1-a-possible-not": (["domain: test, not: {path: /x} | respond: page"], INTERCEPT, "r0"),
    "5.1-any-with-a-hidden-branch": (["any: [{host: b.test}, {host: a.test, path: /x}] | respond: page"],
                                     INTERCEPT, "r0"),
    "5.1-any-without-a-chance": (["any: [{host: b.test}, {host: c.test, path: /x}] | respond: page"], RELAY, None),
    # without host keys
    "5.1-a-rule-without-hosts": (["path: /x | respond: page"], INTERCEPT, "r0"),
    "5.1-a-header-rule-without-hosts": (["headers: {x-a: b} | tag: t", "method: GET | rewrite: {path: /}"],
                                        INTERCEPT, "r1"),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "verdict", "rule"), CASES.values(), ids=CASES)
def test_5_1_the_walk(lines: list[str], verdict: TlsVerdict, rule: str | None) -> None:
    outcome = play(rules(*lines), tls("a.test"))
    assert (outcome.tls, outcome.tls_rule) == (verdict, rule)


@pytest.mark.parametrize(("sni", "host", "verdict"), [
    ("a.test", "b.test", INTERCEPT), ("b.test", "a.test", RELAY), (None, "a.test", INTERCEPT), (None, "b.test", RELAY),
    (None, "192.0.2.1", RELAY), ("a.test", "192.0.2.1", INTERCEPT),
], ids=["the-sni", "not-the-connect-host", "else-the-connect-host", "another-host", "else-the-ip", "sni-over-ip"])
def test_5_1_the_name_of_a_tunnel(sni: str | None, host: str, verdict: TlsVerdict) -> None:
    assert play(rules(PAGE), tls(sni, host)).tls is verdict


def test_5_1_an_ip_is_a_name_where_a_rule_names_it() -> None:
    assert play(rules("host: 192.0.2.1 | respond: page"), tls(None, "192.0.2.1")).tls is INTERCEPT


def test_5_1_a_rule_without_hosts_is_named_by_check_and_by_the_set() -> None:
    text = rules("path: /x | respond: page", PAGE)
    build = build_text(f"version: 1\n{text}")
    check(build)
    assert [w.pos.line for w in build.report.warnings if w.code == "decrypts-everything"] == [3]
    assert [rule.name for rule in rules_of(text).decrypts_everything] == ["r0"]


@pytest.mark.parametrize(("match", "warned"), [
    ("sni: a.test", False), ("sni: {regex: a}", False), ("path: /x, sni: '*.test'", False), ("scheme: http", False),
    ("any: [{sni: a.test}, {host: b.test}]", False), ("any: [{sni: a.test}, {path: /x}]", True),
    ("not: {sni: a.test}", True), ("scheme: https", True)])
def test_5_1_a_rule_for_server_names_is_confined(match: str, warned: bool) -> None:
    text = rules(f"{match} | respond: page")
    build = build_text(f"version: 1\n{text}")
    check(build)
    assert ("decrypts-everything" in [w.code for w in build.report.warnings]) is warned
    assert bool(rules_of(text).decrypts_everything) is warned


def test_5_1_server_names_are_hosts_that_rules_name() -> None:
    text = rules("path: /x | respond: page", "sni: a.test | respond: page", "sni: {absent: true} | respond: page")
    assert play(text, tls("b.test"), named=True).tls is RELAY
    assert play(text, tls("a.test"), named=True).tls is INTERCEPT
    assert play(text, tls(None, "a.test")).tls is INTERCEPT  # for the rules without a name


def test_5_1_decrypt_named_confines_such_rules_to_hosts_that_others_name() -> None:
    text = rules("path: /x | respond: page", PAGE)
    assert play(text, tls("b.test")).tls is INTERCEPT
    assert play(text, tls("b.test"), named=True).tls is RELAY
    assert play(text, tls("a.test"), named=True).tls is INTERCEPT


def test_5_1_what_is_relayed_reaches_no_request_rule() -> None:
    text = rules("host: a.test | tls: passthrough", PAGE)
    outcome = play(text, http("https://a.test/", answer="the origin's own"))
    assert text_of(outcome) == "the origin's own"
    assert outcome.rules == ["r0"]


def dns_answer(text: str, name: str, decrypt: str = "auto") -> str:
    """What is left of an HTTPS record on its way to the client."""
    compiled_rules = rules_of(text)
    addons = AddonManager(ProxyOptions())
    addons.options.update(rules=("rules.yaml", "digest:x"), decrypt=decrypt)
    addons.add(Rules(addons.options, lambda paths: compiled_rules, refresh=addons.refresh))
    addons.configure_all()
    flow = DNSFlow(Client(), Server(), DNSMessage.make_query(name, types.HTTPS))
    flow.response = flow.request.succeed([ResourceRecord.HTTPS(name, '1 . alpn="h3,h2" ech="AAUAAQIDBA=="')])
    hide_shortcuts(addons.policy, flow)
    return " ".join(record.data_text for record in flow.response.answers)


def test_5_1_names_in_the_decrypt_set_lose_ech_and_http3_hints() -> None:
    opened = dns_answer(rules(PAGE), "a.test")
    assert "ech" not in opened and "h3" not in opened
    closed = dns_answer(rules(PAGE), "b.test")
    assert "ech" in closed and "h3" in closed


@pytest.mark.parametrize("line", ["host: a.test | tls: intercept", "sni: a.test | respond: page",
                                  'sni: {regex: "^a[.]"} | respond: page'])
def test_5_1_the_decrypt_set_is_more_than_pages_for_hosts(line: str) -> None:
    assert "ech" not in dns_answer(rules(line), "A.test.")
    assert "ech" in dns_answer(rules(line), "b.test")
    assert "ech" not in dns_answer(rules(line), "a.test", "named")
    assert "ech" in dns_answer(rules(line), "a.test", "none")


# --- 5.2 -----------------------------------------------------------------------------------------------------------

MERGES = "host: a.test, path: /r | rewrite: {response_body: {json_merge: {n: 1}}}"
BLOCKS = 'host: a.test, path: /b | block: {status: 403, body: "${request.json.k | default(0)}"}'


def through_response(text: str, path: str, response: Response, *, limit: int = 1000) -> HTTPFlow:
    """A flow up to the head of its response, the body of which is still to come."""
    flow = exchange(text, Request.make("GET", f"http://a.test{path}"), limit=limit)
    flow.pinned.request_head()
    flow.pinned.request_body()
    flow.response = response
    response.raw_content = None
    flow.pinned.response_head()
    return flow


def test_5_2_bodies_are_buffered_only_while_a_rule_needs_them() -> None:
    text = rules(MERGES, "host: a.test | rewrite: {response_headers: {set: {x-a: b}}}")
    assert through_response(text, "/r", Response.make(200, b"{}")).pinned.waits_for_response is True
    flow = through_response(text, "/other", Response.make(200, b"{}"))
    assert flow.pinned.waits_for_response is False
    assert flow.response is not None and flow.response.headers["x-a"] == "b"


@pytest.mark.parametrize("content_type", ["text/event-stream", "multipart/x-mixed-replace; boundary=x",
                                          "application/grpc", "Application/gRPC+proto"])
def test_5_2_some_types_are_never_buffered(content_type: str) -> None:
    response = Response.make(200, b"{}", {"content-type": content_type})
    assert through_response(rules(MERGES), "/r", response).pinned.waits_for_response is False


def test_5_2_a_larger_body_passes_and_the_rest_of_the_rules_act() -> None:
    text = rules(MERGES, "host: a.test | rewrite: {response_headers: {set: {x-a: b}}}")
    large = '{"k": "' + "x" * 500 + '"}'
    outcome = play(text, http("http://a.test/r", answer=large), limit=100)
    assert text_of(outcome) == large
    assert outcome.rules == ["r1"]
    assert got_header(outcome, "x-a") == ["b"]


def test_5_2_a_length_that_is_too_large_is_not_waited_for() -> None:
    text = rules(MERGES)
    assert through_response(text, "/r", Response.make(200, b"x" * 101), limit=100).pinned.waits_for_response is False


def test_5_2_a_block_refuses_what_it_cannot_read() -> None:
    step = http("POST http://a.test/b", body="x" * 500)
    outcome = play(rules(BLOCKS), step, limit=100)
    assert outcome.response is not None and outcome.response.status_code == 413
    assert "r0" in text_of(outcome)
    assert outcome.sent is None


def test_5_2_a_block_on_a_response_refuses_with_502() -> None:
    text = rules('host: a.test, status: 200 | block: {status: 403, body: "${response.json.k | default(0)}"}')
    outcome = play(text, http("http://a.test/", answer="x" * 500), limit=100)
    assert outcome.response is not None and outcome.response.status_code == 502
    assert "r0" in text_of(outcome)


@pytest.mark.parametrize(("line", "setting", "status"), [
    (MERGES.replace("/r", "/b"), "refuse", 502), (MERGES.replace("/r", "/b"), "skip", 200),
    (BLOCKS, "skip", 200), (BLOCKS, "refuse", 413),
])
def test_5_2_on_unreadable_overrides(line: str, setting: str, status: int) -> None:
    text = rules(line).replace("{name: r0,", f"{{name: r0, on_unreadable: {setting},")
    outcome = play(text, http("POST http://a.test/b", body="x" * 500, answer="y" * 500), limit=100)
    assert outcome.response is not None and outcome.response.status_code == status


@pytest.mark.parametrize("coding", ["made-up", "gzip"])
def test_5_2_a_coding_that_cannot_be_undone(coding: str) -> None:
    """Unknown, or broken: the bytes go on as they are."""
    headers = Headers(((b"content-encoding", coding.encode()),))
    flow = through_response(rules(MERGES), "/r", Response(200, "OK", headers))
    assert flow.response is not None
    flow.response.raw_content = b"not really compressed"
    flow.pinned.response_body()
    assert flow.response.raw_content == b"not really compressed"
    assert flow.response.status_code == 200


def test_5_2_a_coded_body_is_edited_and_coded_again() -> None:
    flow = through_response(rules(MERGES), "/r", Response(200, "OK", Headers(((b"content-encoding", b"gzip"),))))
    assert flow.response is not None
    flow.response.raw_content = gzip.compress(b'{"a":1}')
    flow.pinned.response_body()
    assert flow.response.raw_content is not None
    assert gzip.decompress(flow.response.raw_content) == b'{"a":1,"n":1}'


PARTIAL = {"range": "bytes=0-9", "if-range": '"x"', "if-match": '"x"', "if-none-match": '"x"',
           "if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT", "if-unmodified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}


def test_5_2_a_request_whose_response_is_read_asks_for_whole_bodies() -> None:
    headers = {**PARTIAL, "accept-encoding": "gzip, made-up;q=0.5, br"}
    read = play(rules(MERGES), http("http://a.test/r", headers=headers))
    assert [name for name in PARTIAL if sent_header(read, name)] == []
    assert sent_header(read, "accept-encoding") == ["gzip, br"]
    left = play(rules(MERGES), http("http://a.test/other", headers=headers))
    assert [name for name in PARTIAL if sent_header(left, name)] == list(PARTIAL)
    assert sent_header(left, "accept-encoding") == ["gzip, made-up;q=0.5, br"]


FACTS = {"etag": '"x"', "digest": "sha-256=x", "content-digest": "x", "repr-digest": "x", "content-md5": "x",
         "accept-ranges": "bytes"}


def test_5_2_a_body_edit_drops_what_is_no_longer_true() -> None:
    step = http("http://a.test/r", answer="{}", answer_headers=FACTS)
    outcome = play(rules(MERGES), step)
    assert [name for name in FACTS if got_header(outcome, name)] == []
    assert got_header(outcome, "cache-control") == ["no-store"]
    untouched = play(rules(MERGES), http("http://a.test/other", answer="{}", answer_headers=FACTS))
    assert [name for name in FACTS if got_header(untouched, name)] == list(FACTS)
    assert got_header(untouched, "cache-control") == []


@pytest.mark.parametrize("action", ["respond: x", "redirect: /y", "block: {status: 403}", "block: {body: x}"])
def test_5_2_what_a_rule_makes_is_not_stored(action: str) -> None:
    assert got_header(play(rules(f"host: a.test | {action}"), http("http://a.test/")), "cache-control") == ["no-store"]


def test_5_2_unless_a_rule_says_so() -> None:
    text = rules("host: a.test, path: /m | respond: {headers: {cache-control: max-age=9}}",
                 "host: a.test, path: /e | rewrite: {response_body: x, "
                 "response_headers: {set: {cache-control: public}}}")
    assert got_header(play(text, http("http://a.test/m")), "cache-control") == ["max-age=9"]
    assert got_header(play(text, http("http://a.test/e", answer="y")), "cache-control") == ["public"]


def test_5_2_hooks_that_nothing_needs_do_not_exist() -> None:
    needs: dict[str, Any] = {
        "host: a.test | tls: passthrough": set(),
        "host: a.test | rewrite: {headers: {set: {x-a: b}}}": {"requestheaders"},
        MERGES: {"requestheaders", "responseheaders", "response"},
        "host: a.test | rewrite: {body: {json_merge: {n: 1}}}": {"requestheaders", "request"},
        "host: a.test | spoof_dns: 192.0.2.1": {"dns_request"},
    }
    for line, hooks in needs.items():
        assert rules_of(rules(line)).hooks == hooks, line


def test_5_2_the_buffer_set_is_listed() -> None:
    from rulesproxy.compiler.survey import survey

    program = compiled(rules(MERGES, PAGE))
    assert program.rules is not None
    found = survey([file.rules for file in program.build.files], program.rules)
    assert [(line.rule, line.request, line.response) for line in found.buffers] == [("r0", False, True)]
