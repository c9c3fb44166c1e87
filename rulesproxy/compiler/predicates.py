"""Match mappings → predicates: all keys together, `all any not` nested, and which captures templates may use."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rulesproxy.compiler import ir, unit
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.compiler.vocabulary import MATCH_WORDS

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context

COMBINATORS = ("all", "any", "not")


def build_predicate(node: Node, context: Context) -> ir.Predicate | None:
    """The predicate of a match mapping; None when a key of it is wrong (reported)."""
    if not isinstance(node, Mapping):
        context.error(node, "a match is a mapping of keys")
        return None
    items = [_build_key(key, value, context) for key, value in node]
    complete = [item for item in items if item is not None]
    if len(complete) < len(items):
        return None
    return complete[0] if len(complete) == 1 else ir.All(tuple(complete))


def _build_key(key: Scalar, value: Node, context: Context) -> ir.Predicate | None:
    predicate = _build_value(key, value, context)
    if predicate is not None and key.text not in COMBINATORS:
        context.keys.append((key, ir.visible_phases(predicate)))
    return predicate


def _build_value(key: Scalar, value: Node, context: Context) -> ir.Predicate | None:
    match key.text:
        case "all":
            return _build_list(value, context, ir.All)
        case "any":
            return _build_list(value, context, ir.AnyOf)
        case "not":
            inner = build_predicate(value, context)
            return None if inner is None else ir.Not(inner)
    matcher = unit.matchers().get(key.text)
    if matcher is None:
        known = [*unit.matchers(), *COMBINATORS]
        context.error(key, f'unknown key "{key.text}" in a match', code="unknown-key",
                      help=did_you_mean(key.text, known, MATCH_WORDS))
        return None
    return matcher.build(value, context)


def _build_list(node: Node, context: Context, kind: type[ir.All] | type[ir.AnyOf]) -> ir.Predicate | None:
    if not isinstance(node, Sequence):
        context.error(node, "a list of matches is wanted here")
        return None
    items = [build_predicate(item, context) for item in node]
    complete = tuple(item for item in items if item is not None)
    return kind(complete) if len(complete) == len(items) else None


@dataclass(frozen=True, slots=True)
class Captures:
    """Captures of a match. `usable` maps a name to the leaves that give it; `reasons` says why others are not usable.

    `clashes` are names given twice where all keys hold together: no template could tell which one it means.
    """

    usable: MappingType[str, tuple[ir.Leaf, ...]] = field(default_factory=dict)
    reasons: MappingType[str, str] = field(default_factory=dict)
    clashes: MappingType[str, tuple[ir.Leaf, ...]] = field(default_factory=dict)


def find_captures(predicate: ir.Predicate) -> Captures:
    """What a match captures: a name must come from every branch of an `any`, and never from a `not`."""
    match predicate:
        case ir.All(items):
            return _together([find_captures(item) for item in items])
        case ir.AnyOf(items):
            return _either([find_captures(item) for item in items])
        case ir.Not(item):
            inner = find_captures(item)
            return Captures(reasons=dict.fromkeys((*inner.usable, *inner.reasons), "it stands in a not"))
    return Captures(dict.fromkeys(predicate.captures(), (predicate,)))


def _together(parts: list[Captures]) -> Captures:
    usable: dict[str, tuple[ir.Leaf, ...]] = {}
    reasons: dict[str, str] = {}
    clashes: dict[str, tuple[ir.Leaf, ...]] = {}
    for part in parts:
        reasons |= part.reasons
        clashes |= part.clashes
        for name, found in part.usable.items():
            if name in usable or name in clashes:
                clashes[name] = (*clashes.get(name, usable.get(name, ())), *found)
            else:
                usable[name] = found
    for name in clashes:
        usable.pop(name, None)
        reasons[name] = "two keys of the match give it"
    return Captures(usable, reasons, clashes)


def _either(parts: list[Captures]) -> Captures:
    if not parts:
        return Captures()
    usable = {name: tuple(leaf for part in parts for leaf in part.usable[name])
              for name in parts[0].usable if all(name in part.usable for part in parts)}
    reasons = {name: "not every branch of the any gives it"
               for part in parts for name in part.usable if name not in usable}
    clashes: dict[str, tuple[ir.Leaf, ...]] = {}
    for part in parts:
        reasons |= part.reasons
        clashes |= part.clashes
    return Captures(usable, reasons, clashes)
