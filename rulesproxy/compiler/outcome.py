"""What came of a simulated exchange: the common language of `test` and `explain`."""

from __future__ import annotations

from dataclasses import dataclass, field

from rulesproxy.model.dns import DNSMessage
from rulesproxy.model.dns_types import response_codes
from rulesproxy.model.effects import Drop, Pacing
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Response
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.runtime.decision import Decision, RuleInfo
from rulesproxy.runtime.facts import Facts
from rulesproxy.runtime.phase import Phase, Slot


@dataclass(frozen=True, slots=True)
class View:
    """One phase that was decided: what the rules saw and what they wanted. `decision` is None when none can match."""

    phase: Phase
    facts: Facts
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Overruled:
    """`rule` matched, but `winner` had the slot it needs."""

    phase: Phase
    rule: str
    slot: Slot
    winner: str


@dataclass(frozen=True, slots=True)
class SentRequest:
    """The request as the origin gets it. `body` is decoded; `sni` is None without TLS or for an address."""

    method: str
    url: str
    headers: Headers
    body: bytes
    sni: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A message that goes on, or (`own`) one that a rule sends."""

    direction: str
    content: bytes
    own: bool = False


@dataclass(slots=True)
class Outcome:
    """Everything that can be said afterwards; what was not reached is empty.

    `response` is what the client gets, `sent` what the origin got, `server` the `host:port` that was dialled, `via` the
    proxy rules send it through (`direct`: through none) and `addresses` what rules put in the place of that name.
    `answer` is the rules' DNS answer, None when the query was forwarded. `said` is what a message leads to, None where
    there was none; `forwarded` is its content as it goes on, `ended` says how the conversation ends with it.
    """

    views: list[View] = field(default_factory=list)
    acted: dict[Phase, list[str]] = field(default_factory=dict)
    overruled: list[Overruled] = field(default_factory=list)
    failures: list[tuple[RuleInfo, Exception]] = field(default_factory=list)
    tls: TlsVerdict | None = None
    tls_rule: str | None = None
    response: Response | None = None
    sent: SentRequest | None = None
    server: str | None = None
    via: str | None = None
    addresses: tuple[str, ...] = ()
    pacing: Pacing | None = None
    drop: Drop | None = None
    answer: DNSMessage | None = None
    tags: list[str] = field(default_factory=list)
    said: list[Said] | None = None
    forwarded: bytes | None = None
    ended: str = ""

    @property
    def rules(self) -> list[str]:
        """Rules that took effect, in whatever phase, each once."""
        return list(dict.fromkeys(name for names in self.acted.values() for name in names))

    @property
    def closed(self) -> bool:
        """The client's connection ended without an answer, or the conversation with its message."""
        return self.drop is not None or bool(self.ended) or (self.tls is TlsVerdict.REFUSE and self.response is None)

    @property
    def rcode(self) -> str | None:
        return None if self.answer is None else response_codes.to_str(self.answer.response_code)

    @property
    def records(self) -> list[str]:
        """The data of the answer's records: texts without quotes, names without a final dot."""
        return [] if self.answer is None else [_plain(record.data_text) for record in self.answer.answers]

    def see(self, view: View) -> None:
        """Note a decided phase."""
        self.views.append(view)
        if view.decision is None:
            return
        for rule in view.decision.acted:
            self.act(view.phase, rule.name)
        self.overruled += [Overruled(view.phase, rule.name, slot, winner.name)
                           for rule, slot, winner in view.decision.lost]

    def act(self, phase: Phase, rule: str) -> None:
        names = self.acted.setdefault(phase, [])
        if rule not in names:
            names.append(rule)


def _plain(data: str) -> str:
    if data.startswith('"') and data.endswith('"') and data.count('"') == 2:
        return data[1:-1]
    return data.removesuffix(".")
