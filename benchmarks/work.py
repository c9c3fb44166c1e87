"""What is measured: the work items, who takes part, in which order, and what must not happen meanwhile."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import load, wrk
from benchmarks.contenders import Contender, both_rulesproxies, fast_is_installed, mitmproxy, proxy_py, rulesproxy
from benchmarks.load import Job, Tally
from benchmarks.origin import BODY, NAME, Origin
from benchmarks.process import BenchmarkError, Server
from benchmarks.rulesets import one_header_rule, rules_on_other_hosts, rules_on_same_host


@dataclass(frozen=True, slots=True)
class Plan:
    """How thorough a run is."""

    rounds: int
    seconds: float
    connections: int
    peers: Path | None
    #: Leave out what takes long to start.
    smoke: bool = False


@dataclass(frozen=True, slots=True)
class Aim:
    """A ratio of two contenders that is wanted (the issue, the budgets)."""

    contender: str
    over: str
    at_least: float


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One line of the budgets."""

    key: str
    title: str
    unit: str
    tls: bool
    keep_alive: bool
    contenders: Callable[[Plan], list[Contender]]
    aims: tuple[Aim, ...]

    def job(self, origin: Origin, proxy_port: int) -> Job:
        port = origin.https_port if self.tls else origin.http_port
        return Job(proxy_port, NAME, port, self.tls, self.keep_alive, BODY)


@dataclass(slots=True)
class Score:
    """What one contender did, one element of each list per round."""

    contender: Contender
    start_seconds: float
    rates: list[float] = field(default_factory=list)
    #: Work per second of processor time of the proxy: what changes least when others use the machine.
    per_processor_second: list[float] = field(default_factory=list)
    proxy_load: list[float] = field(default_factory=list)  # share of one core
    generator_load: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, tally: Tally, proxy_seconds: float) -> None:
        self.errors += tally.errors
        self.rates.append(tally.done / tally.seconds)
        self.per_processor_second.append(tally.done / proxy_seconds if proxy_seconds else 0.0)
        self.proxy_load.append(proxy_seconds / tally.seconds)
        self.generator_load.append(tally.generator_seconds / tally.seconds)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


@dataclass(slots=True)
class Result:
    item: WorkItem
    scores: list[Score]
    skipped: list[str]


def measure(item: WorkItem, plan: Plan, origin: Origin, folder: Path, say: Callable[[str], None]) -> Result:
    """Start everybody, then let them work in turn. Raises BenchmarkError when a proxy does not come up."""
    with ExitStack() as stack:
        servers: list[Server] = []
        scores: list[Score] = []
        sizes: list[int] = []
        for number, contender in enumerate(item.contenders(plan)):
            say(f"{item.key}: starting {contender.name}")
            server = stack.enter_context(contender.start(folder / f"{item.key}-{number}", origin))
            score = Score(contender, server.wait_until_listening(contender.patience))
            servers.append(server)
            scores.append(score)
            sizes.append(_look(item.job(origin, server.port), origin, score))
        for turn in range(plan.rounds):
            for server, score, size in zip(servers, scores, sizes, strict=True):
                if score.errors:
                    continue
                job = item.job(origin, server.port)
                before = server.processor_seconds()
                tally = _load(job, plan, size, folder)
                score.add(tally, server.processor_seconds() - before)
                say(f"{item.key}: round {turn + 1} of {plan.rounds}, {score.contender.name}: "
                    f"{score.rates[-1]:,.0f} {item.unit}")
    return Result(item, scores, _absent(item, plan))


def _load(job: Job, plan: Plan, answer_size: int, folder: Path) -> Tally:
    if job.tls or not wrk.available():
        return load.run(job, plan.connections, plan.seconds)
    return wrk.run(job, plan.connections, plan.seconds, answer_size, folder)


def _look(job: Job, origin: Origin, score: Score) -> int:
    """One request to begin with, looked at closely: the answer's size; whether TLS was intercepted."""
    tally = load.once(job)
    score.errors += tally.errors
    if job.tls and tally.certificate == origin.certificate:
        score.errors.append("TLS was not intercepted")
    return len(tally.sample)


# --- the items -------------------------------------------------------------------------------------------------------


def _everybody(plan: Plan) -> list[Contender]:
    return [*both_rulesproxies(), *(peer for peer in (mitmproxy(plan.peers), proxy_py(plan.peers)) if peer)]


def _those_that_intercept(plan: Plan) -> list[Contender]:
    return [contender for contender in _everybody(plan) if contender.intercepts]


def _rule_counts(plan: Plan) -> list[Contender]:
    fast = fast_is_installed()
    many = [1_000] if plan.smoke else [10_000, 100_000]
    contenders = [rulesproxy(one_header_rule(), "1 rule", fast=fast)]
    contenders += [rulesproxy(rules_on_other_hosts(count), f"{count:,} on other hosts", fast=fast, patience=600)
                   for count in many]
    contenders.append(rulesproxy(rules_on_same_host(1_000), "1,000 on the same host", fast=fast))
    linear = mitmproxy(plan.peers, headers_rules=1_000)
    if linear is not None and not plan.smoke:
        contenders.append(linear)
    return contenders


def _absent(item: WorkItem, plan: Plan) -> list[str]:
    """Peers that would have taken part."""
    if item.contenders is _rule_counts:
        return []
    absent = [] if mitmproxy(plan.peers) is not None else ["mitmproxy"]
    if not item.tls and proxy_py(plan.peers) is None:
        absent.append("proxy.py")
    return absent


_FAST, _PLAIN = "rulesproxy, uvloop", "rulesproxy, asyncio"

ITEMS = (
    WorkItem("P1", "plain HTTP/1.1 keep-alive", "requests/s", tls=False, keep_alive=True, contenders=_everybody,
             aims=(Aim(_FAST, "mitmproxy", 20), Aim(_PLAIN, "mitmproxy", 6), Aim(_FAST, "proxy.py", 1.5))),
    WorkItem("P2", "intercepted HTTPS keep-alive", "requests/s", tls=True, keep_alive=True,
             contenders=_those_that_intercept, aims=(Aim(_FAST, "mitmproxy", 15),)),
    WorkItem("P3", "new intercepted TLS connections", "connections/s", tls=True, keep_alive=False,
             contenders=_those_that_intercept, aims=(Aim(_FAST, "mitmproxy", 6),)),
    WorkItem("P4", "many rules, plain HTTP/1.1 keep-alive", "requests/s", tls=False, keep_alive=True,
             contenders=_rule_counts,
             aims=(Aim("10,000 on other hosts", "1 rule", 0.95), Aim("100,000 on other hosts", "1 rule", 0.9),
                   Aim("1,000 on the same host", "1 rule", 0.7))),
)


def items(only: str | None) -> tuple[WorkItem, ...]:
    """The items named in `only` (`P1,P3`), or all. Raises BenchmarkError for a name that is none."""
    if only is None:
        return ITEMS
    by_key = {item.key: item for item in ITEMS}
    try:
        return tuple(by_key[key.strip().upper()] for key in only.split(","))
    except KeyError as exc:
        raise BenchmarkError(f"there is no work item {exc}; there are {', '.join(by_key)}") from None
