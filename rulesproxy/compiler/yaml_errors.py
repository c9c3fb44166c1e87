"""What the YAML parser complains of, in words for people who write rules."""

from __future__ import annotations

import enum
import re
from typing import Any

from rulesproxy.compiler.diagnostics import LINE_BREAK, Report
from rulesproxy.compiler.yaml_nodes import Position

_WORD = re.compile(r"[^\s,\]}]+")

class _Show(enum.Enum):
    """Which place to report: where the parser stopped, where the construct was opened, or both."""

    END = enum.auto()
    START = enum.auto()
    BOTH = enum.auto()


# (part of the parser's context, part of its problem, what to show, our message, our help); the first that fits is taken
_MESSAGES: tuple[tuple[str, str, _Show, str, str], ...] = (
    ("", "mapping values are not allowed", _Show.END, "a second key: value on one line, or a line indented too far",
     "start it on a line of its own, aligned with its neighbours; quote a text that contains a colon and a space"),
    ("quoted scalar", "unexpected end of stream", _Show.START, "the quotes opened here are never closed", ""),
    ("quoted scalar", "document indicator", _Show.START, "the quotes opened here are never closed", ""),
    ("quoted scalar", "unknown escape", _Show.END, "this backslash escape is unknown",
     "in single quotes a backslash stands for itself: '\\d'"),
    ("quoted scalar", "", _Show.END, "this backslash escape is not complete or names no character",
     "in single quotes a backslash stands for itself: '\\x'"),
    ("flow sequence", "", _Show.BOTH, "a list opened with [ is not closed, or lacks a comma", ""),
    ("flow mapping", "", _Show.BOTH, "a mapping opened with { is not closed, or lacks a comma", ""),
    ("block collection", "", _Show.END, "this line does not fit the list above it",
     "items of one list start with - in the same column"),
    ("block mapping", "", _Show.END, "this line does not fit the mapping above it",
     "keys of one mapping start in the same column; a value that starts with a quote ends with it"),
    ("simple key", "", _Show.START, "a key without a colon and value", 'write "key: value"'),
    ("block scalar", "", _Show.END, "this block text is not indented as its first line says", ""),
    ("plain scalar", "", _Show.END, "a colon inside [ ] or { } needs a space or quotes", ""),
    ("anchor", "", _Show.START, "text that starts with & must be quoted", ""),
    ("tag", "", _Show.START, "text that starts with ! must be quoted", ""),
    ("directive", "", _Show.START, "this line is not a YAML directive", "quote text that starts with %"),
    ("", "incompatible YAML document", _Show.END, "this YAML version is unknown", "leave the %YAML line out"),
    ("", "duplicate %YAML directive", _Show.END, "the %YAML line stands here twice", ""),
    ("", "document start", _Show.END, "text after the end of a document", "separate documents by a line with ---"),
    ("", "expected node content", _Show.END, "a value is missing or misplaced here", ""),
    ("", "block sequence entries are not allowed", _Show.END, "a list item cannot start here",
     "start it on a line of its own"),
    ("", "mapping keys are not allowed", _Show.END, "a key cannot start here", "quote text that starts with ?"),
)


def explain_yaml_error(error: Any, file: str, text: str, report: Report) -> None:
    """Report a parser's error in our words, at its line and column."""
    context, problem = getattr(error, "context", None) or "", getattr(error, "problem", None) or ""
    end = _place(file, getattr(error, "problem_mark", None))
    start = _place(file, getattr(error, "context_mark", None)) or end
    if end is None or start is None:
        report.error(Position(file, 1, 1), f"not readable as YAML: {problem or 'unknown reason'}")
        return
    lines = LINE_BREAK.split(text)
    if "scanning an alias" in context:
        _explain_star(start, lines, report)
    elif "tab character" in problem or _char(end, lines) == "\t":
        report.error(end, "a tab cannot indent; YAML allows spaces only", help="indent with two spaces per level")
    elif "cannot start any token" in problem:
        char, word = _char(end, lines), _word(end, lines)
        advice = f'write "{word}"'
        if char in "|>":  # elsewhere these begin a block scalar
            advice = (f"block text ({char}) cannot stand inside {{ }} or [ ]: "
                      "write the keys around it on lines of their own")
        report.error(end, f"a value cannot start with {char} unless it is quoted", help=advice)
    else:
        _explain_by_table(context, problem, start, end, report)


def _explain_by_table(context: str, problem: str, start: Position, end: Position, report: Report) -> None:
    for in_context, in_problem, show, message, advice in _MESSAGES:
        if in_context in context and in_problem in problem:
            both = show is _Show.BOTH and start != end
            report.error(start if show is _Show.START else end, message, help=advice,
                         notes=[(start, "it is opened here")] if both else ())
            return
    report.error(end, f"not readable as YAML: {problem}")


def _explain_star(at: Position, lines: list[str], report: Report) -> None:
    word = _word(at, lines)
    report.error(at, f"text that starts with * must be quoted: {word}", code="unquoted-star",
                 help=f'write "{word}"; without quotes * refers to an anchor')


def _place(file: str, mark: Any) -> Position | None:
    return None if mark is None else Position(file, mark.line + 1, mark.column + 1)


def _char(pos: Position, lines: list[str]) -> str:
    line = lines[pos.line - 1] if pos.line <= len(lines) else ""
    return line[pos.column - 1 : pos.column]


def _word(pos: Position, lines: list[str]) -> str:
    line = lines[pos.line - 1] if pos.line <= len(lines) else ""
    found = _WORD.match(line, pos.column - 1)
    return found[0] if found else ""
