"""String matchers on header lines, query values and cookies."""

from __future__ import annotations

import time
from decimal import Decimal
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.compiler.ir import All
from rulesproxy.compiler.operators import Glob, GlobOperator, TextOperator
from rulesproxy.compiler.source import Position
from rulesproxy.compiler.strings import Condition, StringMatcher
from rulesproxy.compiler.writer import Module
from rulesproxy.matchers.query import QueryLeaf
from rulesproxy.runtime.patterns import glob_source
from rulesproxy.runtime.text import BadRegex, Regex, decimal, elements
from tests.matchers.matcher_kit import (
    answer,
    bad_match,
    build_match,
    captured,
    fields,
    good_match,
    http,
    leaf,
    matches,
    run_module,
)

#: matcher, lists of lines that hit, lists of lines that miss
STRINGS = [
    ("a", [["a"], ["b", "a"], [" a "]], [[], ["A"], ["ab"], ["a, b"]]),
    ("1.10", [["1.10"]], [["1.1"]]),
    ("007", [["007"]], [["7"]]),
    ("yes", [["yes"]], [["true"]]),
    ("'null'", [["null"]], [[""]]),
    ("''", [[""]], [[], ["a"]]),
    ("[a, b]", [["a"], ["x", "b"]], [[], ["c"]]),
    ("{exact: [a, b]}", [["b"]], [["c"]]),
    ("{prefix: ab}", [["ab"], ["x", "abc"]], [["xab"], []]),
    ("{prefix: [ab, c]}", [["cx"]], [["x"]]),
    ("{suffix: yz}", [["yz"], ["xyz"]], [["yzx"]]),
    ("{contains: b}", [["abc"]], [["ac"], []]),
    ("{contains: [b, d]}", [["abc"], ["d"]], [["ac"]]),
    ("{prefix: a, suffix: c}", [["abc"], ["x", "ac"]], [["ax", "xc"]]),
    ("{glob: 'a*c'}", [["ac"], ["abbc"], ["a c/d c"]], [["acx"], ["xac"]]),
    ("{glob: ['a*', '*z']}", [["ab"], ["yz"]], [["b"]]),
    ("{glob: 'a?c.[x]'}", [["a?c.[x]"]], [["abc.x"]]),
    ("{glob: '*a*b*'}", [["xaxbx"]], [["ba"]]),
    ("{regex: 'b+'}", [["abbc"]], [["ac"], []]),
    ("{regex: '^b+$'}", [["bb"]], [["abb"]]),
    ("{regex: [x, y]}", [["y"]], [["z"]]),
    ("{regex: 'é'}", [["café"]], [["cafe"]]),
    ("{in: words}", [["red"]], [["blue"]]),
    ("{in: [red, blue]}", [["blue"]], [["green"]]),
    ("{absent: true}", [[]], [["a"], [""]]),
    ("{absent: false}", [["a"], [""]], [[]]),
    ("{present: true}", [["a"], [""]], [[]]),
    ("{present: false}", [[]], [["a"]]),
    ("{has: gzip}", [["gzip"], ["br, gzip"], ["br", "gzip"], ["br,gzip ,x"]], [["gzipped"], ["GZIP"], ["gzip;q=0"]]),
    ("{has: [x, y]}", [["a, y"]], [["a, b"]]),
    ("{has: '\"a, b\"'}", [['x, "a, b"']], [["a, b"]]),
    ("{has: no-store, ignore_case: true}", [["No-Store, x"]], [["store"]]),
    ("{not: a}", [[], ["b"], ["ab"]], [["a"], ["b", "a"]]),
    ("{not: [a, b]}", [["c"]], [["b"]]),
    ("{not: {prefix: a}}", [["b"], []], [["ab"], ["b", "a"]]),
    ("{not: {not: a}}", [["a"]], [["b"], []]),
    ("{not: {absent: true}}", [["a"]], [[]]),
    ("{prefix: a, not: [ab, ac]}", [["ad"]], [["ab"], ["ad", "ab"], ["x"]]),
    ("{present: true, not: a}", [["b"]], [[], ["a"]]),
    ("{exact: Ab, ignore_case: true}", [["aB"]], [["abc"]]),
    ("{exact: STRASSE, ignore_case: true}", [["straße"]], [["strase"]]),
    ("{prefix: AB, suffix: Yz, ignore_case: true}", [["abxyZ"]], [["bxyz"]]),
    ("{contains: B, ignore_case: true}", [["abc"]], [["ac"]]),
    ("{glob: 'A*C', ignore_case: true}", [["aBc"]], [["ab"]]),
    ("{regex: 'É', ignore_case: true}", [["é"]], [["e"]]),
    ("{in: [RED], ignore_case: true}", [["red"]], [["reds"]]),
    ("{not: A, ignore_case: true}", [["b"]], [["a"]]),
    ("{exact: A, ignore_case: false}", [["A"]], [["a"]]),
    ("{gt: 5}", [["6"], ["5.01"], ["4", "7"]], [["5"], ["4.9"], ["x"], ["6x"], ["1e9"], [""], ["0x10"], []]),
    ("{ge: 5}", [["5"], ["5.0"], ["+5"]], [["4.99"]]),
    ("{lt: -1.5}", [["-2"], ["-1.51"]], [["-1.5"], ["-1"], ["-"]]),
    ("{le: 10}", [["10"], ["-3"], ["007"]], [["10.1"], ["١"], [".5"], ["5."], ["Infinity"], ["NaN"]]),
    ("{ge: 1, lt: 5}", [["1"], ["4.9"]], [["5"], ["0", "5"]]),
    ("{gt: 9007199254740992}", [["9007199254740993"]], [["9007199254740992"]]),
    ("{gt: 0.1}", [["0.10000000000000000000000001"]], [["0.1"], ["0.10"]]),
    ("'${vars.folder}'", [["/v"]], [["${vars.folder}"]]),
    ("'$${x}'", [["${x}"]], [["x"]]),
]  # fmt: skip


@pytest.mark.parametrize(("matcher", "hits", "misses"), STRINGS, ids=[matcher for matcher, _, _ in STRINGS])
def test_strings(matcher, hits, misses):
    rule = leaf(f"headers: {{X-A: {matcher}}}")
    for lines in hits:
        assert matches(rule, fields(*(("x-a", line) for line in lines))), lines
    for lines in misses:
        assert not matches(rule, fields(*(("x-a", line) for line in lines))), lines


@pytest.mark.parametrize(("text", "hits", "misses"), [
    ("query: {q: a}", ["?q=a", "?x=1&q=a", "?q=b&q=a", "?q=%61"], ["", "?q=b", "?Q=a", "?q", "?q=A"]),
    ("query: {q: {present: true}}", ["?q", "?q=", "?q=1"], ["", "?x=q"]),
    ("query: {q: ''}", ["?q", "?q=", "?&q&"], ["?q=1", ""]),
    ("query: {q: a b}", ["?q=a+b", "?q=a%20b"], ["?q=a%2Bb"]),
    ("query: {q: a, r: {absent: true}}", ["?q=a"], ["?q=a&r", "?r=1"]),
    ("query: {'a b': é}", ["?a+b=%C3%A9", "?a%20b=é"], ["?ab=e"]),
    ("query: {q: '\ufffd'}", ["?q=%ff"], ["?q=%C3%BF"]),
    ("query: {'${vars.folder}': 1}", ["?/v=1"], ["?v=1"]),
])  # fmt: skip
def test_query(text, hits, misses):
    rule = good_match(text)
    for target in hits:
        assert matches(rule, http("http://a.example/" + target)), target
    for target in misses:
        assert not matches(rule, http("http://a.example/" + target)), target


@pytest.mark.parametrize(("text", "hits", "misses"), [
    ("cookies: {a: 1}", [["a=1"], ["x=y; a=1"], ["a=2; a=1"], ["x=y", "a=1"]], [[], ["a=2"], ["A=1"], ["xa=1"]]),
    ("cookies: {a: {absent: true}}", [[], ["b=1"]], [["a="], ["b=1; a=2"]]),
    ("cookies: {a: {not: 1}}", [["a=2"], []], [["a=2; a=1"]]),
    ("cookies: {a: 'b=c'}", [["a=b=c"]], [["a=b"]]),
])  # fmt: skip
def test_cookies(text, hits, misses):
    rule = good_match(text)
    for lines in hits:
        assert matches(rule, fields(*(("cookie", line) for line in lines))), lines
    for lines in misses:
        assert not matches(rule, fields(*(("cookie", line) for line in lines))), lines


def test_several_names_all_hold():
    rule = good_match("headers: {X-A: 1, x-b: {absent: true}}")
    assert isinstance(rule, All)
    assert matches(rule, fields(("X-a", "1")))
    assert not matches(rule, fields(("x-a", "1"), ("X-B", "")))
    assert not matches(rule, fields())


def test_response_headers_are_those_of_the_response():
    rule = good_match("response_headers: {Content-Type: {prefix: text/}}")
    assert matches(rule, answer(200, ("content-TYPE", "text/html")))
    assert not matches(rule, answer(200, ("content-type", "image/png")))


def test_invalid_bytes_are_replacement_characters():
    rule = leaf("headers: {x-a: {regex: \"^a\\ufffdb$\"}}")
    assert matches(rule, fields(("x-a", "a\udcffb")))


@pytest.mark.parametrize(("matcher", "lines", "name", "value"), [
    ("{regex: 'v([0-9]+)'}", ["x", "v12", "v13"], "match.1", "12"),
    ("{regex: 'v([0-9]+)'}", ["x"], "match.1", None),
    ("{regex: 'v([0-9]+)', suffix: z}", ["v1", "v2z"], "match.1", "2"),
    ("{regex: 'v([0-9]+)', not: bad}", ["v1", "bad"], "match.1", None),
    ("{regex: 'v([0-9]+)', not: bad}", ["v1"], "match.1", "1"),
    ("{regex: 'v([0-9]+)', present: true}", ["v1"], "match.1", "1"),
    ("{regex: 'v([0-9]+)', present: true}", [], "match.1", None),
    ("{regex: '(?P<n>É)', ignore_case: true}", ["é"], "match.n", "é"),
    ("{regex: ['a(.)', 'b(.)']}", ["bx"], "match.1", "x"),
])  # fmt: skip
def test_captures(matcher, lines, name, value):
    rule = leaf(f"headers: {{x-a: {matcher}}}")
    assert name in rule.captures()
    assert captured(rule, fields(*(("x-a", line) for line in lines)), name) == value


def test_alternatives_capture_what_all_of_them_capture():
    rule = leaf("host: [{regex: '^(a)(b)?'}, {regex: '^(x)'}]")
    assert rule.captures() == {"match.1"}
    assert captured(rule, http("http://xy/"), "match.1") == "x"
    assert leaf("headers: {x-a: {not: {regex: (a)}}}").captures() == frozenset()


@pytest.mark.parametrize(("text", "message", "help"), [
    ("headers: {x-a: {regex: '*'}}", "RE2 does not accept this expression: no argument for repetition", "RE2 has no"),
    ("headers: {x-a: {regex: [a, '(?<!x)']}}", "RE2 does not accept", ""),
    ("headers: {'x a': b}", "is not a header name", ""),
    ("headers: {'x-a:': b}", "is not a header name", "without the colon"),
    ("headers: {x-a: {in: wrods}}", "no set wrods", 'did you mean "words"?'),
    ("headers: {x-a: {gt: '1e5'}}", "gt wants a decimal number", ""),
    ("headers: {x-a: {le: '${vars.host}'}}", "le wants a decimal number", ""),
    ("headers: {x-a: {ignore_case: true}}", "ignore_case alone tests nothing", ""),
    ("headers: {x-a: {present: true, absent: true}}", "exclude each other", ""),
    ("headers: {x-a: {prefix: []}}", "an empty list matches nothing", ""),
    ("headers: {x-a: '${path.id}'}", "is not known in a match", ""),
    ("cookies: {'a;b': c}", "is not a cookie name", ""),
    ("query: {'${vars.x}': c}", "no variable x", ""),
])  # fmt: skip
def test_mistakes(text, message, help):
    diagnostic = bad_match(text)
    assert message in diagnostic.message
    assert help in diagnostic.help


def test_a_bad_expression_is_reported_where_it_stands():
    _, diagnostics = build_match("headers:\n  x-a:\n    regex: '(('\n  x-b: {regex: ['a', 'b)']}\n")
    assert [(d.pos.line, d.pos.column) for d in diagnostics] == [(3, 12), (4, 22)]


@given(st.text(), st.text())
def test_plain_tests_agree_with_python(wanted, value):
    tests = {
        "exact": value == wanted, "prefix": value.startswith(wanted), "suffix": value.endswith(wanted),
        "contains": wanted in value,
    }  # fmt: skip
    for kind, expected in tests.items():
        matcher = StringMatcher((Condition((TextOperator(kind, frozenset((wanted,))),)),))
        module = Module()
        emitted = run_module(module, matcher.emit(module, "[x]").yes)
        assert matcher.holds([value]) is bool(emitted(value)) is expected, kind


@given(st.text())
def test_expressions_take_any_text(text):
    assert Regex("(?s)^.*$").test(text)
    assert Regex("(?s)^(.*)$").group(text, "1") == text


def test_expressions_survive_what_is_not_text():
    assert Regex("^a.b$").test("a\ud800b")
    with pytest.raises(BadRegex, match="surrogates"):
        Regex("\ud800")


def test_hostile_values_take_linear_time():
    started = time.perf_counter()
    for matcher, value in [("{regex: '(a+)+$'}", "a" * 50_000 + "b"), ("{glob: '*a*a*a*a*b'}", "a" * 50_000),
                           ("{gt: 5}", "9" * 100_000), ("{has: x}", ',"' * 50_000), ("{has: x}", '"\\' * 50_000)]:
        rule = leaf(f"headers: {{x-a: {matcher}}}")
        rule.holds(fields(("x-a", value)))
    assert time.perf_counter() - started < 2


def test_elements():
    assert elements('a, "b, \\" c";q=1 ,d') == ["a", '"b, \\" c";q=1', "d"]
    assert elements('"open, x') == ['"open, x']


def test_decimals_are_exact():
    assert decimal("0.1") == Decimal("0.1")
    assert decimal("9" * 400 + ".5") == Decimal("9" * 400 + ".5")
    assert decimal(" 1") is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_hostile_names_and_values_stay_text(name, value):
    rule = QueryLeaf(Position("rules.yaml", 1, 1), name, StringMatcher((
        Condition((TextOperator("exact", frozenset((value, value + "'\n")), fold=True).folded(),)),
        Condition((TextOperator("contains", frozenset((value + "\\", '"' + value))),)),
    )))
    x = http(f"http://a.example/?{quote(name, safe='')}={quote(value, safe='')}")
    assert matches(rule, x)


@given(st.text(alphabet="ab*", max_size=8), st.text(alphabet="ab\n", max_size=8))
def test_globs_mean_what_they_mean_by_definition(glob, value):
    def fits(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(fits(pattern[1:], text[n:]) for n in range(len(text) + 1))
        return text[:1] == pattern[0] and fits(pattern[1:], text[1:])

    operator = GlobOperator((Glob(glob, glob_source(glob)),))
    module = Module()
    emitted = run_module(module, operator.emit(module, "x").yes)(value)
    assert operator.holds(value) is bool(emitted) is fits(glob, value)
