"""Header names and values as rule files write them: checked at load, encoded once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.template import Encoded, Place, Template, parse_template, refuse_controls

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")  # RFC 9110 §5.6.2 token

#: Fields that say how a message is framed or belong to one hop: the proxy writes them, nobody else (4.4).
FRAMING = frozenset((
    "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
))
_USE_HOST = "use rewrite.host, or redirect_server with keep_host: false"


def check_name(node: Scalar, context: Context) -> bool:
    """Whether the node is the name of a field that rules may change; reported if not."""
    name = node.text
    if name.lower() in ("host", ":authority"):
        context.error(node, "Host says where the request goes and is not set as a header", help=_USE_HOST)
    elif not _NAME.match(name):
        context.error(node, f"{name!r} is not a header name")
    elif name.lower() in FRAMING:
        context.error(node, f"{name} frames the message or belongs to one connection: the proxy writes it itself",
                      code="framing-field")
    else:
        return True
    return False


def check_token(node: Scalar, context: Context) -> bool:
    """Whether the node can be the name of a cookie (RFC 6265 §4.1.1); reported if not."""
    if not _NAME.match(node.text):
        context.error(node, f"{node.text!r} is not a cookie name")
        return False
    return True


def header_value(node: Node, context: Context, place: Place = Place.HEADER) -> str | Template | None:
    """One value; None after an error."""
    if not isinstance(node, Scalar):
        context.error(node, "a header value is one text")
        return None
    text = parse_template(node, context, place=place)
    if refuse_controls((text,) if isinstance(text, str) else text.parts, node, context, place):
        return None
    return text.strip(" \t") if isinstance(text, str) else text


def header_values(node: Node, context: Context, place: Place = Place.HEADER) -> tuple[Any, ...]:
    """One value or a list of them: a line each. Mistakes are reported and left out."""
    items = node.items if isinstance(node, Sequence) else (node,)
    return tuple(value for item in items if (value := header_value(item, context, place)) is not None)


def build_headers(node: Node | None, context: Context) -> tuple[Any, ...]:
    """`name: value` (or a list of values) as fields of a message made here, in bytes where they are constant."""
    fields: list[Any] = []
    for name, written in node if isinstance(node, Mapping) else ():
        if check_name(name, context):
            values = header_values(written, context)
            fields += [(name.text.encode("ascii"), text_bytes(value)) for value in values]
    return tuple(fields)


def text_bytes(text: str | Template) -> Any:
    """A template's result as bytes: now, or made when it is known."""
    return text.encode("utf-8", "replace") if isinstance(text, str) else Encoded(text, json=False)


def with_no_store(fields: tuple[Any, ...]) -> tuple[Any, ...]:
    """A message made by a rule is kept by no cache, unless the rule says otherwise (rule-language 5.2)."""
    named = any(name.lower() == b"cache-control" for name, _ in fields)
    return fields if named else (*fields, (b"cache-control", b"no-store"))
