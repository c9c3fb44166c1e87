"""What a matcher or action file is given while it builds: where mistakes go, variables, sets, files, captures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.inputs import Inputs, reason, relative_to
from rulesproxy.compiler.ir import ALWAYS
from rulesproxy.compiler.predicates import Captures, build_predicate
from rulesproxy.compiler.source import Node, Position, Scalar
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.compiler.variables import expand_vars
from rulesproxy.runtime.phase import ALL_PHASES, Phase

if TYPE_CHECKING:
    from rulesproxy.compiler.ir import Leaf, Predicate


class Context:
    """One per rule. `captures` and `visible` describe the rule's match and are set before its actions are built."""

    def __init__(self, report: Report, inputs: Inputs, *, vars: Mapping[str, str] | None = None,
                 sets: Mapping[str, frozenset[str]] | None = None, rule_name: str = "") -> None:
        self.report = report
        self.inputs = inputs
        self.vars: Mapping[str, str] = {} if vars is None else vars
        self.sets: Mapping[str, frozenset[str]] = {} if sets is None else sets
        self.rule_name = rule_name
        #: The keys of `match` and `unless` with the phases in which each can be seen, as far as they are built.
        self.keys: list[tuple[Scalar, frozenset[Phase]]] = []
        #: Phases in which all keys of the rule can be seen.
        self.visible: frozenset[Phase] = ALL_PHASES
        #: The rule's match, for actions that continue what it says (`map_remote` and the matched path).
        self.match: Predicate = ALWAYS
        self._captures = Captures()
        self._reported: set[Position] = set()

    def see_match(self, match: Predicate, captures: Captures, visible: frozenset[Phase]) -> None:
        """What actions may use, known once `match` and `unless` are built."""
        self.match = match
        self._captures = captures
        self.visible = visible

    def unseen_key(self, phase: Phase) -> Scalar | None:
        """The first key of the rule's match that cannot be seen in `phase`."""
        return next((key for key, phases in self.keys if phase not in phases), None)

    @property
    def captures(self) -> Mapping[str, tuple[Leaf, ...]]:
        """Capture name (`path.id`, `match.1`) → the leaves that provide it, one per branch of an `any`."""
        return self._captures.usable

    def why_no_capture(self, name: str) -> str:
        """Why `name` is not among `captures` although some key gives it; empty when no key does."""
        return self._captures.reasons.get(name, "")

    def error(self, at: Node | Position, message: str, *, help: str = "",
              notes: Sequence[tuple[Position, str]] = (), code: str = "") -> None:
        """Report a mistake. Of several at one place the first is kept: the others mostly follow from it."""
        pos = at if isinstance(at, Position) else at.pos
        if pos not in self._reported:
            self._reported.add(pos)
            self.report.error(pos, message, help=help, notes=notes, code=code)

    def warning(self, code: str, at: Node | Position, message: str, *, help: str = "",
                notes: Sequence[tuple[Position, str]] = ()) -> None:
        self.report.warning(code, at, message, help=help, notes=notes)

    def match_text(self, node: Scalar) -> str:
        """Text of a match: `${vars.x}` expanded literally, before any pattern is read (rule-language 3.4)."""
        return expand_vars(node, self.vars, self)

    def file_path(self, node: Scalar) -> str:
        """The absolute path of a file named in the rules; relative names start at the rule file's folder."""
        return os.path.abspath(self._path(node))

    def absolute_path(self, node: Scalar, text: str) -> str:
        """The absolute path of `text`, a part of what the node says with its variables expanded already."""
        return os.path.abspath(relative_to(node.pos.file, text))

    def read_file(self, node: Scalar) -> bytes | None:
        """The content of a file named in the rules; it becomes one of the rules' inputs. None after an error."""
        path = self._path(node)
        try:
            return self.inputs.read(path)
        except OSError as error:
            self.error(node, f"cannot read {path}: {reason(error)}", code="missing-file",
                       help="names are relative to the folder of the rule file")
        return None

    def _path(self, node: Scalar) -> str:
        return relative_to(node.pos.file, expand_vars(node, self.vars, self, "in a file name"))

    def set_values(self, node: Scalar) -> frozenset[str] | None:
        """The entries of the named set, as written; None after an error."""
        name = self.match_text(node)
        if name in self.sets:
            return self.sets[name]
        self.error(node, f"no set {name}", code="unknown-set",
                   help=did_you_mean(name, self.sets) or "sets are defined under sets: at the top of a file")
        return None

    def unit_predicate(self, node: Node) -> Predicate | None:
        """A nested match: all keys of the mapping together. None after an error."""
        return build_predicate(node, self)
