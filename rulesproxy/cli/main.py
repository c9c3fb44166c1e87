"""Finds the sub-command, parses its arguments and runs it.

A sub-command is a module in this package (its file name is its name; those starting with `_`, and `main`, are none):

* `SUMMARY`: one line for the list in `rulesproxy --help`; the module's docstring is the text of its own help.
* `add_arguments(parser)`: declares its arguments on an `argparse.ArgumentParser`.
* `run(args) -> int`: does the work and answers the exit status. What it raises of `errors.USER_ERRORS` is shown as
  one message, without a traceback, and the status is 1.

Only the module that was asked for is imported, and `--version` imports none, so that it answers at once.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from rulesproxy import __version__, cli

if TYPE_CHECKING:
    from argparse import Namespace

#: The order in which help lists them; others follow by name.
_ORDER = ("run", "init", "check", "test", "explain", "plan", "compile", "schema", "ca", "demo")

FAILED = 1
MISUSED = 2  # as argparse has it


def command_names() -> list[str]:
    """Every sub-command, in the order in which help lists them."""
    found = {module.name for module in pkgutil.iter_modules(cli.__path__)}
    names = {name for name in found if not name.startswith("_") and name != "main"}
    return [name for name in _ORDER if name in names] + sorted(names - set(_ORDER))


def run_command_line(arguments: Sequence[str]) -> int:
    """Run `rulesproxy ARGUMENTS` and answer the exit status."""
    match list(arguments):
        case []:
            sys.stderr.write(_help())
            return MISUSED
        case ["--version" | "-V", *_]:
            sys.stdout.write(f"rulesproxy {__version__}\n")
            return 0
        case ["--help" | "-h" | "help"]:
            sys.stdout.write(_help())
            return 0
        case ["help", name, *_]:
            return _run(name, ["--help"])
        case [name, *rest]:
            return _run(name, rest)
    return MISUSED


def _run(name: str, arguments: list[str]) -> int:
    if name not in command_names():
        sys.stderr.write(_unknown(name))
        return MISUSED
    import argparse

    command = import_module(f"rulesproxy.cli.{name}")
    parser = argparse.ArgumentParser(
        prog=f"rulesproxy {name}", description=command.__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_arguments(parser)
    try:
        return _guarded(command.run, parser.parse_intermixed_args(arguments))  # files and switches in any order
    except SystemExit as exc:  # argparse: 0 after --help, 2 after a mistake
        return exc.code if isinstance(exc.code, int) else FAILED


def _guarded(run: Callable[[Namespace], int], args: Namespace) -> int:
    """Turn what a user can mend into a message, and a closed pipe into silence."""
    from rulesproxy.errors import USER_ERRORS

    try:
        status = run(args)
        sys.stdout.flush()
    except USER_ERRORS as exc:
        sys.stderr.write(f"rulesproxy: {exc}\n")
        return FAILED
    except BrokenPipeError:  # `rulesproxy plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit finds nobody either
        return FAILED
    return status


def _help() -> str:
    lines = ["usage: rulesproxy COMMAND [ARGUMENTS]", "",
             "An intercepting proxy whose behaviour is a folder of YAML.", "", "commands:"]
    for name in command_names():
        lines.append(f"  {name:<9}{import_module(f'rulesproxy.cli.{name}').SUMMARY}")
    lines += ["", "`rulesproxy COMMAND --help` says more; `rulesproxy --version` prints the version.", ""]
    return "\n".join(lines)


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, command_names(), n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(command_names())}"
    return f'rulesproxy: there is no command "{name}"; {hint}\n'
