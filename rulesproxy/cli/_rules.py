"""What the commands that look at rules share: which files, compiling them, printing what is wrong with them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

from rulesproxy.compiler.diagnostics import Diagnostic
from rulesproxy.compiler.inputs import Disk
from rulesproxy.compiler.program import Compiler, Program
from rulesproxy.model.effects import LocalFile
from rulesproxy.model.http import Request, Response
from rulesproxy.proxy.local_file import LocalFiles, open_local_file

BROKEN = 2  # the rules do not compile; 1 is the answer "no"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rules", nargs="*", metavar="RULES", help="rule files, or folders of them")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", metavar="NAME", help="the profile to use, of those the rules define")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/commands.md)")


def chosen(paths: list[str]) -> list[str]:
    """The rules to look at: as `run` takes them (rule-language 1.4); says which where none were named."""
    if paths:
        return paths
    from rulesproxy.app import default_rules  # only here: it brings the whole proxy with it

    found, why = default_rules()
    sys.stderr.write(f"rules: {', '.join(found)} ({why})\n")
    return list(found)


def compile_rules(paths: list[str], profile: str | None) -> Program:
    """Read and compile; mistakes are in the program's report."""
    return Compiler(Disk()).compile(chosen(paths), profile=profile)


def compiled(args: argparse.Namespace) -> Program | None:
    """The program of the files named; None when they do not compile, which is printed then."""
    program = compile_rules(args.rules, args.profile)
    if program.rules is None:
        sys.stderr.write(program.build.render(color=sys.stderr.isatty()))
        sys.stderr.write(f"{count(program.report.error_count, 'error')}\n")
        return None
    return program


def count(number: int, noun: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def print_json(kind: str, content: Mapping[str, Any]) -> None:
    """A document of a documented shape. `version` goes up when something that was there changes its meaning."""
    json.dump({"format": f"rulesproxy-{kind}", "version": 1, **content}, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def diagnostic_json(diagnostic: Diagnostic) -> dict[str, Any]:
    return {
        "severity": diagnostic.severity.value, "code": diagnostic.code, "file": diagnostic.pos.file,
        "line": diagnostic.pos.line, "column": diagnostic.pos.column, "message": diagnostic.message,
        "help": diagnostic.help,
        "notes": [{"file": note.pos.file, "line": note.pos.line, "column": note.pos.column, "message": note.message}
                  for note in diagnostic.notes],
    }  # fmt: skip


class ServedFiles(LocalFiles):
    """Files as the proxy serves them, for exchanges without a proxy. Not for use inside an event loop."""

    def open(self, file: LocalFile, request: Request) -> Response:
        return asyncio.run(_whole(file, request))


async def _whole(file: LocalFile, request: Request) -> Response:
    answer = await open_local_file(file, request)
    try:
        if answer.response.raw_content is None:
            answer.response.raw_content = b"".join([piece async for piece in answer.pieces])
    finally:
        await answer.pieces.aclose()
    return answer.response
