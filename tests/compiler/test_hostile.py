"""Hostile strings in every text field of every action: the same text comes back, and nothing runs.

Text goes the whole way: YAML, schema, template parser, generated code, the engine, the message.
"""

from __future__ import annotations

import builtins
import logging
import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rulesproxy.compiler.outcome import Outcome
from rulesproxy.compiler.simulate import simulate
from rulesproxy.compiler.testcase import TestStep
from rulesproxy.model.effects import LocalFile
from rulesproxy.model.http import Request, Response
from tests.compiler.generator import to_yaml
from tests.language.playing import LocalFiles, World, dns, http, rules_of, sent_header

_MARK = "RULESPROXY_HOSTILE"
RUNS = f"__import__('os').environ.__setitem__('{_MARK}', '1')"
HOSTILE = [
    RUNS, f"' + {RUNS} + '", f'" + {RUNS} + "', f"')\n{RUNS}\n('", f'""" + {RUNS} + """', f"''' + {RUNS} + '''",
    f"{{{RUNS}}}", f"{{{{{RUNS}}}}}", f"\\\n{RUNS}", f"#\n{RUNS}", f"\r{RUNS}", f"\x0c{RUNS}", f"\u2028{RUNS}",
    "\\", "\\\\", "\\'", '\\"', "'", '"', "'\"", "\\n", "\n", "\r\n", "\t", "\0", "\x1b[31m", "%s %(x)s %%",
    "{0} {x!r} {{}}", "\\N{BULLET} \\x41 \\u0041", "${", "$${", "${nothing}", "${vars.nothing}", "$1 \\1 $& ${1}",
    "}", "{", "é", "\U0001f600", "\u202eevil", "\ufeff", "RULES[0]", "d.act(x)", "None", "1", "true", "null", "~",
    "- a", "a: b", "&a *a !!t", "x" * 5000, "",
]  # fmt: skip


def escaped(text: str) -> str:
    """As a rule file writes a text that is no template."""
    return text.replace("${", "$${")


def raw(text: str) -> str:
    """The text again, for what is no template: names."""
    return text.replace("$${", "${")


def action_of(key: str, shape: Callable[[str], Any]) -> Callable[[str], dict[str, Any]]:
    return lambda text: {key: shape(text)}


def body(outcome: Outcome) -> str:
    assert outcome.response is not None and outcome.response.content is not None
    return outcome.response.content.decode()


def json_of(outcome: Outcome, *path: Any) -> Any:
    assert outcome.response is not None
    found = outcome.response.json()
    for step in path:
        found = found[step]
    return found


def sent(outcome: Outcome) -> str:
    assert outcome.sent is not None
    return outcome.sent.url


def header(outcome: Outcome, name: str = "x-a") -> str:
    assert outcome.response is not None
    [value] = outcome.response.headers.get_all(name)
    return value


GET = http("POST http://a.test/p?q=1", headers={"x-b": "old", "cookie": "c=old"}, json={"k": "old"},
           answer_json={"k": "old"}, answer_headers={"x-b": "old", "set-cookie": "c=old"})

Field = tuple[Callable[[str], dict[str, Any]], Callable[[Outcome], str]]

#: Fields that take any text.
ANY_TEXT: dict[str, Field] = {
    "respond": (action_of("respond", lambda t: t), body),
    "respond.body": (action_of("respond", lambda t: {"body": t}), body),
    "respond.json": (action_of("respond", lambda t: {"json": {"a": [t]}}), lambda o: json_of(o, "a", 0)),
    "respond.json-beside-a-template": (action_of("respond", lambda t: {"json": [t, "${now}"]}),
                                       lambda o: json_of(o, 0)),
    "respond.body-before-a-template": (action_of("respond", lambda t: t + '${query.z | default("|")}'),
                                       lambda o: body(o)[:-1]),
    "block.body": (action_of("block", lambda t: {"body": t}), body),
    "rewrite.body": (action_of("rewrite", lambda t: {"body": t}), lambda o: o.sent.body.decode() if o.sent else ""),
    "rewrite.body.set": (action_of("rewrite", lambda t: {"body": {"set": t}}),
                         lambda o: o.sent.body.decode() if o.sent else ""),
    "rewrite.response_body": (action_of("rewrite", lambda t: {"response_body": {"set": t}}), body),
    "rewrite.response_body.json": (action_of("rewrite", lambda t: {"response_body": {"json": t}}), json_of),
    "rewrite.json_merge": (action_of("rewrite", lambda t: {"response_body": {"json_merge": {"k": t}}}),
                           lambda o: json_of(o, "k")),
    "rewrite.json_patch": (action_of("rewrite", lambda t: {"response_body": {"json_patch": [
        {"op": "add", "path": "/k", "value": t}]}}), lambda o: json_of(o, "k")),
    "rewrite.replace.with": (action_of("rewrite", lambda t: {"response_body": {"replace": {"text": "old", "with": t}}}),
                             lambda o: body(o)[len('{"k": "'):-len('"}')]),
    "rewrite.query.set": (action_of("rewrite", lambda t: {"query": {"set": {"q": t}}}),
                          lambda o: unquote_plus(sent(o).partition("?q=")[2])),
    "rewrite.query.name": (action_of("rewrite", lambda t: {"query": {"set": {f"n{raw(t)}": "v"}, "remove": ["q"]}}),
                           lambda o: unquote_plus(sent(o).partition("?")[2].partition("=")[0])[1:]),
    "tag": (action_of("tag", lambda t: [f"t{t}"]), lambda o: o.tags[0][1:]),
    "default-in-a-template": (
        lambda t: {"respond": "${query.z | default(" + _quoted(t) + ")}"}, body),
}  # fmt: skip


def _quoted(text: str) -> str:
    """A text inside an expression, where only quotes and backslashes are special."""
    return '"' + raw(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


#: Fields whose values become header lines: controls are refused when the rules are read, blanks at the ends go.
HEADER_TEXT: dict[str, Field] = {
    "respond.headers": (action_of("respond", lambda t: {"headers": {"x-a": t}}), header),
    "block.headers": (action_of("block", lambda t: {"status": 403, "headers": {"x-a": t}}), header),
    "rewrite.headers.set": (action_of("rewrite", lambda t: {"headers": {"set": {"x-a": t}}}),
                            lambda o: sent_header(o, "x-a")[0]),
    "rewrite.headers.add": (action_of("rewrite", lambda t: {"headers": {"add": {"x-b": t}}}),
                            lambda o: sent_header(o, "x-b")[1]),
    "rewrite.headers.before-a-template": (
        action_of("rewrite", lambda t: {"headers": {"set": {"x-a": "." + t + '${query.z | default("|")}'}}}),
        lambda o: sent_header(o, "x-a")[0][1:-1]),
    "rewrite.response_headers": (action_of("rewrite", lambda t: {"response_headers": {"set": {"x-a": t}}}), header),
}  # fmt: skip


def outcome_of(action: dict[str, Any], step: TestStep = GET) -> Outcome:
    text = f"version: 1\nrules:\n  - {to_yaml({'name': 'r', 'match': {'host': 'a.test'}, 'action': action})}\n"
    return simulate(World(rules_of(text), LocalFiles()), (step,))[0]


def is_header_text(text: str) -> bool:
    return all(char == "\t" or (char >= " " and char != "\x7f") for char in text)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    before = set(sys.modules), set(vars(builtins))
    yield
    assert _MARK not in os.environ
    assert before[1] == set(vars(builtins))


CONTEXT = pytest.mark.parametrize("field", ANY_TEXT)


@CONTEXT
def test_hostile_text_comes_back(field: str) -> None:
    action, read = ANY_TEXT[field]
    for text in HOSTILE:
        if field in ("default-in-a-template", "rewrite.query.name") and len(text) > 1000:
            continue  # expressions, and keys in YAML, have a limit
        assert read(outcome_of(action(escaped(text)))) == text, repr(text[:80])


@pytest.mark.parametrize("field", HEADER_TEXT)
def test_hostile_header_text_comes_back_or_is_refused_at_load(field: str) -> None:
    action, read = HEADER_TEXT[field]
    for text in HOSTILE:
        if is_header_text(text) and text:
            wanted = text if "before" in field else text.strip(" \t")
            assert read(outcome_of(action(escaped(text)))) == wanted, repr(text[:80])
        elif text:
            with pytest.raises(AssertionError, match="cannot contain"):
                outcome_of(action(escaped(text)))


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
SLOW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@CONTEXT
@SLOW
@given(text=TEXT)
def test_any_text_comes_back(field: str, text: str) -> None:
    action, read = ANY_TEXT[field]
    assert read(outcome_of(action(escaped(text)))) == text


@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
def test_log_lines(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rulesproxy.rules"):
        outcome_of({"log": escaped(text)})
    assert [record.args for record in caplog.records] == [("r", text)]


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.strip() and is_header_text(text)])
def test_redirect_targets_are_escaped(text: str) -> None:
    """A target must not end its line, and what it says stays recognisable."""
    outcome = outcome_of({"redirect": f"/to/{escaped(text)}"})
    location = header(outcome, "location")
    assert location.isascii() and is_header_text(location) and " " not in location
    assert unquote(location) == unquote(f"/to/{text}") or "%" in text


@pytest.mark.parametrize("text", [text for text in HOSTILE if text and "?" not in text])
def test_paths_are_escaped(text: str) -> None:
    outcome = outcome_of({"rewrite": {"path": f"/to/{escaped(text)}"}})
    url = sent(outcome)
    assert url.isascii() and is_header_text(url) and " " not in url
    assert url.startswith("http://a.test/to/")


@pytest.mark.parametrize("text", [text for text in HOSTILE if text and text.isprintable() and len(text) < 200
                                  and '"' not in text and "\\" not in text])
def test_dns_texts(text: str) -> None:
    outcome = outcome_of({"spoof_dns": {"TXT": escaped(text)}}, dns("a.test", "TXT"))
    assert outcome.answer is not None
    assert [record.text for record in outcome.answer.answers] == [text]


class _Roots(LocalFiles):
    """Answers with what is to be opened."""

    def open(self, file: LocalFile, request: Request) -> Response:
        return Response.make(200, file.root)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text and "/" not in text and "\0" not in text
                                  and len(text) < 200])
def test_local_files(text: str) -> None:
    rule = {"name": "r", "match": {"host": "a.test"}, "action": {"map_local": f"files/n{escaped(text)}"}}
    [outcome] = simulate(World(rules_of(f"version: 1\nrules:\n  - {to_yaml(rule)}\n"), _Roots()), (GET,))
    assert body(outcome).endswith(f"/files/n{text}")


@pytest.mark.parametrize("text", [text for text in HOSTILE if text and len(text) < 1000])
def test_names_variables_and_sets(text: str) -> None:
    """Texts that are no arguments of actions: rule names, descriptions, variables, keys of matches."""
    name = f"n{text}"[:150]
    rule = {"name": name, "description": text, "owner": text, "tags": [text],
            "match": {"host": "a.test", "not": {"headers": {"x-h": {"exact": escaped(text)}}},
                      "query": {f"k{escaped(text)}": {"absent": True}}},
            "action": {"respond": "${vars.v}"}}
    source = "\n".join(["version: 1", f"vars: {to_yaml({'v': escaped(text)})}",
                        f"sets: {to_yaml({'s': [escaped(text)]})}", "rules:", f"  - {to_yaml(rule)}", ""])
    [outcome] = simulate(World(rules_of(source), LocalFiles()), (GET,))
    assert outcome.rules == [name]
    assert body(outcome) == text
