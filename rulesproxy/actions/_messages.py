"""What `websocket`, `tcp` and `udp` have in common: new content, dropping, messages of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.byte_text import DESCRIPTION, bytes_of
from rulesproxy.compiler.context import Context
from rulesproxy.compiler.edit_values import REPLACE_SCHEMA, replacements
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.header_text import text_bytes
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.template import Place, document_bytes, parse_template
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.edits import Edit
from rulesproxy.runtime.messages import MessageFlow, message_of
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

_CONTENT: dict[str, Any] = {
    "text": {"$ref": "#/$defs/text", "description": "The content as text; templates may stand in it."},
    "json": {"description": "The content as a JSON document; templates may stand in its texts."},
    "bytes": {"$ref": "#/$defs/text", "description": f"The content as {DESCRIPTION}"},
}
_ONE_REPLACEMENT: dict[str, Any] = {
    "title": "replacement",
    "properties": {
        **REPLACE_SCHEMA["properties"],
        "text": {"$ref": "#/$defs/text", "description": "With `with`: a plain text to find. Alone: the new content."},
        "json": _CONTENT["json"], "bytes": {"$ref": "#/$defs/text", "description": f"The new content as {DESCRIPTION}"},
    },
    "additionalProperties": False, "minProperties": 1,
}  # fmt: skip
REPLACE: dict[str, Any] = {
    **_ONE_REPLACEMENT,
    "type": ["object", "string", "number", "boolean", "array"],
    "items": {"type": "object", **_ONE_REPLACEMENT}, "minItems": 1,
    "description": "Other content: a text, or a mapping with text, json or bytes; or regex (or text) and with, to "
                   "replace what is found in it; a list of those is done in turn.",
}  # fmt: skip
_ONE_SEND: dict[str, Any] = {
    "title": "send",
    "properties": {
        "to": {"description": "Who gets it.", "enum": ["client", "server"]},
        **_CONTENT,
    },
    "required": ["to"], "additionalProperties": False,
}  # fmt: skip
SEND: dict[str, Any] = {
    **_ONE_SEND, "type": ["object", "array"], "items": {"type": "object", **_ONE_SEND}, "minItems": 1,
    "description": "A message of one's own, or a list of them, after the message in hand. Rules do not look at it.",
}
DROP: dict[str, Any] = {"description": "true: the message does not go on.", "const": True}


@dataclass(frozen=True, slots=True)
class DropMessage(Op):
    """Keep the message in hand from going on."""

    SLOT: ClassVar[Slot] = Slot.DROP

    def apply(self, subject: MessageFlow, rule: RuleInfo | None) -> None:
        message_of(subject).drop()


@dataclass(frozen=True, slots=True)
class Send(Op):
    """A message to one side, as if the other had sent it. `is_text` is the kind of message on a WebSocket."""

    to: str
    content: bytes
    is_text: bool = True

    def apply(self, subject: MessageFlow, rule: RuleInfo | None) -> None:
        to_client = self.to == "client"
        if not isinstance(subject, HTTPFlow):
            subject.inject(self.content, to_client=to_client)
        elif subject.websocket is not None:
            subject.websocket.inject(self.content, to_client=to_client, is_text=self.is_text)


def build_common(node: Node, context: Context, phase: Phase, *, plaintext: bool) -> list[Effect]:
    """The effects of `replace`, `drop` and `send`; `plaintext`: they cannot be had in TLS that is not decrypted."""
    if not isinstance(node, Mapping):
        return []
    effects: list[Effect] = []
    phases = frozenset((phase,))
    replace, drop, send = node.get("replace"), node.get("drop"), node.get("send")
    if drop is not None and replace is not None:
        context.error(replace, "a message that is dropped needs no other content", help="leave one of them out")
        return []
    if replace is not None:
        effects += [effect(context, at, Edit, args, phases=phases, kind="edit", needs_plaintext=plaintext)
                    for at, args in _replace(replace, context)]
    if drop is not None:
        effects.append(effect(context, drop, DropMessage, {}, phases=phases, slot=Slot.DROP, needs_plaintext=plaintext))
    for item in send.items if isinstance(send, Sequence) else (send,):
        args = _send(item, context) if isinstance(item, Mapping) else None
        if args is not None and item is not None:
            effects.append(effect(context, item, Send, args, phases=phases, kind="note", needs_plaintext=plaintext))
    return effects


def _replace(node: Node, context: Context) -> list[tuple[Node, dict[str, Any]]]:
    """Arguments for `Edit`, each with its place."""
    if isinstance(node, Scalar):
        return [(node, _edit("set", text_bytes(parse_template(node, context, place=Place.BODY))))]
    if isinstance(node, Mapping) and ("json" in node or "bytes" in node or ("with" not in node and "text" in node)):
        content = _content(node, context)
        return [] if content is None else [(node, _edit("set", content[0]))]
    for item in node.items if isinstance(node, Sequence) else ():
        if isinstance(item, Mapping) and "with" not in item:
            context.error(item, "in a list stand replacements with regex or text, and with")
            return []
    return [(node, _edit("replace", replacements(node, context, Place.BODY)))]


def _edit(op: str, value: Any) -> dict[str, Any]:
    return {"message": "message", "field": "content", "name": "", "op": op, "value": value}


def _send(node: Mapping, context: Context) -> dict[str, Any] | None:
    to, content = node.get("to"), _content(node, context)
    if content is None or not isinstance(to, Scalar):
        return None
    return {"to": to.text, "content": content[0], "is_text": content[1]}


def _content(node: Mapping, context: Context) -> tuple[Any, bool] | None:
    """Whole content: the bytes, or what makes them, and whether they are text. None after an error."""
    given = [(key, value) for key, value in node if key.text != "to"]
    if len(given) != 1 or given[0][0].text not in _CONTENT:
        context.error(node, "say what to send: text, json or bytes, one of them" if "to" in node else
                      "new content is text, json or bytes, one of them")
        return None
    [(key, value)] = given
    if key.text == "json":
        return document_bytes(value, context), True
    if not isinstance(value, Scalar):
        return None
    if key.text == "text":
        return text_bytes(parse_template(value, context, place=Place.BODY)), True
    content = bytes_of(value, context)
    return None if content is None else (content, False)
