"""Edits: each kind of field, and how several compose (rule-language 4.4)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.model.connection import Client, Server
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request, Response
from rulesproxy.runtime.edits import Edit, apply_request, apply_response
from rulesproxy.runtime.substitution import Substitution


def flow_of(url: str = "http://a.test/p", fields: Sequence[tuple[str, str]] = (), body: bytes = b"",
            answer: bytes = b"", answer_fields: Sequence[tuple[str, str]] = ()) -> HTTPFlow:
    flow = HTTPFlow(Client(peername=("127.0.0.1", 1)), Server())
    flow.request = Request.make("POST", url, body, headers_of(fields))
    flow.response = Response.make(200, b"", headers_of(answer_fields))
    flow.response.set_content(answer)
    return flow


def headers_of(fields: Sequence[tuple[str, str]]) -> Headers:
    return Headers((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in fields)


def on_request(flow: HTTPFlow, *edits: tuple[str, str, str, Any]) -> list[Edit]:
    return apply_request([Edit("request", *edit) for edit in edits], flow)


def on_response(flow: HTTPFlow, *edits: tuple[str, str, str, Any]) -> list[Edit]:
    return apply_response([Edit("response", *edit) for edit in edits], flow)


def swap(pattern: str, *parts: str | int) -> tuple[Substitution, ...]:
    return (Substitution(pattern, parts),)


def body_of(flow: HTTPFlow) -> bytes:
    assert flow.response is not None and flow.response.content is not None
    return flow.response.content


def answer_header(flow: HTTPFlow, name: str) -> list[str]:
    assert flow.response is not None
    return flow.response.headers.get_all(name)


# --- headers ---------------------------------------------------------------------------------------------------------

HEADERS = [
    ("set", [("X-a", "1")], [("set", ("2",))], [("X-a", "2")]),
    ("set-adds-a-missing-one", [("y", "1")], [("set", ("2",))], [("y", "1"), ("x-a", "2")]),
    ("set-several-lines", [("x-a", "1"), ("y", "0")], [("set", ("2", "3"))], [("x-a", "2"), ("y", "0"), ("x-a", "3")]),
    ("set-replaces-all-lines", [("x-a", "1"), ("x-a", "2")], [("set", ("3",))], [("x-a", "3")]),
    ("remove", [("x-a", "1"), ("y", "0"), ("X-A", "2")], [("remove", None)], [("y", "0")]),
    ("add", [("x-a", "1")], [("add", ("2", "3"))], [("x-a", "1"), ("x-a", "2"), ("x-a", "3")]),
    ("replace-in-every-line", [("x-a", "v1"), ("x-a", "v2")], [("replace", swap("v", "w"))],
     [("x-a", "w1"), ("x-a", "w2")]),
    ("replace-nothing-there", [("y", "0")], [("replace", swap("v", "w"))], [("y", "0")]),
    ("first-base-wins", [("x-a", "1")], [("set", ("2",)), ("set", ("3",)), ("remove", None)], [("x-a", "2")]),
    ("remove-first-wins", [("x-a", "1")], [("remove", None), ("set", ("3",))], []),
    ("base-replace-add", [("x-a", "1")], [("add", ("v4",)), ("replace", swap("v", "w")), ("set", ("v2",))],
     [("x-a", "w2"), ("x-a", "v4")]),
    ("replace-top-to-bottom", [("x-a", "a")], [("replace", swap("a", "b")), ("replace", swap("b", "c"))],
     [("x-a", "c")]),
    ("remove-then-add", [("x-a", "1")], [("add", ("2",)), ("remove", None)], [("x-a", "2")]),
    ("other-bytes-stay", [("x-a", "\udcff1")], [("replace", swap("1", "2"))], [("x-a", "\udcff2")]),
]


@pytest.mark.parametrize(("before", "edits", "after"), [pytest.param(*case[1:], id=case[0]) for case in HEADERS])
def test_headers(before: list[tuple[str, str]], edits: list[tuple[str, Any]], after: list[tuple[str, str]]) -> None:
    flow = flow_of(fields=[("host", "a.test"), *before])
    on_request(flow, *(("header", "x-a", *edit) for edit in edits))
    assert flow.request.headers == headers_of([("host", "a.test"), *after])
    flow = flow_of(answer_fields=before)
    on_response(flow, *(("header", "x-a", *edit) for edit in edits))
    assert flow.response is not None
    del flow.response.headers["content-length"]
    assert flow.response.headers == headers_of(after)


def test_header_names_are_one_field_in_any_case() -> None:
    flow = flow_of()
    dropped = on_request(flow, ("header", "X-A", "set", ("1",)), ("header", "x-a", "set", ("2",)))
    assert flow.request.headers.get_all("x-a") == ["1"]
    assert [edit.value for edit in dropped] == [("2",)]


def test_what_is_dropped_is_told() -> None:
    edits = [("header", "a", "set", ("1",)), ("header", "b", "remove", None), ("header", "a", "remove", None),
             ("header", "a", "add", ("2",)), ("body", "", "set", b"x"), ("body", "", "file", b"y")]
    dropped = on_request(flow_of(), *edits)
    assert [(edit.field, edit.op) for edit in dropped] == [("body", "file"), ("header", "remove")]


def test_edits_of_the_other_message_are_left_alone() -> None:
    flow = flow_of()
    edits = [Edit("request", "header", "q", "set", ("1",)), Edit("response", "header", "r", "set", ("1",))]
    apply_request(edits, flow)
    assert ("q" in flow.request.headers, answer_header(flow, "r")) == (True, [])
    apply_response(edits[:1], flow)
    assert answer_header(flow, "q") == []
    apply_response(edits, flow)
    assert answer_header(flow, "r") == ["1"]


_OPS = st.one_of(
    st.tuples(st.just("set"), st.lists(st.sampled_from(["v1", "v2", "aba"]), min_size=1, max_size=2).map(tuple)),
    st.tuples(st.just("remove"), st.none()),
    st.tuples(st.just("add"), st.lists(st.sampled_from(["v3", "b"]), min_size=1, max_size=2).map(tuple)),
    st.tuples(st.just("replace"), st.sampled_from([swap("v", "b"), swap("b", "aa"), swap("a", "")])))


@given(st.lists(st.sampled_from(["v0", "ab"]), max_size=2), st.lists(_OPS, max_size=6))
def test_composition(before: list[str], edits: list[tuple[str, Any]]) -> None:
    """By the words of the page: one base, then every replacement top to bottom, then every addition."""
    values = list(before)
    for op, value in edits:
        if op in ("set", "remove"):
            values = list(value or ())
            break
    for op, value in edits:
        if op == "replace":
            [one] = value
            values = [text.replace(one.pattern, "".join(one.parts)) for text in values]
    for op, value in edits:
        if op == "add":
            values += value
    flow = flow_of(fields=[("x", value) for value in before])
    dropped = on_request(flow, *(("header", "x", *edit) for edit in edits))
    assert flow.request.headers.get_all("x") == values
    assert [edit.op for edit in dropped] == [op for op, _ in edits if op in ("set", "remove")][1:]
    query = "&".join(f"x={value}" for value in before)
    flow = flow_of(f"http://a.test/p?{query}")
    on_request(flow, *(("query", "x", *edit) for edit in edits))
    assert [value for _, value in flow.request.query] == values


# --- the other fields of a request -----------------------------------------------------------------------------------

QUERY = [
    ("set", "/p?a=1&b=2", [("b", "set", ("3",))], "/p?a=1&b=3"),
    ("set-missing", "/p", [("b", "set", ("3",))], "/p?b=3"),
    ("set-encodes", "/p", [("b c", "set", ("x&y=1#/+ ä",))], "/p?b%20c=x%26y%3D1%23%2F%2B%20%C3%A4"),
    ("set-in-place", "/p?b=1&a=%31&b=2", [("b", "set", ("3",))], "/p?b=3&a=%31"),
    ("remove", "/p?a=1&b=2&a=3", [("a", "remove", None)], "/p?b=2"),
    ("remove-the-last", "/p?a=1", [("a", "remove", None)], "/p"),
    ("add", "/p?a=1&b=2", [("a", "add", ("3",))], "/p?a=1&b=2&a=3"),
    ("replace-decoded", "/p?a=x%20y&b=%7E", [("a", "replace", swap("x y", "z"))], "/p?a=z&b=%7E"),
    ("replace-nothing-found", "/p?a=%41+&b", [("a", "replace", swap("zz", "z"))], "/p?a=%41+&b"),
    ("encoded-key", "/p?%61=1", [("a", "set", ("2",))], "/p?a=2"),
    ("no-value", "/p?a&b=1", [("a", "set", ("",))], "/p?a&b=1"),
    ("two-keys", "/p?a=1&b=2", [("a", "set", ("3",)), ("b", "remove", None)], "/p?a=3"),
    ("empty-parts-stay-when-nothing-changes", "/p?&&a=1", [("a", "set", ("1",))], "/p?&&a=1"),
]


@pytest.mark.parametrize(("target", "edits", "wanted"), [pytest.param(*case[1:], id=case[0]) for case in QUERY])
def test_query(target: str, edits: list[tuple[str, str, Any]], wanted: str) -> None:
    flow = flow_of(f"http://a.test{target}")
    on_request(flow, *(("query", *edit) for edit in edits))
    assert flow.request.path == wanted


COOKIES = [
    ("set", ["a=1; b=2"], [("b", "set", ("3",))], ["a=1; b=3"]),
    ("set-missing", [], [("a", "set", ("1",))], ["a=1"]),
    ("remove-the-last", ["a=1"], [("a", "remove", None)], []),
    ("add", ["a=1"], [("a", "add", ("2",))], ["a=1; a=2"]),
    ("crumbs-are-joined", ["a=1", "b=2"], [("b", "set", ("3",))], ["a=1; b=3"]),
    ("what-is-no-pair-stays", ["flag; a=1;; c"], [("a", "set", ("2",))], ["flag; a=2; c"]),
    ("nothing-changes", ["flag;a=1"], [("a", "set", ("1",)), ("z", "remove", None)], ["flag;a=1"]),
    ("replace", ["a=x=y"], [("a", "replace", swap("x", "z"))], ["a=z=y"]),
    ("two-cookies", ["a=1; b=2"], [("a", "remove", None), ("c", "set", ("3",))], ["b=2; c=3"]),
]


@pytest.mark.parametrize(("lines", "edits", "wanted"), [pytest.param(*case[1:], id=case[0]) for case in COOKIES])
def test_cookies(lines: list[str], edits: list[tuple[str, str, Any]], wanted: list[str]) -> None:
    flow = flow_of(fields=[("cookie", line) for line in lines])
    on_request(flow, *(("cookie", *edit) for edit in edits))
    assert flow.request.headers.get_all("cookie") == wanted


def test_cookies_are_changed_in_what_the_header_was_set_to() -> None:
    flow = flow_of(fields=[("cookie", "a=1")])
    on_request(flow, ("cookie", "b", "set", ("2",)), ("header", "cookie", "set", ("c=3",)))
    assert flow.request.headers.get_all("cookie") == ["c=3; b=2"]


PATHS = [
    ("set", "/a/b?q=1", [("set", ("/c",))], "/c?q=1"),
    ("set-escapes", "/a", [("set", ("/ä b?#",))], "/%C3%A4%20b%3F%23"),
    ("set-keeps-escapes", "/a", [("set", ("/a%20b%2Fc",))], "/a%20b%2Fc"),
    ("set-stray-percent", "/a", [("set", ("/100%",))], "/100%25"),
    ("set-without-slash", "/a", [("set", ("b",))], "/b"),
    ("replace-canonical", "//a/%7Eb/../c?q=%7E", [("replace", swap("^/a/", "/x/"))], "/x/c?q=%7E"),
    ("replace-group", "/v1/items", [("replace", swap("^/v([0-9])/(.*)", "/", 2, "/", 1))], "/items/1"),
    ("nothing-found-nothing-changed", "//a/%7Eb", [("replace", swap("zz", "y"))], "//a/%7Eb"),
    ("set-and-replace", "/a", [("replace", swap("b", "c")), ("set", ("/b",))], "/c"),
    ("a-kept-escape-stays", "/a%2Fb/x", [("replace", swap("x", "y"))], "/a%2Fb/y"),
]


@pytest.mark.parametrize(("target", "edits", "wanted"), [pytest.param(*case[1:], id=case[0]) for case in PATHS])
def test_path(target: str, edits: list[tuple[str, Any]], wanted: str) -> None:
    flow = flow_of()
    flow.request.path = target
    on_request(flow, *(("path", "", *edit) for edit in edits))
    assert flow.request.path == wanted


def test_path_and_query_together() -> None:
    flow = flow_of("http://a.test/a?x=1&y=2")
    on_request(flow, ("query", "x", "remove", None), ("path", "", "set", ("/b",)), ("query", "z", "set", ("3",)))
    assert flow.request.path == "/b?y=2&z=3"


def test_method() -> None:
    flow = flow_of()
    on_request(flow, ("method", "", "set", ("PUT",)), ("method", "", "set", ("PATCH",)))
    assert flow.request.method == "PUT"


# --- responses -------------------------------------------------------------------------------------------------------


def test_status_brings_its_reason() -> None:
    flow = flow_of()
    on_response(flow, ("status", "", "set", 404))
    assert flow.response is not None
    assert (flow.response.status_code, flow.response.reason) == (404, "Not Found")


SET_COOKIES = [
    ("set", ["a=1; Path=/", "b=2"], [("a", "set", ("3; Secure",))], ["a=3; Secure", "b=2"]),
    ("set-missing", ["b=2"], [("a", "set", ("3",))], ["b=2", "a=3"]),
    ("remove", ["a=1; Path=/", "b=2", "a=3"], [("a", "remove", None)], ["b=2"]),
    ("add", ["a=1"], [("a", "add", ("2",))], ["a=1", "a=2"]),
    ("replace-attributes-too", ["a=1; Domain=x.test; Secure"], [("a", "replace", swap("; Secure|x[.]test", ""))],
     ["a=1; Domain="]),
    ("others-keep-their-bytes", ["b = 2 ;x", "a=1"], [("a", "set", ("2",))], ["b = 2 ;x", "a=2"]),
]


@pytest.mark.parametrize(("lines", "edits", "wanted"), [pytest.param(*case[1:], id=case[0]) for case in SET_COOKIES])
def test_response_cookies(lines: list[str], edits: list[tuple[str, str, Any]], wanted: list[str]) -> None:
    flow = flow_of(answer_fields=[("set-cookie", line) for line in lines])
    on_response(flow, *(("response_cookie", *edit) for edit in edits))
    assert answer_header(flow, "set-cookie") == wanted


# --- bodies ----------------------------------------------------------------------------------------------------------

BODIES = [
    ("set", b"old", [("set", b"new")], b"new"),
    ("file", b"old", [("file", b"new")], b"new"),
    ("set-then-replace", b"old", [("replace", swap("e", "E")), ("set", b"new")], b"nEw"),
    ("replace", "grün".encode(), [("replace", swap("ü(n)", "u", 1))], b"grun"),
    ("replace-bytes", b"\xff old", [("replace", swap("old", "new"))], b"\xff new"),
    ("json-merge", b'{"a": 1, "b": {"c": 2, "d": 3}}', [("json_merge", {"a": None, "b": {"c": 4}, "e": [5]})],
     b'{"b":{"c":4,"d":3},"e":[5]}'),
    ("json-merge-no-object", b"[1]", [("json_merge", {"a": 1})], b'{"a":1}'),
    ("json-patch", b'{"a": [1, 2]}', [("json_patch", [{"op": "remove", "path": "/a/0"},
                                                      {"op": "add", "path": "/b", "value": 3}])], b'{"a":[2],"b":3}'),
    ("json-patch-that-does-not-fit", b'{"a": 1}', [("json_patch", [{"op": "add", "path": "/b", "value": 1},
                                                                   {"op": "remove", "path": "/x"}])], b'{"a": 1}'),
    ("json-patch-failed-test", b'{"a": 1}', [("json_patch", [{"op": "test", "path": "/a", "value": 2}])], b'{"a": 1}'),
    ("json-patch-into-text", b'"text"', [("json_patch", [{"op": "add", "path": "/a/b", "value": 1}])], b'"text"'),
    ("json-in-turn", b"{}", [("json_merge", {"a": 1}), ("json_patch", [{"op": "move", "from": "/a", "path": "/b"}]),
                             ("replace", swap("1", "2"))], b'{"b":2}'),
    ("no-json", b"<p>", [("json_merge", {"a": 1})], b"<p>"),
    ("no-json-nan", b'{"a": NaN}', [("json_merge", {"b": 1})], b'{"a": NaN}'),
    ("no-json-too-deep", b"[" * 100_000, [("json_merge", {"b": 1})], b"[" * 100_000),
    ("no-body", b"", [("replace", swap("a", "b")), ("json_merge", {"b": 1})], b""),
]


@pytest.mark.parametrize(("before", "edits", "wanted"), [pytest.param(*case[1:], id=case[0]) for case in BODIES])
def test_bodies(before: bytes, edits: list[tuple[str, Any]], wanted: bytes) -> None:
    flow = flow_of(body=before, answer=before)
    on_request(flow, *(("body", "", *edit) for edit in edits))
    on_response(flow, *(("body", "", *edit) for edit in edits))
    assert (flow.request.content, body_of(flow)) == (wanted, wanted)
    assert flow.request.headers.get("content-length", "0") == str(len(wanted))
    assert answer_header(flow, "content-length") == [str(len(wanted))]


def test_a_patch_is_the_rules_own_and_stays_as_it_is() -> None:
    patch = [{"op": "add", "path": "/a", "value": {}}, {"op": "add", "path": "/a/b", "value": 1}]
    before = json.dumps(patch)
    for _ in range(2):
        flow = flow_of(answer=b"{}")
        on_response(flow, ("body", "", "json_patch", patch))
        assert body_of(flow) == b'{"a":{"b":1}}'
    assert json.dumps(patch) == before


def test_a_merge_document_stays_as_it_is() -> None:
    document = {"a": {"b": [1]}}
    for _ in range(2):
        flow = flow_of(answer=b"{}")
        on_response(flow, ("body", "", "json_merge", document), ("body", "", "json_patch", [
            {"op": "add", "path": "/a/b/-", "value": 2}]))
        assert body_of(flow) == b'{"a":{"b":[1,2]}}'
    assert document == {"a": {"b": [1]}}


CODED = [("content-encoding", "gzip")]


def test_a_body_is_coded_again_as_it_was() -> None:
    flow = flow_of(answer=b"old text", answer_fields=CODED)
    on_response(flow, ("body", "", "replace", swap("old", "new")))
    assert flow.response is not None and flow.response.raw_content is not None
    assert gzip.decompress(flow.response.raw_content) == b"new text"
    assert answer_header(flow, "content-length") == [str(len(flow.response.raw_content))]


@pytest.mark.parametrize("order", [1, -1])
def test_a_body_is_coded_as_the_rules_say(order: int) -> None:
    flow = flow_of(answer=b"old", answer_fields=CODED)
    edits = [("body", "", "replace", swap("old", "new")), ("header", "content-encoding", "remove", None)]
    on_response(flow, *edits[::order])
    assert flow.response is not None
    assert (flow.response.raw_content, answer_header(flow, "content-encoding")) == (b"new", [])


@pytest.mark.parametrize("coding", ["gzip", "unheard-of"])
def test_a_body_that_is_replaced_need_not_be_readable(coding: str) -> None:
    flow = flow_of(answer_fields=[("content-encoding", coding)])
    assert flow.response is not None
    flow.response.raw_content = b"not of that coding"
    on_response(flow, ("body", "", "set", b"new"))
    assert body_of(flow) == b"new"


STALE = [("etag", '"1"'), ("Accept-Ranges", "bytes"), ("Digest", "d"), ("content-digest", "d"), ("repr-digest", "d"),
         ("content-md5", "d"), ("last-modified", "then")]


def test_an_edited_body_drops_what_was_said_of_the_old_one() -> None:
    flow = flow_of(answer=b"old", answer_fields=[*STALE, ("cache-control", "max-age=60")], body=b"old", fields=STALE)
    on_response(flow, ("body", "", "set", b"new"))
    on_request(flow, ("body", "", "set", b"new"))
    assert flow.response is not None
    for message in (flow.response, flow.request):
        left = {name.lower() for name in message.headers} - {"host", "cache-control"}
        assert left == {"last-modified", "content-length"}
    assert answer_header(flow, "cache-control") == ["no-store"]
    assert "cache-control" not in flow.request.headers


def test_what_rules_say_of_the_new_body_stays() -> None:
    for order in (1, -1):
        flow = flow_of(answer=b"old", answer_fields=STALE)
        edits = [("body", "", "set", b"new"), ("header", "ETag", "set", ('"2"',)),
                 ("header", "cache-control", "set", ("public",))]
        on_response(flow, *edits[::order])
        assert (answer_header(flow, "etag"), answer_header(flow, "cache-control")) == (['"2"'], ["public"])


def test_a_body_in_which_nothing_is_found_is_not_touched() -> None:
    flow = flow_of(answer=b"old", answer_fields=[*STALE, *CODED])
    assert flow.response is not None
    before, fields = flow.response.raw_content, flow.response.headers.fields
    on_response(flow, ("body", "", "replace", swap("zz", "y")), ("body", "", "json_merge", {}))
    assert flow.response.raw_content is before
    assert flow.response.headers.fields is fields
