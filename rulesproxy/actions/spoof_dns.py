"""`spoof_dns`: answer for a name (rule-language 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.ir import All, Effect, Leaf, Predicate, Test
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.template import Place, parse_template
from rulesproxy.compiler.writer import literal
from rulesproxy.model.dns import DNSFlow
from rulesproxy.model.dns_record import ResourceRecord
from rulesproxy.model.dns_types import classes, response_codes, types
from rulesproxy.model.names import InvalidHost, canonical_host
from rulesproxy.model.policy import NameAnswer
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

if TYPE_CHECKING:
    from rulesproxy.compiler.writer import Module

KEY = "spoof_dns"
SUMMARY = "Answer for a DNS name: these records, nothing for its other types. The proxy itself dials the same answer."
EXAMPLE = """\
version: 1
rules:
  - name: staging-name
    match: {host: api.shop.test}
    action: {spoof_dns: {A: 127.0.0.1, TXT: "hello from the lab"}}
    tests:
      - dns: {name: api.shop.test, type: A}
        expect: {rule: staging-name, dns: {rcode: NOERROR, answers: [127.0.0.1]}}
      - dns: {name: api.shop.test, type: AAAA}
        expect: {rule: staging-name, dns: {rcode: NOERROR, answers: []}}
"""
RECORDS = ("A", "AAAA", "CNAME", "TXT", "MX", "SRV", "PTR", "HTTPS", "NS")
_WHAT = {
    "A": "IPv4 addresses.", "AAAA": "IPv6 addresses.", "CNAME": "Another name, whose addresses are resolved.",
    "TXT": "Texts.", "MX": "`10 mail.example.com`", "SRV": "`priority weight port target`", "PTR": "Names.",
    "HTTPS": "`1 . alpn=h2`", "NS": "Names.",
}
SCHEMA: dict[str, Any] = {
    "title": "spoof_dns",
    "description": "An address (A or AAAA by its form), or records by type.",
    "type": ["object", "string"],
    "properties": {
        **{name: {"$ref": "#/$defs/texts", "description": _WHAT[name]} for name in RECORDS},
        "rcode": {"description": "The response code, with no records.",
                  "enum": ["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"]},
        "ttl": {"description": "Seconds the answer may be kept; default 5.", "type": "integer",
                "minimum": 0, "maximum": 604800},
        "others": {"description": "Types that are not listed: no records (empty, default), or forward.",
                   "enum": ["empty", "forward"]},
        "for": {"description": "Only for clients' queries, or only for what the proxy dials; default both.",
                "enum": ["both", "clients", "proxy"]},
    },
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class SpoofDns(Op):
    """`records` as (type, text) pairs in presentation form. It owns the name: other types are answered empty."""

    SLOT: ClassVar[Slot] = Slot.NAME

    records: tuple[tuple[str, str], ...] = ()
    rcode: str = "NOERROR"
    ttl: int = 5

    def apply(self, subject: DNSFlow, rule: RuleInfo | None) -> None:
        question = subject.request.question
        if question is None:
            return
        if self.rcode != "NOERROR":
            subject.response = subject.request.fail(response_codes.from_str(self.rcode))
            return
        wanted = types.to_str(question.type)
        if question.class_ not in (classes.IN, classes.ANY):
            subject.response = subject.request.succeed()  # the records of a rule are of the Internet, not of CHAOS
            return
        subject.response = subject.request.succeed(
            _record(question.name, question.type, text, self.ttl) for kind, text in self.records if kind == wanted)
        target = self._alias()
        if target is not None and wanted != "CNAME":
            subject.response.answers = [ResourceRecord.CNAME(question.name, target, ttl=self.ttl)]
            subject.follow = target

    def _alias(self) -> str | None:
        return next((text for kind, text in self.records if kind == "CNAME"), None)

    def answer_for_dial(self, name: str, rule: RuleInfo) -> NameAnswer:
        """The same answer for a name the proxy dials. Without addresses it fails the dial, as it fails a client's."""
        if self.rcode != "NOERROR":
            return NameAnswer(rcode=self.rcode, rule=rule.name)
        addresses = tuple(text for kind, text in self.records if kind in ("A", "AAAA"))
        if addresses:
            return NameAnswer(addresses, rule=rule.name)
        alias = self._alias()
        return NameAnswer(alias=alias if alias is not None and alias != name else "", rule=rule.name)


@dataclass(frozen=True, slots=True)
class Asked(Leaf):
    """Who asks for what: `for` and `others: forward` narrow the name to some queries."""

    PHASES: ClassVar[frozenset[Phase]] = frozenset((Phase.DNS,))

    own: bool | None = None
    types: frozenset[str] | None = None

    def holds(self, x: Any) -> bool:
        return (self.own is None or x.own == self.own) and (self.types is None or x.dns_type in self.types)

    def emit(self, module: Module) -> Test:
        parts = []
        if self.own is not None:
            parts.append("x.own" if self.own else "not x.own")
        if self.types is not None:
            parts.append(f"x.dns_type in {module.const(literal(self.types))}")
        return Test(" and ".join(parts) or "True")


def build(node: Node, context: Context) -> list[Effect]:
    fields: dict[str, Node] = {}
    if isinstance(node, Mapping):
        fields = {key.text: value for key, value in node}
    elif isinstance(node, Scalar):
        fields = {"AAAA" if ":" in node.text else "A": node}
    records = tuple(record for kind in RECORDS if kind in fields for record in _records(kind, fields[kind], context))
    if not _consistent(fields, node, context):
        return []
    args: dict[str, Any] = {"records": records}
    for key in ("rcode", "ttl"):
        value = fields.get(key)
        if isinstance(value, Scalar):
            args[key] = value.text if key == "rcode" else value.value
    return [effect(context, node, SpoofDns, args, phases=frozenset((Phase.DNS,)), slot=Slot.NAME,
                   requires=_requires(fields, node, context))]


def _requires(fields: dict[str, Node], node: Node, context: Context) -> Predicate | None:
    whom, others = fields.get("for"), fields.get("others")
    own = {"clients": False, "proxy": True}.get(whom.text) if isinstance(whom, Scalar) else None
    listed = frozenset(kind for kind in RECORDS if kind in fields)
    forward = isinstance(others, Scalar) and others.text == "forward"
    if own is None and not forward:
        return None
    return All((Asked(node.pos, own, listed if forward and "CNAME" not in listed else None),))


def _consistent(fields: dict[str, Node], node: Node, context: Context) -> bool:
    listed = [kind for kind in RECORDS if kind in fields]
    rcode = fields.get("rcode")
    if not listed and rcode is None:
        context.error(node, "spoof_dns says nothing", help="give records, or an rcode such as NXDOMAIN")
        return False
    if listed and isinstance(rcode, Scalar) and rcode.text != "NOERROR":
        context.error(rcode, f"an answer with rcode {rcode.text} carries no records")
        return False
    others = fields.get("others")
    if not listed and isinstance(others, Scalar) and others.text == "forward":
        context.error(others, "with an rcode for the name there are no other types to forward")
        return False
    if "CNAME" in fields and len(listed) > 1:
        context.error(node, "a name with a CNAME has no other records", help="RFC 1034 §3.6.2")
        return False
    return True


def _records(kind: str, node: Node, context: Context) -> list[tuple[str, Any]]:
    items = node.items if isinstance(node, Sequence) else (node,)
    records: list[tuple[str, Any]] = []
    for item in items:
        if not isinstance(item, Scalar):
            continue
        text = parse_template(item, context, place=Place.TEXT)
        if not isinstance(text, str):
            context.error(item, "DNS answers are fixed: only ${vars.…} is expanded here")
            continue
        why = _check(kind, text)
        if why:
            context.error(item, why, code="dns-record")
        else:
            records.append((kind, canonical_host(text) if kind == "CNAME" else text))
    return records


def _check(kind: str, text: str) -> str:
    """What is wrong with a record's text; empty when nothing is."""
    try:
        match kind:
            case "A":
                IPv4Address(text)
            case "AAAA":
                IPv6Address(text)
            case "CNAME":
                canonical_host(text)
            case _:
                _record("name.test", types.from_str(kind), text, 0)
    except (AddressValueError, InvalidHost, ValueError) as exc:
        wanted = {"A": "an IPv4 address", "AAAA": "an IPv6 address", "CNAME": "a host name"}.get(kind, f"{kind} data")
        return f"{text!r} is not {wanted}" + ("" if kind in ("A", "AAAA", "CNAME") else f": {exc}")
    return ""


def _record(name: str, type_: int, text: str, ttl: int) -> ResourceRecord:
    """A record in zone-file form; a TXT record that does not start with a quote is the text itself, spaces and all."""
    if type_ == types.TXT and not text.startswith('"'):
        return ResourceRecord.TXT(name, text, ttl=ttl)
    return ResourceRecord.from_text(name, type_, text, ttl=ttl)
