"""Warnings: rules that compile but are hardly meant, each with a code, the place and what to do.

Only what is certain is said: a rule is *shadowed* when an earlier one holds whenever it does and takes what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from rulesproxy.compiler import ir
from rulesproxy.compiler.build import Build
from rulesproxy.compiler.decrypt import TLS_FACTS, decrypts_everything, needs_plaintext
from rulesproxy.compiler.diagnostics import Report
from rulesproxy.runtime.phase import MESSAGE_PHASES, PLAINTEXT_PHASES, REQUEST_PHASES, Phase, Slot

#: Rules with more keys than this are compared by all their keys and by each key alone only.
_MOST_KEYS = 8


def check(result: Build) -> None:
    """Add warnings to the report of a build without errors."""
    rules = [rule for rule in result.rules if rule.enabled]
    ordered = sorted(rules, key=lambda rule: -rule.priority)  # stable: position decides among equals
    for rule in rules:
        _check_alone(rule, result.report)
    _check_tested(result)
    _check_pairs(ordered, result.report)


# --- one rule ------------------------------------------------------------------------------------------------------


def _check_alone(rule: ir.Rule, report: Report) -> None:
    if rule.predicate == ir.ALWAYS and any(effect.slot is Slot.ANSWER for effect in rule.effects):
        verb = "blocks" if "block" in rule.actions else "answers"
        report.warning("empty-match", rule.pos, f'the rule "{rule.name}" has no match and {verb} everything',
                       help="give it a match, or set enabled: false while it is being written")
    if decrypts_everything(rule):
        report.warning("decrypts-everything", rule.pos,
                       f'the rule "{rule.name}" names no host, so all TLS is decrypted for it',
                       help="add host or domain, or run with --set decrypt=named")
    hidden = _hidden_key(rule)
    if hidden is not None:
        report.warning("not-decrypted", hidden.pos,
                       f'"{rule.name}" blocks by what only decrypted traffic shows, and decrypts none itself',
                       help="add a rule with tls: intercept for its hosts, or scheme: http if plain HTTP is meant"
                       if hidden.PHASES <= MESSAGE_PHASES else
                       "give status: 403 to have its hosts decrypted, or scheme: http if plain HTTP is meant")
    for leaf in _all_leaves(rule):
        if getattr(leaf, "unanchored", False):
            report.warning("unanchored-host", leaf.pos, "this host pattern also matches inside longer names",
                           help="anchor it with ^ and $, or use host or domain")


def _hidden_key(rule: ir.Rule) -> ir.Leaf | None:
    """The key that a bare block cannot see in TLS, which it never decrypts (rule-language 3.1)."""
    if "block" not in rule.actions or needs_plaintext(rule) or _plain_only(rule.match):
        return None
    if not rule.phases & PLAINTEXT_PHASES:
        return None  # datagrams are never encrypted for us
    return next((leaf for leaf in _all_leaves(rule) if leaf.PHASES <= REQUEST_PHASES | MESSAGE_PHASES), None)


def _plain_only(predicate: ir.Predicate) -> bool:
    """True if the predicate cannot hold for https."""
    match predicate:
        case ir.All(items):
            return any(_plain_only(item) for item in items)
        case ir.AnyOf(items):
            return bool(items) and all(_plain_only(item) for item in items)
        case ir.Not():
            return False
    return getattr(predicate, "FACT", "") == "scheme" and not predicate.holds(TLS_FACTS)


def _all_leaves(rule: ir.Rule) -> Iterator[ir.Leaf]:
    return ir.leaves(rule.predicate)


def _check_tested(result: Build) -> None:
    tested: set[str] = set()
    for test in result.tests:
        tested.add(test.rule)
        for step in test.steps:
            tested.update(step.expect.rule)
    for rule in result.rules:
        if rule.enabled and rule.name not in tested:
            result.report.warning("untested", rule.pos, f'no test concerns the rule "{rule.name}"',
                                  help="add tests: with a request and what to expect")


# --- two rules -----------------------------------------------------------------------------------------------------


def _check_pairs(ordered: list[ir.Rule], report: Report) -> None:
    """Compare each rule with the earlier ones that hold whenever it does: those whose keys are among its own."""
    earlier: dict[frozenset[Any], list[ir.Rule]] = {}
    for rule in ordered:
        keys = _keys(rule)
        if keys is None:
            continue
        found = [other for subset in _subsets(keys) for other in earlier.get(subset, ())]
        shadow = next((other for other in found if _shadows(other, rule)), None)
        if shadow is not None:
            report.warning("shadowed", rule.pos, f'the rule "{rule.name}" never takes effect',
                           notes=[(shadow.pos, f'"{shadow.name}" comes first and matches everything it does')],
                           help="put it first, give it a higher priority, or narrow the other rule")
        else:
            _check_fields(rule, found, report)
        if rule.unless is None:
            earlier.setdefault(keys, []).append(rule)


def _keys(rule: ir.Rule) -> frozenset[Any] | None:
    """The conjuncts of a rule's match, None where they cannot be compared."""
    items = rule.match.items if isinstance(rule.match, ir.All) else (rule.match,)
    try:
        return frozenset(items)
    except TypeError:
        return None


def _subsets(keys: frozenset[Any]) -> Iterator[frozenset[Any]]:
    sizes: list[int] = list(range(len(keys) + 1)) if len(keys) <= _MOST_KEYS else [0, 1, len(keys)]
    for size in sizes:
        for subset in combinations(keys, size):
            yield frozenset(subset)


def _slots(rule: ir.Rule, phase: Phase) -> Slot:
    slots = Slot(0)
    for effect in rule.effects_in(phase):
        slots |= effect.slot or Slot(0)
    return slots


def _shadows(other: ir.Rule, rule: ir.Rule) -> bool:
    """`other` matches whenever `rule` does. True if in every phase of `rule` it then leaves it nothing to do.

    If `other` is overruled itself, a slot it wants is taken; wanting all of those too, `rule` loses as well.
    """
    if any(effect.requires is not None for effect in other.effects):
        return False  # it depends on more than its match
    return bool(rule.phases) and all(_shadows_in(other, rule, phase) for phase in rule.phases)


def _shadows_in(other: ir.Rule, rule: ir.Rule, phase: Phase) -> bool:
    mine, theirs = _slots(rule, phase), _slots(other, phase)
    if phase not in other.phases:
        return False
    if _ends_list(other, phase):
        return True
    return bool(theirs) and theirs & mine == theirs


def _ends_list(rule: ir.Rule, phase: Phase) -> bool:
    if any(effect.kind == "pass" for effect in rule.effects_in(phase)):
        return True
    return rule.stop and not _slots(rule, phase)


def _check_fields(rule: ir.Rule, earlier: list[ir.Rule], report: Report) -> None:
    """A field set by an earlier rule that holds too is not set again (rule-language 4.4)."""
    for effect in rule.effects:
        field = _owned_field(effect)
        if field is None:
            continue
        for other in earlier:
            first = next((e for e in other.effects if _owned_field(e) == field and e.phases & effect.phases), None)
            if first is not None:
                message = f'"{other.name}" sets {_spoken(field)} first; this is lost'
                report.warning("field-conflict", effect.pos, message,
                               notes=[(first.pos, "it is set here")],
                               help="leave one out, or let the match of one exclude the other")
                break


_OWNING: frozenset[str] = frozenset(("set", "remove", "file"))
_Field = tuple[str, str, str]


def _owned_field(effect: ir.Effect) -> _Field | None:
    """The field an edit takes as its own."""
    if effect.kind != "edit":
        return None
    args = dict(effect.args)
    if args.get("op") not in _OWNING:
        return None
    message, field, name = (str(args.get(key) or "") for key in ("message", "field", "name"))
    return message, field, name.lower() if field == "header" else name


def _spoken(field: _Field) -> str:
    return " ".join(part for part in field if part)
