"""What the commands tell of ways through other proxies, and that passwords are none of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rulesproxy.cli.main import run_command_line

Output = pytest.CaptureFixture[str]

RULES = """\
version: 1
rules:
  - name: office
    match: {domain: shop.test}
    action: {upstream_proxy: {url: "http://proxy.test:3128", auth: "ada:secret"}}
    tests:
      - {request: GET http://shop.test/, expect: {rule: office, via: "http://proxy.test:3128"}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: Output, *arguments: str, status: int = 0) -> str:
    assert run_command_line(arguments) == status
    printed = capsys.readouterr()
    assert "secret" not in printed.out + printed.err
    return printed.out + printed.err


def test_explain_says_which_way_a_request_goes(here: Path, capsys: Output) -> None:
    lines = run(capsys, "explain", "GET http://shop.test/", "rules.yaml").splitlines()
    assert "    => via: UpstreamProxy(url='http://proxy.test:3128') (rule office)" in lines
    assert "sent: GET http://shop.test/ to shop.test:80 through http://proxy.test:3128" in lines


def test_explain_says_it_to_programs(here: Path, capsys: Output) -> None:
    result = json.loads(run(capsys, "explain", "--json", "GET http://shop.test/", "rules.yaml"))["result"]
    assert (result["server"], result["via"]) == ("shop.test:80", "http://proxy.test:3128")


def test_a_tunnel_goes_there_unopened(here: Path, capsys: Output) -> None:
    text = run(capsys, "explain", "GET https://shop.test/", "rules.yaml")
    assert "relayed untouched" in text and "through http://proxy.test:3128" in text


@pytest.mark.parametrize("command", [["check"], ["plan"], ["plan", "--json"], ["test"], ["test", "--json"]])
def test_no_command_tells_the_password(here: Path, capsys: Output, command: list[str]) -> None:
    run(capsys, *command, "rules.yaml")


def test_a_failed_test_tells_the_way_that_was_taken(here: Path, capsys: Output) -> None:
    (here / "rules.yaml").write_text(RULES.replace('via: "http://proxy.test:3128"}', "via: direct}"))
    text = run(capsys, "test", "rules.yaml", status=1)
    assert "via" in text and "http://proxy.test:3128" in text


def test_plan_lists_the_phases_of_a_way(here: Path, capsys: Output) -> None:
    [line] = [line for line in run(capsys, "plan", "rules.yaml").splitlines() if "office" in line]
    assert all(word in line for word in ("connect", "tls", "request", "upstream_proxy", ".shop.test"))
