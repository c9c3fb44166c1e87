"""host, domain, host_in, sni: every way to name a host, through interpreter and emitted code."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rulesproxy.compiler.ir import HostKeys
from rulesproxy.compiler.plan import host_keys
from tests.matchers.matcher_kit import bad_match, build_match, captured, http, leaf, matches, query, tunnel

HOSTS = [
    # match, hosts that hit, hosts that miss
    ("host: a.example", ["a.example"], ["b.a.example", "example", "a.example.b", "xa.example"]),
    ("host: A.Example.", ["a.example"], ["b.example"]),
    ("host: [a.example, b.example]", ["a.example", "b.example"], ["c.example"]),
    ("host: Bücher.example", ["xn--bcher-kva.example"], ["bucher.example"]),
    ("host: 10.0.0.1", ["10.0.0.1"], ["10.0.0.10", "110.0.0.1"]),
    ("host: '[2001:DB8::1]'", ["2001:db8::1"], ["2001:db8::2"]),
    ("host: '*.example.com'", ["a.example.com", "b-1.example.com"], ["example.com", "a.b.example.com"]),
    ("host: '**.example.com'", ["a.example.com", "a.b.example.com"], ["example.com", "aexample.com"]),
    ("host: 'api*.example.com'", ["api.example.com", "api2.example.com"], ["xapi.example.com", "api.b.example.com"]),
    ("host: '*api*.example.com'", ["my-api-2.example.com"], ["ap.i.example.com"]),
    ("host: 'a*b*c.example'", ["abc.example", "axbxc.example"], ["ab.example", "axb.c.example", "acb.example"]),
    ("host: 'www.*.example'", ["www.shop.example"], ["www.example", "www.a.b.example"]),
    ("host: 'www.**.example'", ["www.a.example", "www.a.b.example"], ["www.example"]),
    ("host: 'www.**'", ["www.a", "www.a.b"], ["www"]),
    ("host: '**.q.**.r'", ["a.q.b.r", "a.b.q.c.d.r", "q.q.q.r"], ["q.b.r", "a.q.r", "a.qq.b.r"]),
    ("host: '**'", ["a", "a.b", "10.0.0.1"], []),
    ("host: '**.**'", ["a.b", "a.b.c"], ["a"]),
    ("host: '*'", ["localhost"], ["a.b"]),
    ("host: '10.0.*.*'", ["10.0.3.4"], ["10.1.3.4"]),
    ("host: 'BÜCHER.*.example'", ["xn--bcher-kva.a.example"], ["xn--bcher-kva.example"]),
    ("host: [a.example, '*.b.example', {regex: '^c[0-9]+\\.example$'}]", ["a.example", "x.b.example", "c7.example"],
     ["b.example", "c.example"]),
    ("host: {regex: '^API[0-9]+\\.'}", ["api12.example"], ["api.example"]),
    ("host: {exact: A.example}", ["a.example"], ["b.example"]),
    ("host: {glob: '*.a.example'}", ["x.a.example"], ["a.example"]),
    ("host: {prefix: API, suffix: .Example}", ["api.example", "api7.b.example"], ["api.test", "b.example"]),
    ("host: {contains: [Shop, market]}", ["my-shop.example", "market"], ["store.example"]),
    ("host: {in: hosts}", ["a.example", "xn--bcher-kva.example", "10.0.0.1"], ["x.example"]),
    ("host: {in: [A.example]}", ["a.example"], ["b.example"]),
    ("host: {suffix: .example, not: [a.example, '*.b.example']}", ["c.example", "b.example"],
     ["a.example", "x.b.example", "c.test"]),
    ("host: {not: a.example}", ["b.example"], ["a.example"]),
    ("host: {present: true}", ["a"], []),
    ("host: '${vars.host}'", ["var.example"], ["a.example"]),
    ("domain: example.com", ["example.com", "a.example.com", "a.b.example.com"], ["anexample.com", "example.com.test"]),
    ("domain: [A.example, b.example.]", ["a.example", "x.a.example", "b.example"], ["c.example"]),
    ("domain: 10.0.0.1", ["10.0.0.1"], ["1.10.0.0.1", "0.0.1"]),
    ("domain: [a.example, 10.0.0.1]", ["x.a.example", "10.0.0.1"], ["10.0.0.2"]),
    ("host_in: hosts", ["a.example", "xn--bcher-kva.example", "x.below.example", "y.z.below.example", "x.star.example",
                        "10.0.0.1"], ["below.example", "star.example", "x.a.example"]),
    ("host_in: whole", ["t.example", "x.t.example"], ["xt.example"]),
    ("host_in: [whole, hosts]", ["t.example", "a.example"], ["b.example"]),
    ("host_in: many", ["h7.many.example", "x.d999.many.example"], ["d7.many.example", "h1000.many.example"]),
]  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("text", "hits", "misses"), HOSTS, ids=[text for text, _, _ in HOSTS])
def test_hosts(text, hits, misses):
    rule = leaf(text)
    for host in hits:
        assert matches(rule, http(f"http://{'[' + host + ']' if ':' in host else host}/")), host
        assert matches(rule, query(host))
        assert matches(rule, tunnel(host))
    for host in misses:
        assert not matches(rule, tunnel(host)), host


@pytest.mark.parametrize(("text", "hits", "misses"), HOSTS, ids=[text for text, _, _ in HOSTS])
def test_index_keys_cover_every_host_that_matches(text, hits, misses):
    keys = host_keys(leaf(text))
    if keys is None:
        return
    for host in hits:
        parents = {host.split(".", n)[-1] for n in range(host.count(".") + 1)}
        assert host in keys.exact or parents & keys.suffixes, host


def test_index_keys():
    assert leaf("host: [a.b, '**.c.d']").host_keys() == HostKeys(frozenset(("a.b",)), frozenset(("c.d",)))
    assert leaf("host: 'a.*.example.com'").host_keys() == HostKeys(suffixes=frozenset(("example.com",)))
    assert leaf("host: {suffix: .b, regex: x}").host_keys() == HostKeys(suffixes=frozenset(("b",)))
    for text in ("host: 'example.*'", "host: {regex: x}", "host: {not: a}", "host: [a, {regex: b}]",
                 "host: {suffix: b}"):
        assert leaf(text).host_keys() is None, text


@pytest.mark.parametrize(("text", "message", "help"), [
    ("host: a.example:8443", "a host has no port", "host: a.example, port: 8443"),
    ("host: '[::1]:8443'", "a host has no port", "host: [::1], port: 8443"),
    ("host: '*.a.example:80'", "a host has no port", "port: 80"),
    ("host: https://a.example/x", "is a URL, not a host", "host: a.example, path: /x"),
    ("host: a.example/x", "is a URL, not a host", "host: a.example, path: /x"),
    ("host: 'a b'", "is not a host name", ""),
    ("host: 127.1", "ambiguous spelling", ""),
    ("host: 0x7f.0.0.1", "ambiguous spelling", ""),
    ("host: 'a**.example'", '"**" stands for whole labels', '"*" is one label'),
    ("host: '*..example'", "is not a label", ""),
    ("host: 'bü*.example'", "is not a label", "xn--"),
    ("host: {exact: '*.example'}", "is not a host name", ""),
    ("host: {regex: '(a'}", "RE2 does not accept this expression: missing )", "look-around"),
    ("host: {regex: '(?=a)'}", "RE2 does not accept", "look-around"),
    ("host: '${vars.nope}'", "no variable nope", ""),
    ("host: []", "an empty list matches nothing", ""),
    ("domain: '*.example.com'", "a domain has no wildcards", "domain: example.com"),
    ("domain: a.example:80", "a host has no port", "port: 80"),
    ("host_in: host", "no set host", 'did you mean "hosts"?'),
    ("host_in: []", "an empty list matches nothing", ""),
    ("sni: a.example:443", "a host has no port", ""),
])  # fmt: skip
def test_mistakes(text, message, help):
    diagnostic = bad_match(text)
    assert message in diagnostic.message
    assert help in diagnostic.help
    assert diagnostic.pos.line == 1
    assert diagnostic.pos.column > text.index(":") + 1


def test_a_mistake_in_a_list_is_reported_at_its_item():
    predicate, diagnostics = build_match("host:\n  - a.example\n  - b.example:80\n  - c d\n")
    assert predicate is None
    assert [(d.pos.line, d.pos.column) for d in diagnostics] == [(3, 5), (4, 5)]


def test_set_entries_that_are_no_hosts_are_warned_about():
    predicate, diagnostics = build_match("host_in: hosts")
    assert predicate is not None
    assert [d.code for d in diagnostics] == ["bad-set-entry"]
    assert "no host" in diagnostics[0].message


@pytest.mark.parametrize(("pattern", "unanchored"), [
    ("^a\\.example$", False), ("\\Aa\\.example\\z", False), ("(^|\\.)a\\.example$", False), ("\\.a\\.example$", False),
    ("^(a|b)\\.example$", False), ("^a$|^b$", False), ("^[|]$", False),
    ("a\\.example", True), ("^a\\.example", True), ("a\\.example$", True), ("^a|b$", True), ("^a\\$", True), ("", True),
])  # fmt: skip
def test_unanchored_expressions_are_known(pattern, unanchored):
    assert leaf(f"host: {{regex: '{pattern}'}}").unanchored is unanchored


def test_sni_is_read_like_a_host():
    assert matches(leaf("sni: '*.Bank.example'"), tunnel("10.0.0.1", sni="WWW.bank.EXAMPLE"))
    assert not matches(leaf("sni: '*.bank.example'"), tunnel("www.bank.example", hello=True))
    assert matches(leaf("sni: {absent: true}"), tunnel("www.bank.example", hello=True))
    assert not matches(leaf("sni: {absent: true}"), tunnel("a", sni="b"))
    assert matches(leaf("sni: {present: true}"), tunnel("a", sni="b"))


@pytest.mark.parametrize("matcher", ["{regex: '.*'}", "{prefix: ''}", "{contains: ''}", "{glob: '**'}"])
def test_no_operator_holds_for_a_missing_sni(matcher):
    rule = leaf(f"sni: {matcher}")
    assert not matches(rule, tunnel("a", hello=True))
    assert matches(rule, tunnel("a", sni="b"))


def test_a_missing_sni_meets_a_negation():
    assert matches(leaf("sni: {not: a}"), tunnel("x", hello=True))
    assert not matches(leaf("sni: {not: a}"), tunnel("x", sni="a"))


def test_host_captures():
    rule = leaf("host: {regex: '^(?P<shop>[a-z]+)\\.shops\\.'}")
    assert rule.captures() == {"match.1", "match.shop"}
    assert captured(rule, http("http://Red.shops.example/"), "match.shop") == "red"
    assert captured(rule, http("http://x.example/"), "match.1") is None


def test_an_sni_that_is_missing_captures_nothing():
    rule = leaf("sni: {regex: '^([a-z]*)'}")
    assert captured(rule, tunnel("a", hello=True), "match.1") is None
    assert captured(rule, tunnel("a", sni="b.c"), "match.1") == "b"


def _fits(pattern: list[str], labels: list[str]) -> bool:
    """Globs by definition, without expressions: what the compiled ones must agree with."""
    if not pattern or not labels:
        return not pattern and not labels
    if pattern[0] == "**":
        return any(_fits(pattern[1:], labels[n:]) for n in range(1, len(labels) + 1))
    return _label_fits(pattern[0], labels[0]) and _fits(pattern[1:], labels[1:])


def _label_fits(pattern: str, label: str) -> bool:
    if not pattern:
        return not label
    if pattern[0] == "*":
        return any(_label_fits(pattern[1:], label[n:]) for n in range(len(label) + 1))
    return label[:1] == pattern[0] and _label_fits(pattern[1:], label[1:])


_GLOB_LABEL = st.one_of(st.just("**"), st.from_regex(r"(\*?[ab]){0,3}\*?", fullmatch=True).filter(bool))
_LABEL = st.text(alphabet="ab", min_size=1, max_size=4)


@settings(max_examples=400)
@given(st.lists(_GLOB_LABEL, min_size=1, max_size=5), st.lists(_LABEL, min_size=1, max_size=6))
def test_globs_mean_what_they_mean_by_definition(pattern, labels):
    rule = leaf(f"host: '{'.'.join(pattern)}'")
    wanted = _fits(pattern, labels)
    host = ".".join(labels)
    assert matches(rule, tunnel(host)) is wanted
    keys = rule.host_keys()
    if wanted and keys is not None:
        parents = {host.split(".", n)[-1] for n in range(host.count(".") + 1)}
        assert host in keys.exact or parents & keys.suffixes
