"""Templates as the compiler reads them: names, filters, places, and every mistake with its place and its help."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.diagnostics import Diagnostic, Report
from rulesproxy.compiler.expression import ExpressionError, parse_expression
from rulesproxy.compiler.inputs import Disk, Inputs
from rulesproxy.compiler.ir import ALWAYS
from rulesproxy.compiler.predicates import find_captures
from rulesproxy.compiler.source import Position, Scalar, parse
from rulesproxy.compiler.template import Place, Template, parse_json, parse_template, render_inside
from rulesproxy.compiler.writer import Module
from rulesproxy.model.http import Response
from rulesproxy.runtime.facts import HttpFacts
from rulesproxy.runtime.phase import ALL_PHASES, Phase
from rulesproxy.runtime.ruleset import TemplateError
from tests.matchers.matcher_kit import good_match, http, run_module

VARS = {"name": "Ada", "port": "8080", "odd key": "odd", "a.b": "dotted", "brace": "${query.q}"}
URL = "http://a.test:81/u/x%20y%2Fz/?q=1&q=2&odd%20key=3&empty="
HEADERS = (("x-a", "v1"), ("x-a", "v2"), ("Cookie", "s=abc; t=d=e"), ("x-Odd_1", "odd"))


def context_of(match: str = "", visible: frozenset[Phase] = ALL_PHASES) -> Context:
    context = Context(Report(), Inputs(Disk()), vars=VARS, rule_name="r")
    predicate = good_match(match) if match else ALWAYS
    context.see_match(predicate, find_captures(predicate), visible)
    return context


def facts(body: bytes = b'{"user": {"name": "Bo", "tags": ["x", {"y": 2}]}, "n": 7, "no": null, "1": {"5": "z"}}'
          ) -> HttpFacts:
    x = http(URL, "POST", *HEADERS)
    x.request.raw_content = body
    response = Response.make(404, b'{"why": "gone"}', {"x-r": "answer"})
    x.see_response(response)
    return x


def expand(text: str, place: Place = Place.BODY, match: str = "", x: HttpFacts | None = None) -> str:
    """The text, interpreted and emitted, which must agree."""
    context = context_of(match)
    template = parse_template(Scalar(Position("t", 1, 1), text, plain=False), context, place=place)
    assert not context.report.errors, [error.message for error in context.report.errors]
    if isinstance(template, str):
        return template
    x = x or facts()
    rendered = template.render(x)
    module = Module()
    assert run_module(module, template.emit(module))(x) == rendered
    return rendered


NAMES = [
    ("${vars.name}", "Ada"), ("${vars[\"odd key\"]}", "odd"), ("${vars.a.b}", "dotted"),
    ("${vars.brace}", "${query.q}"),
    ("${query.q}", "1"), ('${query["odd key"]}', "3"), ("${query.empty}", ""), ("${query.none}", ""),
    ("${request.method}", "POST"), ("${request.host}", "a.test"), ("${request.path}", "/u/x y%2Fz/"),
    ("${request.url}", "http://a.test:81/u/x y%2Fz/?q=1&q=2&odd%20key=3&empty="),
    ("${request.headers.x-a}", "v1"), ('${request.headers["X-ODD_1"]}', "odd"), ("${request.headers.none}", ""),
    ("${request.cookies.t}", "d=e"), ("${request.cookies.none}", ""),
    ("${request.body}", '{"user": {"name": "Bo", "tags": ["x", {"y": 2}]}, "n": 7, "no": null, "1": {"5": "z"}}'),
    ("${request.json.user.name}", "Bo"), ("${request.json.user.tags[0]}", "x"), ("${request.json.user.tags.0}", "x"),
    ("${request.json.user.tags[1].y}", "2"), ("${request.json.1.5}", "z"), ('${request.json["user"]["name"]}', "Bo"),
    ("${request.json.user.tags}", '["x",{"y":2}]'), ("${request.json.no}", ""), ("${request.json.x.y[3]}", ""),
    ("${request.json.user.tags[-1].y}", "2"), ("${response.status}", "404"), ("${response.headers.X-R}", "answer"),
    ("${response.json.why}", "gone"), ("${random(5, 5)}", "5"),
    ("a${query.q}b${vars.name}c", "a1bAdac"), ("${ query.q }", "1"), ("$${query.q}", "${query.q}"), ("$$", "$$"),
    ("$${", "${"), ("{}%s{0}$x", "{}%s{0}$x"), ("", ""), ("${query.q}}", "1}"), ('${query.n | default("}")}', "}"),
    ('${query.n | default("a\\"b\\\\")}', 'a"b\\'), ("${query.n | default('it')}", "it"),
    ("${query.n|default(5)}", "5"), ("${query.n | default(-1.5)}", "-1.5"),
    ("${query.q | int | default(0)}", "1"), ("${request.headers.x-a | upper | base64}", "VjE="),
    ("${vars.port | int}", "8080"), ("${vars.name | lower}", "ada"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), NAMES)
def test_names(text: str, wanted: str) -> None:
    assert expand(text) == wanted


def test_now_and_uuid() -> None:
    text = '${uuid} ${now | date("%Y")} ${now}'
    template = parse_template(Scalar(Position("t", 1, 1), text, False), context_of(), place=Place.BODY)
    assert isinstance(template, Template)
    first, second = template.render(facts()).split(), template.render(facts()).split()
    assert first[0] != second[0]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} (20[0-9]{2}) \2-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z",
                        " ".join(first))


@pytest.mark.parametrize(("match", "text", "wanted"), [
    ("path: '/u/{id}/'", "<${path.id}>", "<x y%2Fz>"), ("path_regex: '^/(u)/(?P<rest>.*)'", "${match.1} ${match.rest}",
                                                       "u x y%2Fz/"),
    ("any: [{path: '/v/{id}/'}, {path: '/u/{id}/'}]", "${path.id}", "x y%2Fz"),
])  # fmt: skip
def test_captures(match: str, text: str, wanted: str) -> None:
    assert expand(text, match=match) == wanted


@pytest.mark.parametrize(("place", "match", "text", "wanted"), [
    (Place.URL, "", "/${query.q | default(\"a/b?c\")}", "/1"),
    (Place.URL, "", "/${query.n | default(\"a/b?c ä%\")}", "/a%2Fb%3Fc%20%C3%A4%25"),
    (Place.URL, "", "${request.path}", "/u/x%20y%2Fz/"), (Place.URL, "", "//${request.host}/", "//a.test/"),
    (Place.URL, "path: '/u/{id}/'", "/${path.id}", "/x%20y%2Fz"),
    (Place.URL, "path: '/u/{id}/'", "/${path.id | upper}", "/X%20Y%2FZ"),
    (Place.URL, "path: '/u/{id}/'", "/${path.id | base64}", "/eCB5JTJGeg%3D%3D"),
    (Place.URL, "", "?next=${request.url}",
     "?next=http%3A%2F%2Fa.test%3A81%2Fu%2Fx%20y%252Fz%2F%3Fq%3D1%26q%3D2%26odd%2520key%3D3%26empty%3D"),
    (Place.HEADER, "", "  ${query.q}  ", "1"), (Place.FILE, "", "${query.q}.txt", "1.txt"),
    (Place.TEXT, "", "${request.path}", "/u/x y%2Fz/"), (Place.COOKIE, "", "${query.q}", "1"),
])  # fmt: skip
def test_places(place: Place, match: str, text: str, wanted: str) -> None:
    assert expand(text, place, match) == wanted


@pytest.mark.parametrize(("place", "value", "status"), [
    (Place.HEADER, "a\r\nb: c", 500), (Place.HEADER, "a\0", 500), (Place.COOKIE, "a; b", 500),
    (Place.FILE, "../a", 404), (Place.FILE, "", 404), (Place.FILE, "a\0", 404),
])  # fmt: skip
def test_places_refuse(place: Place, value: str, status: int) -> None:
    x = facts(json.dumps({"v": value}).encode())
    with pytest.raises(TemplateError) as caught:
        expand("${request.json.v}", place, x=x)
    assert caught.value.status == status


def test_many_parts_compile() -> None:
    assert expand("${query.q}," * 5000) == "1," * 5000


# --- JSON ------------------------------------------------------------------------------------------------------------


def json_of(text: str) -> Any:
    report = Report()
    [node] = parse("t.yaml", text.encode(), report)
    context = context_of()
    document = parse_json(node, context)
    assert not context.report.errors
    return render_inside(document, facts())


@pytest.mark.parametrize(("text", "wanted"), [
    ("a: [1, 1.5, true, null, x, '1', 007]", {"a": [1, 1.5, True, None, "x", "1", 7]}),
    ('a: "${request.json.n}"', {"a": 7}), ('a: "n ${request.json.n}"', {"a": "n 7"}),
    ('a: "${request.json.user.tags}"', {"a": ["x", {"y": 2}]}), ('a: "${query.q}"', {"a": "1"}),
    ('a: "${query.q | int}"', {"a": 1}), ('a: "${query.none}"', {"a": None}), ('a: "${response.status}"', {"a": 404}),
    ('a: "${vars.port}"', {"a": "8080"}), ('a: "${vars.port | int}"', {"a": 8080}), ('a: "$${x}"', {"a": "${x}"}),
    ('"${query.q}": 1', {"${query.q}": 1}),
])  # fmt: skip
def test_json(text: str, wanted: Any) -> None:
    assert json_of(text) == wanted


# --- mistakes --------------------------------------------------------------------------------------------------------

# text → message, help
MISTAKES = [
    ("${", "never closed", "$${"), ("${query.q", "never closed", "$${"), ("${}", "a name is missing", ""),
    ("${quary.q}", 'no name "quary"', 'did you mean "query"?'), ("${q}", 'no name "q"', "known are"),
    ("${vars.nam}", "no variable nam", 'did you mean "name"?'), ("${vars}", "no variable", ""),
    ("${request.header.x}", "request has no header", 'did you mean "headers"?'),
    ("${request}", "not written like that", "request.{method"), ("${request.headers}", "not written like that", ""),
    ("${response.body}", "response has no body", ""), ("${response.url}", "response has no url", ""),
    ("${query}", "not written like that", "query.KEY"), ("${query.a.b}", "not written like that", "query.KEY"),
    ("${path.id}", "captures no path.id", "/users/{id}"), ("${match.1}", "captures no match.1", ""),
    ("${now.x}", "not written like that", "now"), ("${uuid(1)}", "take arguments", ""),
    ("${random}", "two whole numbers", "random(1, 6)"), ("${random(6, 1)}", "two whole numbers", ""),
    ("${random(1.5, 2)}", "two whole numbers", ""), ('${random("a", 2)}', "two whole numbers", ""),
    ("${query.q | defalt(1)}", 'no filter "defalt"', 'did you mean "default"?'),
    ("${query.q | default}", "takes 1 argument, not 0", ""), ("${query.q | int(1)}", "takes 0 arguments, not 1", ""),
    ("${query.q | date(1, 2)}", "takes 0 to 1 argument, not 2", ""), ("${query.q |}", "a name is missing", ""),
    ("${query.q | default(x)}", "quoted texts or numbers", ""), ("${query.q | default(1 2)}", "not closed", ""),
    ("${query[x]}", "quoted key", ""), ("${query[1.5]}", "quoted key", ""), ('${query["x"}', "not closed", ""),
    ("${query.q + 1}", "'+' cannot stand", ""), ("${query.q}} ${__import__('os')}", "no name", ""),
    ("${vars.name | int}", "comes to nothing", ""), ("${" + "a" * 2000 + "}", "at most 1000", ""),
    ("${1}", 'no name "1"', ""),
    ("${state.x}", 'no name "state"', ""), ("${secrets.x}", 'no name "secrets"', ""),
]


def mistake(text: str, match: str = "", visible: frozenset[Phase] = ALL_PHASES) -> Diagnostic:
    context = context_of(match, visible)
    parse_template(Scalar(Position("t.yaml", 7, 9), text, plain=False), context, place=Place.BODY)
    [error] = context.report.errors
    return error


@pytest.mark.parametrize(("text", "message", "help_"), MISTAKES)
def test_mistakes(text: str, message: str, help_: str) -> None:
    error = mistake(text)
    assert message in error.message
    assert help_ in error.help
    assert (error.pos.file, error.pos.line, error.pos.column) == ("t.yaml", 7, 9)


def test_a_wrong_capture_gets_a_suggestion() -> None:
    error = mistake("${path.idd}", "path: '/u/{id}'")
    assert "captures no path.idd" in error.message and error.help == 'did you mean "path.id"?'


@pytest.mark.parametrize(("match", "why"), [
    ("any: [{path: '/u/{id}'}, {path: /v}]", "not every branch"), ("not: {path: '/u/{id}'}", "in a not"),
])  # fmt: skip
def test_a_capture_that_may_be_missing_is_none(match: str, why: str) -> None:
    assert why in mistake("${path.id}", match).message


@pytest.mark.parametrize(("text", "phases"), [
    ("${request.method}", {Phase.DNS, Phase.CONNECT}), ("${query.q}", {Phase.TLS}),
    ("${response.status}", {Phase.REQUEST}), ("${response.json.x | int}", {Phase.REQUEST}),
])  # fmt: skip
def test_what_cannot_be_seen_is_an_error(text: str, phases: set[Phase]) -> None:
    assert "cannot be seen" in mistake(text, visible=frozenset(phases)).message


@pytest.mark.parametrize("source", ["a" * 1001, "'", '"', "a | b | c(", "[", "(", "a..b", "a.", ".a", "\0", "é", "a b"])
def test_no_text_breaks_the_parser(source: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(source)


@pytest.mark.parametrize(("text", "warned"), [
    ("${query.q}", True), ("${request.headers.a}", True), ("${request.cookies.a}", True), ("${request.json.a}", True),
    ("${response.headers.a}", True), ("${response.json.a}", True), ("${query.q | lower}", True),
    ("${query.q | default(1)}", False), ("${query.q | int | default(1)}", False), ("${request.method}", False),
    ("${request.body}", False), ("${now}", False), ("${vars.name}", False), ("${response.status}", False),
])  # fmt: skip
def test_what_may_be_absent_is_warned_about(text: str, warned: bool) -> None:
    context = context_of()
    parse_template(Scalar(Position("t.yaml", 7, 9), text, plain=False), context, place=Place.BODY)
    found = [(warning.code, warning.pos.line, warning.pos.column) for warning in context.report.warnings]
    assert found == ([("may-be-absent", 7, 9)] if warned else [])
