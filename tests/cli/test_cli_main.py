"""The command line before any sub-command runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from rulesproxy import __version__
from rulesproxy.cli.main import command_names, run_command_line
from tests.support.command import COMMAND, environment, rulesproxy


async def test_version(tmp_path: Path) -> None:
    done = await rulesproxy("--version", cwd=tmp_path)
    assert (done.code, done.text, done.err) == (0, f"rulesproxy {__version__}\n", b"")


@pytest.mark.parametrize(("arguments", "absent"), [
    (["--version"], ("asyncio", "ssl", "argparse", "yaml", "cryptography")),
    (["run", "--help"], ("asyncio", "ssl", "yaml", "jsonschema", "cryptography")),
])
def test_what_answers_at_once_imports_next_to_nothing(tmp_path: Path, arguments: list[str],
                                                      absent: tuple[str, ...]) -> None:
    code = ("import sys; from rulesproxy.cli.main import run_command_line as run; "
            f"run({arguments}); print(*(name for name in {absent} if name in sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True,
                          timeout=20, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("run", "init", "ca", "demo", *command_names()):
        assert f"\n  {name} " in shown


def test_nothing_asked_is_help_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line([]) == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: rulesproxy {name} ")
    assert import_module(f"rulesproxy.cli.{name}").SUMMARY


def test_help_for_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["help", "run"]) == 0
    assert "--listen HOST:PORT" in capsys.readouterr().out


def test_a_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["rum"]) == 2
    assert capsys.readouterr().err == 'rulesproxy: there is no command "rum"; did you mean "run"?\n'


@pytest.mark.parametrize("name", ["main", "_rules", "__init__", ""])
def test_what_is_no_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line([name]) == 2
    assert "there is no command" in capsys.readouterr().err


def test_a_mistake_in_the_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["run", "--no-such-flag"]) == 2
    assert "--no-such-flag" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    pipeline = f"{shlex.join(COMMAND)} schema | head -1"
    done = subprocess.run(["bash", "-c", pipeline], env=environment(tmp_path), capture_output=True, text=True,
                          timeout=20, check=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_an_interrupt_is_no_traceback(tmp_path: Path) -> None:
    code = ("import rulesproxy.cli.main as main; import rulesproxy.__main__ as start\n"
            "def interrupt(arguments): raise KeyboardInterrupt\n"
            "main.run_command_line = interrupt\nstart.main()")
    done = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, timeout=20,
                          check=False)
    assert (done.returncode, done.stderr) == (130, b"")
