"""Rule language, section 3: actions. One case or more per sentence of the page; the id names it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from rulesproxy.compiler import unit
from rulesproxy.compiler.outcome import Outcome
from rulesproxy.compiler.program import Compiler
from rulesproxy.compiler.simulate import World, simulate
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.dns import DNSFlow, DNSMessage
from rulesproxy.model.dns_types import types
from rulesproxy.model.effects import Drop
from rulesproxy.model.policy import NameAnswer, TlsVerdict
from rulesproxy.runtime.early import answer_query, resolve_name
from rulesproxy.runtime.phase import Phase
from tests.compiler.rulefiles import Memory, warnings
from tests.language.playing import (
    LocalFiles,
    dns,
    got_header,
    http,
    mistakes,
    play,
    rules_of,
    sent_header,
    text_of,
    tls,
)


def rule(action: str, match: str = "host: a.test") -> str:
    return f"rules:\n  - name: r\n    match: {{{match}}}\n    action: {{{action}}}\n"


def get(action: str, url: str = "http://a.test/", match: str = "host: a.test", **more: Any) -> Outcome:
    """What one rule makes of a GET."""
    return play(rule(action, match), http(url, **more))


def status_of(outcome: Outcome) -> int:
    assert outcome.response is not None
    return outcome.response.status_code


def sent_url(outcome: Outcome) -> str:
    assert outcome.sent is not None
    return outcome.sent.url


# --- the table -------------------------------------------------------------------------------------------------------


def test_3_every_action_of_this_issue_is_there() -> None:
    assert {"block", "respond", "redirect", "rewrite", "redirect_server", "spoof_dns", "map_local", "map_remote", "tls",
            "delay", "tag", "log", "pass"} <= set(unit.actions())


@pytest.mark.parametrize(("action", "status", "body", "fields"), [
    pytest.param("respond: hello", 200, "hello", {"content-type": "text/plain; charset=utf-8"}, id="3-respond-text"),
    pytest.param("respond: {status: 404, body: gone}", 404, "gone", {}, id="3-respond-status-and-body"),
    pytest.param("respond: {json: {a: [1, x, null, 1.5, true]}}", 200, '{"a": [1, "x", null, 1.5, true]}',
                 {"content-type": "application/json"}, id="3-respond-json"),
    pytest.param("respond: {file: body.txt}", 200, "from a file", {"content-type": "text/plain; charset=utf-8"},
                 id="3-respond-file"),
    pytest.param("respond: {status: 201, headers: {x-a: [1, 2], content-type: text/x}, body: b}", 201, "b",
                 {"x-a": "1, 2", "content-type": "text/x"}, id="3-respond-headers"),
    pytest.param("respond: {status: 204}", 204, "", {"content-length": None}, id="3-respond-without-body"),
    pytest.param("respond: {body: b, headers: {content-encoding: gzip}}", 200, "b", {"content-encoding": "gzip"},
                 id="3-respond-coded-as-it-says"),
    pytest.param("respond: x", 200, "x", {"cache-control": "no-store"}, id="5.2-made-answers-are-not-cached"),
    pytest.param("respond: {body: x, headers: {Cache-Control: max-age=5}}", 200, "x", {"cache-control": "max-age=5"},
                 id="5.2-unless-the-rule-says-so"),
    pytest.param("redirect: https://b.test/x?y=1", 302, "", {"location": "https://b.test/x?y=1"}, id="3-redirect"),
    pytest.param("redirect: {to: /login, status: 307}", 307, "", {"location": "/login"}, id="3-redirect-status"),
    pytest.param("redirect: 'https://${request.host}${request.path}'", 302, "", {"location": "https://a.test/"},
                 id="3-redirect-template"),
])  # fmt: skip
def test_answers(action: str, status: int, body: str, fields: dict[str, str | None]) -> None:
    outcome = get(action)
    assert (status_of(outcome), text_of(outcome)) == (status, body)
    assert outcome.sent is None and outcome.server is None  # the origin is not touched
    assert outcome.rules == ["r"]
    for name, value in fields.items():
        assert ", ".join(got_header(outcome, name)) == (value or ""), name


def test_3_respond_template_files_are_expanded_only_when_asked() -> None:
    files = "version: 1\nrules:\n  - {name: r, match: {host: a.test}, action: {respond: {file: t.html%s}}}\n"
    for option, wanted in (("", "<p>${query.q} $${x}"), (", template: true", "<p>1 ${x}")):
        memory = Memory({"rules.yaml": files % option, "t.html": "<p>${query.q} $${x}"})
        rules = Compiler(memory).compile(["rules.yaml"]).rules
        assert rules is not None
        [outcome] = simulate(World(rules, LocalFiles()), (http("http://a.test/?q=1"),))
        assert text_of(outcome) == wanted
        assert got_header(outcome, "content-type") == ["text/html; charset=utf-8"]


@pytest.mark.parametrize(("action", "match", "url", "status", "body"), [
    pytest.param("map_local: ./site", "host: a.test", "/docs/x.txt", 200, "docs/x.txt", id="3-map-local-whole-path"),
    pytest.param("map_local: ./site", "path_prefix: /docs", "/docs/x.txt", 200, "x.txt", id="3-map-local-path-prefix"),
    pytest.param("map_local: ./site", "path: /docs/**", "/docs/x.txt", 200, "x.txt", id="3-map-local-before-the-glob"),
    pytest.param("map_local: ./site", "path: /docs/**", "/docs/y.txt", 404, None, id="3-map-local-missing"),
    pytest.param("map_local: {path: ./site, status: 503}", "path: /docs/**", "/docs/x.txt", 503, "x.txt",
                 id="3-map-local-status"),
    pytest.param("map_local: './site/${path.f}.txt'", "path: '/f/{f}'", "/f/x", 200, "x.txt", id="3.4-one-segment"),
    pytest.param("map_local: './site/${query.f}'", "host: a.test", "/?f=x.txt", 200, "x.txt", id="3.4-of-a-query"),
    pytest.param("map_local: './site/${query.f}'", "host: a.test", "/?f=..%2Fx.txt", 404, None, id="3.4-no-slash"),
    pytest.param("map_local: './site/${query.f}'", "host: a.test", "/?f=..", 404, None, id="3.4-no-dot-dot"),
    pytest.param("map_local: './site/${query.f}'", "host: a.test", "/", 404, None, id="3.4-no-empty-segment"),
    pytest.param("map_local: './site/${query.f}'", "host: a.test", "/?f=%00", 404, None, id="3.4-no-nul"),
])  # fmt: skip
def test_map_local(action: str, match: str, url: str, status: int, body: str | None) -> None:
    outcome = play(rule(action, match), http(f"http://a.test{url}"), files=LocalFiles("x.txt", "docs/x.txt"))
    assert status_of(outcome) == status
    assert outcome.sent is None
    assert body is None or text_of(outcome) == body


def test_3_map_local_fallthrough_makes_existence_part_of_the_match() -> None:
    text = rule("map_local: {path: ./site, fallthrough: true}", "path: /docs/**")
    there = play(text, http("http://a.test/docs/x.txt"), files=LocalFiles("x.txt"))
    assert (there.rules, text_of(there), there.sent) == (["r"], "x.txt", None)
    missing = play(text, http("http://a.test/docs/y.txt", answer="origin"), files=LocalFiles("x.txt"))
    assert (missing.rules, text_of(missing)) == ([], "origin")


def test_4_6_map_local_on_a_response_key() -> None:
    text = rule("map_local: ./site", "path: /docs/**, status: 404")
    files = LocalFiles("x.txt")
    assert text_of(play(text, http("http://a.test/docs/x.txt", status=404), files=files)) == "x.txt"
    assert text_of(play(text, http("http://a.test/docs/x.txt", answer="origin"), files=files)) == "origin"


REWRITES = [
    ("3-rewrite-method", "method: put", "POST http://a.test/", ("PUT", "http://a.test/")),
    ("3-rewrite-path", "path: /b", "GET http://a.test/a?q=1", ("GET", "http://a.test/b?q=1")),
    ("3-rewrite-path-template", "path: '/x/${query.q}'", "GET http://a.test/a?q=b%2Fc",
     ("GET", "http://a.test/x/b%2Fc?q=b%2Fc")),
    ("3-rewrite-path-replace", "path: {replace: {regex: '^/v1/(.*)', with: '/v2/${match.1}'}}",
     "GET http://a.test/v1/x", ("GET", "http://a.test/v2/x")),
    ("3-rewrite-path-replace-with-a-value", "path: {replace: {text: a, with: '${query.q}'}}",
     "GET http://a.test/a?q=../b", ("GET", "http://a.test/..%2Fb?q=../b")),
    ("3-rewrite-query", "query: {set: {a: '1 2'}, remove: b, add: {c: [3, 4]}}", "GET http://a.test/?b=1&a=0",
     ("GET", "http://a.test/?a=1%202&c=3&c=4")),
    ("3-rewrite-query-template", "query: {set: {a: '${request.headers.x-a | default(\"\")}'}}", "GET http://a.test/",
     ("GET", "http://a.test/?a=x%26y")),
]


@pytest.mark.parametrize(("action", "request_line", "wanted"),
                         [pytest.param(*case[1:], id=case[0]) for case in REWRITES])
def test_rewrite_of_the_request_line(action: str, request_line: str, wanted: tuple[str, str]) -> None:
    outcome = play(rule(f"rewrite: {{{action}}}"), http(request_line, headers={"x-a": "x&y"}))
    assert outcome.sent is not None
    assert (outcome.sent.method, outcome.sent.url) == wanted


def test_3_rewrite_request_headers_cookies_body() -> None:
    outcome = get("rewrite: {headers: {set: {x-a: [1, 2]}, remove: [x-b], add: {x-c: '${request.method}'}, "
                  "replace: {x-d: {text: old, with: new}}}, cookies: {set: {s: abc}, remove: t}, body: new}",
                  "POST http://a.test/", body="old",
                  headers={"x-b": "1", "x-c": "0", "x-d": "old", "cookie": "t=1; u=2"})
    assert sent_header(outcome, "x-a") == ["1", "2"]
    assert sent_header(outcome, "x-b") == []
    assert sent_header(outcome, "x-c") == ["0", "POST"]
    assert sent_header(outcome, "x-d") == ["new"]
    assert sent_header(outcome, "cookie") == ["u=2; s=abc"]
    assert outcome.sent is not None and outcome.sent.body == b"new"


def test_3_rewrite_response_parts() -> None:
    outcome = get("rewrite: {status: 203, response_headers: {set: {x-a: 1}, remove: [server]}, response_cookies: "
                  "{set: {s: {value: abc, path: /, max_age: 5, secure: true, httponly: false, samesite: Lax}}}, "
                  "response_body: {replace: {regex: '(h)at', with: '${match.1}ut'}}}",
                  answer="hat", answer_headers={"server": "x"})
    assert (status_of(outcome), text_of(outcome)) == (203, "hut")
    assert (got_header(outcome, "x-a"), got_header(outcome, "server")) == (["1"], [])
    assert got_header(outcome, "set-cookie") == ["s=abc; Path=/; Max-Age=5; Secure; SameSite=Lax"]


@pytest.mark.parametrize(("body", "before", "after"), [
    pytest.param("{set: x}", "old", "x", id="3-body-set"),
    pytest.param("{file: body.txt}", "old", "from a file", id="3-body-file"),
    pytest.param("{json: {a: '${request.method}', n: 1}}", "old", '{"a": "GET", "n": 1}', id="3-body-json"),
    pytest.param("{replace: {text: o, with: 0}}", "foo", "f00", id="3-body-replace"),
    pytest.param("{replace: [{text: a, with: b}, {text: b, with: c}]}", "ab", "cc", id="3-body-replace-in-turn"),
    pytest.param("{replace: {regex: A, with: x, ignore_case: true}}", "aA", "xx", id="3-body-replace-without-case"),
    pytest.param("{json_merge: {a: null, b: '${request.host}'}}", '{"a": 1}', '{"b":"a.test"}', id="3-body-json-merge"),
    pytest.param("{json_patch: [{op: replace, path: /a, value: 2}]}", '{"a": 1}', '{"a":2}', id="3-body-json-patch"),
])  # fmt: skip
def test_bodies(body: str, before: str, after: str) -> None:
    assert text_of(get(f"rewrite: {{response_body: {body}}}", answer=before)) == after
    sent = play(rule(f"rewrite: {{body: {body}}}"), http("POST http://a.test/", body=before)).sent
    assert sent is not None and sent.body == after.replace('"GET"', '"POST"').encode()


def test_3_tls() -> None:
    for word, verdict in (("intercept", "intercept"), ("passthrough", "relay"), ("refuse", "refuse")):
        outcome = play(rule(f"tls: {word}"), tls("a.test"))
        assert (outcome.tls, outcome.tls_rule) == (TlsVerdict(verdict), "r")


@pytest.mark.parametrize(("delay", "least", "most"), [
    ("200ms", 0.2, 0.2), ("1.5s", 1.5, 1.5), ("2m", 120, 120), ("{uniform: [10ms, 20ms]}", 0.01, 0.02),
    ("{normal: {mean: 1s, deviation: 0ms}}", 1, 1), ("{normal: {mean: 0ms, deviation: 10ms}}", 0, 1),
])  # fmt: skip
def test_3_delay(delay: str, least: float, most: float) -> None:
    before = get(f"delay: {delay}").pacing
    after = get(f"delay: {delay}", match="host: a.test, status: 200").pacing
    assert before is not None and after is not None
    assert least <= before.request <= most and before.response == 0
    assert least <= after.response <= most and after.request == 0


def test_3_tag() -> None:
    assert get("tag: [one, '${request.method}', one]").tags == ["one", "GET"]
    assert play(rule("tag: name", "host: a.test, dns_type: A"), dns("a.test")).tags == ["name"]


def test_3_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rulesproxy.rules")
    get("log: {message: 'status ${response.status}', level: warning}", status=404)
    get("log: 'to ${request.url}'")
    play(rule("log: asked", "host: a.test, dns_type: A"), dns("a.test"))
    play(rule("tls: passthrough, log: relayed"), tls("a.test"))
    play(rule("block: {}, log: refused"), tls("a.test"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "r: status 404"), ("INFO", "r: to http://a.test/"), ("INFO", "r: asked"), ("INFO", "r: relayed"),
        ("INFO", "r: refused")]


def test_3_log_waits_for_the_phase_in_which_it_can_see(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rulesproxy.rules")
    text = rule("block: {}, log: 'no ${request.path}'", "domain: a.test")
    assert play(text, dns("a.test")).rcode == "NXDOMAIN"
    assert status_of(play(text, http("http://a.test/x"))) == 403
    assert [record.getMessage() for record in caplog.records] == ["r: no /x"]


def test_3_pass() -> None:
    text = rule("pass: {}") + "  - {name: low, match: {domain: test}, action: {block: {}}}\n"
    assert play(text, dns("a.test")).rules == ["r"]
    assert play(text, tls("a.test")).tls is TlsVerdict.RELAY
    assert status_of(play(text, http("http://a.test/"))) == 200
    assert status_of(play(text, http("http://b.test/"))) == 403


# --- 3.1 block -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["{}", "true", "close", "reset", "hang", "{how: hang}"])
@pytest.mark.parametrize("type_", ["A", "AAAA", "TXT", "HTTPS"])
def test_3_1_a_bare_block_is_nxdomain_for_every_type(how: str, type_: str) -> None:
    assert play(rule(f"block: {how}"), dns("a.test", type_)).rcode == "NXDOMAIN"


def test_3_1_or_refused() -> None:
    assert play(rule("block: {dns: refuse}"), dns("a.test")).rcode == "REFUSED"


def test_3_1_connect_gets_403_with_text_naming_the_rule() -> None:
    outcome = play(rule("block: {}"), http("https://a.test/", headers={"accept": "text/html"}))
    assert (status_of(outcome), outcome.tls) == (403, TlsVerdict.REFUSE)
    assert "Rule: r" in text_of(outcome)
    assert got_header(outcome, "content-type") == ["text/plain; charset=utf-8"]


def test_3_1_tls_without_connect_is_refused() -> None:
    """The name is seen in the ClientHello first; the proxy sends an alert and closes."""
    outcome = play(rule("block: {}", "sni: a.test"), tls("a.test", host="192.0.2.1"))
    assert (outcome.tls, outcome.tls_rule) == (TlsVerdict.REFUSE, "r")


def test_3_1_http_gets_a_403_page_naming_the_rule() -> None:
    outcome = get("block: {}")
    assert (status_of(outcome), outcome.sent) == (403, None)
    assert "Rule: r" in text_of(outcome)
    browser = get("block: {}", headers={"accept": "text/html"})
    assert got_header(browser, "content-type") == ["text/html; charset=utf-8"]
    assert "<code>r</code>" in text_of(browser)


@pytest.mark.parametrize("how", ["close", "reset", "hang"])
def test_3_1_without_an_answer(how: str) -> None:
    outcome = get(f"block: {how}")
    assert (outcome.drop, outcome.response, outcome.closed) == (Drop(how), None, True)
    assert play(rule(f"block: {how}"), http("https://a.test/")).drop is Drop(how)


@pytest.mark.parametrize("match", ["host: a.test", "domain: a.test, path: /x", "host: a.test, method: POST"])
def test_3_1_a_bare_block_never_causes_decryption(match: str) -> None:
    outcome = play(rule("block: {}", match), tls("a.test"))
    assert outcome.tls is not TlsVerdict.INTERCEPT


def test_3_1_check_says_when_a_bare_block_looks_into_tls() -> None:
    def found(match: str, action: str = "block: {}") -> list[tuple[str, int]]:
        return [item for item in warnings("version: 1\n" + rule(action, match)) if item[0] == "not-decrypted"]

    assert found("host: a.test, path: /x") == [("not-decrypted", 4)]
    assert found("host: a.test, path: /x, scheme: http") == []
    assert found("host: a.test, path: /x", "block: {status: 403}") == []
    assert found("host: a.test") == []


@pytest.mark.parametrize("page", ["{status: 403}", "{body: no}", "{headers: {x-a: 1}}"])
def test_3_1_a_page_is_asked_for_in_the_request_phase_and_decrypts(page: str) -> None:
    text = rule(f"block: {page}")
    assert play(text, dns("a.test")).answer is None
    assert play(text, tls("a.test")).tls is TlsVerdict.INTERCEPT
    assert play(text, http("https://a.test/")).acted == {Phase.REQUEST: ["r"]}


def test_3_1_the_page() -> None:
    outcome = get("block: {status: 451, body: 'not ${request.path}', headers: {x-a: [1, 2], content-type: text/x}}")
    assert (status_of(outcome), text_of(outcome)) == (451, "not /")
    assert (got_header(outcome, "x-a"), got_header(outcome, "content-type")) == (["1", "2"], ["text/x"])
    assert got_header(outcome, "cache-control") == ["no-store"]


def test_3_1_in_the_response_phase_the_answer_is_discarded_for_the_page() -> None:
    outcome = get("block: {}", match="host: a.test, status: 200", answer="secret")
    assert (status_of(outcome), outcome.acted) == (403, {Phase.RESPONSE: ["r"]})
    assert "secret" not in text_of(outcome)


def test_4_6_block_pages_do_not_pass_response_rules() -> None:
    edits = ("  - name: edits\n    match: {host: a.test}\n"
             "    action: {rewrite: {status: 200, response_headers: {set: {x: 1}}}}\n")
    for match in ("host: a.test", "host: a.test, status: 200"):
        outcome = play(rule("block: {}", match) + edits, http("http://a.test/"))
        assert (status_of(outcome), got_header(outcome, "x")) == (403, [])


@pytest.mark.parametrize("action", ["respond: x", "redirect: /x", "map_local: ./x.txt"])
def test_4_6_other_answers_do(action: str) -> None:
    edits = ("  - name: edits\n    match: {host: a.test}\n"
             "    action: {rewrite: {response_headers: {set: {x: 1, cache-control: public}}}}\n")
    outcome = play(rule(action) + edits, http("http://a.test/"), files=LocalFiles(""))
    assert (got_header(outcome, "x"), got_header(outcome, "cache-control")) == (["1"], ["public"])


def test_4_6_a_new_answer_is_not_matched_again() -> None:
    text = rule("respond: {status: 404}", "host: a.test, status: 200") + (
        "  - {name: low, match: {host: a.test, status: 404}, action: {rewrite: {status: 410}}}\n")
    assert status_of(play(text, http("http://a.test/"))) == 404


# --- 3.2 destination -------------------------------------------------------------------------------------------------

# action, URL → server dialled, Host sent, SNI
DESTINATIONS = [
    ("3.2-host", "redirect_server: b.test", "http://a.test/", ("b.test:80", "a.test", None)),
    ("3.2-host-port", "redirect_server: 'b.test:8080'", "http://a.test/", ("b.test:8080", "a.test", None)),
    ("3.2-port", "redirect_server: ':8443'", "http://a.test/", ("a.test:8443", "a.test", None)),
    ("3.2-missing-port-is-the-requests", "redirect_server: b.test", "http://a.test:81/",
     ("b.test:81", "a.test:81", None)),
    ("3.2-or-the-schemes", "redirect_server: 'https://b.test'", "http://a.test:81/",
     ("b.test:443", "a.test:81", "a.test")),
    ("3.2-the-scheme-decides-tls", "redirect_server: 'http://b.test'", "https://a.test/",
     ("b.test:80", "a.test", None)),
    ("3.2-else-the-requests", "redirect_server: {to: b.test, keep_host: false}", "https://a.test/",
     ("b.test:443", "b.test", "b.test")),
    ("3.2-keep-host-sni-is-the-original", "redirect_server: {to: b.test, verify: false}", "https://a.test/",
     ("b.test:443", "a.test", "a.test")),
    ("3.2-keep-host-false", "redirect_server: {to: 'b.test:8080', keep_host: false}", "http://a.test/",
     ("b.test:8080", "b.test:8080", None)),
    ("3.2-keep-host-false-port-only", "redirect_server: {to: ':8080', keep_host: false}", "http://a.test/",
     ("a.test:8080", "a.test:8080", None)),
    ("3.2-ipv6", "redirect_server: {to: '[2001:DB8::0:1]:8080', keep_host: false}", "http://a.test/",
     ("[2001:db8::1]:8080", "[2001:db8::1]:8080", None)),
    ("3.2-ipv6-bare", "redirect_server: '2001:db8::1'", "http://a.test/", ("[2001:db8::1]:80", "a.test", None)),
    ("3.2-sni", "redirect_server: {to: b.test, sni: C.test}", "https://a.test/", ("b.test:443", "a.test", "c.test")),
    ("3.2-no-sni-for-addresses", "redirect_server: {to: 192.0.2.1, keep_host: false}", "https://a.test/",
     ("192.0.2.1:443", "192.0.2.1", None)),
    ("3.2-template", "redirect_server: '${request.headers.x-to | default(\"b.test\")}:82'", "http://a.test/",
     ("c.test:82", "a.test", None)),
    ("3.2-map-remote", "map_remote: 'http://b.test:8080'", "http://a.test/", ("b.test:8080", "b.test:8080", None)),
    ("3.2-map-remote-tls", "map_remote: 'https://b.test'", "http://a.test/", ("b.test:443", "b.test", "b.test")),
    ("3.2-map-remote-keep-host", "map_remote: {to: 'https://b.test', keep_host: true}", "http://a.test/",
     ("b.test:443", "a.test", "b.test")),
    ("3.2-rewrite-scheme", "rewrite: {scheme: https}", "http://a.test/", ("a.test:443", "a.test", "a.test")),
    ("3.2-rewrite-host", "rewrite: {host: B.test}", "https://a.test/", ("b.test:443", "b.test", "b.test")),
    ("3.2-rewrite-host-ipv6", "rewrite: {host: '::1', port: 81}", "http://a.test/", ("[::1]:81", "[::1]:81", None)),
    ("3.2-rewrite-port", "rewrite: {port: 8443}", "https://a.test/", ("a.test:8443", "a.test:8443", "a.test")),
    ("3.2-rewrite-url", "rewrite: {url: 'https://b.test:444/x?y=1'}", "http://a.test/z", ("b.test:444", "b.test:444",
                                                                                        "b.test")),
]


@pytest.mark.parametrize(("action", "url", "wanted"), [pytest.param(*case[1:], id=case[0]) for case in DESTINATIONS])
def test_destinations(action: str, url: str, wanted: tuple[str, str, str | None]) -> None:
    text = rule(action) + "  - {name: opens, match: {host: a.test}, action: {tls: intercept}}\n"
    outcome = play(text, http(url, headers={"x-to": "c.test"}))
    assert outcome.sent is not None
    assert (outcome.server, ", ".join(sent_header(outcome, "host")), outcome.sent.sni) == wanted


PATHS = [
    ("3.2-without-a-path", "http://b.test", "path: /v1/**", "/v1/x?q=1", "http://b.test/v1/x?q=1"),
    ("3.2-a-lone-slash-is-no-path", "http://b.test/", "path: /v1/**", "/v1/x", "http://b.test/v1/x"),
    ("3.2-before-the-glob", "http://b.test/v2", "path: /v1/**", "/v1/x/y?q=1", "http://b.test/v2/x/y?q=1"),
    ("3.2-the-base-itself", "http://b.test/v2", "path: /v1/**", "/v1", "http://b.test/v2"),
    ("3.2-the-base-with-slash", "http://b.test/v2", "path: /v1/**", "/v1/", "http://b.test/v2/"),
    ("3.2-path-prefix", "http://b.test/v2/", "path_prefix: /v1", "/v1/x", "http://b.test/v2/x"),
    ("3.2-an-exact-path", "http://b.test/v2", "path: /v1", "/v1?q=1", "http://b.test/v2?q=1"),
    ("3.2-escapes-stay", "http://b.test/v2", "path: /v1/**", "/v1/a%2Fb%20c/%C3%A4",
     "http://b.test/v2/a%2Fb%20c/%C3%A4"),
    ("3.2-the-longest-base", "http://b.test/v2", "path: [/v1/**, /v1/sub/**]", "/v1/sub/x", "http://b.test/v2/x"),
    ("3.2-a-query-comes-first", "http://b.test/v2?k=1", "path: /v1/**", "/v1/x?q=2", "http://b.test/v2/x?k=1&q=2"),
    ("3.2-a-query-alone", "http://b.test?k=1", "path: /v1/**", "/v1/x?q=2", "http://b.test/v1/x?k=1&q=2"),
    ("3.2-a-template", "http://b.test/${query.q}", "path: /v1/**", "/v1/x?q=a%2Fb", "http://b.test/a%2Fb/x?q=a%2Fb"),
    ("3.2-the-request-path", "http://b.test/old${request.path}", "path: /v1/**", "/v1/x%2Fy",
     "http://b.test/old/v1/x%2Fy"),
    ("3.2-the-request-path-first", "http://b.test${request.path}", "host: a.test", "/v1/x", "http://b.test/v1/x"),
    ("3.2-bases-of-a-not-do-not-count", "http://b.test/v2", "not: {path: /w/**}", "/v1/x", "http://b.test/v2"),
]


@pytest.mark.parametrize(("to", "match", "target", "wanted"), [pytest.param(*case[1:], id=case[0]) for case in PATHS])
def test_map_remote_paths(to: str, match: str, target: str, wanted: str) -> None:
    assert sent_url(get(f"map_remote: '{to}'", f"http://a.test{target}", match)) == wanted


@pytest.mark.parametrize(("action", "match"), [
    pytest.param("redirect_server: ':8443'", "host: a.test", id="3.2-connect-keys"),
    pytest.param("redirect_server: 'b.test:443'", "host: a.test, port: 443", id="3.2-connect-keys-port"),
    pytest.param("redirect_server: b.test", "sni: a.test", id="3.2-tls-keys"),
    pytest.param("redirect_server: b.test", "host: a.test, scheme: https", id="3.2-tls-keys-scheme"),
])  # fmt: skip
def test_3_2_the_tunnel_is_relayed_untouched(action: str, match: str) -> None:
    outcome = play(rule(action, match), http("https://a.test/"))
    assert outcome.tls is TlsVerdict.RELAY
    assert outcome.server == ("a.test:8443" if "8443" in action else "b.test:443")


@pytest.mark.parametrize("action", [
    "redirect_server: {to: b.test, keep_host: false}", "redirect_server: {to: b.test, sni: b.test}",
    "redirect_server: 'https://b.test'", "map_remote: 'https://b.test'", "rewrite: {host: b.test}",
])  # fmt: skip
def test_3_2_otherwise_the_host_joins_the_decrypt_set(action: str) -> None:
    assert play(rule(action), tls("a.test")).tls is TlsVerdict.INTERCEPT


def test_3_2_with_http_keys_too() -> None:
    assert play(rule("redirect_server: b.test", "host: a.test, path: /x"), tls("a.test")).tls is TlsVerdict.INTERCEPT


def test_3_2_rewrite_takes_the_route_slot() -> None:
    text = rule("rewrite: {host: b.test}") + (
        "  - {name: low, match: {host: a.test}, action: {map_remote: 'http://c.test'}}\n")
    outcome = play(text, http("http://a.test/"))
    assert (outcome.server, [item.rule for item in outcome.overruled]) == ("b.test:80", ["low"])
    assert "choose the server" in mistakes(rule("rewrite: {host: b.test}, map_remote: 'http://c.test'"))[0]


def test_3_2_method_path_and_query_are_edits() -> None:
    text = rule("rewrite: {path: /x}") + "  - {name: low, match: {host: a.test}, action: {redirect_server: b.test}}\n"
    outcome = play(text, http("http://a.test/"))
    assert (outcome.rules, outcome.server, sent_url(outcome)) == (["r", "low"], "b.test:80", "http://a.test/x")


@pytest.mark.parametrize("value", ["", "b.test:x", "b test", "b.test/x", "http://u@b.test", "[::1", "evil%2Etest"])
def test_3_2_a_template_that_makes_no_destination_refuses_and_names_the_rule(value: str) -> None:
    outcome = get("redirect_server: '${request.headers.x-to | default(\"\")}'", headers={"x-to": value})
    assert (status_of(outcome), outcome.sent) == (500, None)
    assert "r" in text_of(outcome) and "rules.yaml:" in text_of(outcome)


@pytest.mark.parametrize(("action", "message"), [
    ("redirect_server: 'b.test:70000'", "port 70000"), ("redirect_server: 'http://b.test/x'", "not a destination"),
    ("redirect_server: 'ftp://b.test'", "not a destination"), ("redirect_server: ''", "not a destination"),
    ("redirect_server: {to: b.test, sni: 'b.test:1'}", "not a host name"), ("map_remote: b.test/x", "absolute"),
    ("map_remote: 'http://b.test/#x'", "fragment"), ("map_remote: 'http://b test/'", "not a"),
    ("rewrite: {host: 'b.test:81'}", "not a host name"), ("rewrite: {url: /x}", "absolute"),
    ("rewrite: {url: 'http://b.test', port: 81}", "already"), ("redirect: b.test", "absolute"),
    ("redirect: '${query.to}'", "absolute"), ("redirect: 'https:///x'", "absolute"),
    ("rewrite: {path: '/a?b'}", "no query"), ("rewrite: {method: connect}", "CONNECT"),
])  # fmt: skip
def test_3_2_mistakes(action: str, message: str) -> None:
    assert message in mistakes(rule(action))[0]


# --- 3.3 spoof_dns ---------------------------------------------------------------------------------------------------

SPOOFS = [
    ("3.3-a", "192.0.2.1", "A", ["192.0.2.1"]),
    ("3.3-several", "{A: [192.0.2.1, 192.0.2.2]}", "A", ["192.0.2.1", "192.0.2.2"]),
    ("3.3-aaaa", "'2001:db8::1'", "AAAA", ["2001:db8::1"]),
    ("3.3-txt", "{TXT: 'two words'}", "TXT", ["two words"]),
    ("3.3-mx", "{MX: 10 mail.test}", "MX", ["10 mail.test"]),
    ("3.3-srv", "{SRV: 1 2 443 s.test}", "SRV", ["1 2 443 s.test"]),
    ("3.3-ptr", "{PTR: p.test}", "PTR", ["p.test"]),
    ("3.3-https", "{HTTPS: '1 . alpn=\"h2\"'}", "HTTPS", ['1 . alpn="h2"']),
    ("3.3-ns", "{NS: n.test}", "NS", ["n.test"]),
    ("3.3-others-are-empty", "192.0.2.1", "AAAA", []),
    ("3.3-others-are-empty-https", "192.0.2.1", "HTTPS", []),
]


@pytest.mark.parametrize(("spoof", "type_", "records"), [pytest.param(*case[1:], id=case[0]) for case in SPOOFS])
def test_spoofs(spoof: str, type_: str, records: list[str]) -> None:
    outcome = play(rule(f"spoof_dns: {spoof}"), dns("a.test", type_))
    assert (outcome.rules, outcome.rcode, outcome.records) == (["r"], "NOERROR", records)
    assert outcome.answer is not None and all(record.ttl == 5 for record in outcome.answer.answers)


def test_3_3_ttl() -> None:
    answer = play(rule("spoof_dns: {A: 192.0.2.1, ttl: 60}"), dns("a.test")).answer
    assert answer is not None and answer.answers[0].ttl == 60


def test_3_3_rcode() -> None:
    for code in ("NXDOMAIN", "SERVFAIL", "REFUSED"):
        assert play(rule(f"spoof_dns: {{rcode: {code}}}"), dns("a.test", "TXT")).rcode == code


def test_3_3_others_forward() -> None:
    text = rule("spoof_dns: {A: 192.0.2.1, others: forward}")
    assert play(text, dns("a.test")).records == ["192.0.2.1"]
    assert play(text, dns("a.test", "AAAA")).answer is None


def test_3_3_with_dns_type_only_those_are_owned() -> None:
    text = rule("spoof_dns: {A: 192.0.2.1}", "host: a.test, dns_type: [A, TXT]")
    assert play(text, dns("a.test", "TXT")).records == []
    assert play(text, dns("a.test", "AAAA")).answer is None


def query(text: str, type_: str) -> DNSFlow:
    flow = DNSFlow(Client(peername=("127.0.0.1", 1)), Server(), DNSMessage.make_query("a.test", types.from_str(type_)))
    answer_query(rules_of(text), flow, lambda rule, exc: pytest.fail(str(exc)))
    return flow


def test_3_3_cname_answers_carry_the_targets_addresses() -> None:
    """`follow` has the server append them, resolved upstream."""
    for type_, follow in (("A", "b.test"), ("AAAA", "b.test"), ("CNAME", None)):
        flow = query(rule("spoof_dns: {CNAME: B.test.}"), type_)
        assert flow.response is not None and flow.follow == follow
        assert [record.data_text for record in flow.response.answers] == ["b.test."]


def dialled(text: str, name: str = "a.test") -> NameAnswer | None:
    return resolve_name(rules_of(text), name, None, lambda rule, exc: pytest.fail(str(exc)))


@pytest.mark.parametrize(("spoof", "wanted"), [
    pytest.param("192.0.2.1", NameAnswer(("192.0.2.1",), rule="r"), id="3.3-own-look-ups-ask-the-same-rules"),
    pytest.param("{AAAA: '::1', A: 192.0.2.1}", NameAnswer(("192.0.2.1", "::1"), rule="r"), id="3.3-both-families"),
    pytest.param("{CNAME: b.test}", NameAnswer(alias="b.test", rule="r"), id="3.3-the-target-is-looked-up"),
    pytest.param("{rcode: NXDOMAIN}", NameAnswer(rcode="NXDOMAIN", rule="r"), id="3.3-an-rcode-fails-the-dial"),
    pytest.param("{TXT: x}", NameAnswer(rule="r"), id="3.3-the-name-is-owned-without-addresses"),
    pytest.param("{TXT: x, others: forward}", None, id="3.3-unless-others-are-forwarded"),
    pytest.param("{A: 192.0.2.1, for: proxy}", NameAnswer(("192.0.2.1",), rule="r"), id="3.3-for-the-proxy"),
    pytest.param("{A: 192.0.2.1, for: clients}", None, id="3.3-for-clients"),
])  # fmt: skip
def test_own_look_ups(spoof: str, wanted: NameAnswer | None) -> None:
    assert dialled(rule(f"spoof_dns: {spoof}")) == wanted
    assert (play(rule(f"spoof_dns: {spoof}"), dns("a.test")).answer is None) == (
        "proxy" in spoof or "TXT: x, others" in spoof)


def test_3_3_a_name_of_two_rules() -> None:
    text = rule("spoof_dns: {TXT: x}", "host: a.test, dns_type: A") + (
        "  - {name: six, match: {host: a.test, dns_type: AAAA}, action: {spoof_dns: '::1'}}\n")
    assert dialled(text) == NameAnswer(("::1",), rule="six")


def test_3_3_a_type_that_is_not_owned_is_looked_up() -> None:
    for spoof in ("rcode: NOERROR", "rcode: NXDOMAIN", "TXT: x"):
        assert dialled(rule(f"spoof_dns: {{{spoof}}}", "host: a.test, dns_type: AAAA")) is None


def test_3_3_an_rcode_fails_the_dial_with_a_502_naming_the_rule() -> None:
    outcome = play(rule("spoof_dns: {rcode: NXDOMAIN}"), http("http://a.test/"))
    assert (status_of(outcome), outcome.sent) == (502, None)
    assert "r" in text_of(outcome)


def test_3_3_the_route_comes_first() -> None:
    text = rule("redirect_server: b.test") + "  - {name: b, match: {host: b.test}, action: {spoof_dns: 192.0.2.2}}\n"
    outcome = play(text, http("http://a.test/"))
    assert (outcome.server, outcome.addresses) == ("b.test:80", ("192.0.2.2",))


def test_3_3_block_never_applies_to_own_look_ups() -> None:
    text = "rules:\n  - {name: r, match: {host: a.test, dns_type: A}, action: {block: {}}}\n"
    assert dialled(text) is None
    assert play(text, dns("a.test")).rcode == "NXDOMAIN"
    assert status_of(play(text, http("http://a.test/"))) == 200


@pytest.mark.parametrize(("spoof", "message"), [
    ("a.b", "IPv4"), ("{A: '::1'}", "IPv4"), ("{A: 1.2.3}", "IPv4"), ("{AAAA: 1.2.3.4}", "IPv6"),
    ("{MX: mail.test}", "MX"), ("{ttl: 5}", "says nothing"), ("{A: 1.2.3.4, rcode: NXDOMAIN}", "no records"),
    ("{CNAME: b.test, A: 1.2.3.4}", "no other records"), ("{CNAME: 'b test'}", "host name"),
    ("{TXT: '${query.q}'}", "only ${vars"), ("{rcode: NXDOMAIN, others: forward}", "no other types"),
])  # fmt: skip
def test_3_3_mistakes(spoof: str, message: str) -> None:
    assert message in mistakes(rule(f"spoof_dns: {spoof}"))[0]
