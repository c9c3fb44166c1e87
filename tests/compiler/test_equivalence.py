"""Compiled rules and the interpreter agree on generated rules and exchanges, and the test notices when they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rulesproxy.actions._messages import Send
from rulesproxy.actions.block import BlockMessage
from rulesproxy.compiler import unit
from rulesproxy.compiler.decrypt import is_relevant, needs_plaintext, truth
from rulesproxy.compiler.interpret import holds
from rulesproxy.compiler.ir import Leaf, Rule, Test, leaves
from rulesproxy.compiler.plan import in_order, names_hosts, tunnel_keys, tunnel_test
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.names import canonical_path
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.model.tls import ClientHello, Tunnel
from rulesproxy.runtime.decision import Decision
from rulesproxy.runtime.edits import apply_request, apply_response
from rulesproxy.runtime.facts import TunnelFacts
from rulesproxy.runtime.messages import decide_message
from rulesproxy.runtime.phase import MESSAGE_PHASES, Phase, Slot
from rulesproxy.runtime.ruleset import RuleSet, TemplateError
from tests.compiler.generator import Case, draw_case
from tests.compiler.naive_edits import compose, state_of
from tests.compiler.phases import (
    Look,
    client_of,
    compile_rules,
    decide,
    differences,
    flow_of,
    looks,
    message_flow,
    response_of,
)

#: Seeds of the corpus: enough for every matcher, action, operator and conflict to occur.
CORPUS = range(1400)


def check(case: Case) -> None:
    """The core: everything the two must agree about."""
    compiled = compile_rules(case.rules)
    found = differences(case.rules, compiled, case.exchange)
    assert not found, "\n".join([case.source, str(case.exchange), *found])
    assert_same_tunnel(case, compiled)
    assert_same_edits(case, compiled)
    assert_same_messages(case, compiled)


def assert_same_tunnel(case: Case, compiled: RuleSet) -> None:
    """The decrypt set against a walk without an index."""
    x = case.exchange
    for sni, host in ((x.host, x.host), (None, "192.0.2.1"), (x.host, "elsewhere.test")):
        hello = ClientHello(sni, (), (), (), (), b"")
        facts = TunnelFacts(Tunnel(client_of(x), host, x.port, hello))
        for named_only in (False, True):
            assert compiled.decide_tls(facts, named_only) == walk(case.rules, facts, named_only), case.source


def walk(rules: list[Rule], x: TunnelFacts, named_only: bool) -> TlsDecision | None:
    """Rule-language 5.1, rule by rule."""
    ordered = [item.rule for item in in_order([tuple(rules)]) if is_relevant(item.rule)]
    named = any(_names(rule, x.host) for rule in ordered)
    for rule in ordered:
        value = truth(rule.predicate, x, Phase.TLS)
        if value is True:
            for effect in rule.effects_in(Phase.TLS):
                if effect.kind == "pass":
                    return TlsDecision(TlsVerdict.RELAY, rule.name)
                if effect.slot is Slot.TLS:
                    return TlsDecision(TlsVerdict(dict(effect.args)["verdict"]), rule.name)
                if effect.slot is Slot.ANSWER:
                    return TlsDecision(TlsVerdict.REFUSE, rule.name)
        if value is not False and needs_plaintext(rule) and (named or not named_only):
            return TlsDecision(TlsVerdict.INTERCEPT, rule.name)
    return None


def _names(rule: Rule, host: str) -> bool:
    """Whether the rule confines itself to hosts, and this is one of them."""
    keys, test = tunnel_keys(rule.predicate), tunnel_test(rule.predicate)
    if not names_hosts(rule.predicate) or (test is not None and not test(host)):
        return False
    return keys is None or host in keys.exact or any(f".{host}".endswith(f".{suffix}") for suffix in keys.suffixes)


def assert_same_edits(case: Case, compiled: RuleSet) -> None:
    """The edits of an exchange with its bodies complete, carried out by the engine's code and by the naive one."""
    for look in looks(case.exchange, compiled):
        if not look.ready or look.phase not in (Phase.REQUEST, Phase.RESPONSE):
            continue
        edits = decide(compiled, look).edits
        if not edits:
            continue
        flow = flow_of(case.exchange)
        message: Any = flow.request
        if look.phase is Phase.RESPONSE:
            message = flow.response = response_of(case.exchange)
        expected = compose(state_of(message), edits)
        try:
            (apply_request if look.phase is Phase.REQUEST else apply_response)(edits, flow)
        except TemplateError:
            continue
        got = state_of(message)
        for key, value in expected.items():
            if key[0] == "path":
                value = canonical_path(value)
            assert got.get(key, [] if isinstance(value, list) else None) == value, f"{key}\n{edits}\n{case.source}"


def assert_same_messages(case: Case, compiled: RuleSet) -> None:
    """A message carried out by the engine's code, against the decision read plainly."""
    for phase in MESSAGE_PHASES & set(compiled.indexes):
        flow = message_flow(case.exchange, phase)
        conversation: Any = flow.websocket if isinstance(flow, HTTPFlow) else flow
        message, content = conversation.messages[-1], case.exchange.message.encode()
        decision = decide_message(compiled, flow, lambda rule, exc: None) or Decision()
        if decision.failure is not None:
            continue
        blocked = isinstance(decision.close, BlockMessage)
        assert message.dropped is (decision.drop is not None or blocked), case.source
        wanted = compose({("content", ""): content}, decision.edits).get(("content", ""), content)
        assert message.content == wanted, f"{decision.edits}\n{case.source}"
        sends = [op for _, op in decision.notes if isinstance(op, Send)]
        assert [(own.from_client, own.content) for own in conversation.outbox] == [
            (op.to == "server", op.content) for op in sends], case.source
        ended = conversation.closing or getattr(conversation, "drop", None) is not None
        assert bool(ended) is (decision.close is not None), case.source


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_compiled_and_interpreted_rules_agree(random: Random) -> None:
    check(draw_case(random, most=4))


# --- the corpus ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    return [draw_case(Random(seed)) for seed in CORPUS]


def test_the_corpus_agrees(corpus: list[Case]) -> None:
    for case in corpus:
        check(case)


def test_the_corpus_covers_what_there_is(corpus: list[Case]) -> None:
    """At least 30 % of the (rule, exchange) pairs match; every matcher, action and slot conflict occurs."""
    pairs = matched = 0
    seen: Counter[str] = Counter()
    for case in corpus:
        compiled = compile_rules(case.rules)
        views = list(looks(case.exchange, compiled))
        for rule in case.rules:
            pairs += 1
            hit = any(rule.effects_in(look.phase) and holds(rule.predicate, look.facts) for look in views)
            matched += hit
            if hit:
                seen.update(f"action {key}" for key in rule.actions)
                seen.update(f"leaf {kind.__name__}" for leaf in _all_leaves(rule) for kind in type(leaf).__mro__)
        for look in views:
            decision = decide(compiled, look)
            # A query has one answer, so names and blocks meet in one slot there.
            seen.update(f"conflict {'NAME' if look.phase is Phase.DNS else slot.name}" for _, slot, _ in decision.lost)
            seen.update(f"{look.phase.name} {what}" for what, there in (
                ("acted", decision.acted), ("waiting", decision.waiting), ("failure", decision.failure)) if there)
    keys = {key for case in corpus for key in unit.matchers() if f'"{key}": ' in case.source}

    assert matched / pairs >= 0.3, f"{matched} of {pairs}"
    assert keys == set(unit.matchers())
    wanted = {f"action {key}" for key in unit.actions()}
    wanted |= {f"conflict {slot}" for slot in ("ANSWER", "ROUTE", "VIA", "TLS", "NAME", "DROP", "CLOSE")}
    wanted |= {f"{phase.name} acted" for phase in Phase} | {"REQUEST waiting", "RESPONSE waiting"}
    wanted |= {f"leaf {leaf.__name__}" for leaf in leaf_classes()} | {"REQUEST failure"}
    assert wanted <= set(seen), sorted(wanted - set(seen))


# --- mutations -----------------------------------------------------------------------------------------------------


def leaf_classes() -> list[type[Leaf]]:
    """Every kind of leaf that some unit builds."""
    unit.matchers(), unit.actions()  # imported, so that they are subclasses

    def below(cls: type[Leaf]) -> Iterator[type[Leaf]]:
        for child in cls.__subclasses__():
            # A slotted dataclass leaves the class it was made from behind.
            if not getattr(child, "__abstractmethods__", None) and "rulesproxy" in child.__module__:
                yield child
            yield from below(child)

    return sorted({cls.__qualname__: cls for cls in below(Leaf) if _is_current(cls)}.values(), key=lambda c: c.__name__)


def _is_current(cls: type[Leaf]) -> bool:
    import sys

    return getattr(sys.modules[cls.__module__], cls.__name__, None) is cls


@pytest.mark.parametrize("leaf", leaf_classes(), ids=lambda leaf: leaf.__name__)
def test_an_inverted_leaf_is_noticed(leaf: type[Leaf], corpus: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutation run: with one kind of leaf compiled the wrong way round, the core fails on the corpus."""
    original = leaf.emit

    def inverted(self: Leaf, module: Any) -> Test:
        return original(self, module).negated

    monkeypatch.setattr(leaf, "emit", inverted)
    concerned = [case for case in corpus if any(isinstance(found, leaf) for rule in case.rules
                                                for found in _all_leaves(rule))]
    assert concerned, "the generator never makes one"
    with pytest.raises(AssertionError):
        for case in concerned:
            check(case)


def _all_leaves(rule: Rule) -> Iterator[Leaf]:
    yield from leaves(rule.predicate)
    for effect in rule.effects:
        if effect.requires is not None:
            yield from leaves(effect.requires)


def test_an_inverted_walk_is_noticed(corpus: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself can fail: a rule set that forgets its last winner is caught."""
    original = RuleSet.decide

    def forgetful(self: RuleSet, phase: Phase, x: Any, on_error: Any) -> Any:
        decision = original(self, phase, x, on_error)
        if decision is not None and decision.acted:
            decision.acted.pop()
        return decision

    monkeypatch.setattr(RuleSet, "decide", forgetful)
    with pytest.raises(AssertionError):
        for case in corpus:
            check(case)


def test_looks_cover_every_phase(corpus: list[Case]) -> None:
    phases = {look.phase for case in corpus[:40] for look in _looks(case)}
    assert phases == set(Phase)


def _looks(case: Case) -> Iterator[Look]:
    return looks(case.exchange, compile_rules(case.rules))
