"""The link step: numbers the rules of all files, runs their modules, and builds the indexes of a `RuleSet`.

Modules know nothing of each other; what is global (order, indexes, the decrypt set) is made here, from data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rulesproxy.compiler.decrypt import build_decrypt, decrypts_everything
from rulesproxy.compiler.emit import Emitted
from rulesproxy.compiler.ir import Rule
from rulesproxy.compiler.load import keep_while_alive, load
from rulesproxy.compiler.plan import Placed, Planned, in_order, plan_rule
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.index import HostIndex, RuleFunction, Step
from rulesproxy.runtime.phase import MESSAGE_PHASES, REQUEST_PHASES, Phase, Slot
from rulesproxy.runtime.ruleset import RuleSet


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """One rule file, compiled and planned: all that the link step needs of it, made once per version of the file."""

    rules: tuple[Rule, ...]
    emitted: Emitted
    planned: tuple[Planned, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "planned", tuple(plan_rule(rule) for rule in self.rules))


def link(units: Sequence[Unit], digest: str, inputs: Mapping[str, str]) -> RuleSet:
    placed = in_order([unit.rules for unit in units])
    infos = tuple(_info(item) for item in placed)
    by_place = {(item.file, item.index): infos[item.order] for item in placed}
    loaded = [
        load(unit.emitted, tuple(by_place.get((number, index), _DISABLED) for index in range(len(unit.rules))))
        for number, unit in enumerate(units)
    ]
    steps: dict[Phase, list[Step]] = {}
    for item in placed:
        plan = units[item.file].planned[item.index]
        for phase in plan.phases:
            run = loaded[item.file].namespace[units[item.file].emitted.functions[item.index, phase]]
            steps.setdefault(phase, []).append(_step(plan, infos[item.order], run, phase))
    indexes = {phase: HostIndex(found) for phase, found in sorted(steps.items())
               if phase not in MESSAGE_PHASES or _concerned(placed, phase)}
    tunnels = build_decrypt([(item.rule, units[item.file].planned[item.index], infos[item.order]) for item in placed])
    everything = tuple(infos[item.order] for item in placed if decrypts_everything(item.rule))
    rule_set = RuleSet(digest, infos, indexes, tunnels, _hooks(placed, indexes), everything, dict(inputs),
                       {module.name: unit.emitted.text for module, unit in zip(loaded, units, strict=True)})
    keep_while_alive(rule_set, loaded)
    return rule_set


_PHASE_HOOKS = {
    Phase.DNS: ("dns_request",), Phase.CONNECT: ("http_connect",), Phase.TLS: (),
    Phase.REQUEST: ("requestheaders",), Phase.RESPONSE: ("requestheaders", "responseheaders"),
    # The request of a handshake is looked at as the client sent it: it is noted when it comes.
    Phase.WEBSOCKET: ("requestheaders", "websocket_message"), Phase.TCP: ("tcp_message",),
    Phase.UDP: ("udp_message",),
}


def _hooks(placed: tuple[Placed, ...], phases: Iterable[Phase]) -> frozenset[str]:
    """The hooks the rules need: what is not here costs nothing."""
    hooks = {hook for phase in phases for hook in _PHASE_HOOKS[phase]}
    for item in placed:
        if any(effect.reads_request_body for effect in item.rule.effects):
            hooks.add("request")
        if any(effect.reads_response_body for effect in item.rule.effects):
            hooks.add("response")
    return frozenset(hooks)


def _concerned(placed: tuple[Placed, ...], phase: Phase) -> bool:
    """A rule does something in this phase. With `pass` alone nobody need look at messages."""
    return any(effect.kind != "pass" for item in placed for effect in item.rule.effects_in(phase))


_DISABLED = RuleInfo("", "", 0, 0, -1)


def _step(plan: Planned, info: RuleInfo, run: RuleFunction, phase: Phase) -> Step:
    hosts, paths = plan.hosts, plan.paths if phase in REQUEST_PHASES else None
    return Step(
        info, run,
        (hosts.exact, hosts.suffixes) if hosts is not None else None,
        (paths.exact, paths.prefixes) if paths is not None else None,
        plan.host_test,
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
    return op in ("Block", "BlockMessage") or (slot is Slot.TLS and args.get("verdict") == "refuse")
