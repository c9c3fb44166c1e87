"""The reference interpreter: the rule language read straight from the IR, as plainly as possible and as slow as it is.

It is the oracle for compiled rules. Leaf predicates are shared with them (they have tables of their own); order,
slots and waiting are written here a second time, on purpose and without any index. (Edits are composed in `runtime`;
the tests have a second composition of their own.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rulesproxy.compiler.emit import evaluate
from rulesproxy.compiler.ir import All, AnyOf, Effect, Not, Predicate, Rule
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot
from rulesproxy.runtime.ruleset import TemplateError


@dataclass(slots=True)
class Outcome:
    """What the rules want of one phase, by name so that it can be compared with a `Decision`."""

    slots: dict[Slot, Op] = field(default_factory=dict)
    winners: dict[Slot, str] = field(default_factory=dict)
    edits: list[Op] = field(default_factory=list)
    notes: list[Op] = field(default_factory=list)
    acted: list[str] = field(default_factory=list)
    overruled: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    #: a response rule that may match wants to read the response body
    reads_response: bool = False
    #: the rule that raised where that refuses the exchange; others that raise count as not matched
    failed: str | None = None


def holds(predicate: Predicate, x: Any) -> bool:
    match predicate:
        case All(items):
            return all(holds(item, x) for item in items)
        case AnyOf(items):
            return any(holds(item, x) for item in items)
        case Not(item):
            return not holds(item, x)
        case _:
            return predicate.holds(x)


def first_failure(predicate: Predicate, x: Any) -> str | None:
    """Why a predicate does not hold: the first conjunct that fails, in words. None when it holds."""
    match predicate:
        case All(items):
            return next((why for item in items if (why := first_failure(item, x)) is not None), None)
        case AnyOf(items):
            whys = [first_failure(item, x) for item in items]
            return None if None in whys else "none of: " + "; ".join(str(why) for why in whys)
        case Not(item):
            return "an excluded condition holds" if holds(item, x) else None
        case _:
            return None if predicate.holds(x) else predicate.describe_miss(x)


def interpret(rules: Sequence[Rule], phase: Phase, x: Any, *, ready: bool, acted_before: Sequence[str] = ()) -> Outcome:
    """Decide one phase. `rules` in the order written over all files; `ready`: the phase's body is complete;
    `acted_before`: the rules that took effect in the request phase, for the response phase.
    """
    outcome = Outcome()
    for rule in sorted((rule for rule in rules if rule.enabled), key=lambda rule: -rule.priority):
        if phase is Phase.REQUEST and not rule.effects_in(phase):
            _look_ahead(rule, x, ready, outcome)
        elif _takes_effect(rule, phase, x, ready, acted_before, outcome) and (rule.stop or _passes(rule, phase)):
            break
        if outcome.failed is not None:
            break
    return outcome


def _look_ahead(rule: Rule, x: Any, ready: bool, outcome: Outcome) -> None:
    """A rule that acts on the response only, and reads a body for it: the request phase has to see to that."""
    later = rule.effects_in(Phase.RESPONSE)
    if _may_hold(rule.predicate, x) is False:
        return
    if any(effect.reads_request_body for effect in later) and not ready:
        outcome.waiting.append(rule.name)
    if any(effect.reads_response_body for effect in later):
        outcome.reads_response = True


def _may_hold(predicate: Predicate, x: Any) -> bool | None:
    """The truth at the request; None where only the response can tell."""
    match predicate:
        case All(items):
            values = [_may_hold(item, x) for item in items]
            return False if False in values else None if None in values else True
        case AnyOf(items):
            values = [_may_hold(item, x) for item in items]
            return True if True in values else None if None in values else False
        case Not(item):
            value = _may_hold(item, x)
            return None if value is None else not value
        case _:
            return predicate.holds(x) if Phase.REQUEST in predicate.PHASES else None


def _takes_effect(rule: Rule, phase: Phase, x: Any, ready: bool, acted_before: Sequence[str],
                  outcome: Outcome) -> bool:
    effects = rule.effects_in(phase)
    acts_on_request = any(effect.kind != "pass" for effect in rule.effects_in(Phase.REQUEST))
    if phase is Phase.RESPONSE and acts_on_request:
        matched = rule.name in acted_before
    else:
        matched = holds(rule.predicate, x) if effects else False
    if not matched or not effects or not all(holds(e.requires, x) for e in effects if e.requires is not None):
        return False
    wanted = {effect.slot for effect in effects if effect.kind == "slot" and effect.slot is not None}
    if phase is Phase.DNS and wanted & {Slot.ANSWER, Slot.NAME}:
        if Slot.ANSWER in wanted and x.own:
            return False
        wanted |= {Slot.ANSWER, Slot.NAME}
    if wanted & set(outcome.winners):
        outcome.overruled.append(rule.name)
        return False
    if not ready and _reads_body(rule, effects, phase, x):
        outcome.waiting.append(rule.name)
        return False
    try:
        operations = [(effect, evaluate(effect, x)) for effect in effects if effect.kind != "pass"]
    except Exception as exc:  # the compiled rule raises the same
        if isinstance(exc, TemplateError) or _refuses_on_error(rule):
            outcome.failed = rule.name
        return False
    outcome.acted.append(rule.name)
    outcome.winners.update(dict.fromkeys(wanted, rule.name))
    for effect, operation in operations:
        if effect.kind == "slot" and effect.slot is not None:
            outcome.slots[effect.slot] = operation
        else:
            (outcome.edits if effect.kind == "edit" else outcome.notes).append(operation)
    if _passes(rule, phase):
        for slot in Slot.ALL:
            outcome.winners.setdefault(slot, rule.name)
    if phase is Phase.REQUEST and any(effect.reads_response_body for effect in rule.effects_in(Phase.RESPONSE)):
        outcome.reads_response = True
    return True


def _refuses_on_error(rule: Rule) -> bool:
    """Whether the exchange is refused when the rule itself fails (rule-language 4.8)."""
    if rule.on_error is not None:
        return rule.on_error == "refuse"
    return any(effect.op.__name__ in ("Block", "BlockMessage") or dict(effect.args).get("verdict") == "refuse"
               for effect in rule.effects)


def _reads_body(rule: Rule, effects: Sequence[Effect], phase: Phase, x: Any) -> bool:
    # A body that is only replaced need not be readable once it is over.
    if phase is Phase.REQUEST:
        return any(effect.reads_request_body and not (effect.replaces_body and x.request_over)
                   for effect in rule.effects)
    return phase is Phase.RESPONSE and any(
        effect.reads_response_body and not (effect.replaces_body and x.response_over) for effect in effects)


def _passes(rule: Rule, phase: Phase) -> bool:
    return any(effect.kind == "pass" for effect in rule.effects_in(phase))
