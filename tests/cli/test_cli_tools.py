"""The commands that look at rules: what they print and how they exit (docs/commands.md)."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.cli.main import run_command_line

RULES = """\
version: 1
rules:
  - name: pay-alone
    priority: 1
    match: {host: api.shop.test, path: /pay/**}
    action: {pass: {}}
    tests:
      - {request: GET http://api.shop.test/pay/1, expect: {rule: pay-alone, no_rule: to-staging}}
  - name: to-staging
    match: {host: api.shop.test}
    unless: {method: POST}
    action:
      redirect_server: {to: "http://staging.test", keep_host: false}
      rewrite: {headers: {set: {x-env: staging}}, response_body: {json_merge: {env: staging}}}
    tests:
      - {request: GET https://api.shop.test/a, upstream: {json: {}}, expect: {rule: to-staging, json: {env: staging}}}
  - name: second
    match: {host: api.shop.test, path: /a}
    action: {map_remote: "http://late.test"}
    tests:
      - {request: POST http://api.shop.test/a, expect: {rule: second}}
  - name: pinned
    match: {sni: pinned.test}
    action: {tls: passthrough}
    tests:
      - {tls: {sni: pinned.test}, expect: {rule: pinned, tls: relay}}
"""
BROKEN = "version: 1\nrules:\n  - name: a\n    match: {hots: x.test}\n    action: {block: {}}\n"
FAILING = """\
version: 1
rules:
  - name: mock
    match: {host: a.test}
    action: {respond: {status: 201, json: {n: 1}}}
    tests:
      - name: wrong in many ways
        request: GET http://a.test/
        expect: {no_rule: mock, status: 200, headers: {x-a: "1"}, json: {n: 2}, server: "a.test:80",
                 sent: {method: GET}}
tests:
  - {dns: {name: a.test}, expect: {dns: {rcode: NXDOMAIN}}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `rules.yaml`, and we are in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path


Output = Any


def run(capsys: Output, *arguments: str, status: int = 0) -> str:
    assert run_command_line(arguments) == status, capsys.readouterr().err
    text: str = capsys.readouterr().out
    return text


def run_json(capsys: Output, kind: str, *arguments: str, status: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run(capsys, kind, *arguments, "--json", status=status))
    assert (document["format"], document["version"]) == (f"rulesproxy-{kind}", 1)
    return document


# --- check ---------------------------------------------------------------------------------------------------------


def test_check_accepts_good_rules(here: Path, capsys: Output) -> None:
    assert run(capsys, "check", "rules.yaml") == "4 rules in 1 file: 0 errors, 0 warnings\n"


def test_check_shows_the_place_and_the_way_out(here: Path, capsys: Output) -> None:
    (here / "bad.yaml").write_text(BROKEN)
    text = run(capsys, "check", "bad.yaml", status=1)
    assert "bad.yaml:4:13: error:" in text
    assert 'did you mean "host"?' in text
    assert "    match: {hots: x.test}\n" in text
    assert text.endswith("\n1 file: 1 error, 0 warnings\n")


def test_warnings_alone_are_no_failure(here: Path, capsys: Output) -> None:
    (here / "loose.yaml").write_text("version: 1\nrules: [{name: a, action: {block: {}}}]\n")
    document = run_json(capsys, "check", "loose.yaml")
    assert document["ok"] is True
    assert {found["code"] for found in document["diagnostics"]} >= {"empty-match", "untested"}
    assert all(found["severity"] == "warning" for found in document["diagnostics"])


def test_check_as_json_names_every_place(here: Path, capsys: Output) -> None:
    (here / "bad.yaml").write_text(BROKEN)
    document = run_json(capsys, "check", "bad.yaml", status=1)
    [error] = document["diagnostics"]
    assert (error["file"], error["line"], error["column"]) == ("bad.yaml", 4, 13)
    assert (document["ok"], document["digest"], document["files"]) == (False, None, ["bad.yaml"])


def test_a_missing_file_is_reported_like_any_mistake(here: Path, capsys: Output) -> None:
    assert "cannot read nothing.yaml: no such file" in run(capsys, "check", "nothing.yaml", status=1)


# --- which rules ---------------------------------------------------------------------------------------------------


def test_without_rules_the_file_here_is_taken(here: Path, capsys: Output) -> None:
    assert run_command_line(["check"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("4 rules in 1 file")
    assert output.err.startswith("rules: rules.yaml (")


def test_without_a_file_the_folder_here_is_taken(here: Path, capsys: Output) -> None:
    (here / "rules").mkdir()
    (here / "rules.yaml").rename(here / "rules" / "one.yaml")
    assert run_command_line(["plan"]) == 0
    assert "rules: rules (" in capsys.readouterr().err


def test_without_either_the_starter_rules_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: Output) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["test"]) == 0
    assert "starter rules" in capsys.readouterr().err


# --- test ----------------------------------------------------------------------------------------------------------


def test_passing_tests_are_counted_with_the_coverage(here: Path, capsys: Output) -> None:
    assert run(capsys, "test", "rules.yaml") == "4 tests passed; 4 of 4 rules took effect in a test\n"


def test_failures_show_expectation_and_outcome(here: Path, capsys: Output) -> None:
    (here / "failing.yaml").write_text(FAILING)
    text = run(capsys, "test", "failing.yaml", status=1)
    assert "FAILED failing.yaml:9:17: wrong in many ways" in text
    differences = {
        "no_rule": ("not mock", "mock"), "status": ("200", "201"), "headers.x-a": ("1", "absent"),
        "json": ('{"n": 2}', '{"n": 1}'), "server": ("a.test:80", "no server is asked"),
        "sent": ("a request", "nothing"), "dns.rcode": ("NXDOMAIN", "forwarded"),
    }  # fmt: skip
    for what, (expected, got) in differences.items():
        lines = text.splitlines()
        index = next(i for i, line in enumerate(lines) if line.split() and line.split()[0] == what)
        assert lines[index].endswith(f"expected  {expected}")
        assert lines[index + 1].endswith(f"got       {got}")
    assert text.splitlines()[-1] == "0 of 2 tests passed; 0 of 1 rules took effect in a test (not: mock)"


def test_broken_rules_are_not_tested(here: Path, capsys: Output) -> None:
    (here / "bad.yaml").write_text(BROKEN)
    assert run_command_line(["test", "bad.yaml"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "bad.yaml:4:13: error:" in output.err


def test_results_as_json(here: Path, capsys: Output) -> None:
    (here / "failing.yaml").write_text(FAILING)
    document = run_json(capsys, "test", "failing.yaml", status=1)
    assert (document["passed"], document["failed"], document["untested_rules"]) == (0, 2, ["mock"])
    first, second = document["tests"]
    assert (first["name"], first["rule"], first["line"], first["passed"]) == ("wrong in many ways", "mock", 7, False)
    assert {failure["what"] for failure in first["failures"]} >= {"status", "json"}
    assert (second["rule"], second["rules"]) == (None, [[]])


def test_junit_has_a_case_for_each_test(here: Path, capsys: Output) -> None:
    (here / "failing.yaml").write_text(FAILING)
    run(capsys, "test", "failing.yaml", "--junit", "out.xml", status=1)
    suite = ET.parse(here / "out.xml").getroot()
    assert suite.attrib["tests"] == suite.attrib["failures"] == "2"
    case = suite.find("testcase")
    assert case is not None and case.attrib["classname"] == "mock"
    failure = case.find("failure")
    assert failure is not None and "expected  200" in (failure.text or "")


def test_an_unwritable_junit_file_is_one_message(here: Path, capsys: Output) -> None:
    assert run_command_line(["test", "rules.yaml", "--junit", "no/such/folder.xml"]) == 1
    assert capsys.readouterr().err == "rulesproxy: cannot write no/such/folder.xml: No such file or directory\n"


def test_the_seed_fixes_what_is_drawn(here: Path, capsys: Output) -> None:
    (here / "drawn.yaml").write_text("""\
version: 1
rules:
  - name: dice
    match: {host: dice.test}
    action: {respond: "${random(1, 1000000)} ${uuid} ${now}"}
    tests: [{request: GET http://dice.test/, expect: {body: nobody knows}}]
""")

    def drawn(seed: str) -> str:
        return str(run_json(capsys, "test", "drawn.yaml", "--seed", seed, status=1)["tests"][0]["failures"][0]["got"])

    assert drawn("1") == drawn("1") != drawn("2")
    assert drawn("1").endswith("2026-01-01T00:00:00Z")


# --- explain -------------------------------------------------------------------------------------------------------


def explained(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_explain_tells_phase_by_phase_who_acted_and_who_lost(here: Path, capsys: Output) -> None:
    lines = explained(run(capsys, "explain", "GET https://api.shop.test/a", "rules.yaml"))
    assert "=> decrypted (rule to-staging)" in lines
    assert '- pay-alone missed: path is "/a", wanted "/pay" or below (rules.yaml:3:11)' in lines
    assert "+ to-staging acted (rules.yaml:9:11)" in lines
    assert "~ second overruled: to-staging has the route (rules.yaml:17:11)" in lines
    assert any(line.startswith("=> route: RedirectServer(to='http://staging.test'") for line in lines)
    assert "sent: GET http://staging.test/a to staging.test:80" in lines
    assert [line for line in lines if line in ("connect", "tls", "request", "response")] == [
        "connect", "tls", "request", "response"]


def test_explain_names_the_condition_that_failed(here: Path, capsys: Output) -> None:
    document = run_json(capsys, "explain", "POST http://api.shop.test/b", "rules.yaml")
    [request] = [phase for phase in document["phases"] if phase["phase"] == "request"]
    told = {rule["rule"]: rule for rule in request["rules"]}
    assert (told["to-staging"]["verdict"], told["to-staging"]["why"]) == ("missed", "its unless holds")
    assert told["second"]["why"] == 'path is "/b", wanted "/a"'
    assert told["second"]["near"] is True
    assert document["result"]["rules"] == []
    assert document["internal_errors"] == []


def test_explain_says_who_ended_the_list(here: Path, capsys: Output) -> None:
    lines = explained(run(capsys, "explain", "http://api.shop.test/pay/7", "rules.yaml"))
    assert "- to-staging not asked: pay-alone ended the list (rules.yaml:9:11)" in lines


def test_explain_a_tunnel_that_stays_closed(here: Path, capsys: Output) -> None:
    text = run(capsys, "explain", "GET https://pinned.test/x", "rules.yaml")
    assert "=> relayed untouched (rule pinned)" in text
    assert "\nrequest\n" not in text


def test_explain_a_query(here: Path, capsys: Output) -> None:
    (here / "dns.yaml").write_text("version: 1\nrules:\n  - {name: lab, match: {host: a.lab.test}, "
                                   "action: {spoof_dns: 192.0.2.1}}\n")
    assert "answer: NOERROR 192.0.2.1\n" in run(capsys, "explain", "--dns", "a.lab.test", "a", "dns.yaml")
    assert "answer: forwarded\n" in run(capsys, "explain", "--dns", "b.lab.test", "A", "dns.yaml")


def test_an_unknown_record_type_is_one_message(here: Path, capsys: Output) -> None:
    assert run_command_line(["explain", "--dns", "a.test", "AA", "rules.yaml"]) == 1
    assert capsys.readouterr().err == "rulesproxy: unknown DNS type: 'AA'\n"


def test_explain_shows_dropped_edits_headers_and_bodies(here: Path, capsys: Output) -> None:
    (here / "edits.yaml").write_text("""\
version: 1
rules:
  - {name: one, match: {host: a.test}, action: {rewrite: {headers: {set: {x-a: "1"}}}}}
  - {name: two, match: {host: a.test, headers: {x-b: "yes"}}, action: {rewrite: {headers: {set: {X-A: "2"}}}}}
  - {name: three, match: {host: a.test, status: 404}, action: {rewrite: {response_body: {json_merge: {b: 2}}}}}
""")
    lines = explained(run(capsys, "explain", "POST http://a.test/", "edits.yaml", "-H", "X-B: yes", "-d", "hello",
                          "--status", "404", "--response-body", '{"a": 1}'))
    assert "=> edit: request header x-a set ('1',)" in lines
    assert "=> edit: request header x-a set ('2',) (dropped: an earlier rule owns the field)" in lines
    assert "=> edit: response body json_merge {'b': 2}" in lines
    assert "answer: 404 Not Found, 13 bytes, no content type" in lines


MESSAGES = """version: 1
rules:
  - name: answers
    match: {host: a.test, text: ping}
    action: {websocket: {drop: true, send: {to: client, text: pong}}}
  - {name: ends, match: {port: 25, direction: to_client}, action: {tcp: {close: true}}}
"""


def test_explain_a_message(here: Path, capsys: Output) -> None:
    (here / "messages.yaml").write_text(MESSAGES)
    lines = explained(run(capsys, "explain", "wss://a.test/live", "messages.yaml", "--message", "ping"))
    assert lines[0] == "message to server on https://a.test/live"
    assert "websocket message" in lines and any(line.startswith("+ answers acted") for line in lines)
    assert lines[-2:] == ["the message does not go on", "to client (sent by a rule): pong"]
    lines = explained(run(capsys, "explain", "tcp://a.test:25", "messages.yaml", "--bytes", "32 ff", "--to-client"))
    assert "tcp message" in lines and lines[-2:] == ["to client: 32 ff", "the conversation is closed"]
    found = run_json(capsys, "explain", "wss://a.test/live", "messages.yaml", "--message", "ping")
    assert found["message"] == {"on": "https://a.test/live", "direction": "to_server"}
    assert found["result"]["messages"] == [{"direction": "to_client", "content": "pong", "own": True}]


def test_a_websocket_is_explained_as_the_request_that_opens_it(here: Path, capsys: Output) -> None:
    lines = explained(run(capsys, "explain", "GET wss://api.shop.test/a", "rules.yaml"))
    assert lines[0] == "GET https://api.shop.test/a"
    assert "sent: GET http://staging.test/a to staging.test:80" in lines


def test_files_may_follow_switches(here: Path, capsys: Output) -> None:
    (here / "messages.yaml").write_text(MESSAGES)
    text = run(capsys, "explain", "wss://a.test/live", "--message", "ping", "messages.yaml")
    assert "to client (sent by a rule): pong" in text
    assert run(capsys, "check", "messages.yaml", "--json", "rules.yaml").startswith("{")


@pytest.mark.parametrize("arguments", [
    ("--message", "x"), ("ftp://a.test/", "--message", "x"), ("ws://a.test/", "--bytes", "xyz"),
    ("tcp://a.test", "--message", "x"), ("tcp://a.test:25", "messages.yaml"), ("udp://a.test:25", "messages.yaml"),
])  # fmt: skip
def test_explain_says_what_a_message_needs(here: Path, capsys: Output, arguments: tuple[str, ...]) -> None:
    (here / "messages.yaml").write_text(MESSAGES)
    assert run_command_line(["explain", *arguments]) == 1
    assert capsys.readouterr().err.strip()


def test_of_many_rules_explain_tells_near_misses_only(here: Path, capsys: Output) -> None:
    rules = [f"  - {{name: r{n}, match: {{host: h{n}.test, path: /p}}, action: {{tag: t}}}}" for n in range(40)]
    (here / "many.yaml").write_text("\n".join(["version: 1", "rules:", *rules, ""]))
    text = run(capsys, "explain", "http://h7.test/q", "many.yaml")
    assert "  - r7  missed: path is" in text
    assert "39 more rules do not match" in text
    assert len(run_json(capsys, "explain", "http://h7.test/q", "many.yaml")["phases"][0]["rules"]) == 40


@pytest.mark.parametrize("request_text", ["", "shop.test/x", "GET /x", "nonsense"])
def test_what_is_no_request_is_one_message(here: Path, capsys: Output, request_text: str) -> None:
    assert run_command_line(["explain", request_text, "rules.yaml"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("rulesproxy: ") and error.count("\n") == 1


def test_a_host_no_client_may_name_is_a_400(here: Path, capsys: Output) -> None:
    assert "answer: 400 Bad Request" in run(capsys, "explain", "GET http://0x7f.1/", "rules.yaml")


def test_a_disagreement_is_an_internal_error(here: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    from rulesproxy.matchers._paths import PathLeaf

    monkeypatch.setattr(PathLeaf, "holds", lambda self, x: True)
    assert run_command_line(["explain", "POST http://api.shop.test/b", "rules.yaml"]) == 3
    assert "internal error: compiled rules and interpreter disagree: request" in capsys.readouterr().err


# --- plan, compile, schema -----------------------------------------------------------------------------------------


def test_plan_lists_order_decrypted_and_relayed_hosts_and_buffers(here: Path, capsys: Output) -> None:
    lines = explained(run(capsys, "plan", "rules.yaml"))
    assert any(line.startswith("1 pay-alone 1 request, response, websocket message pass api.shop.test")
               for line in lines)
    assert lines.index("Decrypted:") < lines.index("api.shop.test to-staging")
    assert "TLS for every other host is relayed untouched." in lines
    assert "to-staging response api.shop.test" in lines[lines.index("Bodies are buffered for:"):]
    assert any(line.startswith("request 3 1 0 0 3 (api.shop.test)") for line in lines)


def test_plan_names_the_rule_that_decrypts_everything(here: Path, capsys: Output) -> None:
    (here / "all.yaml").write_text("version: 1\nrules: [{name: greedy, match: {path: /x}, action: {respond: hi}}]\n")
    assert "All TLS is decrypted, for: greedy." in run(capsys, "plan", "all.yaml")
    assert run_json(capsys, "plan", "all.yaml")["decrypts_everything"] == ["greedy"]


def test_the_work_for_one_host_does_not_grow_with_rules_for_others(here: Path, capsys: Output) -> None:
    rules = [f"  - {{name: r{n}, match: {{host: h{n}.test}}, action: {{tag: t}}}}" for n in range(300)]
    (here / "many.yaml").write_text("\n".join(["version: 1", "rules:", *rules, ""]))
    [index] = run_json(capsys, "plan", "many.yaml")["indexes"]
    assert (index["phase"], index["rules"], index["worst"], index["not_indexed"]) == ("request", 300, 1, 0)


def test_compile_prints_python_that_is_what_runs(here: Path, capsys: Output) -> None:
    text = run(capsys, "compile", "rules.yaml")
    functions = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    assert {"rule_1_request", "rule_1_response", "rule_2_request"} <= functions
    assert text.isascii()


def test_compile_one_rule(here: Path, capsys: Output) -> None:
    text = run(capsys, "compile", "rules.yaml", "--rule", "second")
    assert "def rule_2_request" in text and "rule_1" not in text and "staging" not in text
    assert run_command_line(["compile", "rules.yaml", "--rule", "secand"]) == 1
    assert 'did you mean "second"?' in capsys.readouterr().err
    [module] = run_json(capsys, "compile", "rules.yaml", "--rule", "second")["modules"]
    assert module["file"] == "rules.yaml" and "rule_2_request" in module["source"]


def test_schema_is_the_one_in_the_repository(capsys: Output) -> None:
    committed = Path(__file__).parents[2] / "schemas" / "rules.schema.json"
    assert json.loads(run(capsys, "schema")) == json.loads(committed.read_text())


@pytest.mark.parametrize("command", ["compile", "plan", "explain"])
def test_broken_rules_end_every_command_with_the_diagnostics(here: Path, capsys: Output, command: str) -> None:
    (here / "bad.yaml").write_text(BROKEN)
    request = ["GET http://a.test/"] if command == "explain" else []
    assert run_command_line([command, *request, "bad.yaml"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "bad.yaml:4:13: error:" in output.err


def test_hostile_names_do_not_reach_the_terminal(here: Path, capsys: Output) -> None:
    (here / "hostile.yaml").write_text(
        'version: 1\nrules:\n  - {name: "a\\e[2J\\u202eb", match: {host: a.test}, action: {tag: "\\a"},\n'
        '     tests: [{request: GET http://a.test/, expect: {status: 201}}]}\n')
    for arguments in (["check"], ["test"], ["plan"], ["explain", "http://a.test/"], ["compile"]):
        run_command_line([*arguments, "hostile.yaml"])
        output = capsys.readouterr()
        assert not {"\x1b", "\u202e", "\a"} & set(output.out + output.err), arguments


def test_the_output_is_the_same_in_every_process(here: Path) -> None:
    """Set order must not leak: two processes with different hash seeds print the same bytes."""
    outputs = {
        subprocess.run([sys.executable, "-m", "rulesproxy", command, "rules.yaml"], capture_output=True, check=True,
                       timeout=60, env={**os.environ, "PYTHONHASHSEED": seed,
                                        "PYTHONPATH": str(Path(__file__).parents[2])}).stdout
        for seed in ("1", "2") for command in ("compile",)
    }
    assert len(outputs) == 1
