"""Rule language, 4.4 and the body half of 5.2: how the edits of several rules compose, and what happens to bodies that
cannot be had. The id of a case names its sentence.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from rulesproxy.compiler.outcome import Outcome
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request, Response
from tests.compiler.rulefiles import warnings
from tests.language.playing import exchange, got_header, http, play, sent_header, text_of


def rules(*actions: str, match: str = "host: a.test") -> str:
    """Rules r0, r1, … in this order, one for each action."""
    return "rules:\n" + "".join(f"  - {{name: r{number}, match: {{{match}}}, action: {{rewrite: {action}}}}}\n"
                                for number, action in enumerate(actions))


def sent(*actions: str, url: str = "http://a.test/", **more: Any) -> Outcome:
    outcome = play(rules(*actions), http(url, **more))
    assert outcome.rules == [f"r{number}" for number in range(len(actions))]  # dropping an edit drops no rule
    return outcome


HEADERS = [
    ("4.4-the-first-set-is-the-base", ["{headers: {set: {x: a}}}", "{headers: {set: {x: b}}}"], ["old"], ["a"]),
    ("4.4-the-first-remove-is-the-base", ["{headers: {remove: x}}", "{headers: {set: {x: b}}}"], ["old"], []),
    ("4.4-a-later-remove-is-dropped", ["{headers: {set: {x: a}}}", "{headers: {remove: [x]}}"], ["old"], ["a"]),
    ("4.4-else-the-messages-own", ["{headers: {replace: {x: {text: l, with: L}}}}"], ["old"], ["oLd"]),
    ("4.4-then-every-replace-top-to-bottom",
     ["{headers: {replace: {x: {text: a, with: b}}}}", "{headers: {replace: {x: {text: b, with: c}}}}",
      "{headers: {set: {x: a}}}"], ["old"], ["c"]),
    ("4.4-then-every-add", ["{headers: {add: {x: a}}}", "{headers: {set: {x: b}}}", "{headers: {add: {x: c}}}"],
     ["old"], ["b", "a", "c"]),
    ("4.4-adds-are-not-replaced-in", ["{headers: {add: {x: a}}}", "{headers: {replace: {x: {text: a, with: b}}}}"],
     ["a"], ["b", "a"]),
    ("4.4-set-with-a-list-writes-several-lines", ["{headers: {set: {x: [a, b]}}}"], ["old"], ["a", "b"]),
    ("4.4-names-without-case", ["{headers: {set: {X: a}}}", "{headers: {set: {x: b}}}"], ["old"], ["a"]),
    ("4.4-fields-are-their-own", ["{headers: {set: {y: a}}}", "{headers: {set: {x: b}}}"], ["old"], ["b"]),
]


@pytest.mark.parametrize(("actions", "before", "after"), [pytest.param(*case[1:], id=case[0]) for case in HEADERS])
def test_headers(actions: list[str], before: list[str], after: list[str]) -> None:
    outcome = sent(*actions, headers={"x": before[0]})
    assert sent_header(outcome, "x") == after
    turned = [action.replace("headers:", "response_headers:") for action in actions]
    assert got_header(sent(*turned, answer_headers={"x": before[0]}), "x") == after


def test_4_4_cookie_query_path_method_status_and_body_compose_alike() -> None:
    first = ("{cookies: {set: {s: '1'}}, query: {set: {q: '1'}}, path: /1, method: PUT, body: '1', status: 201, "
             "response_cookies: {set: {s: '1'}}, response_body: '1'}")
    outcome = play(rules(first, first.replace("1", "2").replace("PUT", "PATCH")), http("POST http://a.test/0?q=0"))
    assert outcome.sent is not None and outcome.response is not None
    assert (outcome.sent.method, outcome.sent.url, outcome.sent.body) == ("PUT", "http://a.test/1?q=1", b"1")
    assert (sent_header(outcome, "cookie"), got_header(outcome, "set-cookie")) == (["s=1"], ["s=1"])
    assert (outcome.response.status_code, text_of(outcome)) == (201, "1")


def test_4_4_priority_decides_what_comes_first() -> None:
    text = rules("{headers: {set: {x: a}}}", "{headers: {set: {x: b}}}").replace("name: r1,", "name: r1, priority: 1,")
    assert sent_header(play(text, http("http://a.test/")), "x") == ["b"]


@pytest.mark.parametrize(("actions", "wanted"), [
    pytest.param(["{response_body: {json_merge: {a: 2}}}", "{response_body: {replace: {text: '2', with: '3'}}}",
                  "{response_body: {json_patch: [{op: move, from: /a, path: /b}]}}"], {"b": 3}, id="4.4-in-turn"),
    pytest.param(["{response_body: {json_merge: {b: 1}}}", "{response_body: '{}'}"], {"b": 1}, id="4.4-set-is-first"),
    pytest.param(["{response_body: {json: {x: 1}}}", "{response_body: {file: body.txt}}"], {"x": 1}, id="4.4-one-base"),
])  # fmt: skip
def test_bodies(actions: list[str], wanted: Any) -> None:
    assert json.loads(text_of(sent(*actions, answer_json={"a": 1}))) == wanted


def test_4_4_delays_add_up() -> None:
    text = ("rules:\n  - {name: a, match: {host: a.test}, action: {delay: 200ms}}\n"
            "  - {name: b, match: {host: a.test}, action: {delay: 1s}}\n")
    pacing = play(text, http("http://a.test/")).pacing
    assert pacing is not None and pacing.request == pytest.approx(1.2)


def test_4_4_check_lists_what_is_dropped() -> None:
    text = "version: 1\n" + rules("{headers: {set: {X: a}}}", "{headers: {set: {x: b}}}", "{headers: {add: {x: b}}}")
    assert [item for item in warnings(text) if item[0] == "field-conflict"] == [("field-conflict", 4)]


def test_4_4_the_order_of_keys_does_not_matter() -> None:
    keys = ["response_headers: {remove: content-encoding, set: {etag: new}}",
            "response_body: {replace: {text: o, with: u}}"]
    for order in (keys, keys[::-1]):
        flow = answered(rules(f"{{{', '.join(order)}}}"), gzip.compress(b"foo"), {"content-encoding": "gzip"})
        assert flow.response is not None
        assert flow.response.raw_content == b"fuu"
        assert flow.response.headers["etag"] == "new"


# --- 5.2 bodies ------------------------------------------------------------------------------------------------------


def answered(text: str, body: bytes, fields: dict[str, str], limit: int = 1000) -> HTTPFlow:
    """A flow whose response came in two steps, head and body; None for a body beyond the limit."""
    flow = exchange(text, Request.make("GET", "http://a.test/"), limit=limit)
    flow.pinned.request_head()
    flow.pinned.request_body()
    flow.response = Response(200, "OK", Headers((name.encode(), value.encode()) for name, value in fields.items()))
    flow.response.headers["content-length"] = str(len(body))
    flow.pinned.response_head()
    if flow.pinned.waits_for_response:
        flow.response.raw_content = body if len(body) <= limit else None
        flow.pinned.response_body()
    return flow


READS = "{response_body: {replace: {text: o, with: u}}, response_headers: {set: {x: done}}}"
BAD = [
    pytest.param(b"not gzip", {"content-encoding": "gzip"}, id="5.2-broken-coding"),
    pytest.param(b"foo", {"content-encoding": "made-up"}, id="5.2-unknown-coding"),
    pytest.param(b"o" * 2000, {}, id="5.2-announced-as-too-large"),
    pytest.param(gzip.compress(b"o" * 300_000), {"content-encoding": "gzip"}, id="5.2-unpacks-too-far"),
    pytest.param(b"foo", {"content-type": "text/event-stream"}, id="5.2-never-buffered-events"),
    pytest.param(b"foo", {"content-type": "Multipart/x-mixed-replace; boundary=a"}, id="5.2-never-buffered-parts"),
    pytest.param(b"foo", {"content-type": "application/grpc+proto"}, id="5.2-never-buffered-grpc"),
]


@pytest.mark.parametrize(("body", "fields"), BAD)
def test_a_rule_that_cannot_read_is_skipped_whole_and_the_rest_goes_on(body: bytes, fields: dict[str, str]) -> None:
    text = rules(READS, "{response_headers: {set: {y: also}}}")
    flow = answered(text, body, fields)
    assert flow.response is not None
    assert "x" not in flow.response.headers
    assert flow.response.headers["y"] == "also"
    assert flow.response.raw_content in (None, body)  # the bytes go on


@pytest.mark.parametrize(("body", "fields"), BAD)
def test_5_2_a_body_that_is_replaced_need_not_be_read(body: bytes, fields: dict[str, str]) -> None:
    flow = answered(rules("{response_body: new, response_headers: {set: {x: done}}}"), body, fields)
    assert flow.response is not None
    assert (flow.response.content, flow.response.headers["x"]) == (b"new", "done")


@pytest.mark.parametrize(("body", "fields"), BAD)
def test_5_2_on_unreadable_refuse(body: bytes, fields: dict[str, str]) -> None:
    text = rules(READS).replace("name: r0,", "name: r0, on_unreadable: refuse,")
    flow = answered(text, body, fields)
    assert flow.response is not None and flow.own_page
    assert flow.response.status_code == 502
    assert "Rule: r0" in (flow.response.text or "")


def test_5_2_a_block_refuses_and_a_request_is_413() -> None:
    text = ("rules:\n  - name: r\n    match: {host: a.test}\n"
            "    action: {block: {status: 403, body: '${request.json.a | default(1)}'}}\n")
    for skip, status in (("", 413), ("    on_unreadable: skip\n", None)):
        request = Request.make("POST", "http://a.test/", b"x" * 2000)
        request.raw_content = None
        flow = exchange(text + skip, request, limit=1000)
        flow.pinned.request_head()
        flow.pinned.request_body()
        assert (flow.response.status_code if flow.response else None) == status


def test_5_2_a_skipped_rule_is_told() -> None:
    told: list[tuple[str, str]] = []
    flow = exchange(rules(READS), Request.make("GET", "http://a.test/"))
    flow.pinned._on_error = lambda rule, exc: told.append((rule.name, type(exc).__name__))
    flow.pinned.request_head()
    flow.response = Response(200, "OK", Headers([(b"content-encoding", b"made-up")]), b"foo")
    flow.pinned.response_head()
    flow.pinned.response_body()
    assert told == [("r0", "UnreadableBody")]


def test_5_2_requests_ask_for_whole_bodies_in_codings_we_know() -> None:
    fields = {"range": "bytes=0-1", "if-none-match": "x", "accept-encoding": "br;q=0.5, made-up, gzip", "x": "y"}
    for action in (READS, "{response_body: new}"):
        outcome = sent(action, headers=fields)
        assert outcome.sent is not None
        assert {name.lower() for name in outcome.sent.headers} == {"host", "accept-encoding", "x"}
        assert sent_header(outcome, "accept-encoding") == ["br;q=0.5, gzip"]
    untouched = sent("{response_headers: {set: {x: y}}}", headers=fields)
    assert sent_header(untouched, "range") == ["bytes=0-1"]


def test_5_2_an_edited_body_drops_validators_and_is_not_cached() -> None:
    fields = {"etag": "1", "digest": "x", "content-digest": "x", "accept-ranges": "bytes", "cache-control": "max-age=9"}
    outcome = sent(READS, answer="foo", answer_headers=fields)
    assert [got_header(outcome, name) for name in fields] == [[], [], [], [], ["no-store"]]
    outcome = sent(READS, "{response_headers: {set: {cache-control: public}}}", answer="foo", answer_headers=fields)
    assert got_header(outcome, "cache-control") == ["public"]
    untouched = sent("{response_headers: {set: {x: y}}}", answer="foo", answer_headers=fields)
    assert got_header(untouched, "etag") == ["1"]


def test_4_6_made_answers_are_edited_like_real_ones() -> None:
    text = "rules:\n  - {name: made, match: {host: a.test}, action: {respond: {json: {a: 1}}}}\n" + rules(
        "{response_body: {json_merge: {b: 2}}, status: 201}").partition("\n")[2]
    outcome = play(text, http("http://a.test/"))
    assert json.loads(text_of(outcome)) == {"a": 1, "b": 2}
    assert outcome.response is not None and outcome.response.status_code == 201
