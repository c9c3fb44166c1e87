"""Warnings: said when certain, silent otherwise."""

from __future__ import annotations

import pytest

from tests.compiler.rulefiles import build_text, warnings

HEAD = "version: 1\nrules:\n"


def found(*rules: str, without: tuple[str, ...] = ("untested",)) -> list[tuple[str, int]]:
    """Warnings about rules written one per line, from line 3 on."""
    return [item for item in warnings(HEAD + "".join(f"  - {{{rule}}}\n" for rule in rules)) if item[0] not in without]


A = "name: a, match: {host: a.test}, action: {block: true}"


def test_a_sound_pair_of_rules_is_silent() -> None:
    assert found(A, "name: b, match: {host: b.test}, action: {respond: {body: x}}") == []


def test_untested() -> None:
    tested = A + ", tests: [{request: GET http://a.test/, expect: {rule: a}}]"
    elsewhere = "tests: [{request: GET http://b.test/, expect: {rule: b}}]\n"
    b = "name: b, match: {host: b.test}, action: {block: true}"
    assert found(tested, b, without=()) == [("untested", 4)]
    assert warnings(HEAD + f"  - {{{tested}}}\n  - {{{b}}}\n" + elsewhere) == []
    assert found(A + ", enabled: false", without=()) == []


@pytest.mark.parametrize("action", ["{block: true}", "{block: {status: 403}}", "{respond: {body: x}}"])
def test_empty_match(action: str) -> None:
    assert ("empty-match", 3) in found(f"name: a, action: {action}")


@pytest.mark.parametrize("rule", [
    "name: a, action: {log: x}", "name: a, unless: {host: a.test}, action: {block: true}",
    "name: a, action: {block: true}, enabled: false"])
def test_not_an_empty_match(rule: str) -> None:
    assert "empty-match" not in [code for code, _ in found(rule)]


@pytest.mark.parametrize("match", [
    "{path: /x}", "{method: GET}", "{scheme: https}", "{client_ip: 10.0.0.1}", "{not: {host: a.test}}",
    "{any: [{host: a.test}, {path: /x}]}",
])  # fmt: skip
def test_decrypts_everything(match: str) -> None:
    assert found(f"name: a, match: {match}, action: {{respond: {{body: x}}}}") == [("decrypts-everything", 3)]


@pytest.mark.parametrize("rule", [
    "match: {host: a.test, path: /x}, action: {respond: {body: x}}",
    "match: {any: [{host: a.test}, {domain: b.test}]}, action: {respond: {body: x}}",
    "match: {scheme: http}, action: {respond: {body: x}}",
    "match: {sni: a.test}, action: {respond: {body: x}}",
    "match: {client_ip: 10.0.0.1}, action: {block: true}",
    "match: {path: /x}, action: {log: x}",
])  # fmt: skip
def test_does_not_decrypt_everything(rule: str) -> None:
    assert found(f"name: a, {rule}") == []


@pytest.mark.parametrize(("first", "second"), [
    (A, "name: b, match: {host: a.test, path: /x}, action: {respond: {body: x}}"),
    (A, "name: b, match: {path: /x, host: a.test}, action: {block: {status: 403}}"),
    (A, "name: b, match: {host: a.test}, action: {block: true}"),
    ("name: p, match: {host: a.test}, action: {pass: true}",
     "name: b, match: {host: a.test}, action: {rewrite: {headers: {set: {x: y}}}}"),
])  # fmt: skip
def test_shadowed(first: str, second: str) -> None:
    assert found(first, second) == [("shadowed", 4)]


def test_a_fall_through_does_not_shadow() -> None:
    assert found("name: a, match: {host: a.test}, action: {map_local: {path: /tmp, fallthrough: true}}",
                 "name: b, match: {host: a.test}, action: {respond: {body: x}}") == []


def test_shadowed_shows_both_rules() -> None:
    from rulesproxy.compiler.check import check

    result = build_text(HEAD + f"  - {{{A}}}\n  - {{{A.replace('name: a', 'name: b')}}}\n")
    check(result)
    [warning] = [item for item in result.report.warnings if item.code == "shadowed"]
    assert warning.pos.line == 4 and [note.pos.line for note in warning.notes] == [3]


@pytest.mark.parametrize(("first", "second"), [
    (A + ", unless: {path: /y}", "name: b, match: {host: a.test}, action: {block: true}"),
    (A + ", enabled: false", "name: b, match: {host: a.test}, action: {block: true}"),
    ("name: a, match: {host: a.test, path: /x}, action: {block: true}",
     "name: b, match: {host: a.test}, action: {block: true}"),
    ("name: a, match: {host: a.test, path: /x}, action: {respond: {body: x}}",
     "name: b, match: {host: a.test, path: /x}, action: {redirect_server: {to: b.test}}"),
    ("name: a, match: {host: a.test, path: /x}, action: {respond: {body: x}}",
     "name: b, match: {host: a.test, path: /x}, action: {rewrite: {headers: {set: {x: y}}}}"),
])  # fmt: skip
def test_not_shadowed(first: str, second: str) -> None:
    # A bare block that looks at the path says that it decrypts nothing: another matter.
    assert [item for item in found(first, second) if item[0] != "not-decrypted"] == []


def test_priority_decides_which_rule_is_shadowed() -> None:
    assert found(A, A.replace("name: a", "name: b") + ", priority: 1") == [("shadowed", 3)]


def test_field_conflict() -> None:
    def sets(name: str, match: str, header: str) -> str:
        return f"name: {name}, match: {match}, action: {{rewrite: {{headers: {{set: {{{header}: v}}}}}}}}"

    assert found(sets("a", "{host: a.test}", "x-a"), sets("b", "{host: a.test, path: /x}", "x-a")) == [
        ("field-conflict", 4)]
    assert found(sets("a", "{host: a.test}", "x-a"), sets("b", "{host: a.test}", "x-b")) == []
    assert found(sets("a", "{host: a.test}", "x-a"), sets("b", "{host: b.test}", "x-a")) == []
    assert found(
        "name: a, match: {host: a.test}, action: {rewrite: {headers: {set: {x-a: v}}}}",
        "name: b, match: {host: a.test}, action: {rewrite: {response_headers: {set: {x-a: v}}}}") == []


def test_unanchored_host_pattern() -> None:
    assert found("name: a, match: {host: {regex: 'shop[.]test'}}, action: {block: true}") == [("unanchored-host", 3)]
    assert found("name: a, match: {host: {regex: '^shop[.]test$'}}, action: {block: true}") == []


def test_unknown_profile() -> None:
    assert found(A + ", profile: local") == [("unknown-profile", 3)]
