"""The link step: numbers the rules of all files, runs their modules, and builds the indexes of a `RuleSet`.

Modules know nothing of each other; what is global (order, indexes, the decrypt set) is made here, from data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rulesproxy.compiler.decrypt import build_decrypt, decrypts_everything
from rulesproxy.compiler.emit import Emitted, emitted_phases
from rulesproxy.compiler.ir import Rule
from rulesproxy.compiler.load import keep_while_alive, load
from rulesproxy.compiler.plan import Placed, host_keys, host_test, in_order, in_phase, path_keys
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.index import HostIndex, Step
from rulesproxy.runtime.phase import HTTP_PHASES, Phase, Slot
from rulesproxy.runtime.ruleset import RuleSet


@dataclass(frozen=True, slots=True)
class Unit:
    """One rule file, compiled."""

    rules: tuple[Rule, ...]
    emitted: Emitted


def link(units: Sequence[Unit], digest: str, inputs: Mapping[str, str]) -> RuleSet:
    placed = in_order([unit.rules for unit in units])
    infos = tuple(_info(item) for item in placed)
    by_place = {(item.file, item.index): infos[item.order] for item in placed}
    loaded = [
        load(unit.emitted, tuple(by_place.get((number, index), _DISABLED) for index in range(len(unit.rules))))
        for number, unit in enumerate(units)
    ]
    indexes = {}
    for phase in Phase:
        steps = []
        for item in in_phase(placed, phase):
            unit = units[item.file]
            run = loaded[item.file].namespace[unit.emitted.functions[item.index, phase]]
            steps.append(_step(item, infos[item.order], run, phase))
        if steps:
            indexes[phase] = HostIndex(steps)
    everything = tuple(infos[item.order] for item in placed if decrypts_everything(item.rule))
    rule_set = RuleSet(digest, infos, indexes, build_decrypt(placed, infos), _hooks(placed), everything, dict(inputs),
                       {module.name: unit.emitted.text for module, unit in zip(loaded, units, strict=True)})
    keep_while_alive(rule_set, loaded)
    return rule_set


_PHASE_HOOKS = {
    Phase.DNS: ("dns_request",), Phase.CONNECT: ("http_connect",), Phase.TLS: (),
    Phase.REQUEST: ("requestheaders",), Phase.RESPONSE: ("requestheaders", "responseheaders"),
}


def _hooks(placed: tuple[Placed, ...]) -> frozenset[str]:
    """The hooks the rules need: what is not here costs nothing."""
    hooks: set[str] = set()
    for item in placed:
        for phase in emitted_phases(item.rule):
            hooks.update(_PHASE_HOOKS[phase])
        if any(effect.reads_request_body for effect in item.rule.effects):
            hooks.add("request")
        if any(effect.reads_response_body for effect in item.rule.effects):
            hooks.add("response")
    return frozenset(hooks)


_DISABLED = RuleInfo("", "", 0, 0, -1)


def _step(item: Placed, info: RuleInfo, run: object, phase: Phase) -> Step:
    predicate = item.rule.predicate
    hosts = host_keys(predicate)
    paths = path_keys(predicate) if phase in HTTP_PHASES else None
    return Step(
        info, run,  # type: ignore[arg-type]  # a function of the generated module
        (hosts.exact, hosts.suffixes) if hosts is not None else None,
        (paths.exact, paths.prefixes) if paths is not None else None,
        host_test(predicate),
    )


def _info(item: Placed) -> RuleInfo:
    rule = item.rule
    refusing = any(_refuses(effect.op.__name__, effect.slot, dict(effect.args)) for effect in rule.effects)
    return RuleInfo(
        rule.name, rule.pos.file, rule.pos.line, rule.pos.column, item.order,
        refuses_on_error=refusing if rule.on_error is None else rule.on_error == "refuse",
        refuses_unreadable=refusing if rule.on_unreadable is None else rule.on_unreadable == "refuse",
    )


def _refuses(op: str, slot: Slot | None, args: Mapping[str, object]) -> bool:
    return op == "Block" or (slot is Slot.TLS and args.get("verdict") == "refuse")
