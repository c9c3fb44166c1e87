"""The message phase: one WebSocket message, TCP read or datagram through the rules (rule-language 4).

Messages meet the set that is current when they arrive (6.3). Nothing waits here: a message is decided and carried out
at once. What rules or scripts inject is not matched: a rule that answers a message must not answer its own answer.
"""

from __future__ import annotations

from typing import Any

from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.tcp import TCPFlow
from rulesproxy.model.udp import UDPFlow
from rulesproxy.model.websocket import LONGEST_REASON, Opcode, WebSocketMessage
from rulesproxy.runtime.decision import Decision, RuleInfo
from rulesproxy.runtime.edits import Edit, compose
from rulesproxy.runtime.fields import FieldEditor
from rulesproxy.runtime.message_facts import facts_of, handshake_facts
from rulesproxy.runtime.phase import Phase, Slot
from rulesproxy.runtime.ruleset import ErrorHandler, RuleSet
from rulesproxy.runtime.substitution import Substitution

MessageFlow = HTTPFlow | TCPFlow | UDPFlow

#: RFC 6455 §7.4.1: a policy was violated; something unexpected kept the endpoint from going on.
POLICY_VIOLATION, INTERNAL_ERROR = 1008, 1011


def phase_of(flow: MessageFlow) -> Phase:
    """The phase in which the flow's messages are decided."""
    if isinstance(flow, HTTPFlow):
        return Phase.WEBSOCKET
    return Phase.TCP if isinstance(flow, TCPFlow) else Phase.UDP


def message_of(flow: MessageFlow) -> Any:
    """The message in hand: the latest one."""
    conversation = flow.websocket if isinstance(flow, HTTPFlow) else flow
    assert conversation is not None
    return conversation.messages[-1]


def may_match_messages(rules: RuleSet, flow: HTTPFlow) -> bool:
    """Whether a rule could match a message of this WebSocket connection."""
    index = rules.indexes.get(Phase.WEBSOCKET)
    if index is None:
        return False
    facts = handshake_facts(flow)
    return any(True for _ in index.find(facts.host, facts.path))


def decide_message(rules: RuleSet, flow: MessageFlow, on_error: ErrorHandler) -> Decision | None:
    """Decide the message in hand and carry it out on the flow; None when no rule can match."""
    phase = phase_of(flow)
    if phase not in rules.indexes:
        return None
    message = message_of(flow)
    if message.injected:
        return None
    x = facts_of(flow)
    x.see(message)
    decision = rules.decide(phase, x, on_error)
    if decision is not None:
        _carry_out(decision, flow, message)
    return decision


def _carry_out(decision: Decision, flow: MessageFlow, message: Any) -> None:
    if decision.failure is not None:
        rule, why, _ = decision.failure
        refuse(flow, rule, INTERNAL_ERROR, f"{why} (rule {rule.name})")
        return
    for rule, note in decision.notes:
        note.apply(flow, rule)
    if decision.edits:
        apply_message(decision.edits, message)
    if decision.drop is not None:
        decision.drop.apply(flow, decision.winners[Slot.DROP])
    if decision.close is not None:
        decision.close.apply(flow, decision.winners[Slot.CLOSE])


def refuse(flow: MessageFlow, rule: RuleInfo | None, code: int, reason: str) -> None:
    """Keep the message back and end the conversation (rule-language 3.1). `code` and `reason` are for WebSocket."""
    message_of(flow).drop()
    if rule is not None:
        flow.rule = rule.name
    match flow:
        case HTTPFlow():
            close_websocket(flow, code, reason)
        case TCPFlow():
            flow.drop = Drop.RESET
        case UDPFlow():
            flow.drop = Drop.CLOSE


def close_websocket(flow: HTTPFlow, code: int, reason: str) -> None:
    """Close both sides after the message in hand. A reason that is too long for a frame is cut."""
    assert flow.websocket is not None
    short = reason.encode("utf-8", "replace")[:LONGEST_REASON].decode("utf-8", "ignore")
    flow.websocket.close(code, short)


# --- edits ---------------------------------------------------------------------------------------------------------


class _Content(FieldEditor):
    """The content of a message; its base is a text's bytes, or bytes."""

    def __init__(self, message: Any, name: str) -> None:
        super().__init__(message, name)
        self.content: bytes = message.content

    def set(self, value: Any) -> None:
        self.content = value

    def replace(self, substitutions: Any) -> None:
        substitution: Substitution
        for substitution in substitutions:
            self.content = substitution.apply_bytes(self.content)

    def write(self) -> None:
        if self.content is not self.message.content:
            self.message.content = self.content
            _keep_text_true(self.message)


def apply_message(edits: tuple[Edit, ...], message: Any) -> list[Edit]:
    """Compose the edits of the content and carry them out; answers those that were dropped."""
    editor = _Content(message, "content")
    dropped = compose(edits, editor)
    editor.write()
    return dropped


def _keep_text_true(message: Any) -> None:
    """RFC 6455 §5.6: a text message is UTF-8. One that a rule made something else of goes as a binary one."""
    if not isinstance(message, WebSocketMessage) or not message.is_text:
        return
    try:
        message.content.decode("utf-8")
    except UnicodeDecodeError:
        message.type = Opcode.BINARY
