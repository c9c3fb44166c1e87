"""Hostile text in every text field of every action: nothing breaks or runs, and the same text comes back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rulesproxy.compiler.outcome import Outcome
from rulesproxy.compiler.program import Compiler
from rulesproxy.compiler.simulate import World, simulate
from rulesproxy.runtime.ruleset import RuleSet
from tests.compiler.rulefiles import Memory
from tests.language.playing import LocalFiles, dns, http

URL = "http://a.test/p?q=1"
BAIT = [
    "'", '"', "\\", "\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "{", "}", "{}", "%s", "%(a)s", "%41",
    "$", "${", "$${", '"""', "'''", "\\N{BULLET}", "\\x41", "\\1", "$1", "#", ":", "- ", "? ", "&a", "*a",
    "!!python", "null", "__import__('os')", "RULES[0]", "d.act", "\n    return", "😀", "ä", "e\u0301",
    "\u202e", "\ufeff", "\uffff", "~", "yes", "0x1", "1_0", ";", ",", "=", "<script>", "&amp;", "../", "//", "?", " ",
]
HOSTILE = st.lists(st.sampled_from(BAIT) | st.text(max_size=3), min_size=1, max_size=8).map("".join).filter(bool)


def quoted(text: str) -> str:
    """The text as a scalar of a rule file."""
    return '"' + "".join(char if char.isalnum() and char.isascii() else f"\\U{ord(char):08X}" for char in text) + '"'


def written(text: str) -> str:
    """The same in an action, where `${` has a meaning."""
    return quoted(text.replace("${", "$${"))


def rules_of(action: str, more: str = "") -> tuple[RuleSet | None, str]:
    text = f"version: 1\n{more}rules:\n  - {{name: r, match: {{host: a.test}}, action: {{{action}}}}}\n"
    program = Compiler(Memory({"rules.yaml": text})).compile(["rules.yaml"])
    return program.rules, "; ".join(error.message for error in program.report.errors)


def run(action: str, more: str = "", url: str = URL, **answer: Any) -> Outcome | str:
    """The outcome of one request; the diagnostics where the text is refused."""
    rules, problems = rules_of(action, more)
    if rules is None:
        return problems
    [outcome] = simulate(World(rules, LocalFiles()), (http(url, **answer),))
    assert not outcome.failures
    return outcome


def body(outcome: Outcome) -> Any:
    assert outcome.response is not None and outcome.response.content is not None
    return outcome.response.content.decode()


def sent_body(outcome: Outcome) -> Any:
    assert outcome.sent is not None
    return outcome.sent.body.decode()


def header(outcome: Outcome, name: str = "x") -> str:
    assert outcome.response is not None
    return ", ".join(outcome.response.headers.get_all(name))


def sent(outcome: Outcome, name: str = "x") -> str:
    assert outcome.sent is not None
    return ", ".join(outcome.sent.headers.get_all(name))


def query_of(outcome: Outcome) -> Any:
    assert outcome.sent is not None
    return unquote(outcome.sent.url.partition("&x=")[2])


@dataclass(frozen=True)
class Field:
    """`action` has %s where the text stands; `read` finds it in what came of it."""

    name: str
    action: str
    read: Callable[[Outcome], Any]
    answer: str = ""


ANYTHING = [
    Field("respond", "respond: %s", body), Field("respond-body", "respond: {body: %s}", body),
    Field("respond-json", "respond: {json: [%s]}", lambda o: json.loads(body(o))[0]),
    Field("block-body", "block: {body: %s}", body), Field("rewrite-body", "rewrite: {body: %s}", sent_body),
    Field("rewrite-body-set", "rewrite: {body: {set: %s}}", sent_body),
    Field("rewrite-body-json", "rewrite: {body: {json: {k: %s}}}", lambda o: json.loads(sent_body(o))["k"]),
    Field("rewrite-response-body", "rewrite: {response_body: %s}", body),
    Field("json-merge", "rewrite: {response_body: {json_merge: {k: %s}}}", lambda o: json.loads(body(o))["k"], "{}"),
    Field("json-patch", "rewrite: {response_body: {json_patch: [{op: add, path: /k, value: %s}]}}",
          lambda o: json.loads(body(o))["k"], "{}"),
    Field("replace-with", "rewrite: {response_body: {replace: {text: OLD, with: %s}}}", body, "OLD"),
    Field("query-set", "rewrite: {query: {set: {x: %s}}}", query_of),
    Field("query-add", "rewrite: {query: {add: {x: %s}}}", query_of), Field("tag", "tag: [%s]", lambda o: o.tags[0]),
]


@pytest.mark.parametrize("field", ANYTHING, ids=lambda field: field.name)
@settings(max_examples=60)
@given(text=HOSTILE)
def test_the_same_text_comes_back(field: Field, text: str) -> None:
    outcome = run(field.action % written(text), answer=field.answer)
    assert isinstance(outcome, Outcome), outcome
    assert field.read(outcome) == text


HEADERS = [
    Field("respond-header", "respond: {headers: {x: %s}}", header),
    Field("block-header", "block: {headers: {x: %s}}", header),
    Field("set", "rewrite: {headers: {set: {x: %s}}}", sent), Field("add", "rewrite: {headers: {add: {x: %s}}}", sent),
    Field("response-set", "rewrite: {response_headers: {set: {x: %s}}}", header),
    Field("response-replace", "rewrite: {response_headers: {set: {x: OLD}, replace: {x: {text: OLD, with: %s}}}}",
          header),
    Field("cookie", "rewrite: {cookies: {set: {x: %s}}}", lambda o: sent(o, "cookie").removeprefix("x=")),
    Field("response-cookie", "rewrite: {response_cookies: {set: {x: %s}}}",
          lambda o: header(o, "set-cookie").removeprefix("x=")),
    Field("response-cookie-value", "rewrite: {response_cookies: {set: {x: {value: %s, path: /}}}}",
          lambda o: header(o, "set-cookie").removeprefix("x=").removesuffix("; Path=/")),
]


@pytest.mark.parametrize("field", HEADERS, ids=lambda field: field.name)
@settings(max_examples=60)
@given(text=HOSTILE)
def test_the_same_text_comes_back_in_headers(field: Field, text: str) -> None:
    """Or the file is refused for a control, or for a semicolon in a cookie; nothing in between."""
    outcome = run(field.action % written(text))
    bad = any((char < " " and char != "\t") or char == "\x7f" for char in text)
    bad |= "cookie" in field.name and ";" in text
    if isinstance(outcome, str):
        assert bad and ("cannot contain" in outcome), outcome
    else:
        assert not bad
        assert field.read(outcome).strip(" \t") == text.strip(" \t")


@settings(max_examples=60)
@given(text=HOSTILE)
def test_the_same_text_comes_back_from_variables_and_files(text: str) -> None:
    outcome = run("respond: '${vars.v}'", f"vars: {{v: {written(text)}}}\n")
    assert isinstance(outcome, Outcome), outcome
    assert body(outcome) == text
    source = "version: 1\nrules:\n  - {name: r, match: {host: a.test}, action: {respond: {file: f, template: true}}}\n"
    program = Compiler(Memory({"rules.yaml": source, "f": text.replace("${", "$${")})).compile(["rules.yaml"])
    assert program.rules is not None
    [outcome] = simulate(World(program.rules, LocalFiles()), (http(URL),))
    assert body(outcome) == text


@settings(max_examples=60)
@given(text=HOSTILE)
def test_the_same_text_comes_back_from_defaults_and_values(text: str) -> None:
    argument = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    outcome = run(f"respond: {quoted('${query.none | default(' + argument + ')}|${request.json.v}')}",
                  url="POST " + URL, json={"v": text})
    assert isinstance(outcome, Outcome), outcome
    assert body(outcome) == f"{text}|{text}"


@settings(max_examples=60)
@given(text=HOSTILE)
def test_log_lines_and_names_and_dns(text: str) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("rulesproxy.rules")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        assert isinstance(run(f"log: {written(text)}"), Outcome)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert lines == [f"r: {text}"]


@settings(max_examples=60)
@given(text=HOSTILE)
def test_urls_and_paths_hold_the_text_escaped(text: str) -> None:
    """Whatever is accepted: the target is one line of visible ASCII, and the host is the one written."""
    for action in ("redirect: %s", "map_remote: %s", "rewrite: {url: %s}", "rewrite: {path: %s}"):
        start = "/" if "path" in action else "http://b.test/"
        outcome = run(action % written(start + text))
        if isinstance(outcome, str):
            assert outcome
            continue
        target = header(outcome, "location") if "redirect:" in action else outcome.sent.url if outcome.sent else ""
        assert target and target.isascii() and target.isprintable() and " " not in target
        assert target.startswith("http://a.test/" if "path" in action else "http://b.test/")


NAMES = [
    "rewrite: {headers: {set: {%s: x}}}", "rewrite: {cookies: {set: {%s: x}}}", "respond: {headers: {%s: x}}",
    "rewrite: {query: {set: {%s: x}}}", "redirect_server: %s", "rewrite: {host: %s}", "map_local: %s",
    "redirect_server: {to: b.test, sni: %s}", "rewrite: {response_body: {replace: {regex: %s, with: x}}}",
    "rewrite: {response_body: {replace: {text: %s, with: x}}}", "rewrite: {response_body: {file: %s}}",
]


@settings(max_examples=60)
@given(text=HOSTILE)
def test_names_and_destinations_never_break(text: str) -> None:
    for action in NAMES:
        outcome = run(action % quoted(text), answer="text")
        assert isinstance(outcome, Outcome) or outcome


@settings(max_examples=60)
@given(text=HOSTILE)
def test_a_found_text_is_found(text: str) -> None:
    outcome = run(f"rewrite: {{response_body: {{replace: {{text: {quoted(text.replace('$', 's'))}, with: NEW}}}}}}",
                  answer=f"<{text.replace('$', 's')}>")
    assert isinstance(outcome, Outcome), outcome
    assert body(outcome) == "<NEW>"


@settings(max_examples=60)
@given(text=HOSTILE)
def test_dns_texts(text: str) -> None:
    rules, problems = rules_of(f"spoof_dns: {{TXT: {written(text)}}}")
    if rules is None:
        assert problems
        return
    [outcome] = simulate(World(rules, LocalFiles()), (dns("a.test", "TXT"),))
    assert outcome.answer is not None and len(outcome.answer.answers) == 1
    assert outcome.answer.packed
