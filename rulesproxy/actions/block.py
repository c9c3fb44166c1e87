"""`block`: refuse, as early as the rule's keys allow (rule-language 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import answer_phases, effect
from rulesproxy.compiler.header_text import build_headers, text_bytes
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Place, parse_template
from rulesproxy.model.dns import DNSFlow
from rulesproxy.model.dns_types import response_codes
from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Response, reason_phrase
from rulesproxy.model.pages import error_response
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.messages import POLICY_VIOLATION, MessageFlow, refuse
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import MESSAGE_PHASES, Phase, Slot

KEY = "block"
SUMMARY = "Refuse: a DNS name does not exist, a tunnel is not opened, a request gets a page that names the rule."
EXAMPLE = """\
version: 1
rules:
  - name: no-trackers
    match: {domain: tracker.test}
    action: {block: {}}
    tests:
      - request: GET http://a.tracker.test/pixel.gif
        expect: {rule: no-trackers, status: 403, sent: nothing}
      - dns: {name: tracker.test, type: A}
        expect: {rule: no-trackers, dns: {rcode: NXDOMAIN}}
      - request: GET http://shop.test/
        expect: {no_rule: no-trackers}
"""
_HOW = ["page", "close", "reset", "hang"]
SCHEMA: dict[str, Any] = {
    "title": "block",
    "description": "Refuse. Empty, `close`, `reset` or `hang`: as early as possible, nothing is decrypted for it. "
                   "With `status` or `body`: a page in answer to the request, whose hosts are decrypted. With message "
                   "keys in the match: the WebSocket is closed with 1008, a TCP connection reset, a UDP flow dropped.",
    "type": ["object", "string", "boolean", "null"],
    "pattern": "^(page|close|reset|hang)$",
    "properties": {
        "how": {"description": "An answer (page), or none: close or reset the connection, or hang.", "enum": _HOW},
        "dns": {"description": "What a DNS client is told: nxdomain (default) or refuse.",
                "enum": ["nxdomain", "refuse"]},
        "status": {"description": "The page's status.", "type": "integer", "minimum": 400, "maximum": 599},
        "body": {"$ref": "#/$defs/text", "description": "The page's text instead of the one naming the rule."},
        "headers": {"description": "Fields of the page.", "type": "object",
                    "additionalProperties": {"$ref": "#/$defs/texts"}},
    },
    "additionalProperties": False,
}
_EARLY = frozenset((Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.REQUEST))


@dataclass(frozen=True, slots=True)
class Block(Op):
    """Refuse. `how` is `page`, `close`, `reset` or `hang`; `dns` the response code for queries."""

    SLOT: ClassVar[Slot] = Slot.ANSWER

    how: str = "page"
    dns: str = "nxdomain"
    status: int = 403
    body: bytes | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def apply(self, subject: HTTPFlow | DNSFlow, rule: RuleInfo | None) -> None:
        name = rule.name if rule is not None else ""
        if isinstance(subject, DNSFlow):
            code = response_codes.NXDOMAIN if self.dns == "nxdomain" else response_codes.REFUSED
            subject.response = subject.request.fail(code)
        elif self.how == "page":
            subject.response = self._page(subject, name)
            subject.own_page = True
        else:
            subject.drop = Drop(self.how)

    def _page(self, flow: HTTPFlow, name: str) -> Response:
        if self.body is None:
            # Nobody looks at the answer to a CONNECT in a browser: text (rule-language 3.1).
            asked = flow.request if flow.request.method != "CONNECT" else None
            response = error_response(self.status, "Blocked", "A rule of this proxy blocks this request.",
                                      request=asked, rule=name)
        else:
            fields = Headers(((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")))
            response = Response(self.status, reason_phrase(self.status), fields)
            response.set_content(self.body)
        given: dict[bytes, list[bytes]] = {}
        for key, value in self.headers:
            given.setdefault(key.lower(), []).append(value)
        for key, values in given.items():
            response.headers.set_all(key, values)
        return response


@dataclass(frozen=True, slots=True)
class BlockMessage(Op):
    """Keep the message back and end the conversation it belongs to."""

    SLOT: ClassVar[Slot] = Slot.CLOSE

    def apply(self, subject: MessageFlow, rule: RuleInfo | None) -> None:
        refuse(subject, rule, POLICY_VIOLATION, f"blocked by rule {rule.name}" if rule is not None else "blocked")


def build(node: Node, context: Context) -> list[Effect]:
    if isinstance(node, Scalar) and node.value is False:
        context.error(node, "block: false blocks nothing", help="leave it out, or set enabled: false on the rule")
        return []
    fields = dict.fromkeys(("how", "dns", "status", "body", "headers"))
    if isinstance(node, Mapping):
        fields.update({key.text: value for key, value in node})
    how = _text(fields["how"]) or (node.text if isinstance(node, Scalar) and node.text in _HOW else "page")
    args: dict[str, Any] = {"how": how}
    if fields["dns"] is not None:
        args["dns"] = _text(fields["dns"])
    page = fields["status"] is not None or fields["body"] is not None or fields["headers"] is not None
    if page and how != "page":
        context.error(node, f"with how: {how} nobody sees a page", help="leave status, body and headers out")
        return []
    if isinstance(fields["status"], Scalar):
        args["status"] = fields["status"].value
    if isinstance(fields["body"], Scalar):
        args["body"] = text_bytes(parse_template(fields["body"], context, place=Place.BODY))
    if fields["headers"] is not None:
        args["headers"] = build_headers(fields["headers"], context)
    if context.visible and context.visible <= MESSAGE_PHASES and not page:
        return [effect(context, node, BlockMessage, {}, phases=context.visible, slot=Slot.CLOSE)]
    if page:
        phases = answer_phases(context)
    else:
        phases = _EARLY if context.visible & _EARLY else frozenset((Phase.RESPONSE,))
    return [effect(context, node, Block, args, phases=phases, slot=Slot.ANSWER, needs_plaintext=page)]


def _text(node: Node | None) -> str | None:
    return node.text if isinstance(node, Scalar) else None
