"""A decision: what the rules want of one phase of one exchange, as data.

Matching fills it, nothing has an effect until it is applied. So all rules of a phase see the same snapshot, a rule
acts whole or not at all, and one object explains what happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rulesproxy.runtime.phase import Slot

if TYPE_CHECKING:
    from rulesproxy.runtime.edits import Edit
    from rulesproxy.runtime.op import Op


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """What is known of a rule at run time: its name, where it stands, its place in the one ordered list."""

    name: str
    file: str
    line: int
    column: int
    order: int
    #: Its effect on an error inside it: refuse the exchange, or skip the rule (rule-language 4.8).
    refuses: bool = False

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Decision:
    """Slots are filled by `act`; edits compose later (rule-language 4.4)."""

    __slots__ = ("acted", "answer", "edits", "name", "notes", "overruled_rules", "reads_response", "route", "slots",
                 "stopped", "tls", "via", "winners")

    def __init__(self) -> None:
        self.slots = 0
        self.stopped = False
        self.answer: Op | None = None
        self.route: Op | None = None
        self.via: Op | None = None
        self.tls: Op | None = None
        self.name: Op | None = None
        self.edits: tuple[Edit, ...] = ()
        #: delay, tag, log: they neither compete nor compose
        self.notes: tuple[Op, ...] = ()
        #: rules that took effect, in order
        self.acted: list[RuleInfo] = []
        #: (rule, slots it lost, the winner of the first of them)
        self.overruled_rules: list[tuple[RuleInfo, Slot, RuleInfo | None]] = []
        self.winners: dict[int, RuleInfo] = {}
        #: a response rule that may match wants to read the response body
        self.reads_response = False

    def act(self, rule: RuleInfo, slots: int = 0) -> None:
        """`rule` takes effect and owns `slots`, which must be free."""
        self.acted.append(rule)
        if slots:
            self.slots |= slots
            for slot in Slot(slots):
                self.winners[slot] = rule

    def overrule(self, rule: RuleInfo, slots: int) -> None:
        """`rule` matched but one of `slots` is taken: none of its effects apply."""
        lost = Slot(self.slots & slots)
        self.overruled_rules.append((rule, lost, next((self.winners.get(slot) for slot in lost), None)))

    def leave(self, rule: RuleInfo) -> None:
        """`pass`: every slot still empty is left alone, and lower rules are not asked."""
        self.act(rule, Slot.ALL & ~self.slots)
        self.stopped = True

    @property
    def wants_body(self) -> bool:
        """True if an edit has to read the body it changes."""
        return any(edit.reads_body for edit in self.edits) or self._op_reads_body()

    def _op_reads_body(self) -> bool:
        return any(op is not None and op.reads_body for op in (self.answer, self.route))

    def owner(self, slot: Slot) -> RuleInfo | None:
        return self.winners.get(slot)

    def __bool__(self) -> bool:
        return bool(self.acted) or self.reads_response

    def __repr__(self) -> str:
        shown: dict[str, Any] = {name: getattr(self, name) for name in ("answer", "route", "tls", "name", "edits", "notes")}
        return f"Decision({', '.join(f'{k}={v!r}' for k, v in shown.items() if v)})"
