"""How actions make their `Effect`s: what follows from the arguments is found out once, here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from rulesproxy.compiler.edit_values import Replacement
from rulesproxy.compiler.expression import Capture, Lookup, inner_values
from rulesproxy.compiler.ir import Effect, Predicate, Value
from rulesproxy.compiler.source import Node
from rulesproxy.compiler.template import Encoded, Template, values_in
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import ALL_PHASES, MESSAGE_PHASES, Phase, Slot

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context

REQUEST = frozenset((Phase.REQUEST,))
RESPONSE = frozenset((Phase.RESPONSE,))
WEBSOCKET = frozenset((Phase.WEBSOCKET,))
TCP = frozenset((Phase.TCP,))
UDP = frozenset((Phase.UDP,))


def answer_phases(context: Context) -> frozenset[Phase]:
    """An answer is given to the request where the rule's keys allow it, else in place of the response (4.6)."""
    return RESPONSE if Phase.RESPONSE in context.visible and Phase.REQUEST not in context.visible else REQUEST


def effect(context: Context, node: Node, op: type[Op], args: dict[str, Any], *, phases: frozenset[Phase],
           slot: Slot | None = None, kind: Literal["slot", "edit", "note", "pass"] = "slot",
           needs_plaintext: bool = False, reads_request_body: bool = False, reads_response_body: bool = False,
           replaces_body: bool = False, companion: bool = False, requires: Predicate | None = None) -> Effect:
    """An effect of `op` with these arguments. A template that looks at what is not there yet is an error."""
    values = list(values_in(tuple(args.values())))
    seen = _seen_in(values)
    if phases and not phases & seen:
        _report_unseen_value(phases, node, context)
    return Effect(
        op, tuple(args.items()), phases & seen, node.pos, slot=slot, kind=kind, needs_plaintext=needs_plaintext,
        reads_request_body=reads_request_body or any(value.reads_request_body for value in values),
        reads_response_body=reads_response_body or any(value.reads_response_body for value in values),
        replaces_body=replaces_body, companion=companion, requires=requires,
    )


def _report_unseen_value(phases: frozenset[Phase], node: Node, context: Context) -> None:
    if phases <= MESSAGE_PHASES:
        context.error(node, "what a template here looks at is not known when a message comes", code="template",
                      help="the request of a WebSocket's handshake is, without its body")
    else:
        context.error(node, "this is decided before there is a response", code="template",
                      help="with a response key in the match (status: …) the rule acts on the response")


def _seen_in(values: list[Value]) -> frozenset[Phase]:
    """The phases in which everything the values look at can be seen."""
    phases = ALL_PHASES
    for value in values:
        for inner in _made_from(value):
            if isinstance(inner, Lookup):
                phases &= inner.phases
            elif isinstance(inner, Capture):
                for leaf in inner.leaves:
                    phases &= leaf.PHASES
    return phases


def _made_from(value: Value) -> Iterator[Value]:
    match value:
        case Template(parts) | Replacement(_, parts):
            for part in parts:
                if isinstance(part, Value):
                    yield from _made_from(part)
        case Encoded(inner):
            for item in values_in(inner):
                yield from _made_from(item)
        case _:
            yield from inner_values(value)
