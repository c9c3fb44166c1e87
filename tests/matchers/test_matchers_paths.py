"""path, path_prefix, path_regex: patterns, captures, canonical form, index keys."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rulesproxy.compiler.ir import PathKeys
from rulesproxy.compiler.plan import path_keys
from rulesproxy.model.names import canonical_path
from tests.matchers.matcher_kit import at, bad_match, build_match, captured, leaf, matches

PATHS = [
    # match, targets that hit, targets that miss
    ("path: /a", ["/a", "/a?q=1", "/%61", "/x/../a", "//a", "/./a"], ["/a/", "/A", "/a/b", "/ab"]),
    ("path: /", ["/", "", "/?x", "//", "/a/.."], ["/a"]),
    ("path: /a/", ["/a/", "/a//"], ["/a"]),
    ("path: [/a, /b]", ["/a", "/b"], ["/c"]),
    ("path: /a/../b", ["/b"], ["/a/../a"]),
    ("path: /caf%C3%A9", ["/caf%c3%a9", "/café"], ["/cafe"]),
    ("path: /a%2fb", ["/a%2Fb", "/a%2fb"], ["/a/b"]),
    ("path: /a;v=1", ["/a;v=1"], ["/a"]),
    ("path: /a%3Fb", ["/a%3fb"], ["/a?b"]),
    ("path: /a/*", ["/a/b", "/a/b.c"], ["/a", "/a/", "/a/b/", "/a/b/c"]),
    ("path: /a/*/c", ["/a/b/c"], ["/a//c", "/a/c", "/a/b/b/c"]),
    ("path: /a/*.js", ["/a/x.js", "/a/x.y.js", "/a/.js"], ["/a/x.jsx", "/a/b/x.js"]),
    ("path: /v*/x", ["/v1/x", "/v/x", "/v1.2/x"], ["/w1/x", "/v1/y/x"]),
    ("path: /*a*b*", ["/ab", "/xaxbx", "/aab"], ["/ba", "/a/b"]),
    ("path: /a/**", ["/a", "/a/", "/a/b", "/a/b/c/"], ["/ab", "/b/a"]),
    ("path: /**", ["/", "/a", "/a/b/"], []),
    ("path: /a/**/z", ["/a/z", "/a/b/z", "/a/b/c/z"], ["/a/z/", "/a/zz", "/az", "/a/b"]),
    ("path: /**/*.js", ["/x.js", "/a/b/x.js"], ["/x.js/y", "/x.json"]),
    ("path: /a/**/b/**/c", ["/a/b/c", "/a/x/b/b/y/c"], ["/a/c", "/a/b", "/a/bb/c"]),
    ("path: /a/**/b/**", ["/a/b", "/a/x/b/", "/a/x/b/y/z"], ["/a/x", "/a/bb"]),
    ("path: /**/**/a", ["/a", "/x/y/a"], ["/x"]),
    ("path: /**/", ["/", "/a/", "/a/b/"], ["/a"]),
    ("path: '/a/{id}'", ["/a/1", "/a/x%2Fy"], ["/a/", "/a", "/a/1/2"]),
    ("path: '/a/{id:int}'", ["/a/1", "/a/-7", "/a/" + "9" * 18], ["/a/x", "/a/1.0", "/a/+1", "/a/" + "9" * 19]),
    ("path: '/{a}/x/{b:int}/**'", ["/q/x/1", "/q/x/1/y/z"], ["/q/x/z", "/q/y/1"]),
    ("path: ['/a/{id}', '/b/{id}', /c/**]", ["/a/1", "/b/2", "/c"], ["/d/1"]),
    ("path: /a/%2A", ["/a/*", "/a/%2a"], ["/a/b"]),
    ("path: /a/%7Bid%7D", ["/a/{id}", "/a/%7bid%7d"], ["/a/b"]),
    ("path: {exact: '/a/*'}", ["/a/*", "/a/%2A"], ["/a/b"]),
    ("path: {exact: '/a/{id}'}", ["/a/{id}"], ["/a/b"]),
    ("path: {exact: ['/a/../b', /c]}", ["/b", "/c"], ["/a"]),
    ("path: {glob: '/a/{x}/**'}", ["/a/b", "/a/b/c"], ["/a"]),
    ("path: {prefix: /a, suffix: .js}", ["/a.js", "/ab/c.js"], ["/a.ts", "/b.js"]),
    ("path: {contains: adm}", ["/x/admin"], ["/x"]),
    ("path: {regex: '^/v[0-9]+/'}", ["/v12/x"], ["/vx/x"]),
    ("path: {glob: /A/*, ignore_case: true}", ["/a/B", "/A/b"], ["/b/a"]),
    ("path: {exact: /A, ignore_case: true}", ["/a", "/A"], ["/b"]),
    ("path: {prefix: /a, not: /a/b/**}", ["/a/c", "/ab"], ["/a/b", "/a/b/c"]),
    ("path: {not: [/a, /b/**], ignore_case: true}", ["/c"], ["/A", "/B/x", "/b"]),
    ("path: {in: [/a, '/b*']}", ["/a", "/b*"], ["/bc"]),
    ("path: '${vars.folder}/x'", ["/v/x"], ["/x"]),
    ("path: '${vars.star}'", ["/s/1"], ["/s/*/x"]),
    ("path_prefix: /a", ["/a", "/a/", "/a/b"], ["/ab", "/b"]),
    ("path_prefix: /a/", ["/a", "/a/b"], ["/ab"]),
    ("path_prefix: /", ["/", "/a"], []),
    ("path_prefix: [/a, /b/c]", ["/a/x", "/b/c/d"], ["/b/x"]),
    ("path_prefix: /%61/./b", ["/a/b/c"], ["/a"]),
    ("path_regex: '\\.js$'", ["/a.js", "/a.js?x=.ts"], ["/a.jsx"]),
    ("path_regex: [^/a, b$]", ["/ax", "/xb"], ["/x"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "hits", "misses"), PATHS, ids=[text for text, _, _ in PATHS])
def test_paths(text, hits, misses):
    rule = leaf(text)
    keys = path_keys(rule)
    for target in hits:
        assert matches(rule, at(target)), target
        if keys is not None:
            path = canonical_path(target)
            assert path in keys.exact or any((path + "/").startswith(p + "/") for p in keys.prefixes), target
    for target in misses:
        assert not matches(rule, at(target)), target


def test_index_keys():
    assert leaf("path: [/a, /b/**]").path_keys() == PathKeys(frozenset(("/a",)), frozenset(("/b",)))
    assert leaf("path: '/a/b*/c'").path_keys() == PathKeys(prefixes=frozenset(("/a",)))
    assert leaf("path: '/a/{id}'").path_keys() == PathKeys(prefixes=frozenset(("/a",)))
    assert leaf("path: {prefix: /a/b}").path_keys() == PathKeys(prefixes=frozenset(("/a",)))
    assert leaf("path_prefix: /a/b/").path_keys() == PathKeys(prefixes=frozenset(("/a/b",)))
    for text in ("path: /**", "path: /*.js", "path: [/a, '/{x}']", "path: {suffix: .js}", "path_regex: ^/a",
                 "path: {exact: /a, ignore_case: true}", "path: {not: /a}", "path_prefix: /", "path: {prefix: /a}"):
        assert leaf(text).path_keys() is None, text


def test_the_fixed_part_is_known():
    assert leaf("path_prefix: [/a, /a/b/]").bases == ("/a/b", "/a")
    assert leaf("path: /a/**").bases == ("/a",)
    assert leaf("path: /a/*").bases == ()


@pytest.mark.parametrize(("text", "target", "name", "value"), [
    ("path: '/a/{id}'", "/a/x%20y", "path.id", "x y"),
    ("path: '/a/{id}'", "/b", "path.id", None),
    ("path: '/{a}/{b:int}/**'", "/x/-12/z", "path.b", "-12"),
    ("path: ['/a/{id}', '/b/x/{id}']", "/b/x/7", "path.id", "7"),
    ("path: '/a/**/b/{id}'", "/a/x/b/1", "path.id", "1"),
    ("path: '/{one}/**/b/**/{two}'", "/1/x/b/y/2", "path.two", "2"),
    ("path: {glob: '/A/{Id}', ignore_case: true}", "/a/X", "path.Id", "X"),
    ("path: {glob: '/a/{id}', suffix: z}", "/a/xz", "path.id", "xz"),
    ("path: {glob: '/a/{id}', suffix: z}", "/a/x", "path.id", None),
    ("path: {glob: '/a/{id}', not: /a/b}", "/a/b", "path.id", None),
    ("path: {glob: '/a/{id}', not: /a/b}", "/a/c", "path.id", "c"),
    ("path_regex: '^/v(?P<version>[0-9]+)/(x)?'", "/v12/y", "match.version", "12"),
    ("path_regex: '^/v(?P<version>[0-9]+)/(x)?'", "/v12/y", "match.1", "12"),
    ("path_regex: '^/v(?P<version>[0-9]+)/(x)?'", "/v12/y", "match.2", None),
    ("path_regex: ['^/a/(.*)', '^/b/(.*)']", "/b/é", "match.1", "é"),
    ("path_regex: '^/(.*)'", "/", "match.1", ""),
])  # fmt: skip
def test_captures(text, target, name, value):
    rule = leaf(text)
    assert name in rule.captures()
    assert captured(rule, at(target), name) == value


def test_only_what_every_alternative_captures_is_captured():
    assert leaf("path: ['/a/{id}/{x}', '/b/{id}']").captures() == {"path.id"}
    assert leaf("path: ['/a/{id}', /b]").captures() == frozenset()
    assert leaf("path_regex: ['(?P<a>x)', '(y)(z)']").captures() == {"match.1"}


@pytest.mark.parametrize(("text", "message", "help"), [
    ("path: /a?b=1", "belongs to the key query", "path: /a, query: {b: 1}"),
    ("path: {exact: /a?b=1}", "belongs to the key query", "%3F"),
    ("path: '/a#b'", "no fragment", "%23"),
    ("path: api/x", 'a path starts with "/"', "/api/x"),
    ("path: '*.js'", 'a path starts with "/"', "/**/*.js"),
    ("path: https://a.example/x", "is a URL, not a path", "two keys"),
    ('path: "/a\\0"', "no control characters", "%0A"),
    ("path: '/a**'", '"**" stands for whole segments', "{exact: …}"),
    ("path: '/a/***'", '"**" stands for whole segments', ""),
    ("path: '/v{x}'", "a capture is a whole segment", ""),
    ("path: '/{x}{y}'", "a capture is a whole segment", ""),
    ("path: '/{x}*'", "a capture is a whole segment", ""),
    ("path: '/{x:float}'", "is not a capture", "{exact: …}"),
    ("path: '/{}'", "is not a capture", ""),
    ("path: '/{1a}'", "is not a capture", ""),
    ("path: '/{x}/{x}'", "is there twice", ""),
    ("path: '/{x'", "never closed", ""),
    ("path: '/x}'", "never closed", ""),
    ("path_prefix: /a/*", "no wildcards", "%2A"),
    ("path_prefix: '/a/{id}'", "no wildcards", "%7B"),
    ("path_prefix: a", 'a path starts with "/"', "/a"),
    ("path_prefix: /a?b", "belongs to the key query", ""),
    ("path_regex: 'a{2,1}'", "RE2 does not accept", ""),
    ("path_regex: '\\1'", "RE2 does not accept", "back-references"),
    ("path_regex: []", "an empty list matches nothing", ""),
])  # fmt: skip
def test_mistakes(text, message, help):
    diagnostic = bad_match(text)
    assert message in diagnostic.message
    assert help in diagnostic.help


@pytest.mark.parametrize(("text", "capture"), [
    ("path: '/users/:id'", "{id}"), ("path: '/users/:id/items'", "{id}"), ("path: '/u/<id>'", "{id}"),
    ("path: '/u/<int:id>/x'", "{id}"), ("path: ['/a', '/b/:name']", "{name}"), ("path: '/*/:id'", "{id}"),
])  # fmt: skip
def test_captures_as_other_tools_write_them_are_pointed_out(text, capture):
    built, [warning] = build_match(text)
    assert built is not None
    assert (warning.code, f"write {capture}" in warning.help) == ("literal-capture", True)


@pytest.mark.parametrize("text", [
    "path: '/v1/items:cancel'", "path: '/:'", "path: '/a/:id.json'", "path: {exact: '/users/:id'}", "path: '/a/<>'"])
def test_colons_that_no_tool_takes_for_a_capture_are_fine(text):
    assert build_match(text)[1] == []


def test_every_mistake_of_a_list_is_reported():
    _, diagnostics = build_match("path:\n - a\n - '/{'\n - /c?d\n - /fine\n")
    assert [d.pos.line for d in diagnostics] == [2, 3, 4]


@pytest.mark.parametrize(("text", "target"), [
    ("path: /*a*a*a*a*a*b", "/" + "a" * 60_000),
    ("path: /**/a*a/**/b/**/c*c/**/d", "/aa/b/cc" * 8_000),
    ("path: /**/*.js", "/a.j" * 15_000),
    ("path_regex: '(a*)*$'", "/" + "a" * 60_000 + "b"),
    ("path: {glob: /*A*a*A*b, ignore_case: true}", "/" + "a" * 60_000),
])  # fmt: skip
def test_hostile_paths_take_linear_time(text, target):
    rule, facts = leaf(text), at(target)
    started = time.perf_counter()
    rule.holds(facts)
    assert time.perf_counter() - started < 0.5


_TEXT = st.text(alphabet="ab*{}%2.é\"'\\ ", max_size=5)


@given(st.lists(_TEXT, max_size=4).map(lambda parts: "/" + "/".join(parts)))
def test_exact_takes_everything_literally(path):
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    rule = leaf(f'path: {{exact: "{quoted}"}}')
    assert matches(rule, at(path))
    assert not matches(rule, at(path + "x"))


def _fits(pattern: list[str], segments: list[str]) -> bool:
    """Globs by definition, without expressions: what the compiled ones must agree with."""
    if not pattern:
        return not segments
    if pattern[0] == "**":
        return any(_fits(pattern[1:], segments[n:]) for n in range(len(segments) + 1))
    if not segments or (pattern[0] == "*" and not segments[0]):
        return False
    return _segment_fits(pattern[0], segments[0]) and _fits(pattern[1:], segments[1:])


def _segment_fits(pattern: str, segment: str) -> bool:
    if not pattern:
        return not segment
    if pattern[0] == "*":
        return any(_segment_fits(pattern[1:], segment[n:]) for n in range(len(segment) + 1))
    return segment[:1] == pattern[0] and _segment_fits(pattern[1:], segment[1:])


_GLOB_SEGMENT = st.one_of(st.just("**"), st.from_regex(r"(\*?[ab]){0,3}\*?", fullmatch=True).filter(bool))
_PATH_SEGMENT = st.text(alphabet="ab", min_size=1, max_size=4)


@settings(max_examples=400)
@given(st.lists(_GLOB_SEGMENT, min_size=1, max_size=5), st.lists(_PATH_SEGMENT, max_size=6), st.booleans())
def test_globs_mean_what_they_mean_by_definition(pattern, segments, slash):
    segments = [*segments, ""] if slash or not segments else segments
    rule = leaf(f"path: '/{'/'.join(pattern)}'")
    assert matches(rule, at("/" + "/".join(segments))) is _fits(pattern, segments)
