"""Carries one exchange through a rule set: decide, wait for a body where a rule needs it, apply.

The Rules addon drives this from hooks, `rulesproxy test` and `explain` from synthetic exchanges: one code for both, so
a tester cannot disagree with the proxy. The rule set is pinned when the exchange starts and kept to its end.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from rulesproxy.model.connection import Client
from rulesproxy.model.encoding import DECODABLE, DecodeError
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Message
from rulesproxy.model.pages import error_response
from rulesproxy.runtime.decision import Decision, RuleInfo
from rulesproxy.runtime.edits import apply_request, apply_response
from rulesproxy.runtime.facts import Files, HttpFacts
from rulesproxy.runtime.phase import Phase, Slot
from rulesproxy.runtime.ruleset import ErrorHandler, RuleSet, TemplateError, UnreadableBody

_NEVER_BUFFERED = ("text/event-stream", "multipart/x-mixed-replace", "application/grpc")
#: Fields that make an origin answer with a part, or with nothing: a rule that reads bodies needs whole ones.
_PARTIAL = frozenset((b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since",
                      b"if-unmodified-since"))


class RuleExchange:
    """One HTTP exchange under one rule set. Call the four steps in order; each may be left out where it is not
    reached. `waits_for_request` and `waits_for_response` say whether a body must be complete before the next step.

    The flow is the caller's, and referred to weakly: it pins its exchange, and a cycle would keep bodies in memory
    until the garbage collector looks.
    """

    __slots__ = ("_body_limit", "_flow", "_on_error", "decisions", "facts", "rules", "waits_for_request",
                 "waits_for_response")

    def __init__(self, rules: RuleSet, flow: HTTPFlow, client: Client | None, on_error: ErrorHandler,
                 body_limit: int, files: Files | None = None) -> None:
        self.rules = rules
        self._flow = weakref.ref(flow)
        self.facts = HttpFacts(flow.request, client)
        self.facts.files = files
        self._on_error = on_error
        self._body_limit = body_limit
        self.waits_for_request = False
        self.waits_for_response = False
        #: What was decided, by phase: for `explain`, `test` and the log.
        self.decisions: dict[Phase, Decision] = {}

    @property
    def flow(self) -> HTTPFlow:
        flow = self._flow()
        if flow is None:
            raise RuntimeError("the flow is gone")
        return flow

    # --- the four steps ------------------------------------------------------------------------------------------

    def request_head(self) -> None:
        decision = self.rules.decide(Phase.REQUEST, self.facts, self._on_error)
        if decision is None:
            return
        if decision.waiting and decision.failure is None and may_buffer(self.flow.request, self._body_limit):
            self.waits_for_request = True
        else:
            self._decide_request(decision if not decision.waiting else None)

    def request_body(self) -> None:
        """The request is complete, or could not be buffered: decide what waited for it."""
        if not self.waits_for_request:
            return
        self.waits_for_request = False
        self.facts.request_ready = _is_readable(self.flow.request)
        # Response rules look at the body as the client sent it, whatever is done to it now (4.1).
        self.facts.request = self.flow.request.copy()
        self._decide_request(None)

    def _decide_request(self, decision: Decision | None) -> None:
        """The last word on the request: `decision`, or a new one with what there is of the body."""
        if decision is None:
            self.facts.request_over = True
            decision = self.rules.decide(Phase.REQUEST, self.facts, self._on_error)
        if decision is not None and not self._refuse_unreadable(decision, 413):
            self._apply_request(decision)

    def response_head(self) -> None:
        if self.flow.response is None or self.flow.own_page or not self.rules.has(Phase.RESPONSE):
            return
        self.facts.see_response(self.flow.response)
        decision = self.rules.decide(Phase.RESPONSE, self.facts, self._on_error)
        if decision is None:
            return
        if decision.waiting and decision.failure is None and may_buffer(self.flow.response, self._body_limit):
            self.waits_for_response = True
        else:
            self._decide_response(decision if not decision.waiting else None)

    def response_body(self) -> None:
        """The response is complete, or could not be buffered: decide what waited for it."""
        if not self.waits_for_response or self.flow.response is None:
            return
        self.waits_for_response = False
        self.facts.response_ready = _is_readable(self.flow.response)
        self._decide_response(None)

    def _decide_response(self, decision: Decision | None) -> None:
        if decision is None:
            self.facts.response_over = True
            decision = self.rules.decide(Phase.RESPONSE, self.facts, self._on_error)
        if decision is not None and not self._refuse_unreadable(decision, 502):
            self._apply_response(decision)

    # --- applying ------------------------------------------------------------------------------------------------

    def _apply_request(self, decision: Decision) -> None:
        self.decisions[Phase.REQUEST] = decision
        self.facts.acted = decision.acted
        if self._refuse_failure(decision):
            return
        flow = self.flow
        for rule, note in decision.notes:
            note.apply(flow, rule)
        if not self._guarded(decision, apply_request, decision.edits, flow):
            return
        if decision.answer is not None:
            self._guarded(decision, self._answer, decision)
            return  # a filled answer leaves route and via unused (4.3)
        if decision.route is not None and not self._guarded(decision, self._route, decision):
            return
        if decision.via is not None and not self._guarded(decision, self._via, decision, slot=Slot.VIA):
            return
        if decision.reads_response:
            ask_for_whole_bodies(flow)

    def _apply_response(self, decision: Decision) -> None:
        self.decisions[Phase.RESPONSE] = decision
        if self._refuse_failure(decision):
            return
        for rule, note in decision.notes:
            note.apply(self.flow, rule)
        if decision.answer is not None:
            self._guarded(decision, self._answer, decision)
        if not self.flow.own_page:  # a block page is not rewritten (4.6)
            self._guarded(decision, apply_response, decision.edits, self.flow)

    def _route(self, decision: Decision) -> None:
        assert decision.route is not None
        decision.route.apply(self.flow, decision.winners[Slot.ROUTE])

    def _via(self, decision: Decision) -> None:
        assert decision.via is not None
        decision.via.apply(self.flow, decision.winners[Slot.VIA])

    def _answer(self, decision: Decision) -> None:
        rule = decision.winners[Slot.ANSWER]
        assert decision.answer is not None
        self.flow.rule = rule.name
        decision.answer.apply(self.flow, rule)

    def _guarded(self, decision: Decision, step: Callable[..., object], *arguments: object,
                 slot: Slot = Slot.ROUTE) -> bool:
        """A value that must not be sent shows up while it is applied: refuse for it. False if that happened.

        Who has the answer, else `slot`, is to blame.
        """
        try:
            step(*arguments)
        except TemplateError as exc:
            rule = decision.winners.get(Slot.ANSWER) or decision.winners.get(slot) or decision.acted[0]
            self._on_error(rule, exc)
            self._refuse(exc.status, rule, str(exc))
            return False
        return True

    # --- refusing ------------------------------------------------------------------------------------------------

    def _refuse_failure(self, decision: Decision) -> bool:
        if decision.failure is None:
            return False
        rule, why, status = decision.failure
        self._refuse(status, rule, why)
        return True

    def _refuse_unreadable(self, decision: Decision, status: int) -> bool:
        """Rules that wait for a body that cannot be had: refuse for those that must, skip the others (5.2)."""
        if decision.failure is not None:
            return False
        for rule in decision.waiting:
            which = "request" if status == 413 else "response"
            self._on_error(rule, UnreadableBody(f"the {which} body is too large or cannot be decoded"))
            if rule.refuses_unreadable:
                self._refuse(status, rule, "the rule has to read a body that is too large or cannot be decoded")
                return True
        return False

    def _refuse(self, status: int, rule: RuleInfo, why: str) -> None:
        self.flow.rule = rule.name
        self.flow.response = error_response(status, f"Refused by rule {rule.name}", f"{why} ({rule.where})",
                                            request=self.flow.request, rule=rule.name)
        self.flow.own_page = True


def may_buffer(message: Message, limit: int) -> bool:
    """False for bodies that never end or are known to be too large: waiting for them would be wrong."""
    content_type = message.headers.first(b"content-type") or b""
    if content_type.decode("latin-1").strip().lower().startswith(_NEVER_BUFFERED):
        return False
    length = message.headers.first(b"content-length")
    return length is None or not length.isdigit() or int(length) <= limit


def _is_readable(message: Message) -> bool:
    """The whole body is here and its coding can be undone. A message without a body is readable too."""
    try:
        return message.get_content(strict=True) is not None
    except DecodeError:
        return False


def ask_for_whole_bodies(flow: HTTPFlow) -> None:
    """A rule may read the response body: no partial answers, no codings we cannot undo (rule-language 5.2)."""
    headers = flow.request.headers
    headers.fields = tuple(field for field in headers.fields if field[0].lower() not in _PARTIAL)
    offered = headers.first(b"accept-encoding")
    if offered is not None:
        kept = [item for item in offered.decode("latin-1").split(",")
                if item.split(";")[0].strip().lower() in DECODABLE]
        headers["accept-encoding"] = ",".join(kept).strip() or "identity"


