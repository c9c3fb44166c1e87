"""Finds the rule files: the paths given, then what they include, each read once, in the order of rule-language 1.3.

A file's own rules come first, then its includes in the order listed. A plain name must exist; what a folder or a glob
finds may come and go.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from rulesproxy.compiler import source
from rulesproxy.compiler.diagnostics import Diagnostic, Report
from rulesproxy.compiler.inputs import Inputs, digest, is_glob, reason, relative_to
from rulesproxy.compiler.schema import validate
from rulesproxy.compiler.shape import Verdict
from rulesproxy.compiler.source import Mapping, Node, Position, Scalar
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.compiler.variables import expand_vars

_SHARED = ("include", "vars", "sets", "profiles")


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One YAML document that is a mapping, and which parts of it have the right shape."""

    root: Mapping
    verdict: Verdict

    def get(self, key: str) -> Node | None:
        """The value of a file key if it is there and well-formed."""
        return self.root.get(key) if self.verdict.good(key) else None

    def items(self, key: str) -> list[Node]:
        """The well-formed items of `rules` or `tests`."""
        node = self.get(key)
        if not isinstance(node, source.Sequence):
            return []
        return [item for index, item in enumerate(node.items) if self.verdict.good(key, index)]


@dataclass(frozen=True, slots=True, eq=False)
class SourceFile:
    """A file that was read and judged; the same object as long as its content is the same."""

    path: str
    digest: str
    documents: tuple[Document, ...]
    diagnostics: tuple[Diagnostic, ...]

    @property
    def complete(self) -> bool:
        """True if everything the file defines for all files could be read."""
        readable = bool(self.documents) or not self.diagnostics
        return readable and all(document.verdict.good(key) for document in self.documents for key in _SHARED)


@dataclass(slots=True)
class ParseCache:
    """Parsed and judged files by path and digest. Those of the last build are kept, others dropped."""

    files: dict[tuple[str, str], SourceFile] = field(default_factory=dict)

    def keep(self, files: Sequence[SourceFile]) -> None:
        self.files = {(file.path, file.digest): file for file in files}


@dataclass(slots=True)
class Loader:
    """Collects `files` in order."""

    inputs: Inputs
    report: Report
    cache: ParseCache
    files: list[SourceFile] = field(default_factory=list)
    #: False when a file, or what it defines, could not be read: names may be unknown only because of that
    complete: bool = True
    sources: dict[str, bytes] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    #: files being read, outermost first, with the include that named them
    _open: list[tuple[str, Position]] = field(default_factory=list)

    def load(self, paths: Sequence[str]) -> None:
        """Read the files and folders named by the user, and everything they include."""
        for path in map(os.path.normpath, paths):
            nowhere = Position(path, 1, 1)
            if self.inputs.is_dir(path):
                for found in self.inputs.folder(path):
                    self._file(found, nowhere, named=False)
            else:
                self._file(path, nowhere, named=True)

    def _file(self, path: str, at: Position, *, named: bool) -> None:
        """`at` is where the file is named."""
        for index, (name, _) in enumerate(self._open):
            if named and name == path:
                self._cycle(index, at)
        if path in self._seen:
            return
        self._seen.add(path)
        try:
            data = self.inputs.read(path)
        except OSError as error:
            if named or not isinstance(error, FileNotFoundError):
                self._unreadable(path, at, error)
            return
        self.sources[path] = data
        file = self._parsed(path, data)
        for diagnostic in file.diagnostics:
            self.report.add(diagnostic)
        if named and not file.documents and not file.diagnostics:
            self.report.error(Position(path, 1, 1), "the file is empty", help='start it with "version: 1"')
        self.files.append(file)
        self.complete = self.complete and file.complete
        self._open.append((path, at))
        for document in file.documents:
            self._includes(document)
        self._open.pop()

    def _unreadable(self, path: str, at: Position, error: OSError) -> None:
        self.complete = False
        missing = isinstance(error, FileNotFoundError)
        help = did_you_mean(path, self.inputs.neighbours(path)) if missing else ""
        self.report.error(at, f"cannot read {path}: {reason(error)}", code="missing-file", help=help)

    def _cycle(self, index: int, at: Position) -> None:
        chain = [name for name, _ in self._open[index:]]
        notes = [(place, f"{name} is included here") for name, place in self._open[index + 1 :]]
        self.report.error(at, f"this include leads back: {' → '.join([*chain, chain[0]])}", code="include-cycle",
                          notes=notes, help="each file is read once; leave this include out")

    def _parsed(self, path: str, data: bytes) -> SourceFile:
        key = (path, digest(data))
        file = self.cache.files.get(key)
        if file is None:
            report = Report()
            roots = source.parse(path, data, report)
            documents = [Document(root, validate(root, report)) for root in roots if _is_mapping(root, report)]
            if documents and "version" not in documents[0].root:
                report.error(documents[0].root, 'the first document of a file needs "version: 1"', code="missing-key")
            file = self.cache.files[key] = SourceFile(*key, tuple(documents), tuple(report.diagnostics))
        return file

    def _includes(self, document: Document) -> None:
        node = document.get("include")
        names = node.items if isinstance(node, source.Sequence) else () if node is None else (node,)
        for name in names:
            if isinstance(name, Scalar):
                self._include(name)

    def _include(self, node: Scalar) -> None:
        path = relative_to(node.pos.file, expand_vars(node, {}, self.report, "in an include"))
        if is_glob(path):
            found = self.inputs.glob(path)
            if not found:
                self.report.warning("empty-include", node, f"no file matches {path}")
        elif self.inputs.is_dir(path):
            found = self.inputs.folder(path)
        else:
            self._file(path, node.pos, named=True)
            return
        for name in found:
            self._file(name, node.pos, named=False)


def _is_mapping(root: Node, report: Report) -> TypeGuard[Mapping]:
    if not isinstance(root, Mapping):
        report.error(root, "a rule file is a mapping with keys such as version and rules",
                     help='start it with "version: 1"')
    return isinstance(root, Mapping)
