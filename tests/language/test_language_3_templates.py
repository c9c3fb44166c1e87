"""Rule language, 3.4: templates in the places they can stand. One case or more per sentence; the id names it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rulesproxy.compiler.outcome import Outcome
from tests.compiler.rulefiles import build_text, errors, warnings
from tests.language.playing import compiled, got_header, http, mistakes, play, sent_header, text_of


def rule(action: str, match: str = "host: a.test") -> str:
    return f"rules:\n  - name: r\n    match: {{{match}}}\n    action: {{{action}}}\n"


def get(action: str, url: str = "http://a.test/", match: str = "host: a.test", **more: Any) -> Outcome:
    return play(rule(action, match), http(url, **more))


def status_of(outcome: Outcome) -> int:
    assert outcome.response is not None
    return outcome.response.status_code


def test_3_4_in_a_match_only_vars_literally_before_the_pattern_is_read() -> None:
    text = "vars: {p: '/a/*', q: '${vars.p}'}\n" + rule("respond: x", "host: a.test, path: '${vars.p}'")
    assert [play(text, http(f"http://a.test{path}")).rules for path in ("/a/b", "/a/*", "/b")] == [["r"], ["r"], []]
    assert "only ${vars" in mistakes(rule("respond: x", "path: '${query.q}'"))[0]


def test_3_4_what_a_variable_says_is_text_in_an_action() -> None:
    assert text_of(play("vars: {v: '$${query.q}'}\n" + rule("respond: 'a ${vars.v}'"), http("http://a.test/?q=1"))
                   ) == "a ${query.q}"


def test_3_4_two_dollars_are_the_text() -> None:
    assert text_of(get("respond: '$${query.q} $$ $ $1 \\1'")) == "${query.q} $$ $ $1 \\1"


@pytest.mark.parametrize(("value", "kind"), [
    ("'${query.n | int}'", 5), ("'${query.n}'", "5"), ("'n${query.n | int}'", "n5"), ("'${query.none}'", None),
    ("'${request.json.l}'", [1, {"a": None}]),
])  # fmt: skip
def test_3_4_a_json_scalar_that_is_one_expression_keeps_its_type(value: str, kind: Any) -> None:
    outcome = play(rule(f"respond: {{json: {{v: {value}}}}}"),
                   http("POST http://a.test/?n=5", json={"l": [1, {"a": None}]}))
    assert json.loads(text_of(outcome)) == {"v": kind}


def test_3_4_elsewhere_text_numbers_decimal_absent_empty() -> None:
    outcome = play(rule("respond: '${request.json.n}|${request.json.f}|${request.json.x}|${request.json.b}'"),
                   http("POST http://a.test/", json={"n": 10 ** 20, "f": 1e-7, "b": False}))
    assert text_of(outcome) == "100000000000000000000|0.0000001||false"


def test_3_4_a_look_up_that_may_be_absent_is_a_warning() -> None:
    assert ("may-be-absent", 5) in warnings("version: 1\n" + rule("respond: '${query.q}'"))
    assert "may-be-absent" not in [code for code, _ in warnings(
        "version: 1\n" + rule("respond: '${query.q | default(\"\")}'"))]


def test_3_4_an_unknown_name_is_an_error_never_text() -> None:
    assert errors(build_text("version: 1\n" + rule("respond: '${nothing.x}'"))) == [
        '5:23 ${nothing.x}: no name "nothing"']


@pytest.mark.parametrize(("action", "url", "location"), [
    pytest.param("redirect: 'https://b.test/?n=${query.q}'", "http://a.test/?q=a%20b%26c%3D%23/%3F",
                 "https://b.test/?n=a%20b%26c%3D%23%2F%3F", id="3.4-url-percent-encoded"),
    pytest.param("redirect: 'https://b.test/${query.q}/x'", "http://a.test/?q=../../y", "https://b.test/..%2F..%2Fy/x",
                 id="3.4-url-no-separator"),
    pytest.param("redirect: 'https://${query.q}.b.test/'", "http://a.test/?q=evil.test/%3F",
                 "https://evil.test%2F%3F.b.test/", id="3.4-url-no-other-host"),
    pytest.param("redirect: 'https://b.test${request.path}'", "http://a.test/x%2Fy/%C3%A4%20b?q=1",
                 "https://b.test/x%2Fy/%C3%A4%20b", id="3.4-url-path-stays-a-path"),
    pytest.param("redirect: '/${query.q}'", "http://a.test/?q=/evil.test", "/%2Fevil.test", id="3.4-url-stays-here"),
    pytest.param("redirect: '/${query.q}'", "http://a.test/?q=%0d%0aset-cookie:%20a", "/%0D%0Aset-cookie%3A%20a",
                 id="3.4-url-no-line-break"),
])  # fmt: skip
def test_into_a_url(action: str, url: str, location: str) -> None:
    outcome = get(action, url)
    assert got_header(outcome, "location") == [location]
    assert {name.lower() for name in (outcome.response.headers if outcome.response else [])} == {
        "location", "cache-control", "content-length"}


HEADERS = [
    "respond: {headers: {x-a: 'b ${query.q}'}}",
    "respond: {body: x, headers: {x-a: '${query.q | default(1)}'}}",
    "block: {status: 403, headers: {x-a: '${query.q}'}}",
    "map_local: {path: ./x.txt, headers: {x-a: '${query.q}'}}",
    "rewrite: {headers: {set: {x-a: '${query.q}'}}}",
    "rewrite: {headers: {add: {x-a: '${query.q}'}}}",
    "rewrite: {headers: {replace: {host-x: {text: b, with: '${query.q}'}}}}",
    "rewrite: {cookies: {set: {s: '${query.q}'}}}",
    "rewrite: {response_headers: {set: {x-a: '${query.q}'}}}",
    "rewrite: {response_cookies: {set: {s: '${query.q}'}}}",
    "rewrite: {response_cookies: {set: {s: {value: x, path: '${query.q}'}}}}",
    "rewrite: {response_headers: {replace: {x-a: {regex: '(o)ld', with: '${match.1}${query.q}'}}}}",
]


@pytest.mark.parametrize("action", HEADERS)
@pytest.mark.parametrize("escape", ["%0d%0ax-evil:%201", "%0a", "%0d", "%00"])
def test_3_4_into_a_header_cr_lf_nul_are_500_naming_the_rule(action: str, escape: str) -> None:
    outcome = get(action, f"http://a.test/?q=a{escape}b", answer_headers={"x-a": "old"})
    assert status_of(outcome) == 500
    assert "Rule: r" in text_of(outcome) and "rules.yaml:3:11" in text_of(outcome)
    assert got_header(outcome, "x-evil") == []
    assert [(info.name, type(exc).__name__) for info, exc in outcome.failures] == [("r", "TemplateError")]


@pytest.mark.parametrize("action", [action for action in HEADERS if "host-x" not in action])
def test_3_4_other_text_goes_into_a_header_as_it_is(action: str) -> None:
    outcome = get(action, "http://a.test/?q=a%22%20:,%C3%A4%09b%F0%9F%98%80", answer_headers={"x-a": "old"})
    assert outcome.response is not None
    if outcome.sent is not None and "response" not in action:
        values = sent_header(outcome, "cookie" if "cookies" in action else "x-a")
    else:
        values = got_header(outcome, "set-cookie" if "cookies" in action else "x-a")
    if "map_local" not in action:
        assert any('a" :,ä\tb😀' in value for value in values), values


@pytest.mark.parametrize("action", ["rewrite: {cookies: {set: {s: '${query.q}'}}}",
                                    "rewrite: {response_cookies: {set: {s: '${query.q}'}}}",
                                    "rewrite: {response_cookies: {set: {s: {value: '${query.q}', secure: true}}}}"])
def test_3_4_a_cookie_value_ends_at_no_semicolon(action: str) -> None:
    assert status_of(get(action, "http://a.test/?q=a;%20admin=1")) == 500


def test_3_4_into_a_body_verbatim() -> None:
    url = "http://a.test/?q=%3Cb%3E%0d%0a%00%22${x}"
    assert text_of(get("respond: '<${query.q}>'", url)) == '<<b>\r\n\0"${x}>'
    assert text_of(get("rewrite: {response_body: '<${query.q}>'}", url)) == '<<b>\r\n\0"${x}>'
    assert text_of(get("rewrite: {response_body: {replace: {text: o, with: '${query.q}'}}}", url, answer="o")
                   ) == '<b>\r\n\0"${x}'


@pytest.mark.parametrize(("with_", "wanted"), [
    pytest.param("${match.1}-${match.2}", "b-a", id="3.4-replacement-groups"),
    pytest.param("${match.0}!", "ab!", id="3.4-replacement-all"),
    pytest.param("${match.x}", "b", id="3.4-replacement-named"),
    pytest.param("$${match.1}", "${match.1}", id="3.4-replacement-the-text"),
    pytest.param("${query.q}${match.1}", "1b", id="3.4-replacement-other-names"),
    pytest.param("$ \\ &", "$ \\ &", id="3.4-replacement-signs"),
])  # fmt: skip
def test_regex_replacement(with_: str, wanted: str) -> None:
    action = f"rewrite: {{response_body: {{replace: {{regex: '(?P<y>a)(?P<x>b)', with: '{with_}'}}}}}}"
    swapped = action.replace("${match.1}-${match.2}", "${match.x}-${match.y}").replace(
        "${query.q}${match.1}", "${query.q}${match.2}")
    assert text_of(get(swapped, "http://a.test/?q=1", answer="ab")) == wanted


def test_3_4_the_rules_own_captures_in_a_replacement() -> None:
    action = "rewrite: {response_body: {replace: {text: NAME, with: '${match.1} ${path.id}'}}}"
    match = "path: '/u/{id}', headers: {x-a: {regex: '^(.)'}}"
    assert text_of(get(action, "http://a.test/u/7", match, headers={"x-a": "xyz"}, answer="<NAME>")) == "<x 7>"


@pytest.mark.parametrize("with_", ["$1", "a\\1b", "${1}", "x$2"])
def test_3_4_groups_as_other_tools_write_them_get_a_did_you_mean(with_: str) -> None:
    text = rule(f"rewrite: {{response_body: {{replace: {{regex: '(a)', with: '{with_}'}}}}}}")
    result = build_text("version: 1\n" + text)
    [error] = result.report.errors
    digit = "".join(filter(str.isdigit, with_))
    assert f"${{match.{digit}}}" in error.help


def test_3_4_in_a_redirect_too() -> None:
    result = build_text("version: 1\n" + rule("redirect: 'https://b.test/$1'", "path_regex: '^/(.*)'"))
    [error] = result.report.errors
    assert "${match.1}" in error.help
    assert compiled(rule("redirect: 'https://b.test/?price=$1'")).rules is not None


@pytest.mark.parametrize(("action", "message"), [
    ("rewrite: {headers: {replace: {x-a: {regex: a, with: '${match.1}'}}}}", "no group 1"),
    ("rewrite: {headers: {replace: {x-a: {with: b}}}}", "regex or text"),
    ("rewrite: {headers: {replace: {x-a: {regex: a, text: b, with: c}}}}", "regex or text"),
    ("rewrite: {headers: {replace: {x-a: {text: '', with: c}}}}", "found everywhere"),
    ("rewrite: {headers: {replace: {x-a: {regex: '(', with: c}}}}", "RE2 does not accept"),
    ("rewrite: {path: {replace: {regex: '(?=a)', with: c}}}", "RE2 does not accept"),
    ('rewrite: {headers: {replace: {x-a: {text: a, with: "b\\r\\nc"}}}}', "carriage return"),
    ('rewrite: {headers: {set: {x-a: "b\\nc"}}}', "line break"), ('respond: {headers: {x-a: "b\\0"}}', "NUL"),
    ('rewrite: {response_headers: {add: {x-a: [b, "c\\e"]}}}', "U+001B"),
    ("rewrite: {cookies: {set: {a: 'b; c=d'}}}", "semicolon"), ("rewrite: {cookies: {set: {'a b': c}}}", "cookie name"),
    ("rewrite: {response_cookies: {set: {a: {value: b, path: '/;x'}}}}", "semicolon"),
    ("rewrite: {headers: {set: {'x a': b}}}", "not a header name"), ("rewrite: {headers: {set: {host: b}}}", "Host"),
    ('redirect: "/a\\nb"', "line breaks"), ("respond: {body: a, file: body.txt}", "both give the body"),
    ("respond: {status: 204, body: a}", "has no body"), ("respond: {json: {a: .nan}}", "no number in JSON"),
    ("respond: {body: x, template: true}", "template"), ("block: {how: close, status: 403}", "nobody sees a page"),
    ("block: false", "blocks nothing"), ("delay: {uniform: [2s, 1s]}", "the first time"), ("delay: 61m", "one hour"),
    ("map_local: {path: x, status: 304}", "cannot be the answer"),
    ("rewrite: {body: {json_patch: [{op: replace}]}}", "JSON Patch"),
    ("rewrite: {body: {json_patch: [{op: jump, path: /a}]}}", "JSON Patch"),
    ("rewrite: {body: {json_patch: [{op: remove, path: a}]}}", "JSON Patch"),
    ("respond: '${response.status}'", "before there is a response"),
    ("rewrite: {headers: {set: {x-a: '${response.status}'}}}", "before there is a response"),
])  # fmt: skip
def test_mistakes(action: str, message: str) -> None:
    assert message in mistakes(rule(action))[0]


@pytest.mark.parametrize("name", ["Connection", "transfer-encoding", "Content-Length", "keep-alive", "TE", "trailer",
                                  "proxy-authorization", "proxy-connection", "upgrade"])
@pytest.mark.parametrize("action", [
    "rewrite: {{headers: {{set: {{{}: x}}}}}}", "rewrite: {{headers: {{remove: {}}}}}",
    "rewrite: {{response_headers: {{add: {{{}: x}}}}}}", "respond: {{headers: {{{}: x}}}}",
    "block: {{status: 403, headers: {{{}: x}}}}",
])  # fmt: skip
def test_4_4_framing_and_hop_by_hop_fields_cannot_be_named(action: str, name: str) -> None:
    assert "the proxy writes it itself" in mistakes(rule(action.format(name)))[0]


def test_3_4_response_names_where_the_response_is_visible() -> None:
    match = "host: a.test, status: 404"
    outcome = get("respond: '${response.status} ${response.headers.x | default(1)} ${response.json.a | default(2)}'",
                  match=match, status=404, answer_json={"a": "b"}, answer_headers={"x": "y"})
    assert text_of(outcome) == "404 y b"


def test_4_1_templates_on_the_response_see_the_request_as_it_was_sent() -> None:
    action = ("rewrite: {method: PUT, headers: {set: {x-a: new}}, body: {json_merge: {n: 2}}, response_headers: {set: {"
              "x-was: '${request.method} ${request.headers.x-a} ${request.json.n} ${request.body}'}}}")
    outcome = play(rule(action), http("POST http://a.test/", headers={"x-a": "old"}, json={"n": 1}))
    assert got_header(outcome, "x-was") == ['POST old 1 {"n": 1}']
    assert outcome.sent is not None and json.loads(outcome.sent.body) == {"n": 2}
