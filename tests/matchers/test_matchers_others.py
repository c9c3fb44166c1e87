"""method, scheme, port, status, client_ip, dns_type, listener: the matchers of single words and numbers."""

from __future__ import annotations

import pytest

from rulesproxy.compiler import unit
from rulesproxy.compiler.ir import Leaf, leaves
from rulesproxy.runtime.networks import Networks
from rulesproxy.runtime.phase import Phase
from tests.matchers.matcher_kit import (
    answer,
    bad_match,
    build_match,
    client,
    good_match,
    http,
    leaf,
    matches,
    query,
    tunnel,
)

D, C, T, REQ, RES = Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.REQUEST, Phase.RESPONSE
WS, TCP, UDP = Phase.WEBSOCKET, Phase.TCP, Phase.UDP
GET, POST = http(method="GET"), http(method="POST")

TABLE = [
    # match, facts, whether it holds
    ("method: GET", GET, True),
    ("method: get", GET, True),
    ("method: GET", http(method="get"), False),
    ("method: [put, Post]", POST, True),
    ("method: [put, Post]", GET, False),
    ("method: M-SEARCH", http(method="M-SEARCH"), True),
    ("scheme: http", GET, True),
    ("scheme: HTTPS", http("https://a.example/"), True),
    ("scheme: [http, https]", GET, True),
    ("scheme: https", GET, False),
    ("scheme: https", tunnel("a.example", hello=True), True),
    ("port: 80", GET, True),
    ("port: 443", GET, False),
    ("port: 8443", tunnel("a.example", 8443), True),
    ("port: 8000-8999", http("http://a.example:8999/"), True),
    ("port: 8000-8999", http("http://a.example:9000/"), False),
    ("port: [80, 443, 8000 - 8010]", http("http://a.example:8010/"), True),
    ("port: [80, 443, 8000 - 8010]", http("http://a.example:81/"), False),
    ("port: [81-90, 70-75]", http("http://a.example:75/"), True),
    ("port: 8080-8080", http("http://a.example:8080/"), True),
    ("status: 404", answer(404), True),
    ("status: 404", answer(200), False),
    ("status: 5xx", answer(599), True),
    ("status: 5XX", answer(500), True),
    ("status: 5xx", answer(499), False),
    ("status: 500-502", answer(502), True),
    ("status: [404, 410, 2xx]", answer(204), True),
    ("status: [404, 410, 2xx]", answer(301), False),
    ("client_ip: 10.1.2.3", http(by=client("10.1.2.3")), True),
    ("client_ip: 10.1.2.3", http(by=client("10.1.2.30")), False),
    ("client_ip: 10.0.0.0/8", http(by=client("10.255.0.1")), True),
    ("client_ip: 10.0.0.0/8", http(by=client("11.0.0.1")), False),
    ("client_ip: 10.0.0.0/8", http(by=client("::ffff:10.0.0.1")), True),
    ("client_ip: 'fe80::/10'", http(by=client("fe80::1%eth0")), True),
    ("client_ip: 'FD00::1'", http(by=client("fd00:0::1")), True),
    ("client_ip: [127.0.0.1, '::1']", http(by=client("::1")), True),
    ("client_ip: 0.0.0.0/0", http(by=client("::1")), False),
    ("client_ip: nets", http(by=client("10.1.9.9")), True),
    ("client_ip: nets", http(by=client("fd12::1")), True),
    ("client_ip: nets", http(by=client("10.2.0.0")), False),
    ("client_ip: [nets, 10.2.0.0]", http(by=client("10.2.0.0")), True),
    ("client_ip: addresses", http(by=client("10.9.3.1")), True),
    ("client_ip: addresses", http(by=client("10.9.9.9")), False),
    ("client_ip: 10.0.0.0/8", http(by=client("nonsense")), False),
    ("client_ip: 127.0.0.1", query("a"), True),
    ("dns_type: A", query("a", "A"), True),
    ("dns_type: aaaa", query("a", "AAAA"), True),
    ("dns_type: [A, https]", query("a", "HTTPS"), True),
    ("dns_type: TYPE65400", query("a", "TYPE65400"), True),
    ("dns_type: type28", query("a", "AAAA"), True),
    ("dns_type: A", query("a", "AAAA"), False),
    ("listener: regular", GET, True),
    ("listener: dns", GET, False),
    ("listener: dns", query("a"), True),
    ("listener: '@8080'", GET, True),
    ("listener: '@080'", http(by=client(listener="127.0.0.1:80")), True),
    ("listener: '@80'", GET, False),
    ("listener: '@80'", http(by=client(listener="127.0.0.1:180")), False),
    ("listener: '@127.0.0.1:8080'", GET, True),
    ("listener: '@10.0.0.1:8080'", GET, False),
    ("listener: '@[::1]:8080'", http(by=client(listener="[::1]:8080")), True),
    ("listener: [dns, '@1', '@8080', '@10.0.0.1:8080']", GET, True),
    ("listener: [dns, '@1', '@2', '@10.0.0.1:8080']", GET, False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "x", "wanted"), TABLE, ids=[f"{t}-{w}-{n}" for n, (t, _, w) in enumerate(TABLE)])
def test_matchers(text, x, wanted):
    assert matches(good_match(text), x) is wanted


@pytest.mark.parametrize(("text", "message", "help"), [
    ("method: GET POST", "is not a method", "[GET, POST]"),
    ("method: connect", "no rule sees CONNECT", "tunnel"),
    ("method: ''", "is not a method", ""),
    ("method: []", "an empty list", ""),
    ("scheme: htps", "a scheme is http or https", 'did you mean "https"?'),
    ("scheme: ftp", "a scheme is http or https", ""),
    ("port: 70000", "from 1 to 65535, not 70000", ""),
    ("port: 0", "from 1 to 65535", ""),
    ("port: 80-70000", "from 1 to 65535", ""),
    ("port: 90-80", "is empty", "80-90"),
    ("port: http", "is not a port", "443"),
    ("port: -1", "is not a port", ""),
    ("port: 80.5", "is not a port", ""),
    ("port: '٨٠'", "is not a port", ""),
    ("status: 99", "three digits", ""),
    ("status: 1000", "three digits", ""),
    ("status: 6xx", "is not a status", "5xx"),
    ("status: 599-500", "is empty", "500-599"),
    ("status: ok", "is not a status", "404"),
    ("client_ip: 10.0.0.1/8", "bits set beyond its prefix", "did you mean 10.0.0.0/8?"),
    ("client_ip: 10.0.0.0/33", "prefix", "192.168.7.0/24"),
    ("client_ip: 10.0.0.256", "no such address", ""),
    ("client_ip: 'fd00::/129'", "prefix", ""),
    ("client_ip: net", "no set net", 'did you mean "nets"?'),
    ("client_ip: 1", "not an address", ""),
    ("dns_type: AAA", "is not a DNS record type", "did you mean"),
    ("dns_type: TYPE70000", "is not a DNS record type", ""),
    ("listener: regulr", "there is no mode", 'did you mean "regular"?'),
    ("listener: 8080", "there is no mode", '"@8080"'),
    ("listener: 127.0.0.1:8080", "there is no mode", '"@127.0.0.1:8080"'),
    ("listener: '@x:y'", "is not a port", ""),
    ("listener: '@'", "is not a port", ""),
    ("listener: '@a b:80'", "not a listener", ""),
])  # fmt: skip
def test_mistakes(text, message, help):
    diagnostic = bad_match(text)
    assert message in diagnostic.message
    assert help in diagnostic.help


def test_set_entries_that_are_no_addresses_are_warned_about():
    predicate, diagnostics = build_match("client_ip: hosts")
    assert predicate is not None
    assert [d.code for d in diagnostics] == ["bad-set-entry"]


@pytest.mark.parametrize(("text", "phases"), [
    ("host: a", set(Phase)), ("domain: a", set(Phase)), ("host_in: hosts", set(Phase)),
    ("client_ip: 10.0.0.1", set(Phase)), ("listener: dns", set(Phase)),
    ("port: 1", {C, T, REQ, RES, WS, TCP, UDP}), ("scheme: http", {T, REQ, RES, WS}),
    ("sni: a", {T, REQ, RES, WS, TCP}), ("dns_type: A", {D}),
    ("method: GET", {REQ, RES, WS}), ("path: /a", {REQ, RES, WS}), ("path_prefix: /a", {REQ, RES, WS}),
    ("path_regex: a", {REQ, RES, WS}), ("query: {a: b}", {REQ, RES, WS}), ("headers: {a: b}", {REQ, RES, WS}),
    ("cookies: {a: b}", {REQ, RES, WS}), ("status: 404", {RES}), ("response_headers: {a: b}", {RES}),
    ("direction: to_client", {WS, TCP, UDP}), ("text: a", {WS, TCP, UDP}), ("json: {a: 1}", {WS, TCP, UDP}),
    ("json_path: {$.a: b}", {WS, TCP, UDP}), ("bytes: ff", {WS, TCP, UDP}), ("opcode: text", {WS}),
])  # fmt: skip
def test_phases_in_which_a_key_can_be_seen(text, phases):
    assert phases == leaf(text).PHASES


def test_host_keys_are_marked():
    marked = {text for text in ("host: a", "domain: a", "host_in: hosts", "sni: a", "port: 1", "path: /a")
              if leaf(text).IS_HOST}
    assert marked == {"host: a", "domain: a", "host_in: hosts"}


def test_all_keys_of_a_match_hold_together():
    rule = good_match("{host: a.example, method: [GET, HEAD], path: /x/**, not: {headers: {x-no: {present: true}}}}")
    assert len(list(leaves(rule))) == 4
    assert matches(rule, http("http://a.example/x/y"))
    assert not matches(rule, http("http://a.example/x/y", "GET", ("x-no", "")))
    assert not matches(rule, http("http://a.example/y"))
    assert not matches(rule, http("http://a.example/x", "POST"))


def test_any_and_all_nest():
    rule = good_match("any: [{method: GET, path: /a}, {all: [{method: POST}, {any: [{path: /b}, {path: /c}]}]}]")
    hits = [(method, path) for method in ("GET", "POST") for path in ("/a", "/b", "/c")
            if matches(rule, http(f"http://a.example{path}", method))]
    assert hits == [("GET", "/a"), ("POST", "/b"), ("POST", "/c")]


@pytest.mark.parametrize(("text", "x", "said"), [
    ("host: a.example", http("http://b.example/"), 'host is "b.example", wanted "a.example"'),
    ("host: [a.example, '*.x', {regex: '^y'}]", http("http://b.example/"),
     'host is "b.example", wanted "a.example" or like "*.x" or matching "^y"'),
    ("path: /a/**", http("http://b.example/b"), 'path is "/b", wanted "/a" or below'),
    ("headers: {X-A: {prefix: v, not: v1}}", http("http://b/", "GET", ("x-a", "v1"), ("x-a", "v2")),
     'header x-a is "v1", "v2", wanted starting with "v" and not ("v1")'),
    ("headers: {x-a: {present: true}}", GET, "header x-a is absent, wanted present"),
    ("query: {page: {gt: 5}}", http("http://b/?page=5"), 'query key page is "5", wanted greater than 5'),
    ("method: [POST, PUT]", GET, 'method is GET, wanted "POST" or "PUT"'),
    ("port: [443, 8000-8999]", GET, "port is 80, wanted 443 or 8000-8999"),
    ("status: 5xx", answer(200), "status is 200, wanted 500-599"),
    ("client_ip: 10.0.0.0/8", GET, 'client is 127.0.0.1, wanted "10.0.0.0/8"'),
    ("listener: [dns, '@81']", GET, 'listener is regular@127.0.0.1:8080, wanted "@81" or "dns"'),
    ("host_in: many", GET, "one of"),
])  # fmt: skip
def test_misses_are_described(text, x, said):
    rule = leaf(text)
    assert not matches(rule, x)
    assert said in rule.describe_miss(x)


def test_networks_refuse_what_is_none():
    with pytest.raises(ValueError, match="host bits"):
        Networks("10.0.0.1/8")
    assert 5 not in Networks("0.0.0.0/0")


def test_every_matcher_file_says_what_it_is():
    known = unit.matchers()
    assert set(known) == {
        "host", "domain", "host_in", "path", "path_prefix", "path_regex", "method", "scheme", "port", "query",
        "headers", "cookies", "status", "response_headers", "client_ip", "sni", "dns_type", "listener",
        "direction", "text", "json", "json_path", "bytes", "opcode",
    }  # fmt: skip
    for key, matcher in known.items():
        assert matcher.summary.endswith((".", "…"))
        assert matcher.schema["description"]
        assert f"{key}: " in matcher.example and "no_rule" in matcher.example
        assert not isinstance(matcher.build, Leaf)
