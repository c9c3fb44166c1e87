"""How actions make their `Effect`s: flags computed from the arguments, checked once, here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rulesproxy.compiler.expression import Filtered, Lookup
from rulesproxy.compiler.ir import Effect, Predicate, Value
from rulesproxy.compiler.source import Node
from rulesproxy.compiler.template import Encoded, Template, values_in
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context

REQUEST = frozenset((Phase.REQUEST,))
RESPONSE = frozenset((Phase.RESPONSE,))


def answer_phases(context: Context) -> frozenset[Phase]:
    """An answer is given to the request where the rule's keys allow it, else in place of the response (4.6)."""
    return REQUEST if Phase.REQUEST in context.visible else RESPONSE


def effect(context: Context, node: Node, op: type[Op], args: dict[str, Any], *, phases: frozenset[Phase],
           slot: Slot | None = None, kind: Literal["slot", "edit", "note", "pass"] = "slot",
           needs_plaintext: bool = False, reads_request_body: bool = False, reads_response_body: bool = False,
           companion: bool = False, requires: Predicate | None = None) -> Effect:
    """An effect of `op` with these arguments. A template that looks at the response before there is one is an error."""
    values = list(values_in(tuple(args.values())))
    if Phase.RESPONSE not in phases and not companion and any(_sees_response(value) for value in values):
        context.error(node, "this is decided before there is a response", code="template",
                      help="response.… can be used where the response is changed")
    return Effect(
        op, tuple(args.items()), phases, node.pos, slot=slot, kind=kind, needs_plaintext=needs_plaintext,
        reads_request_body=reads_request_body or any(value.reads_request_body for value in values),
        reads_response_body=reads_response_body or any(value.reads_response_body for value in values),
        companion=companion, requires=requires,
    )


def _sees_response(value: Value) -> bool:
    match value:
        case Lookup():
            return value.sees_response
        case Filtered():
            return _sees_response(value.value)
        case Template():
            return any(isinstance(part, Value) and _sees_response(part) for part in value.parts)
        case Encoded():
            return any(_sees_response(inner) for inner in values_in(value.inner))
    return False
