"""One rule: its envelope, match and actions → `ir.Rule`, with what only the whole rule can tell.

That is: every key can be seen in the phases its actions act in, no two actions want one slot, and in which phases
`delay`, `tag` and `log` act (rule-language 4.1, 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rulesproxy.compiler import ir, unit
from rulesproxy.compiler.context import Context
from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.environment import Environment
from rulesproxy.compiler.inputs import Inputs
from rulesproxy.compiler.predicates import Captures, find_captures
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.runtime.phase import MESSAGE_PHASES, Phase, Slot, spoken

_CLAIMS = {
    Slot.ANSWER: "give the answer", Slot.ROUTE: "choose the server", Slot.VIA: "choose the upstream proxy",
    Slot.TLS: "decide about TLS", Slot.NAME: "answer for the name",
    Slot.DROP: "keep the message back", Slot.CLOSE: "end the conversation",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Action:
    """What one action key of a rule came to."""

    key: Scalar
    effects: tuple[ir.Effect, ...]


def build_rule(node: Mapping, defaults: Mapping | None, environment: Environment, inputs: Inputs,
               report: Report) -> ir.Rule | None:
    """The rule of a node of the right shape; None after an error."""
    name = node.get("name")
    if not isinstance(name, Scalar):
        return None
    errors = report.error_count
    context = Context(report, inputs, vars=environment.vars, sets=environment.sets, rule_name=name.text)
    matched = _build_match(node, context)
    if matched is None:
        return None
    match, unless = matched
    actions = _build_actions(node, context)
    _check_slots(actions, report)
    effects = _place_companions(_seen(actions, context), context)
    if report.error_count > errors:
        return None
    profile = _text(_value(node, defaults, "profile"))
    _check_profile(node, defaults, profile, environment, report)
    return ir.Rule(
        name=name.text, pos=name.pos, match=match, unless=unless, effects=effects,
        priority=_integer(_value(node, defaults, "priority")),
        enabled=_flag(_value(node, defaults, "enabled"), True) and profile in (None, environment.profile),
        stop=_flag(node.get("stop"), False),
        on_error=_text(node.get("on_error")), on_unreadable=_text(node.get("on_unreadable")),
        tags=_texts(_value(node, defaults, "tags")), description=_text(node.get("description")) or "",
        owner=_text(_value(node, defaults, "owner")) or "", profile=profile,
        actions=tuple(action.key.text for action in actions),
    )  # fmt: skip


# --- match ---------------------------------------------------------------------------------------------------------


def _build_match(node: Mapping, context: Context) -> tuple[ir.Predicate, ir.Predicate | None] | None:
    match_node, unless_node = node.get("match"), node.get("unless")
    match = ir.ALWAYS if match_node is None else context.unit_predicate(match_node)
    unless = None if unless_node is None else context.unit_predicate(unless_node)
    if match is None or (unless is None and unless_node is not None):
        return None
    captures = find_captures(match)
    if unless is not None:
        hidden = {name: "it stands in unless" for leaf in ir.leaves(unless) for name in leaf.captures()}
        captures = Captures(captures.usable, {**hidden, **captures.reasons}, captures.clashes)
    visible = ir.visible_phases(match) & (ir.visible_phases(unless) if unless is not None else frozenset(Phase))
    if not _check_clashes(captures, context) or not _check_visible(visible, context):
        return None
    context.see_match(match, captures, visible)
    return match, unless


def _check_clashes(captures: Captures, context: Context) -> bool:
    """A name given twice is an error; numbered groups are only when a template wants one (it is told why not)."""
    named = {name: leaves for name, leaves in captures.clashes.items() if not name.rpartition(".")[2].isdigit()}
    for name, (first, second, *_) in named.items():
        context.error(second.pos, f"the capture {name} is given twice", code="capture-twice",
                      notes=[(first.pos, "it is first given here")])
    return not named


def _check_visible(visible: frozenset[Phase], context: Context) -> bool:
    if visible:
        return True
    left = frozenset(Phase)
    for key, phases in context.keys:
        left &= phases
        if not left:
            context.error(key, f'"{key.text}" is never seen together with the other keys of this rule',
                          notes=[(other.pos, f'"{other.text}" {_seen_in(seen)}') for other, seen in context.keys
                                 if other is not key and not seen & phases][:1],
                          help=f'"{key.text}" {_seen_in(phases)}')
            break
    return False


# --- actions -------------------------------------------------------------------------------------------------------


def _build_actions(node: Mapping, context: Context) -> list[Action]:
    written = node.get("action")
    mappings = written.items if isinstance(written, Sequence) else (written,)
    units = unit.actions()
    return [
        Action(key, tuple(units[key.text].build(value, context)))
        for mapping in mappings if isinstance(mapping, Mapping)
        for key, value in mapping
    ]  # fmt: skip


def _check_slots(actions: list[Action], report: Report) -> None:
    """Two effects for one slot in one rule is an error (rule-language 4.3)."""
    taken: dict[tuple[Slot, frozenset[Phase]], Scalar] = {}
    for action in actions:
        for slot, kinds in _slots(action):
            first = taken.setdefault((slot, kinds), action.key)
            if first is not action.key:
                report.error(action.key, _clash(first, action.key, slot), code="slot-twice",
                             notes=[(first.pos, f'"{first.text}" is here')], help="make it two rules, or leave one out")
                break


def _clash(first: Scalar, second: Scalar, slot: Slot) -> str:
    both = f'"{first.text}" and "{second.text}" both' if first.text != second.text else f'two "{first.text}" each'
    return f"{both} {_CLAIMS.get(slot, 'want the same decision')}; a rule can do that once"


def _slots(action: Action) -> list[tuple[Slot, frozenset[Phase]]]:
    """The slots it wants. Messages of another kind are another matter: `websocket` and `tcp` may both close."""
    return sorted({(effect.slot, frozenset((phase,)) if phase in MESSAGE_PHASES else frozenset())
                   for effect in action.effects if effect.slot is not None for phase in effect.phases},
                  key=lambda item: (item[0], sorted(item[1])))


def _seen(actions: list[Action], context: Context) -> list[ir.Effect]:
    """The effects, confined to phases in which all keys can be seen; an effect left with none is an error."""
    effects = []
    for action in actions:
        for effect in action.effects:
            phases = effect.phases & context.visible
            if not phases and not effect.companion:
                _report_unseen(action.key, effect, context)
            effects.append(effect if phases == effect.phases else replace(effect, phases=phases))
    return effects


def _report_unseen(action: Scalar, effect: ir.Effect, context: Context) -> None:
    phase = max(effect.phases, default=Phase.REQUEST)
    key = context.unseen_key(phase)
    acts = f'"{action.text}" acts in the {spoken((phase,))[0]} phase'
    if key is None:
        context.error(effect.pos, f"{acts}, where this rule is not decided")
        return
    seen = next(phases for other, phases in context.keys if other is key)
    context.error(key, f'{acts}, where "{key.text}" cannot be seen', code="unseen-key",
                  notes=[(action.pos, f'"{action.text}" is here')], help=f'"{key.text}" {_seen_in(seen)}')


def _seen_in(phases: frozenset[Phase]) -> str:
    names = spoken(phases)
    several = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"is seen in the {several} phase{'s' if len(names) > 1 else ''}"


def _place_companions(effects: list[ir.Effect], context: Context) -> tuple[ir.Effect, ...]:
    """`delay`, `tag` and `log` act in the latest phase the rest of the rule needs, else at the request (4.1)."""
    if not any(effect.companion for effect in effects):
        return tuple(effects)
    phases = _companion_phases([effect for effect in effects if not effect.companion], context.visible)
    return tuple(_placed(effect, phases, context) if effect.companion else effect for effect in effects)


def _placed(effect: ir.Effect, phases: frozenset[Phase], context: Context) -> ir.Effect:
    if phases and phases <= MESSAGE_PHASES and not phases & effect.phases:
        context.error(effect.pos, "this cannot be done to messages", help="put it into a rule for the request")
    # What a template looks at confines it further: a log line about the response is written with the response.
    return replace(effect, phases=phases & effect.phases or _latest(effect.phases))


def _latest(phases: frozenset[Phase]) -> frozenset[Phase]:
    """The request phase where it is one of them, else the last before messages come, else all kinds of those."""
    if Phase.REQUEST in phases:
        return frozenset((Phase.REQUEST,))
    earlier = phases - MESSAGE_PHASES
    return frozenset((max(earlier),)) if earlier else phases


def _companion_phases(others: list[ir.Effect], visible: frozenset[Phase]) -> frozenset[Phase]:
    needed = frozenset(phase for effect in others for phase in effect.phases)
    messages = frozenset(phase for effect in others if effect.kind != "pass" for phase in effect.phases)
    if messages & MESSAGE_PHASES:
        return messages & MESSAGE_PHASES
    if Phase.RESPONSE in needed or visible == {Phase.RESPONSE}:
        return frozenset((Phase.RESPONSE,))
    if Phase.REQUEST in needed and not all(_is_bare(effect) for effect in others):
        return frozenset((Phase.REQUEST,))
    if needed:
        return needed  # a bare block, a name, a TLS decision: wherever it happens
    return _latest(visible)


def _is_bare(effect: ir.Effect) -> bool:
    """A block, or a pass, that acts wherever it is seen first."""
    return not effect.needs_plaintext and len(effect.phases) > 1


# --- plain values --------------------------------------------------------------------------------------------------


def _value(node: Mapping, defaults: Mapping | None, key: str) -> Node | None:
    """The rule's own value, else the file's default."""
    own = node.get(key)
    return own if own is not None or defaults is None else defaults.get(key)


def _text(node: Node | None) -> str | None:
    return node.text if isinstance(node, Scalar) else None


def _texts(node: Node | None) -> tuple[str, ...]:
    if isinstance(node, Sequence):
        return tuple(item.text for item in node if isinstance(item, Scalar))
    return (node.text,) if isinstance(node, Scalar) else ()


def _integer(node: Node | None) -> int:
    return node.value if isinstance(node, Scalar) and isinstance(node.value, int) else 0


def _flag(node: Node | None, otherwise: bool) -> bool:
    return node.value is True if isinstance(node, Scalar) else otherwise


def _check_profile(node: Mapping, defaults: Mapping | None, profile: str | None, environment: Environment,
                   report: Report) -> None:
    at = _value(node, defaults, "profile")
    if profile is not None and at is not None and profile not in environment.profiles:
        report.warning("unknown-profile", at, f'no file defines the profile "{profile}"',
                       help=did_you_mean(profile, environment.profiles))
