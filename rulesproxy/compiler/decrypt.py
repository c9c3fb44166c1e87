"""The decrypt set: which tunnels must be opened so that the rules can do their work (rule-language 5.1).

The rules are walked in order with keys that cannot be seen yet counting as *maybe* (Kleene logic). The first rule
that settles the matter does: a certain `pass` or `tls: passthrough` relays, a certain `tls: intercept` or a certain or
possible rule that needs plaintext intercepts, a certain refusal refuses. When none does, the rules have no opinion.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from rulesproxy.compiler.ir import All, AnyOf, Not, Predicate, Rule
from rulesproxy.compiler.plan import Planned
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.runtime.decision import Decision, RuleInfo
from rulesproxy.runtime.facts import TunnelFacts
from rulesproxy.runtime.index import HostIndex, Step
from rulesproxy.runtime.phase import PLAINTEXT_PHASES, Phase, Slot
from rulesproxy.runtime.ruleset import DecideTls

#: What every tunnel that can be opened has in common.
TLS_FACTS = SimpleNamespace(scheme="https", port=443)


def truth(predicate: Predicate, x: TunnelFacts, phase: Phase) -> bool | None:
    """True, False, or None: cannot be said before the tunnel is opened."""
    match predicate:
        case All(items):
            values = [truth(item, x, phase) for item in items]
            return False if False in values else None if None in values else True
        case AnyOf(items):
            values = [truth(item, x, phase) for item in items]
            return True if True in values else None if None in values else False
        case Not(item):
            value = truth(item, x, phase)
            return None if value is None else not value
        case _:
            return predicate.holds(x) if phase in predicate.PHASES else None


def needs_plaintext(rule: Rule) -> bool:
    return any(effect.needs_plaintext and effect.phases & PLAINTEXT_PHASES for effect in rule.effects)


def decrypts_everything(rule: Rule) -> bool:
    """True if all TLS has to be decrypted for this rule: it needs plaintext and is *maybe* for every name."""
    return needs_plaintext(rule) and not _confined(rule.predicate)


def _confined(predicate: Predicate) -> bool:
    """True if the predicate holds for some tunnels only: those with some names, or on other ports than 443, or none."""
    match predicate:
        case All(items):
            return any(_confined(item) for item in items)
        case AnyOf(items):
            return bool(items) and all(_confined(item) for item in items)
        case Not():
            return False
        case _:
            fact = getattr(predicate, "FACT", "")
            return predicate.IS_HOST or fact == "sni" or (
                fact in ("scheme", "port") and not predicate.holds(TLS_FACTS))


def is_relevant(rule: Rule) -> bool:
    """True if the rule can have a say about a tunnel."""
    return needs_plaintext(rule) or _settles(rule) is not None


def _settles(rule: Rule) -> TlsVerdict | None:
    """What the rule says of a tunnel it certainly matches."""
    for effect in rule.effects_in(Phase.TLS):
        if effect.kind == "pass":
            return TlsVerdict.RELAY
        if effect.slot is Slot.TLS:
            return TlsVerdict(dict(effect.args)["verdict"])
        if effect.slot is Slot.ANSWER:
            return TlsVerdict.REFUSE
    return None


def build_decrypt(rules_in_order: Sequence[tuple[Rule, Planned, RuleInfo]]) -> DecideTls:
    """The function that decides a tunnel, over an index of its own."""
    relevant = [item for item in rules_in_order if is_relevant(item[0])]
    steps = HostIndex([_step(plan, info) for _, plan, info in relevant])
    named = HostIndex([_step(plan, info) for _, plan, info in relevant if plan.names_hosts])
    rules = {info: rule for rule, _, info in relevant}

    def decide(x: TunnelFacts, named_only: bool) -> TlsDecision | None:
        for step in steps.find(x.host):
            rule = rules[step.rule]
            value = truth(rule.predicate, x, Phase.TLS)
            if value is False:
                continue
            verdict = _settles(rule)
            if value is True and verdict is not None:
                return TlsDecision(verdict, step.rule.name)
            if needs_plaintext(rule) and (not named_only or tuple(named.find(x.host))):
                return TlsDecision(TlsVerdict.INTERCEPT, step.rule.name)
        return None

    return decide


def _step(plan: Planned, info: RuleInfo) -> Step:
    keys = plan.tunnels
    return Step(info, _never_run, (keys.exact, keys.suffixes) if keys is not None else None, None, plan.tunnel_test)


def _never_run(x: object, d: Decision) -> None:
    """Steps of this index are looked up, not run."""
