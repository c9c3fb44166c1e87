"""From files to rules: what is shared, what is remembered, what is watched."""

from __future__ import annotations

import pytest

from rulesproxy.compiler import ir
from rulesproxy.compiler.build import BuildCache, build
from rulesproxy.compiler.source import Position
from rulesproxy.runtime.phase import Phase, Slot
from tests.compiler.rulefiles import Memory, build_files, build_text, errors


def rule(text: str) -> ir.Rule:
    result = build_text(f"version: 1\nrules:\n  - name: r\n{text}")
    assert not result.report.has_errors, result.render()
    [only] = result.rules
    return only


def test_a_rule_carries_its_envelope() -> None:
    built = rule("""
    description: what for
    match: {host: a.test}
    unless: {path: /x}
    action: {block: {status: 403}}
    priority: 7
    stop: true
    on_error: skip
    on_unreadable: refuse
    tags: [one, two]
    owner: team
""")
    assert (built.name, built.description, built.priority, built.stop) == ("r", "what for", 7, True)
    assert (built.on_error, built.on_unreadable, built.tags, built.owner) == ("skip", "refuse", ("one", "two"), "team")
    assert built.enabled and built.unless is not None and built.actions == ("block",)
    assert built.pos == Position("rules.yaml", 3, 11)


def test_equal_text_makes_equal_rules() -> None:
    text = "version: 1\nrules:\n  - {name: r, match: {host: [a.test, '*.b.test']}, action: {block: true}}\n"
    assert build_text(text).rules == build_text("# moved\n\n" + text).rules


def test_without_match_everything_is_meant() -> None:
    assert rule("    action: {log: hello}\n").match == ir.ALWAYS
    assert rule("    match: {}\n    action: {log: hello}\n").match == ir.ALWAYS


def test_keys_hold_together_and_combinators_nest() -> None:
    built = rule("    match:\n      host: a.test\n      any: [{path: /a}, {not: {path: /b}}]\n"
                 "      all: [{method: GET}]\n    action: {log: hello}\n")
    assert isinstance(built.match, ir.All)
    host, either, both = built.match.items
    assert isinstance(host, ir.Leaf) and isinstance(either, ir.AnyOf) and isinstance(both, ir.All)
    assert isinstance(either.items[1], ir.Not)


@pytest.mark.parametrize(("match", "action", "phases"), [
    ("{host: a.test}", "{log: x}", {Phase.REQUEST}),
    ("{host: a.test, status: 500}", "{log: x}", {Phase.RESPONSE}),
    ("{dns_type: A}", "{log: x}", {Phase.DNS}),
    ("{host: a.test}", "{log: x, spoof_dns: {A: 10.0.0.1}}", {Phase.DNS}),
    ("{host: a.test}", "{log: x, tls: passthrough}", {Phase.TLS}),
    ("{host: a.test}", "{log: x, block: {status: 403}}", {Phase.REQUEST}),
    ("{host: a.test}", "{log: x, block: true}", {Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.REQUEST}),
    ("{host: a.test}", "{log: x, rewrite: {response_headers: {set: {a: b}}}}", {Phase.RESPONSE}),
    ("{host: a.test}", "{log: x, rewrite: {headers: {set: {a: b}}, response_headers: {set: {a: b}}}}",
     {Phase.RESPONSE}),
])  # fmt: skip
def test_companions_act_in_the_latest_phase_the_rule_needs(match: str, action: str, phases: set[Phase]) -> None:
    built = rule(f"    match: {match}\n    action: {action}\n")
    [note] = [effect for effect in built.effects if effect.companion]
    assert note.phases == phases


def test_effects_are_confined_to_phases_where_all_keys_are_seen() -> None:
    [block] = rule("    match: {host: a.test, path: /x}\n    action: {block: true}\n").effects
    assert block.phases == {Phase.REQUEST} and block.slot is Slot.ANSWER


def test_one_broken_file_does_not_hide_mistakes_of_another() -> None:
    result = build_files({
        "a.yaml": "version: 1\ninclude: b.yaml\nvars: {x: [\n",
        "b.yaml": "version: 1\nrules:\n  - {name: b, match: {hots: x}, action: {block: true}}\n",
    }, "a.yaml", "b.yaml")
    assert [error.split(" ")[0] for error in errors(result)] == ["4:1", "3:23"]


def test_unknown_names_are_not_reported_while_definitions_cannot_be_read() -> None:
    files = {
        "a.yaml": "version: 1\nvars: {target: [a]}\nsets: {s: [b]}\n",
        "b.yaml": "version: 1\nrules:\n  - {name: b, match: {host: '${vars.target}'}, action: {block: true}}\n",
    }
    result = build_files(files, "a.yaml", "b.yaml")
    assert [error.pos.file for error in result.report.errors] == ["a.yaml"]


def test_inputs_and_watched_folders() -> None:
    result = build_files({
        "main.yaml": "version: 1\ninclude: ['more/*.yaml', 'extra']\nsets: {s: {file: lists/s.txt}}\n"
                     "rules:\n  - {name: a, match: {host_in: s}, action: {respond: {file: bodies/a.json}}}\n",
        "more/b.yaml": "version: 1\n", "extra/c.yml": "version: 1\n", "lists/s.txt": "a.test\n",
        "bodies/a.json": "{}", "unused.txt": "",
    })
    assert not result.report.has_errors, result.render()
    assert set(result.inputs) == {"main.yaml", "more/b.yaml", "extra/c.yml", "lists/s.txt", "bodies/a.json"}
    assert {".", "more", "extra", "lists", "bodies"} <= result.watched
    assert set(result.sources) == {"main.yaml", "more/b.yaml", "extra/c.yml"}


def test_missing_files_are_watched_for() -> None:
    result = build_files({"main.yaml": "version: 1\ninclude: later/x.yaml\n"})
    assert result.report.has_errors
    assert "later" in result.watched


RULES = "version: 1\nrules:\n  - {name: NAME, match: {host: '${vars.h}'}, action: {respond: {file: body.txt}}}\n"


def three_files() -> Memory:
    return Memory({"main.yaml": "version: 1\nvars: {h: a.test}\ninclude: [one.yaml, two.yaml]\n",
                   "one.yaml": RULES.replace("NAME", "one"), "two.yaml": RULES.replace("NAME", "two"),
                   "body.txt": "hello"})


def test_what_did_not_change_is_not_built_again() -> None:
    files, cache = three_files(), BuildCache()
    first = build(["main.yaml"], files=files, cache=cache)
    files.files["one.yaml"] = files.files["one.yaml"].replace(b"one", b"other")
    second = build(["main.yaml"], files=files, cache=cache)
    assert [rule.name for rule in second.rules] == ["other", "two"]
    same = [a is b for a, b in zip(first.files, second.files, strict=True)]
    assert same == [True, False, True]


@pytest.mark.parametrize(("path", "content"), [
    ("main.yaml", b"version: 1\nvars: {h: b.test}\ninclude: [one.yaml, two.yaml]\n"), ("body.txt", b"changed")])
def test_what_depends_on_a_change_is_built_again(path: str, content: bytes) -> None:
    files, cache = three_files(), BuildCache()
    build(["main.yaml"], files=files, cache=cache)
    files.files[path] = content
    again = build(["main.yaml"], files=files, cache=cache)
    fresh = build(["main.yaml"], files=files)
    assert again.rules == fresh.rules and again.inputs == fresh.inputs and again.watched == fresh.watched


def test_an_error_is_found_again_and_gone_when_repaired() -> None:
    files, cache = three_files(), BuildCache()
    content = files.files.pop("body.txt")
    for _ in range(2):
        assert len(build(["main.yaml"], files=files, cache=cache).report.errors) == 2
    files.files["body.txt"] = content
    assert not build(["main.yaml"], files=files, cache=cache).report.has_errors


def test_each_file_is_read_once_per_build() -> None:
    files = three_files()
    build(["main.yaml", "one.yaml"], files=files)
    assert len(files.reads) == len(set(files.reads))
