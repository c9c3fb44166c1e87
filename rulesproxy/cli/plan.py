"""Show what the rules amount to: their order, what is decrypted and buffered for them, how they are found.

Exit status 0, or 2 when the rules do not compile.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rulesproxy.cli._rules import BROKEN, add_arguments, compiled, count, print_json
from rulesproxy.compiler.diagnostics import printable
from rulesproxy.compiler.survey import BufferLine, IndexLine, RuleLine, Survey, TunnelLine, survey
from rulesproxy.runtime.phase import spoken

SUMMARY = "show order, decrypted hosts, buffered bodies, indexes"

__all__ = ["SUMMARY", "add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    program = compiled(args)
    if program is None or program.rules is None:
        return BROKEN
    found = survey([file.rules for file in program.build.files], program.rules)
    if args.json:
        print_json("plan", {"digest": program.rules.digest, **_plain(dataclasses.asdict(found))})
    else:
        sys.stdout.write("".join(f"{printable(line).rstrip()}\n" for line in _lines(found)))
    return 0


def _plain(value: Any) -> Any:
    match value:
        case enum.Enum():
            return value.name.lower()
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value


# --- text ------------------------------------------------------------------------------------------------------------


def _lines(found: Survey) -> Iterator[str]:
    yield f"{count(len(found.rules), 'rule')}, in the order in which they are asked:"
    yield from _table(["#", "rule", "prio", "phases", "actions", "hosts", "where"], [_rule(r) for r in found.rules])
    yield ""
    yield from _decrypt(found)
    yield ""
    if found.buffers:
        yield "Bodies are buffered for:"
        yield from _table(["rule", "bodies", "hosts"], [_buffer(line) for line in found.buffers])
    else:
        yield "No body is buffered: everything streams."
    yield ""
    yield "Indexes:"
    yield from _table(["phase", "rules", "names", "suffixes", "not indexed", "most rules for one host"],
                      [_index(line) for line in found.indexes])
    yield ""
    yield f"Hooks in use: {', '.join(found.hooks) or 'none'}"


def _rule(line: RuleLine) -> list[str]:
    return [str(line.order + 1), line.name, str(line.priority), ", ".join(spoken(line.phases)),
            " ".join(line.actions), _hosts(line.hosts, line.more_hosts), line.where]


def _hosts(hosts: Sequence[str], more: int, shown: int = 4) -> str:
    if not hosts:
        return "every host"
    left = max(0, len(hosts) - shown) + more
    return ", ".join(hosts[:shown]) + (f" and {left:,} more" if left else "")


def _decrypt(found: Survey) -> Iterator[str]:
    if found.decrypts_everything:
        yield (f"All TLS is decrypted, for: {', '.join(found.decrypts_everything)}. "
               "Run with --set decrypt=named to confine these rules to hosts that others name.")
    named = [line for line in found.tunnels if line.hosts]
    for verdict, title in (("intercept", "Decrypted"), ("relay", "Relayed untouched"), ("refuse", "Refused")):
        lines = [line for line in named if line.verdict == verdict]
        if lines:
            yield f"{title}:"
            yield from _table(["hosts", "rule"], [_tunnel(line) for line in lines])
    if not found.decrypts_everything:
        yield "TLS for every other host is relayed untouched." if named else "No TLS is decrypted."


def _tunnel(line: TunnelLine) -> list[str]:
    by = f"{line.rule} (because of {line.by})" if line.by else line.rule
    return [_hosts(line.hosts, line.more, 10), by]


def _buffer(line: BufferLine) -> list[str]:
    which = " and ".join(["request"] * line.request + ["response"] * line.response)
    return [line.rule, which, _hosts(line.hosts, line.more)]


def _index(line: IndexLine) -> list[str]:
    worst = f"{line.worst:,}" + (f" ({line.worst_host})" if line.worst_host else "")
    return [spoken((line.phase,))[0], f"{line.rules:,}", f"{line.names:,}", f"{line.suffixes:,}",
            f"{line.not_indexed:,}", worst]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as they need to be, no wider than 60."""
    cells = [[_cut(printable(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
