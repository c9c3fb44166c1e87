"""`map_local`: answer with a file, or with the files of a folder (rule-language 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.destination import flag, path_bases
from rulesproxy.compiler.effects import answer_phases, effect
from rulesproxy.compiler.header_text import build_headers, with_no_store
from rulesproxy.compiler.ir import Effect, Leaf, Test, Value
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Place, Template, parse_template
from rulesproxy.compiler.writer import literal
from rulesproxy.model.effects import LocalFile
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.local_path import path_below
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import HTTP_PHASES, Phase, Slot

if TYPE_CHECKING:
    from rulesproxy.compiler.writer import Module

KEY = "map_local"
SUMMARY = "Answer with a local file, or with files of a folder. The content is read per request."
EXAMPLE = """\
version: 1
rules:
  - name: local-assets
    match: {host: cdn.shop.test, path: /assets/**}
    action: {map_local: ./assets}
    tests:
      - request: GET http://cdn.shop.test/assets/app.css
        expect: {rule: local-assets, sent: nothing}
      - request: GET http://cdn.shop.test/other
        expect: {no_rule: local-assets}
"""
SCHEMA: dict[str, Any] = {
    "title": "map_local",
    "description": "A file or folder, or a mapping with `path`. Relative names start at the rule file's folder.",
    "type": ["object", "string"],
    "properties": {
        "path": {"$ref": "#/$defs/text", "description": "A file; or a folder, in which the rest of the path is found."},
        "fallthrough": {"description": "Only answer when the file exists; default false: then it is a 404.",
                        "type": "boolean"},
        "status": {"description": "Default 200.", "type": "integer", "minimum": 200, "maximum": 599},
        "headers": {"description": "Fields to add.", "type": "object",
                    "additionalProperties": {"$ref": "#/$defs/texts"}},
    },
    "required": ["path"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class MapLocal(Op):
    """`path` below `root`; the core opens it, because rules open no files."""

    SLOT: ClassVar[Slot] = Slot.ANSWER

    root: str
    path: str
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        subject.local_file = LocalFile(self.root, self.path, rule.name if rule is not None else "", self.status,
                                       self.headers)


@dataclass(frozen=True, slots=True)
class BelowBase(Value):
    """The part of the request path below the matched base, decoded: where a file stands in a folder."""

    bases: tuple[str, ...]

    def render(self, x: Any) -> str:
        return path_below(x.path, self.bases)

    def emit(self, module: Module) -> str:
        return f"{module.use('rulesproxy.runtime.local_path', 'path_below')}(x.path, {literal(self.bases)})"


@dataclass(frozen=True, slots=True)
class FileExists(Leaf):
    """`fallthrough: true`: the file's existence is part of the match."""

    PHASES: ClassVar[frozenset[Phase]] = HTTP_PHASES

    root: str = ""
    path: str | Value = ""

    def holds(self, x: Any) -> bool:
        path = self.path.render(x) if isinstance(self.path, Value) else self.path
        return x.files is not None and x.files.exists(self.root, path)

    def emit(self, module: Module) -> Test:
        path = self.path.emit(module) if isinstance(self.path, Value) else literal(self.path)
        return Test(f"x.files is not None and x.files.exists({literal(self.root)}, {path})")


def build(node: Node, context: Context) -> list[Effect]:
    fields: dict[str, Node] = {key.text: value for key, value in node} if isinstance(node, Mapping) else {"path": node}
    target = fields.get("path")
    if not isinstance(target, Scalar):
        return []
    root, path = _root_and_path(target, context)
    args: dict[str, Any] = {"root": root, "path": path}
    status = fields.get("status")
    if isinstance(status, Scalar):
        args["status"] = status.value
        if status.value in (204, 205, 206, 304):
            context.error(status, f"a file cannot be the answer of a {status.value}")
    args["headers"] = with_no_store(build_headers(fields.get("headers"), context))
    requires = FileExists(node.pos, root, path) if flag(fields.get("fallthrough"), False) else None
    return [effect(context, node, MapLocal, args, phases=answer_phases(context), slot=Slot.ANSWER,
                   needs_plaintext=True, requires=requires)]


def _root_and_path(target: Scalar, context: Context) -> tuple[str, str | Value]:
    """A fixed name: whether it is a folder, in which the request path continues, or a file is seen per request. With
    templates: a file below the fixed folders in front."""
    text = parse_template(target, context, place=Place.FILE)
    if isinstance(text, str):
        return context.absolute_path(target, text), BelowBase(path_bases(context.match))
    first, *rest = text.parts
    if not isinstance(first, str):
        return context.absolute_path(target, "."), text
    fixed, slash, start = first.rpartition("/")
    folder = context.absolute_path(target, (fixed or "/") if slash else ".")
    return folder, Template(tuple(part for part in (start, *rest) if part != ""), Place.FILE)
