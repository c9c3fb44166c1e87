"""The strict YAML reader: PyYAML's event stream → nodes, with every limit checked while pulling.

What comes in: bytes. What goes out: one root node per document; on a mistake, one diagnostic and no node. The text is
looked at before the parser sees it (encoding, control characters), then events are pulled one by one: nothing is
composed, so 100,000 nested brackets stop at the 65th. Aliases share the anchored node, and what they would expand to is
counted. Tags, merge keys and duplicate keys are refused. Does not know what a rule is.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Any

import yaml

from rulesproxy.compiler.diagnostics import LINE_BREAK, Report
from rulesproxy.compiler.yaml_errors import explain_yaml_error
from rulesproxy.compiler.yaml_nodes import Mapping, Node, Position, Scalar, Sequence

MAX_SIZE = 16 * 1024 * 1024
MAX_DEPTH = 64
#: Nodes that aliases may add to a file, in all.
MAX_ALIASED_NODES = 100_000

# The pure-Python loader stands in where PyYAML was built without libyaml. Only its events are used.
_Parser: type[Any] = getattr(yaml, "CLoader", yaml.Loader)

# YAML 1.2.2 §5.1: characters that may not stand in a stream.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_UTF16_OR_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class _Stop(Exception):
    """A mistake was reported; what is left of the file is not read."""


def parse(file: str, data: bytes, report: Report) -> list[Node]:
    """The root node of every document that is not empty. Mistakes go to `report`; then the answer is empty."""
    try:
        text = _decode(file, data, report)
        return _Reader(file, text, report).documents()
    except _Stop:
        return []


def _decode(file: str, data: bytes, report: Report) -> str:
    if len(data) > MAX_SIZE:
        report.error(Position(file, 1, 1), f"the file has {len(data):,} bytes; {MAX_SIZE:,} is the limit",
                     help="a long list belongs in a file of its own, named under sets")
        raise _Stop
    if data.startswith(_UTF16_OR_32) or data[:4].count(0) >= 2:
        report.error(Position(file, 1, 1), "the file is UTF-16 or UTF-32; rule files are UTF-8",
                     help="save it again as UTF-8")
        raise _Stop
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        position = _position(file, data[: error.start].decode("utf-8").removeprefix("\ufeff"))
        report.error(position, f"byte 0x{data[error.start]:02x} is not valid UTF-8", help="save the file as UTF-8")
        raise _Stop from None
    text = text.removeprefix("\ufeff")
    if found := _FORBIDDEN.search(text):
        name = "NUL" if found[0] == "\0" else f"U+{ord(found[0]):04X}"
        report.error(_position(file, text[: found.start()]), f"the control character {name} is not allowed",
                     help='inside double quotes it can be written as an escape, as "\\x07"')
        raise _Stop
    return text


def _position(file: str, before: str) -> Position:
    """Where the text after `before` starts."""
    lines = LINE_BREAK.split(before)
    return Position(file, len(lines), len(lines[-1]) + 1)


@dataclass(slots=True)
class _Anchor:
    """An anchored node with what it expands to; `node` is None while it is being read."""

    pos: Position
    node: Node | None = None
    size: int = 0
    depth: int = 0


class _Reader:
    """Pulls events and builds nodes. `_size` counts nodes with aliases expanded."""

    def __init__(self, file: str, text: str, report: Report) -> None:
        self._file = file
        self._text = text
        self._report = report
        self._anchors: dict[str, _Anchor] = {}
        self._depth = 0
        self._deepest = 0
        self._size = 0
        self._aliased = 0

    def documents(self) -> list[Node]:
        roots = []
        try:
            parser = _Parser(self._text)
            self._next = parser.get_event
            while not isinstance(event := self._next(), yaml.StreamEndEvent):
                if isinstance(event, yaml.DocumentStartEvent):
                    self._anchors.clear()
                    root = self._node(self._next())
                    if not (isinstance(root, Scalar) and root.is_null):
                        roots.append(root)
        except yaml.YAMLError as error:
            explain_yaml_error(error, self._file, self._text, self._report)
            raise _Stop from None
        return roots

    def _at(self, mark: Any) -> Position:
        return Position(self._file, mark.line + 1, mark.column + 1)

    def _fail(self, pos: Position, message: str, **more: Any) -> _Stop:
        self._report.error(pos, message, **more)
        return _Stop()

    def _node(self, event: Any) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        pos = self._at(event.start_mark)
        if event.tag is not None:
            raise self._fail(pos, f"tags ({event.tag}) are not part of the rule language",
                             help="quote the value if the exclamation mark belongs to it")
        anchor = self._open_anchor(event, pos)
        outer_deepest, before = self._deepest, self._size
        self._size += 1
        self._deepest = self._depth
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(pos, event.value, event.implicit[0])
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(pos)
        else:
            node = self._mapping(pos)
        if anchor is not None:
            anchor.node = node
            anchor.size = self._size - before
            anchor.depth = self._deepest - self._depth
        self._deepest = max(outer_deepest, self._deepest)
        return node

    def _open_anchor(self, event: Any, pos: Position) -> _Anchor | None:
        if event.anchor is None:
            return None
        anchor = self._anchors[event.anchor] = _Anchor(pos)
        return anchor

    def _alias(self, event: Any) -> Node:
        pos = self._at(event.start_mark)
        anchor = self._anchors.get(event.anchor)
        if anchor is None:
            raise self._fail(pos, f"no anchor &{event.anchor} before this alias",
                             help=f'if *{event.anchor} is meant as text, quote it: "*{event.anchor}"')
        if anchor.node is None:
            raise self._fail(pos, f"*{event.anchor} stands inside its own anchor",
                             notes=[(anchor.pos, "the anchor is here")])
        self._size += anchor.size
        self._aliased += anchor.size
        self._deepest = max(self._deepest, self._depth + anchor.depth)
        if self._aliased > MAX_ALIASED_NODES:
            raise self._fail(pos, f"the aliases of this file expand to more than {MAX_ALIASED_NODES:,} values")
        if self._deepest > MAX_DEPTH:
            raise self._fail(pos, f"values are nested more than {MAX_DEPTH} deep here")
        return anchor.node

    def _enter(self, pos: Position) -> None:
        self._depth += 1
        self._deepest = max(self._deepest, self._depth)
        if self._depth > MAX_DEPTH:
            raise self._fail(pos, f"values are nested more than {MAX_DEPTH} deep here")

    def _sequence(self, pos: Position) -> Sequence:
        self._enter(pos)
        items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event))
        self._depth -= 1
        return Sequence(pos, tuple(items))

    def _mapping(self, pos: Position) -> Mapping:
        self._enter(pos)
        entries: list[tuple[Scalar, Node]] = []
        seen: dict[str, Scalar] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event)
            first = seen.setdefault(key.text, key)
            if first is not key:
                self._report.error(key, f'the key "{key.text}" stands here twice', code="duplicate-key",
                                   notes=[(first.pos, "it is first given here")])
            value = self._node(self._next())
            if first is key:
                entries.append((key, value))
        self._depth -= 1
        return Mapping(pos, tuple(entries))

    def _key(self, event: Any) -> Scalar:
        key = self._node(event)
        if not isinstance(key, Scalar):
            raise self._fail(key.pos, "a list or mapping cannot be a key",
                             help="quote it if it starts with [ or { but is meant as text")
        if key.plain and key.text == "<<":
            raise self._fail(key.pos, "merge keys (<<) are not part of the rule language",
                             help="write the keys out, or put them under defaults")
        if key.plain and not key.text:
            raise self._fail(key.pos, "a key is missing before this colon")
        return key
