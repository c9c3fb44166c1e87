"""Rule language, section 1: documents. One case or more per sentence; the id names it."""

from __future__ import annotations

import pytest

from tests.compiler.rulefiles import build_files, build_text, errors


def simple(name: str, **more: object) -> str:
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    return f"  - {{name: {name}, match: {{host: {name}.test}}, action: {{block: true}}{extra}}}\n"


def file(*names: str, head: str = "") -> str:
    return f"version: 1\n{head}rules:\n" + "".join(simple(name) for name in names)


def names(files: dict[str, str], *paths: str) -> list[str]:
    result = build_files(files, *paths)
    assert not result.report.has_errors, result.render()
    return [rule.name for rule in result.rules]


def test_1_the_example_of_the_page() -> None:
    result = build_text("""\
# yaml-language-server: $schema=../schemas/rules.schema.json
version: 1
vars: {target: staging.shop.test}
rules:
  - name: api-to-staging
    match: {host: api.shop.com, path: /v2/**}
    unless: {path: /v2/payments/**}
    action:
      redirect_server: {to: "https://${vars.target}", keep_host: false}
      rewrite:
        headers: {set: {x-env: staging}, remove: [x-debug]}
        response_headers: {set: {x-served-by: staging}}
    tests:
      - request: GET https://api.shop.com/v2/items
        expect: {rule: api-to-staging, server: "staging.shop.test:443"}
""")
    assert not result.report.has_errors, result.render()
    [rule], [test] = result.rules, result.tests
    assert rule.actions == ("redirect_server", "rewrite")
    assert test.steps[0].expect.server == "staging.shop.test:443"


# --- 1.1 file keys ---------------------------------------------------------------------------------------------------


def test_1_1_vars_are_expanded_literally() -> None:
    plain = file("x").replace("x.test", "shop.test")
    variable = file("x", head="vars: {h: shop}\n").replace("x.test", '"${vars.h}.test"')
    assert build_text(variable).rules == build_text(plain).rules


def test_1_1_vars_keep_their_source_text_and_may_name_others() -> None:
    result = build_text('version: 1\nvars: {a: 1.10, b: "v${vars.a}", c: "$${x}", d: 007}\n')
    assert result.vars == {"a": "1.10", "b": "v1.10", "c": "${x}", "d": "007"}


SETS = {
    "inline": ("[a.test, b.test]", "", {"a.test", "b.test"}),
    "plain": ("{file: list}", "# all\na.test\n\n b.test # second\n", {"a.test", "b.test"}),
    "hosts": ("{file: list, format: hosts}", "127.0.0.1 localhost\n0.0.0.0 a.test b.test # ads\n::1 ip6-localhost\n",
              {"a.test", "b.test"}),
    "dnsmasq": ("{file: list, format: dnsmasq}", "address=/a.test/0.0.0.0\nserver=/b.test/\ncache-size=5\n",
                {"a.test", ".a.test", "b.test", ".b.test"}),
    "adblock": ("{file: list, format: adblock}", "! title\n||a.test^\n@@||c.test^\n||d.test/path^\n||e.test^$popup\n",
                {"a.test", ".a.test"}),
    "both": ("{file: [list], values: [c.test]}", "a.test\n", {"a.test", "c.test"}),
}


@pytest.mark.parametrize("case", SETS)
def test_1_1_sets_are_inline_or_from_files_in_four_formats(case: str) -> None:
    written, content, expected = SETS[case]
    result = build_files({"rules.yaml": f"version: 1\nsets: {{s: {written}}}\n", "list": content})
    assert not result.report.has_errors, result.render()
    assert result.sets["s"] == expected


def test_1_1_a_large_set_is_one_set() -> None:
    lines = "".join(f"h{n}.test\n" for n in range(100_000))
    result = build_files({"rules.yaml": "version: 1\nsets: {s: {file: list}}\nrules:\n"
                          "  - {name: a, match: {host_in: s}, action: {block: true}}\n", "list": lines})
    assert not result.report.has_errors
    assert len(result.sets["s"]) == 100_000 and len(result.rules) == 1


# --- 1.2 rule keys ---------------------------------------------------------------------------------------------------


def test_1_2_names_are_unique_in_a_file() -> None:
    result = build_text(file("a", "a"))
    [error] = result.report.errors
    assert "used twice" in error.message and [note.pos.line for note in error.notes] == [3]


def test_1_2_an_action_may_be_a_list() -> None:
    result = build_text("version: 1\nrules:\n  - name: a\n    action:\n      - log: one\n      - log: two\n")
    assert result.rules[0].actions == ("log", "log") and len(result.rules[0].effects) == 2


def test_1_2_priority_defaults_to_zero_and_enabled_to_true() -> None:
    [rule] = build_text(file("a")).rules
    assert rule.priority == 0 and rule.enabled and not rule.stop


def test_1_2_enabled_false_keeps_the_rule_but_off() -> None:
    result = build_text("version: 1\nrules:\n" + simple("a", enabled="false"))
    assert [(rule.name, rule.enabled) for rule in result.rules] == [("a", False)]


# --- 1.3 order of files ----------------------------------------------------------------------------------------------


def test_1_3_own_rules_come_first_then_includes_in_the_order_listed() -> None:
    assert names({"main.yaml": file("own", head="include: [z.yaml, a.yaml]\n"), "a.yaml": file("a"),
                  "z.yaml": file("z", head="include: y.yaml\n"), "y.yaml": file("y")}) == ["own", "z", "y", "a"]


def test_1_3_each_glob_is_read_lexically() -> None:
    assert names({"main.yaml": file("own", head="include: ['b*.yaml', 'a*.yaml']\n"), "b2.yaml": file("b2"),
                  "a1.yaml": file("a1"), "b10.yaml": file("b10")}) == ["own", "b10", "b2", "a1"]


def test_1_3_a_glob_may_find_the_file_it_stands_in() -> None:
    assert names({"main.yaml": file("own", head="include: '*.yaml'\n"), "a.yaml": file("a")}) == ["own", "a"]


def test_1_3_a_folder_is_its_yaml_and_yml_files_lexically() -> None:
    files = {"rules/c.yaml": file("c"), "rules/b.yml": file("b"), "rules/a.yaml": file("a"), "rules/d.txt": "not rules",
             "rules/sub/e.yaml": file("e")}
    assert names(files, "rules") == ["a", "b", "c"]
    assert names({"main.yaml": "version: 1\ninclude: rules\n", **files}) == ["a", "b", "c"]


def test_1_3_a_file_is_read_once_at_first_mention() -> None:
    files = {"a.yaml": file("a", head="include: shared.yaml\n"), "b.yaml": file("b", head="include: ./shared.yaml\n"),
             "shared.yaml": file("shared")}
    assert names(files, "a.yaml", "b.yaml", "shared.yaml") == ["a", "shared", "b"]


def test_1_3_includes_are_relative_to_their_file() -> None:
    assert names({"top/main.yaml": file("own", head="include: ../more/a.yaml\n"),
                  "more/a.yaml": file("a", head="include: b.yaml\n"), "more/b.yaml": file("b")}) == ["own", "a", "b"]


def test_1_3_documents_of_a_file_in_order_with_version_in_the_first_only() -> None:
    assert names({"main.yaml": file("a") + "---\nrules:\n" + simple("b") + "---\n" + file("c")}) == ["a", "b", "c"]


def test_1_3_a_circle_of_includes_is_an_error_that_shows_the_way() -> None:
    result = build_files({"a.yaml": "version: 1\ninclude: b.yaml\n", "b.yaml": "version: 1\ninclude: a.yaml\n"})
    [error] = result.report.errors
    assert error.pos.file == "b.yaml" and "a.yaml → b.yaml → a.yaml" in error.message
    assert [str(note.pos) for note in error.notes] == ["a.yaml:2:10"]


@pytest.mark.parametrize(("head", "what"), [
    ("vars: {x: a}\n", "variable"), ("sets: {x: [a]}\n", "set"), ("profiles: {x: {}}\n", "profile")])
def test_1_3_names_are_global_and_defined_once(head: str, what: str) -> None:
    result = build_files({"main.yaml": "version: 1\ninclude: more.yaml\n" + head, "more.yaml": "version: 1\n" + head})
    [error] = result.report.errors
    assert error.message == f'the {what} "x" is defined twice'
    assert error.pos.file == "more.yaml" and [note.pos.file for note in error.notes] == ["main.yaml"]


def test_1_3_rule_names_are_global() -> None:
    result = build_files({"main.yaml": file("a", head="include: more.yaml\n"), "more.yaml": file("a")})
    [error] = result.report.errors
    assert error.pos.file == "more.yaml" and [note.pos.file for note in error.notes] == ["main.yaml"]


def test_1_3_a_definition_reaches_files_read_before_it() -> None:
    files = {"main.yaml": file("a", head="include: later.yaml\n").replace("a.test", "'${vars.h}'"),
             "later.yaml": "version: 1\nvars: {h: a.test}\n"}
    assert build_files(files).rules == build_text(file("a")).rules


def test_1_3_defaults_are_for_this_file_and_rules_may_differ() -> None:
    files = {"main.yaml": "version: 1\ninclude: more.yaml\n"
             "defaults: {priority: 5, tags: [x], owner: team, enabled: false}\nrules:\n"
             + simple("a") + simple("b", priority=1, tags="[]", owner="me", enabled="true"), "more.yaml": file("c")}
    rules = build_files(files).rules
    assert [(r.priority, r.tags, r.owner, r.enabled) for r in rules] == [
        (5, ("x",), "team", False), (1, (), "me", True), (0, (), "", True)]


@pytest.mark.parametrize("key", ["stop", "on_error", "match", "action", "name"])
def test_1_3_defaults_give_nothing_else(key: str) -> None:
    result = build_text(f"version: 1\ndefaults: {{{key}: true}}\n")
    assert errors(result) == [f'2:12 unknown key "{key}" in defaults']


PROFILES = ("version: 1\nvars: {h: real.test}\nprofiles: {local: {vars: {h: local.test}}, ci: {}}\nrules:\n"
            "  - {name: everywhere, match: {host: '${vars.h}'}, action: {block: true}}\n"
            "  - {name: only-local, match: {host: l.test}, action: {block: true}, profile: local}\n")


@pytest.mark.parametrize(("profile", "host", "on"), [
    (None, "real.test", False), ("ci", "real.test", False), ("local", "local.test", True)])
def test_1_3_a_profile_replaces_vars_and_switches_its_rules_on(profile: str | None, host: str, on: bool) -> None:
    result = build_text(PROFILES, profile=profile)
    assert not result.report.has_errors, result.render()
    assert result.vars == {"h": host}
    assert [rule.enabled for rule in result.rules] == [True, on]


def test_1_3_an_unknown_profile_is_an_error() -> None:
    [error] = build_text(PROFILES, profile="locl").report.errors
    assert 'the profile "locl"' in error.message and error.help == 'did you mean "local"?'


# --- 1.5 YAML --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "12:30", "1_000", "0b1", "2026-12-31"])
def test_1_5_scalars_of_yaml_1_2_stay_text(word: str) -> None:
    result = build_text(f"version: 1\nrules:\n  - {{name: a, action: {{block: true}}, stop: {word}}}\n")
    assert errors(result) == [f'3:44 "stop" must be true or false, not the text "{word}"']


def test_1_5_duplicate_keys_are_errors_with_line_and_column() -> None:
    assert errors(build_text("version: 1\nvars:\n  a: b\n  a: c\n")) == ['4:3 the key "a" stands here twice']


def test_1_5_unknown_keys_are_errors_with_line_column_the_line_and_a_guess() -> None:
    result = build_text("version: 1\nrulse: []\n")
    assert result.render() == (
        'rules.yaml:2:1: error: unknown key "rulse" in a rule file\n'
        "    2 | rulse: []\n"
        "      | ^\n"
        '  help: did you mean "rules"?\n'
    )


@pytest.mark.parametrize(("word", "meant"), [("hosts", "host"), ("url_pattern", "path"), ("statusCode", "status")])
def test_1_5_words_of_other_tools_are_understood(word: str, meant: str) -> None:
    result = build_text(f"version: 1\nrules:\n  - {{name: a, match: {{{word}: x}}, action: {{block: true}}}}\n")
    [error] = result.report.errors
    assert error.help == f'did you mean "{meant}"?'


@pytest.mark.parametrize("text", ["a: !x b", "a: !!str b", "<<: {a: b}", "- &x {a: b}\n- <<: *x"])
def test_1_5_tags_and_merge_keys_are_refused(text: str) -> None:
    [error] = build_text(text).report.errors
    assert "not part of the rule language" in error.message


def test_1_5_an_unquoted_star_has_its_own_message() -> None:
    [error] = build_text("version: 1\nrules:\n  - match: {host: *.example.com}\n").report.errors
    assert (error.pos.line, error.pos.column) == (3, 19)
    assert error.help.startswith('write "*.example.com"')
