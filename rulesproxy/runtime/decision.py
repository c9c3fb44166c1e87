"""A decision: what the rules want of one phase of one exchange, as data.

Matching fills it, nothing has an effect until it is applied. So all rules of a phase see the same snapshot, a rule
acts whole or not at all, and one object explains what happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rulesproxy.runtime.phase import Slot

if TYPE_CHECKING:
    from rulesproxy.runtime.edits import Edit
    from rulesproxy.runtime.op import Op


@dataclass(frozen=True, slots=True, eq=False)
class RuleInfo:
    """What is known of a rule at run time: its name, where it stands, its place in the one ordered list."""

    name: str
    file: str
    line: int
    column: int
    order: int
    #: An error inside it refuses the exchange (its effect is to refuse anyway) or just skips it (rule-language 4.8).
    refuses_on_error: bool = False
    #: A body it needs and cannot have refuses the exchange, or skips the rule (rule-language 5.2).
    refuses_unreadable: bool = False

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


#: Mask of slots → the slots in it: iterating over a flag is too slow for every request.
_SLOTS_IN = tuple(tuple(Slot(mask)) for mask in range(Slot.ALL + 1))


class Decision:
    """Filled by generated code, in rule order. Edits compose when they are applied (rule-language 4.4)."""

    __slots__ = ("acted", "answer", "close", "drop", "edits", "failure", "lost", "name", "notes", "reads_response",
                 "route", "slots", "stopped", "tls", "via", "waiting", "winners")

    def __init__(self) -> None:
        self.slots = 0
        self.stopped = False
        self.answer: Op | None = None
        self.route: Op | None = None
        self.via: Op | None = None
        self.tls: Op | None = None
        self.name: Op | None = None
        self.drop: Op | None = None
        self.close: Op | None = None
        self.edits: tuple[Edit, ...] = ()
        #: delay, tag, log, messages to send: they neither compete nor compose
        self.notes: tuple[tuple[RuleInfo, Op], ...] = ()
        #: rules that took effect, in order
        self.acted: list[RuleInfo] = []
        #: overruled: (rule, the slot it lost, who has it)
        self.lost: list[tuple[RuleInfo, Slot, RuleInfo]] = []
        self.winners: dict[Slot, RuleInfo] = {}
        #: rules that match as far as the head tells and need the body to go on
        self.waiting: list[RuleInfo] = []
        #: a response rule that may match wants to read the response body
        self.reads_response = False
        #: the rule that failed, why the exchange must be refused for it, and with which status
        self.failure: tuple[RuleInfo, str, int] | None = None

    def act(self, rule: RuleInfo, slots: int = 0) -> None:
        """`rule` takes effect and owns `slots`, which must be free."""
        self.acted.append(rule)
        if slots:
            self.slots |= slots
            for slot in _SLOTS_IN[slots]:
                self.winners[slot] = rule

    def overrule(self, rule: RuleInfo, slots: int) -> None:
        """`rule` matched but one of `slots` is taken: none of its effects apply."""
        slot = _SLOTS_IN[self.slots & slots][0]
        self.lost.append((rule, slot, self.winners[slot]))

    def wait(self, rule: RuleInfo) -> None:
        """`rule` cannot go on before the body is complete: the phase is decided again then."""
        self.waiting.append(rule)

    def leave(self, rule: RuleInfo) -> None:
        """`pass`: every slot still empty is left alone, and lower rules are not asked."""
        self.act(rule, Slot.ALL & ~self.slots)
        self.stopped = True

    @property
    def is_empty(self) -> bool:
        return not (self.acted or self.waiting or self.reads_response or self.failure)
