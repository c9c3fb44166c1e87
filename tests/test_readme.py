"""The README says nothing that a command does not show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from rulesproxy.cli.main import command_names
from rulesproxy.demo.scenes import SCENES
from tests.support.command import ROOT, rulesproxy, running
from tests.support.tools import run_tool

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_there_is_one_line_to_see_it_and_one_to_test_it() -> None:
    setups = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("python3 -m venv")]
    assert [line.rpartition("/")[2] for line in setups] == ["rulesproxy demo --once", "pytest"]


def test_ci_runs_the_line_that_the_readme_gives() -> None:
    """The script's own way of finding it, on the README as it is."""
    script = (ROOT / ".ci" / "run").read_text()
    [find] = re.findall(r"^command=\$\((.*)\)$", script, re.MULTILINE)
    done = subprocess.run(["bash", "-c", find], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == next(line for line in README.splitlines() if line.endswith("bin/pytest")) + "\n"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_rows_shown_are_rows_of_the_demo() -> None:
    [table] = blocks("text")
    rows = [line for line in table.splitlines() if line.startswith("ok ")]
    assert rows
    for row in rows:
        request, rule = re.split(r"\s{2,}", row.removeprefix("ok "))[:2]
        assert any(scene.request == request and scene.rule in (rule, "") for scene in SCENES), row


async def test_the_rule_does_what_the_commands_show(tmp_path: Path) -> None:
    rules, _ = blocks("yaml")
    assert len(rules.splitlines()) <= 10
    (tmp_path / "rules.yaml").write_text(rules)
    tested = await rulesproxy("test", "rules.yaml", cwd=tmp_path)
    assert tested.code == 0, tested.text
    # The shell of the README has the default configuration folder and port; here both are the test's own.
    authority = (await rulesproxy("ca", "--path", cwd=tmp_path)).text.strip()
    async with running("run", "rules.yaml", "--listen", "127.0.0.1:0", cwd=tmp_path) as proxy:
        address = await proxy.address()
        shown = [block.splitlines() for block in blocks("console")]
        assert [len(lines) for lines in shown] == [2, 2]
        for command, answer in shown:
            line = command.removeprefix("$ ").replace("127.0.0.1:8080", address)
            line = line.replace('"$(.venv/bin/rulesproxy ca --path)"', shlex.quote(authority))
            name, *arguments = shlex.split(line)
            assert (await run_tool(name, "-q", "-s", *arguments)).text == answer


def test_every_command_named_exists() -> None:
    named = set(re.findall(r"`rulesproxy ([a-z]+)", README))
    assert named <= set(command_names())
    assert {"run", "init", "check", "test", "explain", "plan", "ca", "demo"} <= named


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
