"""Rule language, section 2: matchers. One case or more per sentence of the page; the id names it."""

from __future__ import annotations

import pytest

from rulesproxy.compiler import unit
from tests.compiler.rulefiles import build_text, errors, warnings
from tests.matchers.matcher_kit import (
    answer,
    at,
    bad_match,
    captured,
    client,
    fields,
    good_match,
    http,
    leaf,
    matches,
    query,
    tunnel,
)

GET = http("http://shop.example/a")

CASES = [
    # --- 2: all keys hold together; a list means any of; all, any and not nest
    ("2-all-keys-together", "{host: shop.example, method: GET}", GET, True),
    ("2-all-keys-together-miss", "{host: shop.example, method: POST}", GET, False),
    ("2-list-is-any-of", "host: [other.example, shop.example]", GET, True),
    ("2-list-is-any-of-miss", "host: [other.example, third.example]", GET, False),
    ("2-all", "all: [{host: shop.example}, {path: /a}]", GET, True),
    ("2-all-miss", "all: [{host: shop.example}, {path: /b}]", GET, False),
    ("2-any", "any: [{host: x.example}, {path: /a}]", GET, True),
    ("2-any-miss", "any: [{host: x.example}, {path: /b}]", GET, False),
    ("2-not", "not: {path: /b}", GET, True),
    ("2-not-all-its-keys", "not: {host: shop.example, path: /b}", GET, True),
    ("2-nested", "any: [{all: [{not: {path: /a}}]}, {not: {any: [{path: /b}, {path: /c}]}}]", GET, True),
    ("2-status-is-of-the-response", "status: 404", answer(404), True),
    ("2-unprefixed-is-of-the-request", "headers: {x-a: 1}", answer(200, ("x-a", "1")), False),
    ("2-response-prefix-is-of-the-response", "response_headers: {x-a: 1}", answer(200, ("x-a", "1")), True),
    # --- the table
    ("2-host-exact", "host: shop.example", GET, True),
    ("2-host-glob", "host: 'shop.*'", GET, True),
    ("2-domain-apex", "domain: shop.example", GET, True),
    ("2-domain-below", "domain: example", GET, True),
    ("2-host-in", "host_in: hosts", http("http://a.example/"), True),
    ("2-host-in-miss", "host_in: hosts", GET, False),
    ("2-scheme", "scheme: http", GET, True),
    ("2-scheme-miss", "scheme: https", GET, False),
    ("2-port", "port: 80", GET, True),
    ("2-port-range", "port: 8000-8999", http("http://a.example:8500/"), True),
    ("2-method", "method: GET", GET, True),
    ("2-path", "path: /a", GET, True),
    ("2-path-prefix", "path_prefix: /a", at("/a/b"), True),
    ("2-path-regex", "path_regex: '^/a'", at("/ab"), True),
    ("2-query", "query: {q: 1}", at("/?q=1"), True),
    ("2-headers", "headers: {x-a: 1}", fields(("X-A", "1")), True),
    ("2-cookies", "cookies: {a: 1}", fields(("Cookie", "a=1")), True),
    ("2-status-class", "status: 5xx", answer(503), True),
    ("2-status-class-miss", "status: 5xx", answer(404), False),
    ("2-status-range", "status: 500-599", answer(599), True),
    ("2-status-list", "status: [404, 5xx]", answer(404), True),
    ("2-client-ip", "client_ip: 10.0.0.0/8", http(by=client("10.1.1.1")), True),
    ("2-client-ip-miss", "client_ip: 10.0.0.0/8", http(by=client("11.1.1.1")), False),
    ("2-listener-mode", "listener: dns", query("a"), True),
    ("2-listener-mode-miss", "listener: dns", GET, False),
    ("2-listener-port", "listener: '@8080'", GET, True),
    ("2-sni", "sni: shop.example", tunnel("10.0.0.1", sni="shop.example"), True),
    ("2-dns-type", "dns_type: AAAA", query("a", "AAAA"), True),
    ("2-dns-type-miss", "dns_type: AAAA", query("a", "A"), False),
    ("2-host-keys-on-the-query-name", "host: a.example", query("A.Example."), True),
    # --- 2.1 the string matcher
    ("2.1-scalar-is-equal", "headers: {x: abc}", fields(("x", "abc")), True),
    ("2.1-scalar-is-not-a-part", "headers: {x: abc}", fields(("x", "abcd")), False),
    ("2.1-list-is-any", "headers: {x: [a, b]}", fields(("x", "b")), True),
    ("2.1-exact", "headers: {x: {exact: a*}}", fields(("x", "a*")), True),
    ("2.1-prefix", "headers: {x: {prefix: ab}}", fields(("x", "abc")), True),
    ("2.1-suffix", "headers: {x: {suffix: bc}}", fields(("x", "abc")), True),
    ("2.1-contains", "headers: {x: {contains: b}}", fields(("x", "abc")), True),
    ("2.1-glob", "headers: {x: {glob: 'a*c'}}", fields(("x", "abc")), True),
    ("2.1-glob-is-the-whole-value", "headers: {x: {glob: 'a*b'}}", fields(("x", "abc")), False),
    ("2.1-regex", "headers: {x: {regex: '^a.c$'}}", fields(("x", "abc")), True),
    ("2.1-in-set", "headers: {x: {in: words}}", fields(("x", "red")), True),
    ("2.1-in-set-miss", "headers: {x: {in: words}}", fields(("x", "blue")), False),
    ("2.1-absent", "headers: {x: {absent: true}}", fields(), True),
    ("2.1-absent-miss", "headers: {x: {absent: true}}", fields(("x", "")), False),
    ("2.1-present", "headers: {x: {present: true}}", fields(("x", "")), True),
    ("2.1-not", "headers: {x: {not: a}}", fields(("x", "b")), True),
    ("2.1-has", "headers: {x: {has: b}}", fields(("x", "a, b")), True),
    ("2.1-ignore-case", "headers: {x: {exact: ABC, ignore_case: true}}", fields(("x", "abc")), True),
    ("2.1-mapping-holds-together", "headers: {x: {prefix: a, suffix: z}}", fields(("x", "ab"), ("x", "bz")), False),
    ("2.1-source-text-1.10", "headers: {x: 1.10}", fields(("x", "1.10")), True),
    ("2.1-source-text-1.10-is-not-1.1", "headers: {x: 1.10}", fields(("x", "1.1")), False),
    ("2.1-source-text-007", "headers: {x: 007}", fields(("x", "007")), True),
    ("2.1-gt", "headers: {x: {gt: 9}}", fields(("x", "10")), True),
    ("2.1-gt-equal", "headers: {x: {gt: 9}}", fields(("x", "9")), False),
    ("2.1-ge", "headers: {x: {ge: 9}}", fields(("x", "9.0")), True),
    ("2.1-lt", "headers: {x: {lt: 9}}", fields(("x", "-10")), True),
    ("2.1-le", "headers: {x: {le: 9}}", fields(("x", "9")), True),
    ("2.1-the-whole-value-is-a-number", "headers: {x: {gt: 9}}", fields(("x", "10px")), False),
    ("2.1-decimal-no-exponent", "headers: {x: {gt: 9}}", fields(("x", "1e3")), False),
    ("2.1-decimal-no-text", "headers: {x: {lt: 9}}", fields(("x", "few")), False),
    ("2.1-case-counts", "headers: {x: abc}", fields(("x", "ABC")), False),
    ("2.1-case-counts-in-paths", "path: /A", at("/a"), False),
    ("2.1-case-counts-in-query-keys", "query: {Q: 1}", at("/?q=1"), False),
    ("2.1-case-of-hosts-does-not-count", "host: SHOP.example", GET, True),
    ("2.1-case-of-host-expressions-does-not-count", "host: {regex: ^SHOP}", GET, True),
    ("2.1-case-of-schemes-does-not-count", "scheme: HTTP", GET, True),
    ("2.1-case-of-field-names-does-not-count", "headers: {X-a: 1}", fields(("x-A", "1")), True),
    ("2.1-regex-searches", "headers: {x: {regex: b}}", fields(("x", "abc")), True),
    ("2.1-regex-is-re2", "headers: {x: {regex: '^\\pL+$'}}", fields(("x", "añb")), True),
    ("2.1-text-is-utf-8", "headers: {x: añb}", fields(("x", "añb")), True),
    ("2.1-invalid-bytes-are-u+fffd", 'headers: {x: {regex: "^a\\ufffdb$"}}', fields(("x", "a\udc80b")), True),
    # --- 2.2 headers and cookies
    ("2.2-any-line", "headers: {x: b}", fields(("x", "a"), ("x", "b")), True),
    ("2.2-lines-are-trimmed", "headers: {x: b}", fields(("x", " \tb ")), True),
    ("2.2-not-split-at-commas", "headers: {x: b}", fields(("x", "a, b")), False),
    ("2.2-a-comma-is-text", "headers: {x: 'a, b'}", fields(("x", "a, b")), True),
    ("2.2-not-holds-if-none-does", "headers: {x: {not: b}}", fields(("x", "a"), ("x", "c")), True),
    ("2.2-not-fails-if-one-does", "headers: {x: {not: b}}", fields(("x", "a"), ("x", "b")), False),
    ("2.2-not-holds-without-lines", "headers: {x: {not: b}}", fields(), True),
    ("2.2-absent-holds-without-lines", "headers: {x: {absent: true}}", fields(("y", "1")), True),
    ("2.2-has-tests-elements", "headers: {x: {has: gzip}}", fields(("x", "br,gzip"), ("x", "z")), True),
    ("2.2-has-tests-whole-elements", "headers: {x: {has: gzip}}", fields(("x", "x-gzip, gzip2")), False),
    ("2.2-cookie-any-of-the-name", "cookies: {a: 2}", fields(("cookie", "a=1; a=2")), True),
    ("2.2-cookie-crumbs-are-joined", "cookies: {b: 2}", fields(("cookie", "a=1"), ("cookie", "b=2")), True),
    ("2.2-cookie-not", "cookies: {a: {not: 2}}", fields(("cookie", "a=1; a=2")), False),
    # --- 2.3 host
    ("2.3-lower-case", "host: Shop.EXAMPLE", GET, True),
    ("2.3-trailing-dot", "host: shop.example.", GET, True),
    ("2.3-trailing-dot-of-traffic", "host: shop.example", http("http://shop.example./"), True),
    ("2.3-idn-host", "host: bücher.example", tunnel("xn--bcher-kva.example"), True),
    ("2.3-idn-uts46", "host: FAẞ.example", tunnel("xn--fa-hia.example"), True),
    ("2.3-idn-glob", "host: '*.bücher.example'", tunnel("a.xn--bcher-kva.example"), True),
    ("2.3-ipv6-no-brackets-rfc5952", "host: '[2001:DB8:0:0::1]'", http("http://[2001:db8::1]/"), True),
    ("2.3-ipv6-as-text", "host: '2001:db8::1'", http("http://[2001:db8::1]/"), True),
    ("2.3-star-is-one-label", "host: '*.example'", GET, True),
    ("2.3-star-is-not-two-labels", "host: '*.example'", http("http://a.shop.example/"), False),
    ("2.3-star-is-not-no-label", "host: '*.shop.example'", GET, False),
    ("2.3-star-is-a-part-of-a-label", "host: 'sh*p.example'", GET, True),
    ("2.3-two-stars-one-label", "host: '**.example'", GET, True),
    ("2.3-two-stars-more-labels", "host: '**.example'", http("http://a.b.example/"), True),
    ("2.3-two-stars-without-the-apex", "host: '**.shop.example'", GET, False),
    ("2.3-domain-includes-the-apex", "domain: shop.example", GET, True),
    ("2.3-domain-is-by-labels", "domain: op.example", GET, False),
    # --- 2.4 identity, as far as rules see it
    ("2.4-connect-sees-the-connect-host", "host: shop.example", tunnel("shop.example"), True),
    ("2.4-later-phases-see-the-sni", "host: sni.example", tunnel("shop.example", sni="sni.example"), True),
    ("2.4-later-phases-see-the-sni-only", "host: shop.example", tunnel("shop.example", sni="sni.example"), False),
    ("2.4-without-sni-the-connect-host", "host: shop.example", tunnel("shop.example", hello=True), True),
    ("2.4-the-port-is-the-connection's", "port: 8443", tunnel("shop.example", 8443, sni="x.example"), True),
    # --- 2.5 path, query, method
    ("2.5-query-is-cut", "path: /a", at("/a?b=/c"), True),
    ("2.5-escapes-are-decoded", "path: /é a", at("/%C3%A9%20a"), True),
    ("2.5-escapes-are-decoded-once", "path: /%2541", at("/%2541"), True),
    ("2.5-escapes-are-decoded-once-only", "path: /A", at("/%2541"), False),
    ("2.5-escaped-slash-is-kept", "path: /a/b", at("/a%2Fb"), False),
    ("2.5-escaped-slash-is-kept-in-upper-case", "path: {exact: /a%2Fb}", at("/a%2fb"), True),
    ("2.5-escaped-backslash-is-kept", "path: /a%5cb", at("/a%5Cb"), True),
    ("2.5-escaped-percent-is-kept", "path: /a%25", at("/a%25"), True),
    ("2.5-escaped-controls-are-kept", "path: /a%0A", at("/a%0a"), True),
    ("2.5-invalid-utf-8-is-kept-escaped", "path: /a%FF", at("/a%ff"), True),
    ("2.5-dot-segments", "path: /a", at("/x/.././a"), True),
    ("2.5-escaped-dot-segments", "path: /a", at("/x/%2e%2E/a"), True),
    ("2.5-empty-segments", "path: /a/b", at("//a///b"), True),
    ("2.5-case-is-kept", "path: /a", at("/A"), False),
    ("2.5-params-are-kept", "path: /a", at("/a;x=1"), False),
    ("2.5-trailing-slash-is-kept", "path: /a", at("/a/"), False),
    ("2.5-rule-text-is-canonical-too", "path: //x/../%61", at("/a"), True),
    ("2.5-star-is-one-segment", "path: /*/b", at("/a/b"), True),
    ("2.5-star-is-not-two-segments", "path: /*/b", at("/a/a/b"), False),
    ("2.5-star-is-not-an-empty-segment", "path: /a/*", at("/a/"), False),
    ("2.5-star-is-a-part-of-a-segment", "path: /a*.js", at("/ab.js"), True),
    ("2.5-capture-is-a-whole-segment", "path: '/{x}'", at("/a"), True),
    ("2.5-capture-is-one-segment", "path: '/{x}'", at("/a/b"), False),
    ("2.5-capture-is-not-empty", "path: '/{x}'", at("/"), False),
    ("2.5-int", "path: '/{x:int}'", at("/-123456789012345678"), True),
    ("2.5-int-19-digits", "path: '/{x:int}'", at("/1234567890123456789"), False),
    ("2.5-int-plus", "path: '/{x:int}'", at("/+1"), False),
    ("2.5-int-other-digits", "path: '/{x:int}'", at("/%D9%A1"), False),
    ("2.5-two-stars-the-path-itself", "path: /a/**", at("/a"), True),
    ("2.5-two-stars-with-slash", "path: /a/**", at("/a/"), True),
    ("2.5-two-stars-below", "path: /a/**", at("/a/b/c"), True),
    ("2.5-two-stars-beside", "path: /a/**", at("/ab"), False),
    ("2.5-path-prefix-the-path-itself", "path_prefix: /a", at("/a"), True),
    ("2.5-path-prefix-with-slash", "path_prefix: /a", at("/a/"), True),
    ("2.5-path-prefix-below", "path_prefix: /a", at("/a/b"), True),
    ("2.5-path-prefix-beside", "path_prefix: /a", at("/ab"), False),
    ("2.5-exact-star", "path: {exact: '/*'}", at("/*"), True),
    ("2.5-exact-star-is-literal", "path: {exact: '/*'}", at("/a"), False),
    ("2.5-exact-brace-is-literal", "path: {exact: '/{x}'}", at("/{x}"), True),
    ("2.5-path-regex-canonical", "path_regex: '^/a$'", at("//%61?q"), True),
    ("2.5-query-splits-at-ampersand", "query: {b: 2}", at("/?a=1&b=2"), True),
    ("2.5-query-does-not-split-at-semicolon", "query: {b: 2}", at("/?a=1;b=2"), False),
    ("2.5-query-decodes-escapes", "query: {a b: é}", at("/?a%20b=%c3%a9"), True),
    ("2.5-query-decodes-plus", "query: {a: 'x y'}", at("/?a=x+y"), True),
    ("2.5-query-any-value", "query: {a: 2}", at("/?a=1&a=2"), True),
    ("2.5-method-exactly", "method: GET", http(method="get"), False),
    ("2.5-method-rule-text-is-upper-cased", "method: get", GET, True),
]  # fmt: skip


@pytest.mark.parametrize(("text", "x", "wanted"), [pytest.param(*case, id=id) for id, *case in CASES])
def test_language(text, x, wanted):
    assert matches(good_match(text), x) is wanted


def test_every_case_has_a_name_of_its_own():
    ids = [case[0] for case in CASES]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("text", "message"), [
    pytest.param("host: 'a:8443'", "a host has no port", id="2.3-port-in-host"),
    pytest.param("host: 0x7f.1", "ambiguous spelling of an IPv4 address", id="2.3-odd-ipv4"),
    pytest.param("host: 010.0.0.1", "ambiguous spelling of an IPv4 address", id="2.3-octal-ipv4"),
    pytest.param("host: 'a..b'", "is not a host name", id="2.3-invalid-name"),
    pytest.param("path: '/a?b=1'", "belongs to the key query", id="2.5-question-mark"),
    pytest.param("headers: {x: {regex: '(?=a)'}}", "RE2 does not accept", id="2.1-re2-no-look-ahead"),
    pytest.param("headers: {x: {in: nowhere}}", "no set nowhere", id="2.1-in-unknown-set"),
    pytest.param("host_in: nowhere", "no set nowhere", id="2-host-in-unknown-set"),
    pytest.param("path: '/${path.id}'", "only ${vars.…} is", id="2-no-templates-in-match"),
])  # fmt: skip
def test_mistakes(text, message):
    assert message in bad_match(text).message


def test_2_3_the_port_error_names_port():
    assert "port: 8443" in bad_match("host: 'a:8443'").help


def test_2_5_the_query_error_names_query():
    assert "query: {b: 1}" in bad_match("path: /a?b=1").help


def test_2_1_unanchored_host_expressions_are_warned_about():
    rule = "version: 1\nrules:\n  - name: r\n    match: {{host: {{regex: '{}'}}}}\n    action: {{block: true}}\n"
    assert ("unanchored-host", 4) in warnings(rule.format(r"a\.example"))
    assert "unanchored-host" not in [code for code, _ in warnings(rule.format(r"^a\.example$"))]


@pytest.mark.parametrize("key", ["url_pattern", "hots", "header"])
def test_2_unknown_keys_are_errors(key):
    text = f"version: 1\nrules:\n  - name: r\n    match: {{{key}: x}}\n    action: {{block: true}}\n"
    (error,) = errors(build_text(text))
    assert error.startswith("4:13 ")


@pytest.mark.parametrize(("text", "target", "name", "value"), [
    pytest.param("path: '/a/{id}/b'", "/a/x%20y/b", "path.id", "x y", id="2.5-capture"),
    pytest.param("path: '/{id:int}/**'", "/-7/x", "path.id", "-7", id="2.5-capture-int"),
    pytest.param("path_regex: '^/(?P<lang>[a-z]{2})/(.*)'", "/de/x/y", "match.lang", "de", id="2.5-regex-name"),
    pytest.param("path_regex: '^/(?P<lang>[a-z]{2})/(.*)'", "/de/x/y", "match.2", "x/y", id="2.5-regex-number"),
])  # fmt: skip
def test_captures(text, target, name, value):
    assert captured(leaf(text), at(target), name) == value


def test_2_5_bytes_forwarded_are_untouched():
    x = at("//A/%7e?x=%20")
    assert matches(leaf("path: /A/~"), x)
    assert x.target == "//A/%7e?x=%20"


def test_2_every_matcher_of_the_table_is_there():
    assert {"host", "domain", "host_in", "scheme", "port", "method", "path", "path_prefix", "path_regex", "query",
            "headers", "cookies", "status", "response_headers", "client_ip", "listener", "sni",
            "dns_type"} <= set(unit.matchers())
