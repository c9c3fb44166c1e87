"""Print the Python that the rules are compiled to, one module per rule file.

With --rule only the functions of that rule. The text is what runs: the same files give the same text, always.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace

from rulesproxy.cli._rules import BROKEN, add_options, compiled, print_json
from rulesproxy.compiler.diagnostics import printable
from rulesproxy.compiler.emit import Emitted, emit_file
from rulesproxy.compiler.program import Program
from rulesproxy.compiler.suggest import did_you_mean

SUMMARY = "print the code that rules become"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rules", nargs="*", metavar="RULES", help="rule files, or folders of them")
    parser.add_argument("--rule", metavar="NAME", help="only this rule")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    program = compiled(args)
    if program is None:
        return BROKEN
    names = [rule.name for rule in program.build.rules]
    if args.rule is not None and args.rule not in names:
        hint = did_you_mean(args.rule, names)
        sys.stderr.write(f'rulesproxy: there is no rule "{args.rule}"{"; " + hint if hint else ""}\n')
        return 1
    modules = list(_modules(program, args.rule))
    if args.json:
        print_json("compile", {"modules": [
            {"file": file, "source": module.text,
             "lines": {number: {"line": pos.line, "column": pos.column} for number, pos in module.source_map.items()}}
            for file, module in modules]})
    else:
        sys.stdout.write("\n\n".join(f"# {printable(file)}\n{module.text}" for file, module in modules))
    return 0


def _modules(program: Program, only: str | None) -> Iterator[tuple[str, Emitted]]:
    """Rule file and generated module."""
    for file in program.build.files:
        if only is None:
            yield file.path, emit_file(file.rules)
        elif any(rule.name == only for rule in file.rules):
            # The others keep their places, so that `RULES[n]` is what it is in the whole module.
            alone = tuple(rule if rule.name == only else replace(rule, enabled=False) for rule in file.rules)
            yield file.path, emit_file(alone)
