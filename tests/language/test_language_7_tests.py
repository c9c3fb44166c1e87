"""Rule language, section 7: tests beside the rules. Each expectation must be able to hold and to fail."""

from __future__ import annotations

import pytest

from tests.language.playing import compiled, differs, holds, mistakes, run

MOCK = """\
rules:
  - name: mock
    match: {host: mock.test, path: /m}
    action: {respond: {status: 201, headers: {x-a: [one, two]}, json: {n: 1, list: [true, null]}}}
  - name: changes
    match: {host: real.test}
    action: {rewrite: {method: PUT, path: /new, headers: {set: {x-b: sent}}, body: set by a rule}}
  - name: moves
    match: {host: moved.test}
    action: {redirect_server: {to: "https://127.0.0.1:8443", sni: name.test, keep_host: false}}
  - {name: named, match: {host: named.test}, action: {spoof_dns: {A: [192.0.2.1, 192.0.2.2]}}}
  - {name: gone, match: {host: gone.test}, action: {spoof_dns: {rcode: NXDOMAIN}}}
  - {name: opened, match: {host: opened.test}, action: {tls: intercept}}
  - {name: refused, match: {host: refused.test}, action: {tls: refuse}}
  - {name: drops, match: {host: drops.test}, action: {block: reset}}
tests:
"""
REQUEST = "request: GET http://mock.test/m"
REAL = "request: {method: POST, url: http://real.test/old, body: sent by the client}"

#: What happens; an expectation that holds; one that does not; and what is said to differ.
EXPECTATIONS = {
    "rule": (REQUEST, "rule: mock", "rule: changes", "rule"),
    "rule-list": (REQUEST, "rule: [mock]", "rule: [mock, changes]", "rule"),
    "no_rule": (REQUEST, "no_rule: [changes, moves]", "no_rule: mock", "no_rule"),
    "no_rule-at-all": ("request: GET http://other.test/", "no_rule: true", "rule: mock", "rule"),
    "some-rule-at-all": (REQUEST, "rule: mock", "no_rule: true", "no_rule"),
    "status": (REQUEST, "status: 201", "status: 200", "status"),
    "headers": (REQUEST, "headers: {X-A: two}", "headers: {x-a: three}", "headers.x-a"),
    "headers-null": (REQUEST, "headers: {x-z: null}", "headers: {x-a: null}", "headers.x-a"),
    "headers-contains": (REQUEST, "headers: {x-a: {contains: n}}", "headers: {x-a: {contains: z}}", "headers.x-a"),
    "headers-regex": (REQUEST, "headers: {x-a: {regex: '^o'}}", "headers: {x-a: {regex: '^x'}}", "headers.x-a"),
    "headers-present": (REQUEST, "headers: {x-a: {present: true}}", "headers: {x-a: {absent: true}}", "headers.x-a"),
    "body": (REQUEST, "body: {contains: true}", "body: {contains: false}", "body"),
    "body-equal": (REAL, "body: ''", "body: something", "body"),
    "json": (REQUEST, "json: {list: [true, null], n: 1}", "json: {list: [true, null]}", "json"),
    "json-types": (REQUEST, "json: {list: [true, null], n: 1}", "json: {list: [1, null], n: 1}", "json"),
    "server": ("request: GET http://moved.test/", 'server: "127.0.0.1:8443"', 'server: "moved.test:80"', "server"),
    "server-own": ("request: GET http://a.test:81/", 'server: "a.test:81"', 'server: "a.test:80"', "server"),
    "server-by-address": ("request: GET http://named.test/",
                          'server: "192.0.2.2:80"', 'server: "192.0.2.3:80"', "server"),
    "sent-nothing": (REQUEST, "sent: nothing", "sent: {method: GET}", "sent"),
    "sent-something": (REAL, "sent: {method: PUT}", "sent: nothing", "sent"),
    "sent-method": (REAL, "sent: {method: PUT}", "sent: {method: POST}", "sent.method"),
    "sent-url": (REAL, "sent: {url: http://real.test/new}", "sent: {url: http://real.test/old}", "sent.url"),
    "sent-headers": (REAL, "sent: {headers: {x-b: sent}}", "sent: {headers: {x-b: null}}", "sent.headers.x-b"),
    "sent-body": (REAL, "sent: {body: set by a rule}", "sent: {body: sent by the client}", "sent.body"),
    "sent-json": ("request: {method: POST, url: http://a.test/, json: {a: 1}}", "sent: {json: {a: 1}}",
                  "sent: {json: {a: 2}}", "sent.json"),
    "sent-sni": ("request: GET http://moved.test/", "sent: {sni: name.test}", "sent: {sni: moved.test}", "sent.sni"),
    "sent-host": ("request: GET http://moved.test/", 'sent: {headers: {host: "127.0.0.1:8443"}}',
                  "sent: {headers: {host: moved.test}}", "sent.headers.host"),
    "dns-answers-in-any-order": ("dns: {name: named.test, type: A}", "dns: {answers: [192.0.2.2, 192.0.2.1]}",
                                 "dns: {answers: [192.0.2.2]}", "dns.answers"),
    "dns-no-answers": ("dns: {name: named.test, type: TXT}", "dns: {answers: []}", "dns: {answers: [x]}",
                       "dns.answers"),
    "dns-rcode": ("dns: {name: gone.test}", "dns: {rcode: NXDOMAIN}", "dns: {rcode: NOERROR}", "dns.rcode"),
    "dns-forwarded": ("dns: {name: other.test}", "no_rule: true", "dns: {rcode: NOERROR}", "dns.rcode"),
    "tls-intercept": ("tls: {sni: opened.test}", "tls: intercept", "tls: relay", "tls"),
    "tls-relay": ("tls: {sni: other.test}", "tls: relay", "tls: refuse", "tls"),
    "tls-refuse": ("tls: {sni: refused.test}", "tls: refuse", "tls: intercept", "tls"),
    "tls-of-a-request": ("request: GET https://opened.test/", "tls: intercept", "tls: relay", "tls"),
    "no-tls": (REQUEST, "rule: mock", "tls: relay", "tls"),
    "closed": ("request: GET http://drops.test/", "closed: true", "closed: false", "closed"),
    "closed-tls": ("tls: {sni: refused.test}", "closed: true", "closed: false", "closed"),
    "not-closed": (REQUEST, "closed: false", "closed: true", "closed"),
    "sent-text": ('message: {on: "tcp://a.test:9", text: hello}', "sent: {text: hello}", "sent: {text: bye}",
                  "sent.text"),
    "no-response": ("request: GET http://drops.test/", "closed: true", "status: 200", "status"),
}  # fmt: skip


@pytest.mark.parametrize(("happens", "right", "wrong", "what"), EXPECTATIONS.values(), ids=EXPECTATIONS)
def test_7_an_expectation_holds_or_is_said_to_differ(happens: str, right: str, wrong: str, what: str) -> None:
    holds(f"{MOCK}  - {{{happens}, expect: {{{right}}}}}\n")
    assert what in differs(f"{MOCK}  - {{{happens}, expect: {{{wrong}}}}}\n")


def test_7_upstream_is_an_empty_200_unless_given() -> None:
    holds("""\
rules: [{name: a, match: {host: a.test, status: 200}, action: {tag: t}}]
tests:
  - {request: GET http://a.test/, expect: {rule: a, status: 200, body: ""}}
  - request: GET http://a.test/
    upstream: {status: 404, headers: {x-a: [one, two]}, body: gone}
    expect: {no_rule: a, status: 404, headers: {x-a: two}, body: gone}
  - request: GET http://a.test/
    upstream: {json: {a: 1}}
    expect: {json: {a: 1}, headers: {content-type: application/json}}
""")


def test_7_a_request_is_a_line_or_a_mapping() -> None:
    holds("""\
rules: [{name: a, match: {host: a.test, method: PUT, headers: {x-a: b}, query: {q: "1"}}, action: {tag: t}}]
tests:
  - {request: PUT http://a.test/?q=1, expect: {no_rule: a}}
  - {request: http://a.test/, expect: {sent: {method: GET}}}
  - {request: {method: put, url: "http://a.test/?q=1", headers: {X-A: b}, body: x}, expect: {rule: a, sent: {body: x}}}
""")


def test_7_client_is_the_address_that_asks() -> None:
    holds("""\
rules: [{name: a, match: {client_ip: 10.0.0.0/8, host: a.test}, action: {block: {}}}]
tests:
  - {request: GET http://a.test/, client: 10.1.2.3, expect: {rule: a}}
  - {dns: {name: a.test}, client: 10.1.2.3, expect: {rule: a}}
  - {request: GET https://a.test/, client: 10.1.2.3, expect: {rule: a, status: 403}}
  - {request: GET http://a.test/, expect: {no_rule: a}}
""")


def test_7_at_is_the_time_it_happens() -> None:
    holds("""\
rules: [{name: a, match: {host: a.test}, action: {respond: "${now}"}}]
tests:
  - {request: GET http://a.test/, at: "2026-12-31T23:59:59", expect: {body: "2026-12-31T23:59:59Z"}}
  - {request: GET http://a.test/, at: "2026-12-31T23:59:59+02:00", expect: {body: "2026-12-31T21:59:59Z"}}
  - {request: GET http://a.test/, expect: {body: "2026-01-01T00:00:00Z"}}
""")


def test_7_steps_happen_in_order_and_share_what_a_test_is_given() -> None:
    text = """\
rules: [{name: a, match: {host: a.test}, action: {respond: "${uuid} ${now}"}}]
tests:
  - name: two of them
    at: "2026-05-01T00:00:00"
    client: 10.0.0.1
    steps:
      - {request: GET http://a.test/, expect: {rule: a, body: {contains: 2026-05-01}}}
      - {request: GET http://a.test/, expect: {rule: a, body: {contains: 2026-05-01}}}
"""
    holds(text)
    [result] = run(text).results
    first, second = (outcome.response and outcome.response.get_text() for outcome in result.outcomes)
    assert first != second, "what is drawn goes on from one step to the next"


def test_7_a_failing_step_is_named() -> None:
    [result] = run("""\
rules: [{name: a, match: {host: a.test}, action: {tag: t}}]
tests:
  - steps:
      - {request: GET http://a.test/, expect: {rule: a}}
      - {request: GET http://b.test/, expect: {rule: a}}
""").results
    [failure] = result.failures
    assert (failure.step, failure.pos.line) == (2, 6)


def test_7_tests_stand_under_a_rule_or_in_the_file() -> None:
    tests = compiled("""\
rules:
  - name: a
    match: {host: a.test}
    action: {tag: t}
    tests: [{name: under, request: GET http://a.test/, expect: {rule: a}}]
tests: [{request: GET http://a.test/, expect: {rule: a}}]
""").build.tests
    assert [(test.name, test.rule) for test in tests] == [("under", "a"), ("GET http://a.test/", "")]


def test_7_the_whole_way_of_an_https_request() -> None:
    holds("""\
rules:
  - {name: refuses, match: {host: r.test}, action: {block: {}}}
  - {name: answers, match: {host: p.test}, action: {block: {status: 451}}}
tests:
  - {request: GET https://r.test/, expect: {rule: refuses, status: 403, tls: refuse, sent: nothing}}
  - {request: GET https://p.test/, expect: {rule: answers, status: 451, tls: intercept, sent: nothing}}
  - {request: GET https://o.test/, upstream: {body: own}, expect: {no_rule: true, tls: relay, body: own,
     server: "o.test:443", sent: {sni: o.test}}}
""")


def test_7_a_name_that_a_rule_fails_is_a_page() -> None:
    holds(f"{MOCK}  - {{request: GET http://gone.test/, expect: {{rule: gone, status: 502, sent: nothing, "
          "body: {contains: gone}}}\n")


@pytest.mark.parametrize(("test", "message"), [
    ("{expect: {rule: a}}", "exactly one of"),
    ("{request: GET http://a.test/, dns: {name: a}, expect: {rule: a}}", "exactly one of"),
    ("{request: /relative, expect: {rule: a}}", "absolute URL"),
    ("{request: GET http://a.test/, expect: {rule: b}}", "does not exist"),
    ("{request: GET http://a.test/, at: noon, expect: {rule: a}}", "is not a time"),
    ("{request: GET http://a.test/, client: nobody, expect: {rule: a}}", "is not an IP address"),
    ("{request: GET http://a.test/, expect: {body: {regex: '('}}}", "not a regular expression"),
])
def test_7_a_test_that_cannot_be_run_is_an_error(test: str, message: str) -> None:
    [found] = mistakes(f"rules: [{{name: a, match: {{host: a.test}}, action: {{tag: t}}}}]\ntests: [{test}]\n")
    assert message in found


def test_7_tests_of_a_rule_that_is_off_are_skipped() -> None:
    results = run("""\
rules:
  - name: off
    enabled: false
    match: {host: a.test}
    action: {tag: t}
    tests: [{request: GET http://a.test/, expect: {rule: off}}]
  - name: elsewhere
    profile: local
    match: {host: a.test}
    action: {tag: t}
    tests: [{request: GET http://a.test/, expect: {rule: elsewhere}}]
profiles: {local: {}}
""")
    assert (results.passed, results.failed, len(results.skipped), results.rules) == (0, 0, 2, 0)


def test_7_coverage_counts_rules_that_a_passed_test_made_act() -> None:
    results = run("""\
rules:
  - {name: shown, match: {host: a.test}, action: {tag: t}}
  - {name: wrong, match: {host: b.test}, action: {tag: t}}
  - {name: never, match: {host: c.test}, action: {tag: t}}
tests:
  - {request: GET http://a.test/, expect: {rule: shown}}
  - {request: GET http://b.test/, expect: {rule: wrong, status: 404}}
""")
    assert results.untested == ("wrong", "never")
