"""Why an exchange is treated as it is: phase by phase, what each rule did or why it did nothing.

Verdicts come from the compiled set; the interpreter is asked only why a rule missed. Where the two disagree the
compiler has a bug, which is said as an internal error instead of a plausible story.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields

from rulesproxy.compiler.emit import emitted_phases
from rulesproxy.compiler.interpret import Outcome as Interpreted
from rulesproxy.compiler.interpret import first_failure, holds, interpret
from rulesproxy.compiler.ir import All, Not, Predicate, Rule
from rulesproxy.compiler.outcome import Outcome, View
from rulesproxy.compiler.source import Position
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.runtime.decision import Decision
from rulesproxy.runtime.edits import Edit
from rulesproxy.runtime.facts import Facts, HttpFacts
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import MESSAGE_PHASES, Phase, Slot, spoken

#: With at most so many rules in a phase every miss is told, else only near ones.
FEW = 12
_LONG = 160


class Verdict(enum.StrEnum):
    ACTED = "acted"
    OVERRULED = "overruled"
    WAITED = "waited"  # it needs a body that was not to be had
    FAILED = "failed"
    NOT_ASKED = "not asked"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One rule in one phase. `why` says what failed, or who has the slot; `near`: only one condition was missing."""

    rule: str
    pos: Position
    verdict: Verdict
    why: str = ""
    near: bool = False


@dataclass(frozen=True, slots=True)
class PhaseStory:
    """One phase: every rule that could act in it, in order, and the effects that won."""

    phase: Phase
    verdicts: tuple[RuleVerdict, ...]
    effects: tuple[str, ...]

    @property
    def shown(self) -> tuple[RuleVerdict, ...]:
        """Without misses that are not near, unless there are few rules."""
        if len(self.verdicts) <= FEW:
            return self.verdicts
        return tuple(v for v in self.verdicts if v.near or v.verdict is not Verdict.MISSED)


@dataclass(frozen=True, slots=True)
class Explanation:
    """`disagreements` are internal errors: the compiled rules and the interpreter differ."""

    phases: tuple[PhaseStory, ...]
    disagreements: tuple[str, ...] = ()


def explain(rules: Sequence[Rule], outcome: Outcome) -> Explanation:
    """Tell the story of a simulated exchange. `rules` in the order of their files."""
    ordered = sorted((rule for rule in rules if rule.enabled), key=lambda rule: -rule.priority)
    stories, disagreements = [], []
    for view in outcome.views:
        in_phase = [rule for rule in ordered if view.phase in emitted_phases(rule) and rule.effects_in(view.phase)]
        if view.phase is Phase.TLS:
            stories.append(_tls_story(in_phase, view, outcome))
            continue
        # A template may draw other numbers in the interpreter; nothing that is compared here depends on them.
        interpreted = interpret(ordered, view.phase, view.facts, ready=_ready(view),
                                acted_before=outcome.acted.get(Phase.REQUEST, ()))
        disagreements += _disagreements(view, interpreted)
        verdicts = tuple(_verdict(rule, view, outcome) for rule in in_phase)
        stories.append(PhaseStory(view.phase, verdicts, tuple(_effects(view.decision))))
    return Explanation(tuple(stories), tuple(disagreements))


def _ready(view: View) -> bool:
    x = view.facts
    if not isinstance(x, HttpFacts) or view.phase in MESSAGE_PHASES:
        return True
    return x.request_ready if view.phase is Phase.REQUEST else x.response_ready


def _disagreements(view: View, interpreted: Interpreted) -> list[str]:
    decision = view.decision or Decision()
    if decision.failure is not None or interpreted.failed is not None:
        return []
    compiled = ([rule.name for rule in decision.acted], [rule.name for rule, _, _ in decision.lost])
    read = (interpreted.acted, interpreted.overruled)
    if compiled == read:
        return []
    return [f"{spoken((view.phase,))[0]}: compiled rules say acted {compiled[0]}, overruled {compiled[1]}; "
            f"the interpreter says {read[0]}, {read[1]}"]


# --- one rule --------------------------------------------------------------------------------------------------------


def _verdict(rule: Rule, view: View, outcome: Outcome) -> RuleVerdict:
    decision = view.decision or Decision()
    if any(info.name == rule.name for info in decision.acted):
        return RuleVerdict(rule.name, rule.pos, Verdict.ACTED)
    for info, slot, winner in decision.lost:
        if info.name == rule.name:
            return RuleVerdict(rule.name, rule.pos, Verdict.OVERRULED, f"{winner.name} has the {_slot(slot)}")
    if any(info.name == rule.name for info in decision.waiting):
        return RuleVerdict(rule.name, rule.pos, Verdict.WAITED, "it needs a body that cannot be read")
    for info, exc in outcome.failures:
        if info.name == rule.name:
            return RuleVerdict(rule.name, rule.pos, Verdict.FAILED, str(exc))
    why = _why(rule, view)
    if why is None:
        ended = decision.acted[-1].name if decision.acted else "an earlier rule"
        return RuleVerdict(rule.name, rule.pos, Verdict.NOT_ASKED, f"{ended} ended the list")
    return RuleVerdict(rule.name, rule.pos, Verdict.MISSED, why, _is_near(rule, view.facts))


def _why(rule: Rule, view: View) -> str | None:
    """Why the rule did not match; None when it did."""
    x = view.facts
    effects = rule.effects_in(view.phase)
    if view.phase is Phase.RESPONSE and any(e.kind != "pass" for e in rule.effects_in(Phase.REQUEST)):
        if isinstance(x, HttpFacts) and any(info.name == rule.name for info in x.acted):
            return None
        return "it did not act on the request"
    why = first_failure(rule.match, x)
    if why is not None:
        return why
    if rule.unless is not None and holds(rule.unless, x):
        return "its unless holds"
    for effect in effects:
        if effect.requires is not None and (why := first_failure(effect.requires, x)) is not None:
            return why
    return None


def _is_near(rule: Rule, x: Facts) -> bool:
    """One condition of several is missing."""
    conditions: list[Predicate] = list(rule.match.items) if isinstance(rule.match, All) else [rule.match]
    if rule.unless is not None:
        conditions.append(Not(rule.unless))
    missing = sum(not holds(condition, x) for condition in conditions)
    return missing == 1 and len(conditions) > 1


def _tls_story(rules: Sequence[Rule], view: View, outcome: Outcome) -> PhaseStory:
    """TLS is decided by a walk of its own (rule-language 5.1), from what is certain and what is possible."""
    verdicts = []
    for rule in rules:
        why = _why(rule, view)
        if rule.name in outcome.acted.get(Phase.TLS, ()):
            verdicts.append(RuleVerdict(rule.name, rule.pos, Verdict.ACTED))
        elif why is None:
            by = outcome.tls_rule or "an earlier rule"
            verdicts.append(RuleVerdict(rule.name, rule.pos, Verdict.OVERRULED, f"{by} settled it first"))
        else:
            verdicts.append(RuleVerdict(rule.name, rule.pos, Verdict.MISSED, why, _is_near(rule, view.facts)))
    effects = []
    if outcome.tls is not None:
        reason = f" (rule {outcome.tls_rule})" if outcome.tls_rule else ": no rule needs it decrypted"
        effects.append({TlsVerdict.INTERCEPT: "decrypted", TlsVerdict.RELAY: "relayed untouched",
                        TlsVerdict.REFUSE: "refused"}[outcome.tls] + reason)
    return PhaseStory(Phase.TLS, tuple(verdicts), tuple(effects))


# --- effects ---------------------------------------------------------------------------------------------------------


def _effects(decision: Decision | None) -> list[str]:
    """What was decided, a line each, in the order in which it is applied."""
    if decision is None:
        return []
    told = [f"{rule.name}: {describe(note)}" for rule, note in decision.notes]
    told += _edits(decision.edits)
    for slot, op in ((Slot.ANSWER, decision.answer), (Slot.ROUTE, decision.route), (Slot.VIA, decision.via),
                     (Slot.NAME, decision.name), (Slot.DROP, decision.drop), (Slot.CLOSE, decision.close)):
        if op is not None:
            told.append(f"{_slot(slot)}: {describe(op)} (rule {decision.winners[slot].name})")
    if decision.failure is not None:
        rule, why, status = decision.failure
        told.append(f"refused with {status}: {why} (rule {rule.name})")
    return told


def _edits(edits: Sequence[Edit]) -> list[str]:
    """Edits, those marked that lose because an earlier one owns the field (rule-language 4.4)."""
    owned: set[tuple[str, str, str]] = set()
    told = []
    for edit in edits:
        name = edit.name.lower() if edit.field == "header" else edit.name
        key = (edit.message, edit.field, name)
        what = " ".join(part for part in (edit.message, edit.field, name, edit.op) if part)
        value = "" if edit.value is None else f" {_cut(repr(edit.value))}"
        lost = edit.op in ("set", "remove", "file") and key in owned
        if edit.op in ("set", "remove", "file"):
            owned.add(key)
        told.append(f"edit: {what}{value}" + (" (dropped: an earlier rule owns the field)" if lost else ""))
    return told


def describe(op: Op) -> str:
    """An operation with the fields that differ from their defaults; passwords are none of a reader's business."""
    shown = []
    for item in fields(op):
        value = getattr(op, item.name)
        if not item.repr:
            continue
        if item.default is MISSING or value != item.default:
            shown.append(f"{item.name}={_cut(repr(value))}")
    return f"{type(op).__name__}({', '.join(shown)})"


def _slot(slot: Slot) -> str:
    return (slot.name or "slot").lower()


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
