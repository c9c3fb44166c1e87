"""A compiled rule set: everything the proxy asks of the rules, ready to run, never changed once built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rulesproxy.model.policy import TlsDecision
from rulesproxy.runtime.decision import Decision, RuleInfo
from rulesproxy.runtime.facts import Facts, HttpFacts, TunnelFacts
from rulesproxy.runtime.index import HostIndex
from rulesproxy.runtime.phase import Phase

#: Called with the rule that raised and the exception; must not raise.
ErrorHandler = Callable[[RuleInfo, Exception], None]
#: What the rules want of a tunnel that starts TLS, None for no opinion (rule-language 5.1). The flag is
#: `--set decrypt=named`: rules without host keys count only for hosts that other rules name.
DecideTls = Callable[[TunnelFacts, bool], TlsDecision | None]


class TemplateError(Exception):
    """A template made something that must not be sent. The exchange is refused with a page that names the rule."""

    status = 500


class UnreadableBody(Exception):
    """A rule needs a body that cannot be had. It is skipped, or refuses the exchange (rule-language 5.2)."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class RuleSet:
    """`decide` is the whole run-time interface to matching; the rest is knowledge about the set."""

    digest: str
    rules: tuple[RuleInfo, ...]
    indexes: Mapping[Phase, HostIndex]
    decide_tls: DecideTls
    #: hooks the set needs, by handler name
    hooks: frozenset[str] = frozenset()
    #: rules that decrypt every host, for the start-up line
    decrypts_everything: tuple[RuleInfo, ...] = ()
    #: paths the set was built from, with content digests: what reload compares
    inputs: Mapping[str, str] = field(default_factory=dict)
    #: generated sources by name, for `compile` and tracebacks; keeps linecache entries alive as long as the set
    sources: Mapping[str, str] = field(default_factory=dict)

    def decide(self, phase: Phase, x: Facts, on_error: ErrorHandler) -> Decision | None:
        """What the rules want in `phase`; None when no rule can match."""
        index = self.indexes.get(phase)
        if index is None:
            return None
        steps = index.find(x.host, x.path if isinstance(x, HttpFacts) else None)
        if not steps:
            return None
        decision = Decision()
        for step in steps:
            try:
                step.run(x, decision)
            except Exception as exc:  # a bug, or traffic no rule foresaw: rule-language 4.8
                if self._failed(step.rule, exc, decision, on_error):
                    break
            if decision.stopped:
                break
        return None if decision.is_empty else decision

    @staticmethod
    def _failed(rule: RuleInfo, exc: Exception, decision: Decision, on_error: ErrorHandler) -> bool:
        """Note a rule that raised; True if the exchange has to be refused for it."""
        exc.add_note(f"in the rule {rule.name}, {rule.where}")
        on_error(rule, exc)
        if isinstance(exc, TemplateError) or rule.refuses_on_error:
            decision.failure = ((rule, str(exc), exc.status) if isinstance(exc, TemplateError)
                                else (rule, "the rule failed", 500))
            return True
        return False

    def has(self, *phases: Phase) -> bool:
        return any(phase in self.indexes for phase in phases)

    def rule(self, name: str) -> RuleInfo | None:
        return next((rule for rule in self.rules if rule.name == name), None)


def describe_rules(rules: Sequence[RuleInfo]) -> list[dict[str, Any]]:
    """For the status page and `--json`."""
    return [{"name": rule.name, "file": rule.file, "line": rule.line} for rule in rules]
