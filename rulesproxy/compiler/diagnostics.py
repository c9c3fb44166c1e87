"""Diagnostics: what is wrong with rule files, where, and what to do about it, collected and shown together."""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rulesproxy.compiler.yaml_nodes import Node, Position

#: What YAML counts as a line break (libyaml follows YAML 1.1 here).
LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_EXCERPT_WIDTH = 100
#: Passwords, which excerpts must not show: `auth: "user:password"`, `http://user:password@host`.
_SECRET = re.compile(r"""(?<=\bauth)["']?\s*:\s*(?:"[^"]*|'[^']*|[^\s,}]+)|(?<=://)[^\s/"'@]+(?=@)""")


class Severity(enum.StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Note:
    """Another place that matters, as the first of two definitions."""

    pos: Position
    message: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error or warning. `code` names the kind (`unknown-key`, `shadowed`), empty when nobody needs to tell."""

    severity: Severity
    pos: Position
    message: str
    help: str = ""
    notes: tuple[Note, ...] = ()
    code: str = ""


class Report:
    """Collects diagnostics; the same one twice (an aliased node is visited twice) is kept once."""

    def __init__(self) -> None:
        self._diagnostics: dict[Diagnostic, None] = {}
        self._errors = 0

    def error(self, at: Node | Position, message: str, *, help: str = "",
              notes: Sequence[tuple[Position, str]] = (), code: str = "") -> None:
        """Something that keeps the rules from being used."""
        self._add(Severity.ERROR, at, message, help, notes, code)

    def warning(self, code: str, at: Node | Position, message: str, *, help: str = "",
                notes: Sequence[tuple[Position, str]] = ()) -> None:
        """Something that works but is hardly meant."""
        self._add(Severity.WARNING, at, message, help, notes, code)

    def _add(self, severity: Severity, at: Node | Position, message: str, help: str,
             notes: Sequence[tuple[Position, str]], code: str) -> None:
        pos = at if isinstance(at, Position) else at.pos
        self.add(Diagnostic(severity, pos, message, help, tuple(Note(*note) for note in notes), code))

    def add(self, diagnostic: Diagnostic) -> None:
        if diagnostic not in self._diagnostics:
            self._diagnostics[diagnostic] = None
            self._errors += diagnostic.severity is Severity.ERROR

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """File by file in the order first mentioned, each from top to bottom."""
        files: dict[str, int] = {}
        for diagnostic in self._diagnostics:
            files.setdefault(diagnostic.pos.file, len(files))
        return sorted(self._diagnostics, key=lambda d: (files[d.pos.file], d.pos.line, d.pos.column))

    @property
    def errors(self) -> list[Diagnostic]:
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity is Severity.ERROR]

    @property
    def warnings(self) -> list[Diagnostic]:
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity is Severity.WARNING]

    @property
    def has_errors(self) -> bool:
        return self._errors > 0

    @property
    def error_count(self) -> int:
        return self._errors

    def render(self, sources: Mapping[str, str | bytes], color: bool = False) -> str:
        """Text for a terminal: each diagnostic with its line of `sources` (file → text) and a marker under it."""
        lines = _Lines(sources)
        return "".join(_render(diagnostic, lines, color) for diagnostic in self.diagnostics)


class _Lines:
    """Lines of source files, split when first asked for."""

    def __init__(self, sources: Mapping[str, str | bytes]) -> None:
        self._sources = sources
        self._split: dict[str, list[str]] = {}

    def get(self, pos: Position) -> str | None:
        if pos.file not in self._split:
            source = self._sources.get(pos.file, "")
            if len(source) > _LARGE:  # looking for the line would hold up every other thread
                return None
            text = source if isinstance(source, str) else source.decode("utf-8", "replace")
            self._split[pos.file] = LINE_BREAK.split(text.removeprefix("\ufeff"))
        lines = self._split[pos.file]
        return lines[pos.line - 1] if 0 < pos.line <= len(lines) else None


_LARGE = 1024 * 1024
_LONGEST_MESSAGE = 1000
_COLORS = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[1;33m"}
_BOLD, _BLUE, _RESET = "\x1b[1m", "\x1b[1;34m", "\x1b[0m"


def printable(text: str) -> str:
    """Text of unknown origin made safe for a terminal: control and direction characters are escaped."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


def _render(diagnostic: Diagnostic, lines: _Lines, color: bool) -> str:
    paint = _COLORS[diagnostic.severity] if color else ""
    bold, blue, reset = (_BOLD, _BLUE, _RESET) if color else ("", "", "")
    code = f" [{diagnostic.code}]" if diagnostic.severity is Severity.WARNING and diagnostic.code else ""
    where, message = printable(str(diagnostic.pos)), printable(_shortened(diagnostic.message))
    out = [f"{bold}{where}:{reset} {paint}{diagnostic.severity}{reset}{code}: {bold}{message}{reset}"]
    out += _excerpt(diagnostic.pos, lines, paint, reset)
    for note in diagnostic.notes:
        out.append(f"  {blue}note:{reset} {printable(str(note.pos))}: {printable(note.message)}")
        out += _excerpt(note.pos, lines, blue, reset)
    if diagnostic.help:
        out.append(f"  {blue}help:{reset} {printable(diagnostic.help)}")
    return "\n".join(out) + "\n"


def _excerpt(pos: Position, lines: _Lines, paint: str, reset: str) -> list[str]:
    line = lines.get(pos)
    if line is None or not line.strip():
        return []
    # One character for one character, so that the marker stays under the right one.
    shown = _UNPRINTABLE.sub("\ufffd", line.replace("\t", " "))
    if "auth" in shown or "@" in shown:
        shown = _SECRET.sub(_masked, shown)
    start = max(0, pos.column - 1 - _EXCERPT_WIDTH * 3 // 4) if len(shown) > _EXCERPT_WIDTH else 0
    shown = shown[start : start + _EXCERPT_WIDTH]
    indent = sum(_width(char) for char in shown[: pos.column - 1 - start])
    number = f"{pos.line:>5}"
    return [f"{number} | {shown}", f"{' ' * len(number)} | {' ' * indent}{paint}^{reset}"]


def _masked(found: re.Match[str]) -> str:
    """As long as it was; the quote, colon and blanks in front of a value stay."""
    start = len(found[0]) - len(found[0].lstrip("\"' :"))
    return found[0][:start] + "*" * (len(found[0]) - start)


def _width(char: str) -> int:
    """Columns a terminal uses for a character."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
