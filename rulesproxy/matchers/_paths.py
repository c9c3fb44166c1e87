"""Paths in rules: reading them, their index keys, and the leaf that `path`, `path_prefix` and `path_regex` share.

Rule text goes through the same canonical form as traffic (rule-language 2.5). Wildcards are set aside while that
happens, as control characters, which no canonical path contains: an escaped `%2A` stays a plain asterisk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import PathKeys
from rulesproxy.compiler.operators import Glob, GlobOperator, Operator, TextOperator, TreeOperator
from rulesproxy.compiler.source import Scalar
from rulesproxy.compiler.strings import Condition
from rulesproxy.compiler.strings_build import Dialect, Text, all_of
from rulesproxy.matchers._leaves import TextLeaf
from rulesproxy.model.names import canonical_path
from rulesproxy.runtime.patterns import glob_source, path_source
from rulesproxy.runtime.phase import REQUEST_PHASES

_STAR, _STARS, _OPEN, _CLOSE = "\x00", "\x01", "\x02", "\x03"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WILDCARD = re.compile(r"\*\*|\*|\{[^{}/]*\}")
_CAPTURE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::(int))?")
#: Segments that capture in the routers of other tools.
_FOREIGN_CAPTURE = re.compile(r"/(?::([A-Za-z_][A-Za-z0-9_]*)|<(?:[a-z]+:)?([A-Za-z_][A-Za-z0-9_]*)>)(?=/|$)")
_CAPTURE_SOURCE = {"": "[^/]+", "int": "-?[0-9]{1,18}"}


@dataclass(frozen=True, slots=True)
class PathLeaf(TextLeaf):
    """The canonical path of the request is one of these."""

    PHASES = REQUEST_PHASES
    FACT = "path"

    def path_keys(self) -> PathKeys | None:
        found = PathKeys()
        for condition in self.matcher.conditions:
            part = _condition_keys(condition)
            if part is None:
                return None
            found |= part
        return found

    @property
    def bases(self) -> tuple[str, ...]:
        """The fixed parts that a `path_prefix`, or a `path` ending in `/**`, matched: longest first."""
        roots = {root for condition in self.matcher.conditions for operator in condition.operators
                 if isinstance(operator, TreeOperator) for root in operator.roots}
        return tuple(sorted(roots, key=lambda root: (-len(root), root)))


def _condition_keys(condition: Condition) -> PathKeys | None:
    """The keys of any of the operators will do: they all hold together."""
    return next((keys for operator in condition.operators if (keys := _operator_keys(operator)) is not None), None)


def _operator_keys(operator: Operator) -> PathKeys | None:
    match operator:
        case TextOperator(kind="exact", texts=texts, fold=False):
            return PathKeys(exact=texts)
        case TextOperator(kind="prefix", texts=texts, fold=False) if all(text.rfind("/") > 0 for text in texts):
            return PathKeys(prefixes=frozenset(text[: text.rfind("/")] for text in texts))
        case TreeOperator(roots=roots) if "" not in roots:
            return PathKeys(prefixes=roots)
        case GlobOperator(globs=globs) if all(glob.tree for glob in globs):
            return PathKeys(prefixes=frozenset(glob.tree for glob in globs))
    return None


# --- reading ------------------------------------------------------------------------------------------------------


class PathDialect(Dialect):
    """A bare text is a path with wildcards and captures; `exact` takes `*` and `{` literally."""

    def bare(self, texts: Sequence[Text], context: Context) -> list[Operator] | None:
        read = all_of([_read(text, node, context) for text, node in texts])
        if read is None:
            return None
        exact = frozenset(path.canonical for path in read if path.is_exact)
        roots = frozenset(path.tree for path in read if path.is_tree)
        operators: list[Operator] = [TextOperator("exact", exact)] if exact else []
        operators += [TreeOperator("/", roots)] if roots else []
        return operators + [GlobOperator((path.glob,)) for path in read if not path.is_exact and not path.is_tree]

    def exact(self, text: str, node: Scalar, context: Context) -> str | None:
        return canonical_path(text) if is_path(text, node, context) else None

    def entry(self, text: str) -> str | None:
        return canonical_path(text) if text.startswith("/") else None

    def glob(self, text: str, node: Scalar, context: Context) -> Glob | None:
        read = _read(text, node, context)
        return None if read is None else read.glob


PATHS = PathDialect()


@dataclass(frozen=True, slots=True)
class _Path:
    """A path pattern: as written, and in canonical form with control characters for wildcards."""

    text: str
    canonical: str

    @property
    def is_exact(self) -> bool:
        return not _CONTROL.search(self.canonical)

    @property
    def is_tree(self) -> bool:
        return self.canonical == f"{self.tree}/{_STARS}"

    @property
    def tree(self) -> str:
        """The segments before the first wildcard."""
        found = _CONTROL.search(self.canonical)
        before = self.canonical[: found.start()] if found else self.canonical
        return before[: before.rfind("/")]

    @property
    def glob(self) -> Glob:
        blocks = [""]
        for segment in self.canonical.split("/")[1:]:
            if segment == _STARS:
                blocks.append("")
            else:
                blocks[-1] += "/" + _segment_source(segment)
        return Glob(self.text, path_source(blocks), self.tree)


def _segment_source(segment: str) -> str:
    if segment == _STAR:
        return "[^/]+"
    if segment.startswith(_OPEN):
        name, _, kind = segment[1:-1].partition(":")
        return f"(?P<{name}>{_CAPTURE_SOURCE[kind]})"
    return glob_source(segment, "[^/]", _STAR)


def is_path(text: str, node: Scalar, context: Context) -> bool:
    """True for the text of a path; else reports what is wrong."""
    if "://" in text:
        message, help = f'"{text}" is a URL, not a path', "write host and path as two keys"
    elif "?" in text:
        path, _, query = text.partition("?")
        key, _, value = query.partition("&")[0].partition("=")
        message = "a path has no query: the part from ? on belongs to the key query"
        help = f"write path: {path}, query: {{{key}: {value}}}; a question mark itself is %3F"
    elif "#" in text:
        message, help = "a path has no fragment: browsers never send it", "a number sign itself is %23"
    elif _CONTROL.search(text):
        message, help = "a path has no control characters", "they are matched in their escaped form, as %0A"
    elif not text.startswith("/"):
        message, help = f'a path starts with "/": "{text}"', f'write /{text}, or /**/{text} for any folder'
    else:
        return True
    context.error(node, message, help=help, code="bad-path")
    return False


def _read(text: str, node: Scalar, context: Context) -> _Path | None:
    names: list[str] = []

    def set_aside(found: re.Match[str]) -> str:
        wildcard = found[0]
        if wildcard[0] == "*":
            return _STARS if wildcard == "**" else _STAR
        names.append(wildcard[1:-1])
        return f"{_OPEN}{wildcard[1:-1]}{_CLOSE}"

    if not is_path(text, node, context):
        return None
    path = _Path(text, canonical_path(_WILDCARD.sub(set_aside, text)))
    problem = _problem(path, names)
    if problem:
        context.error(node, problem, code="bad-glob", help="to take * and { literally write {exact: …}")
        return None
    if foreign := _FOREIGN_CAPTURE.search(text):
        name = foreign[1] or foreign[2]
        context.warning("literal-capture", node, f'"{foreign[0][1:]}" is plain text in a path, not a capture',
                        help=f"write {{{name}}} for any segment, or {{exact: …}} if it is meant as it stands")
    return path


def _problem(path: _Path, names: list[str]) -> str:
    """What is wrong with the wildcards, "" if nothing is."""
    for name in names:
        if not _CAPTURE.fullmatch(name):
            return f"{{{name}}} is not a capture: write {{name}} or {{name:int}}"
    plain = [name.partition(":")[0] for name in names]
    if twice := next((name for name in plain if plain.count(name) > 1), None):
        return f"the capture {{{twice}}} is there twice"
    for segment in path.canonical.split("/"):
        if _STARS in segment and segment != _STARS:
            return '"**" stands for whole segments, so it has to be one'
        if _OPEN in segment and not (segment.startswith(_OPEN) and segment.find(_CLOSE) == len(segment) - 1):
            return "a capture is a whole segment"
    if "{" in _WILDCARD.sub("", path.text) or "}" in _WILDCARD.sub("", path.text):
        return "a brace is never closed, or never opened"
    return ""
