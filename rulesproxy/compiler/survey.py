"""A survey of a compiled rule set for `plan`: order, phases, decrypt and buffer sets, and how good the indexes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rulesproxy.compiler.decrypt import is_relevant, needs_plaintext
from rulesproxy.compiler.emit import emitted_phases
from rulesproxy.compiler.ir import HostKeys, Rule
from rulesproxy.compiler.plan import Placed, host_keys, in_order, names_hosts, path_keys, tunnel_keys
from rulesproxy.model.connection import Client
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.model.tls import ClientHello, Tunnel
from rulesproxy.runtime.facts import TunnelFacts
from rulesproxy.runtime.index import HostIndex
from rulesproxy.runtime.phase import Phase
from rulesproxy.runtime.ruleset import RuleSet

#: No list is told longer than this; the rest is a number.
MOST = 20


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule at its place. `hosts` and `paths` say where an index finds it; empty: it is asked for every one."""

    order: int
    name: str
    where: str
    priority: int
    actions: tuple[str, ...]
    phases: tuple[Phase, ...]
    slots: tuple[str, ...]
    hosts: tuple[str, ...]
    more_hosts: int
    paths: tuple[str, ...]
    more_paths: int


@dataclass(frozen=True, slots=True)
class TunnelLine:
    """What happens to TLS for hosts that a rule names: `.x` means x and all below."""

    rule: str
    hosts: tuple[str, ...]
    more: int
    verdict: str
    #: the rule that settles it, when it is another one
    by: str = ""


@dataclass(frozen=True, slots=True)
class BufferLine:
    """A rule that reads whole bodies."""

    rule: str
    request: bool
    response: bool
    hosts: tuple[str, ...]
    more: int


@dataclass(frozen=True, slots=True)
class IndexLine:
    """The index of one phase; `worst_host` is the host for which most rules are asked."""

    phase: Phase
    rules: int
    names: int
    suffixes: int
    not_indexed: int
    worst_host: str
    worst: int


@dataclass(frozen=True, slots=True)
class Survey:
    rules: tuple[RuleLine, ...]
    decrypts_everything: tuple[str, ...]
    tunnels: tuple[TunnelLine, ...]
    buffers: tuple[BufferLine, ...]
    indexes: tuple[IndexLine, ...]
    hooks: tuple[str, ...]


def survey(files: Sequence[tuple[Rule, ...]], rules: RuleSet) -> Survey:
    """`files` are the rules of each file, `rules` what they were compiled to."""
    placed = in_order(files)
    return Survey(
        tuple(_rule(item) for item in placed),
        tuple(rule.name for rule in rules.decrypts_everything),
        tuple(line for item in placed if is_relevant(item.rule) for line in _tunnels(item.rule, rules)),
        tuple(line for item in placed if (line := _buffer(item.rule)) is not None),
        tuple(_index(phase, index) for phase, index in sorted(rules.indexes.items())),
        tuple(sorted(rules.hooks)),
    )


def _rule(item: Placed) -> RuleLine:
    rule = item.rule
    hosts, more_hosts = _spoken(host_keys(rule.predicate))
    paths = path_keys(rule.predicate)
    spoken = [] if paths is None else [*sorted(paths.exact), *(f"{prefix}/**" for prefix in sorted(paths.prefixes))]
    slots = sorted({effect.slot for effect in rule.effects if effect.slot is not None})
    return RuleLine(item.order, rule.name, str(rule.pos), rule.priority, rule.actions,
                    tuple(sorted(emitted_phases(rule))), tuple((slot.name or "").lower() for slot in slots),
                    hosts, more_hosts, tuple(spoken[:MOST]), max(0, len(spoken) - MOST))


def _spoken(keys: HostKeys | None) -> tuple[tuple[str, ...], int]:
    """Host keys as a reader writes them, and how many are left out."""
    if keys is None:
        return (), 0
    names = sorted(keys.exact)[:MOST] + [f".{suffix}" for suffix in sorted(keys.suffixes)[:MOST]]
    return tuple(names[:MOST]), len(keys.exact) + len(keys.suffixes) - len(names[:MOST])


# --- TLS and bodies --------------------------------------------------------------------------------------------------


def _tunnels(rule: Rule, rules: RuleSet) -> list[TunnelLine]:
    """The decisions for the hosts a rule names, those that agree together; asked of the compiled set, name by name."""
    keys = tunnel_keys(rule.predicate)
    if keys is None or not names_hosts(rule.predicate):
        verdict = "intercept" if needs_plaintext(rule) else "as the rule says"
        return [TunnelLine(rule.name, (), 0, verdict)]
    shown, more = _spoken(keys)
    groups: dict[tuple[str, str], list[str]] = {}
    for host in shown:
        decision = rules.decide_tls(_hello(host.removeprefix(".")), False)
        verdict = (decision.verdict if decision is not None else TlsVerdict.RELAY).value
        by = decision.rule if decision is not None and decision.rule not in (None, rule.name) else ""
        groups.setdefault((verdict, by or ""), []).append(host)
    lines = [TunnelLine(rule.name, tuple(hosts), 0, verdict, by) for (verdict, by), hosts in groups.items()]
    if lines and more:
        last = lines[-1]
        lines[-1] = TunnelLine(last.rule, last.hosts, more, last.verdict, last.by)
    return lines


def _hello(host: str) -> TunnelFacts:
    return TunnelFacts(Tunnel(Client(), host, 443, ClientHello(host, (), (), (), (), b"")))


def _buffer(rule: Rule) -> BufferLine | None:
    request = any(effect.reads_request_body for effect in rule.effects)
    response = any(effect.reads_response_body for effect in rule.effects)
    if not (request or response):
        return None
    return BufferLine(rule.name, request, response, *_spoken(host_keys(rule.predicate)))


# --- indexes ---------------------------------------------------------------------------------------------------------


def _index(phase: Phase, index: HostIndex) -> IndexLine:
    known = index.statistics()
    host, worst = worst_host(index)
    return IndexLine(phase, known["rules"], known["names"], known["suffixes"], known["not_indexed"], host, worst)


def worst_host(index: HostIndex) -> tuple[str, int]:
    """The host with the most candidates among those the rules name, and how many it has; without a host: any other."""
    everywhere = 0
    names: dict[str, int] = {}
    suffixes: dict[str, int] = {}
    for step in index.steps:
        if step.hosts is None:
            everywhere += 1
            continue
        for name in step.hosts[0]:
            names[name] = names.get(name, 0) + 1
        for suffix in step.hosts[1]:
            suffixes[suffix] = suffixes.get(suffix, 0) + 1
    best, most = "", 0
    for host in {*names, *suffixes}:
        count = names.get(host, 0)
        tail = host
        while tail and suffixes:
            count += suffixes.get(tail, 0)
            tail = tail.partition(".")[2]
        if count > most or (count == most and host < best):  # of equal ones the first by name
            best, most = host, count
    return best, most + everywhere
