"""`Rules`: the addon that puts the current rule set to work on the hooks.

It stands first in the chain and stays there; a reload only assigns another `RuleSet` in `configure`. Each flow pins
the set it started with (`flow.pinned`), so request and response phases agree across a reload; messages of long-lived
flows meet the current one. What a rule decides is data on the flow; nothing here awaits or touches the network.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from typing import Any, Literal

from rulesproxy.addons.errors import OptionsError
from rulesproxy.model.connection import Client
from rulesproxy.model.dns import DNSFlow
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import NameAnswer, TlsDecision, TunnelDecision
from rulesproxy.model.tcp import TCPFlow
from rulesproxy.model.tls import Tunnel
from rulesproxy.model.udp import UDPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.early import answer_query, judge_tunnel, open_tunnel, resolve_name, start_tls
from rulesproxy.runtime.engine import RuleExchange
from rulesproxy.runtime.facts import Files
from rulesproxy.runtime.messages import decide_message, may_match_messages
from rulesproxy.runtime.ruleset import RuleSet, UnreadableBody

log = logging.getLogger("rulesproxy.rules")

_SAY_AGAIN = 60.0  # seconds between two log lines about the same failing rule

#: Builds a rule set from the `rules` option where none is prepared. Raises OptionsError with the diagnostics.
BuildInline = Callable[[tuple[str, ...]], RuleSet]


class Rules:
    """Answers hooks and policy questions from `current`.

    `prepare` hands over a set that was built off the loop; `configure({"rules"})` takes it by its digest, which is
    the last element of the `rules` option (rule-language 6.1).
    """

    name = "rules"

    def __init__(self, options: Any, build: BuildInline, *, refresh: Callable[[], None],
                 files: Files | None = None) -> None:
        self.current: RuleSet | None = None
        self._options = options
        self._build = build
        self._refresh = refresh
        self._files = files
        self._prepared: RuleSet | None = None
        self._before: RuleSet | None = None
        self._alive: weakref.WeakSet[RuleSet] = weakref.WeakSet()
        self._last_said: dict[str, float] = {}
        #: failures by rule name, for the status page
        self.failures: dict[str, int] = {}

    # --- life cycle ----------------------------------------------------------------------------------------------

    @property
    def active_hooks(self) -> frozenset[str]:
        """What the current set, or one still pinned by a flow, needs."""
        return frozenset().union(*(rules.hooks for rules in self._alive))

    def prepare(self, rules: RuleSet) -> None:
        self._prepared = rules

    def configure(self, updated: set[str]) -> None:
        if "rules" not in updated:
            return
        value = tuple(self._options.rules)
        if not value:
            return
        digest = value[-1].removeprefix("digest:")
        # Beside the candidate, the set before it: a veto by a later addon brings the old digest back.
        known = {rules.digest: rules for rules in (self._before, self.current, self._prepared) if rules is not None}
        rules = known.get(digest) or self._build(without_digest(value))
        if rules is not self.current:
            self._before, self.current = self.current, rules
            self._alive.add(rules)
            self._refresh()

    # --- HTTP ----------------------------------------------------------------------------------------------------

    def requestheaders(self, flow: HTTPFlow) -> None:
        rules = self.current
        if rules is None:
            return
        exchange = RuleExchange(rules, flow, flow.client_conn, self._failed, self._options.rule_body_limit, self._files)
        flow.pinned = exchange
        exchange.request_head()

    def request(self, flow: HTTPFlow) -> None:
        if flow.pinned is not None:
            flow.pinned.request_body()

    def responseheaders(self, flow: HTTPFlow) -> None:
        if flow.pinned is not None:
            flow.pinned.response_head()

    def response(self, flow: HTTPFlow) -> None:
        if flow.pinned is not None:
            flow.pinned.response_body()

    def needs_body(self, flow: HTTPFlow, phase: Literal["request", "response"]) -> bool:
        exchange = flow.pinned
        if exchange is None:
            return False
        return bool(exchange.waits_for_request if phase == "request" else exchange.waits_for_response)

    # --- messages ------------------------------------------------------------------------------------------------

    def needs_messages(self, flow: HTTPFlow) -> bool:
        return self.current is not None and may_match_messages(self.current, flow)

    def websocket_message(self, flow: HTTPFlow) -> None:
        """Messages meet the set that is current when they arrive (rule-language 6.3)."""
        if self.current is not None:
            decide_message(self.current, flow, self._failed)

    def tcp_message(self, flow: TCPFlow) -> None:
        if self.current is not None:
            decide_message(self.current, flow, self._failed)

    def udp_message(self, flow: UDPFlow) -> None:
        if self.current is not None:
            decide_message(self.current, flow, self._failed)

    # --- tunnels -------------------------------------------------------------------------------------------------

    def http_connect(self, flow: HTTPFlow) -> None:
        """Connect rules: a block refuses the tunnel, a route moves it as long as it is relayed."""
        rules = self.current
        if rules is None or flow.response is not None:
            return
        open_tunnel(rules, flow, self._failed)

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision | None:
        rules = self.current
        return None if rules is None else start_tls(rules, tunnel, self._options.decrypt == "named", self._failed)

    def tunnel_decision(self, tunnel: Tunnel) -> TunnelDecision | None:
        return None if self.current is None else judge_tunnel(self.current, tunnel, self._failed)

    # --- names ---------------------------------------------------------------------------------------------------

    def dns_request(self, flow: DNSFlow) -> None:
        if self.current is not None and flow.response is None:
            answer_query(self.current, flow, self._failed)

    def resolve(self, name: str, client: Client | None) -> NameAnswer | None:
        """The rules' answer for a name the proxy is about to dial (rule-language 3.3)."""
        return None if self.current is None else resolve_name(self.current, name, client, self._failed)

    # --- failures ------------------------------------------------------------------------------------------------

    def _failed(self, rule: RuleInfo, exc: Exception) -> None:
        """One line a minute per rule, and a count (rule-language 4.8)."""
        self.failures[rule.name] = self.failures.get(rule.name, 0) + 1
        now = time.monotonic()
        if now - self._last_said.get(rule.name, -_SAY_AGAIN) >= _SAY_AGAIN:
            self._last_said[rule.name] = now
            if isinstance(exc, UnreadableBody):
                log.warning("%s: rule %s cannot do its work: %s", rule.where, rule.name, exc)
                return
            log.error("%s: rule %s failed: %s: %s", rule.where, rule.name, type(exc).__name__, exc)


def option_value(paths: tuple[str, ...], rules: RuleSet) -> tuple[str, ...]:
    """The `rules` option: the paths and the digest of their content. Raises OptionsError."""
    if any(path.startswith("digest:") for path in paths):
        raise OptionsError("a rule file cannot be called digest:…")
    return (*paths, f"digest:{rules.digest}")


def without_digest(value: tuple[str, ...]) -> tuple[str, ...]:
    """The paths in a `rules` option."""
    return tuple(path for path in value if not path.startswith("digest:"))
