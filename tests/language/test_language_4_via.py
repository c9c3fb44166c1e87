"""Rule language, the via slot: `upstream_proxy` in the table of section 3, in 4, 4.1, 4.3 and 4.5."""

from __future__ import annotations

import re

import pytest

from rulesproxy.compiler.explain import explain
from rulesproxy.compiler.program import Compiler
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.runtime.phase import Phase
from tests.compiler.rulefiles import Memory
from tests.language.playing import compiled, differs, holds, http, mistakes, play, text_of, tls

PROXY = "http://proxy.test:3128"


def rules(*lines: str) -> str:
    return "rules:\n" + "".join(f"  - {{{line}}}\n" for line in lines)


OFFICE = f"name: office, match: {{host: a.test}}, action: {{upstream_proxy: '{PROXY}'}}"


# --- 3 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "way"), [
    ("http://proxy.test:3128", PROXY), ("http://Proxy.Test.", "http://proxy.test:80"),
    ("https://proxy.test", "https://proxy.test:443"), ("socks5://192.0.2.1", "socks5://192.0.2.1:1080"),
    ("socks5h://proxy.test:9", "socks5://proxy.test:9"), ("direct", "direct"), ("none", "direct"),
    ("http://[2001:db8::1]:81", "http://[2001:db8::1]:81"),
])
@pytest.mark.parametrize("form", ["'{}'", "{{url: '{}'}}", "{{url: '{}', auth: 'ada:secret'}}"])
def test_3_upstream_proxy_sends_through_another_proxy(written: str, way: str, form: str) -> None:
    text = rules(f"name: out, match: {{host: a.test}}, action: {{upstream_proxy: {form.format(written)}}}")
    outcome = play(text, http("http://a.test/"))
    assert (outcome.rules, outcome.server, outcome.via) == (["out"], "a.test:80", way)


@pytest.mark.parametrize("written", [
    "proxy.test:3128", "ftp://proxy.test", "http://proxy.test/path", "http://ada:secret@proxy.test", "http://p:0",
    "{url: 'http://p', auth: secret}", "{url: 'http://p', auth: ':secret'}",
    "{url: 'http://p', auth: 'ada:secret${request.host}'}",
])
def test_3_what_is_no_proxy_is_an_error_that_keeps_the_password(written: str) -> None:
    value = written if written.startswith("{") else f"'{written}'"
    text = rules(f"name: out, match: {{host: a.test}}, action: {{upstream_proxy: {value}}}")
    program = Compiler(Memory({"rules.yaml": f"version: 1\n{text}"})).compile(["rules.yaml"])
    assert program.rules is None and len(program.report.errors) == 1
    assert "secret" not in program.build.render()


def test_3_excerpts_hide_passwords_wherever_the_mistake_is() -> None:
    for action in ("{upstream_proxy: {url: 'http://p', auth: \"ada:se cret\"}, oops: 1}",
                   "{upstream_proxy: {auth: 'ada:secret', url: 'http://p:0'}}",
                   "{upstream_proxy: {auth: ada:secret, nope: 1, url: 'http://p'}}",
                   "{upstream_proxy: {url: 'socks5://ada:secret@p'}}"):
        text = rules(f"name: out, match: {{host: a.test}}, action: {action}")
        shown = Compiler(Memory({"rules.yaml": f"version: 1\n{text}"})).compile(["rules.yaml"]).build.render()
        assert "cret" not in shown
        excerpt, marker = re.findall(r"\| (.*)", shown)[:2]
        assert "***" in excerpt and marker.strip() == "^"


def test_3_4_the_url_may_be_a_template() -> None:
    text = rules("name: out, match: {host: a.test}, action: {upstream_proxy: 'http://${query.p}:3128'}")
    assert play(text, http("http://a.test/?p=one.test")).via == "http://one.test:3128"
    for bad in ("a/b", "u:p@h", "", "a%20b"):
        outcome = play(text, http(f"http://a.test/?p={bad}"))
        assert outcome.response is not None and outcome.response.status_code == 500
        assert "out" in text_of(outcome) and outcome.sent is None


def test_3_4_vars_may_stand_in_both() -> None:
    text = ("vars: {way: 'socks5://proxy.test', who: 'ada:secret'}\n"
            + rules("name: out, match: {host: a.test}, action: {upstream_proxy: {url: '${vars.way}', "
                    "auth: '${vars.who}'}}"))
    assert play(text, http("http://a.test/")).via == "socks5://proxy.test:1080"


def test_3_3_rules_say_where_the_server_is_through_a_proxy_too() -> None:
    text = rules(OFFICE, "name: gone, match: {host: a.test}, action: {spoof_dns: {rcode: NXDOMAIN}}")
    outcome = play(text, http("http://a.test/"))
    assert outcome.response is not None and outcome.response.status_code == 502 and "gone" in text_of(outcome)


def test_3_3_rules_say_where_the_proxy_is() -> None:
    text = rules(OFFICE, "name: no-way, match: {host: proxy.test}, action: {spoof_dns: {rcode: NXDOMAIN}}")
    outcome = play(text, http("http://a.test/"))
    assert outcome.response is not None and outcome.response.status_code == 502 and "no-way" in text_of(outcome)
    assert "no-way" in outcome.rules


# --- 4, 4.1 --------------------------------------------------------------------------------------------------------


def test_4_a_tunnel_with_connect_keys_only_stays_closed() -> None:
    outcome = play(rules(OFFICE), tls("a.test"))
    assert (outcome.tls, outcome.via, outcome.acted) == (TlsVerdict.RELAY, PROXY, {Phase.CONNECT: ["office"]})


def test_4_a_key_inside_the_tunnel_opens_it() -> None:
    text = rules("name: out, match: {host: a.test, path: /x}, action: {upstream_proxy: 'http://p.test'}")
    assert play(text, tls("a.test")).tls is TlsVerdict.INTERCEPT
    assert play(text, http("https://a.test/x")).via == "http://p.test:80"
    assert play(text, http("https://a.test/y")).via is None


def test_4_a_server_name_does_not() -> None:
    text = rules("name: out, match: {sni: a.test}, action: {upstream_proxy: 'http://p.test'}")
    outcome = play(text, tls("a.test", "192.0.2.1"))
    assert (outcome.tls, outcome.via, outcome.acted) == (TlsVerdict.RELAY, "http://p.test:80", {Phase.TLS: ["out"]})


def test_4_1_via_is_said_per_request_where_the_tunnel_is_open() -> None:
    mark = "name: mark, match: {host: a.test}, action: {rewrite: {headers: {set: {x-a: '1'}}}}"
    outcome = play(rules(OFFICE, mark), http("https://a.test/"))
    assert (outcome.tls, outcome.via) == (TlsVerdict.INTERCEPT, PROXY)
    assert outcome.acted.get(Phase.CONNECT, []) == [] and outcome.acted[Phase.REQUEST] == ["office", "mark"]


# --- 4.3, 4.5 ------------------------------------------------------------------------------------------------------


def test_4_3_the_first_matching_rule_in_order_has_the_slot() -> None:
    text = rules("name: far, match: {domain: test}, action: {upstream_proxy: 'http://far.test', tag: far}",
                 "name: near, match: {host: a.test}, action: {upstream_proxy: direct}, priority: 1")
    outcome = play(text, http("http://a.test/"))
    assert (outcome.rules, outcome.via, outcome.tags) == (["near"], "direct", [])
    assert [(lost.rule, lost.winner) for lost in outcome.overruled] == [("far", "near")]
    assert play(text, http("http://b.test/")).via == "http://far.test:80"


def test_4_3_route_and_via_are_different_slots() -> None:
    text = rules(OFFICE, "name: moved, match: {host: a.test}, action: {redirect_server: b.test}")
    outcome = play(text, http("http://a.test/"))
    assert (outcome.rules, outcome.server, outcome.via) == (["office", "moved"], "b.test:80", PROXY)
    outcome = play(text, tls("a.test"))
    assert (outcome.rules, outcome.server, outcome.via) == (["office", "moved"], "b.test:443", PROXY)


def test_4_3_one_rule_may_fill_both() -> None:
    both = f"name: both, match: {{host: a.test}}, action: {{redirect_server: b.test, upstream_proxy: '{PROXY}'}}"
    for step in (http("http://a.test/"), tls("a.test"), http("https://a.test/")):
        outcome = play(rules(both), step)
        assert (outcome.rules, outcome.via) == (["both"], PROXY)
        assert outcome.server is not None and outcome.server.startswith("b.test:")


def test_4_3_a_filled_answer_leaves_via_unused() -> None:
    text = rules(OFFICE, "name: mock, match: {host: a.test}, action: {respond: mock}")
    outcome = play(text, http("http://a.test/"))
    assert (outcome.via, outcome.sent, text_of(outcome)) == (None, None, "mock")


def test_4_3_two_proxies_in_one_rule_are_an_error() -> None:
    [message] = mistakes("rules: [{name: a, match: {host: a.test}, action: [{upstream_proxy: 'http://p'}, "
                         "{upstream_proxy: direct}]}]")
    assert "choose the upstream proxy" in message


def test_4_5_pass_leaves_the_way_alone() -> None:
    text = rules("name: hands-off, match: {host: a.test}, action: {pass: {}}", OFFICE)
    for step in (http("http://a.test/"), tls("a.test")):
        assert play(text, step).via is None
    assert play(rules(OFFICE, "name: hands-off, match: {host: a.test}, action: {pass: {}}"),
                http("http://a.test/")).via == PROXY


# --- 7, 8 ----------------------------------------------------------------------------------------------------------

TESTED = f"""\
rules:
  - name: office
    match: {{host: a.test}}
    action: {{upstream_proxy: {{url: "{PROXY}", auth: "ada:secret"}}}}
    tests:
      - request: GET http://a.test/
        expect: {{rule: office, via: "%s"}}
"""


def test_7_expect_names_the_way() -> None:
    holds(TESTED % PROXY)
    holds(TESTED % PROXY.upper().replace("HTTP", "http"))
    assert differs(TESTED % "direct") == ["via"]
    assert differs(TESTED % "http://proxy.test:80") == ["via"]
    mocked = TESTED.replace("upstream_proxy: {url", "respond: mock, upstream_proxy: {url")
    assert differs(mocked % PROXY) == differs(mocked % "direct") == ["via"]
    holds(f"rules: [{{{OFFICE}, tests: [{{request: 'GET http://b.test/', expect: {{no_rule: office, via: direct}}}}, "
          "{tls: {sni: a.test}, expect: {rule: office}}]}]")


def test_8_explain_tells_the_way_and_not_the_password() -> None:
    program = compiled(TESTED % PROXY)
    outcome = play(TESTED % PROXY, http("http://a.test/"))
    [effect] = [effect for phase in explain(program.build.rules, outcome).phases for effect in phase.effects]
    assert effect == f"via: UpstreamProxy(url='{PROXY}') (rule office)"
