"""Header names and values as rule files write them: checked at load, encoded once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.template import Encoded, Place, Template, parse_template

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")  # RFC 9110 §5.6.2 token
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 §5.5

#: Fields that say how a message is framed or belong to one hop: the proxy writes them, nobody else (4.4).
FRAMING = frozenset((
    "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
))
_INSTEAD = {"host": "use rewrite.host, or redirect_server with keep_host: false",
            "content-encoding": "", ":authority": "use rewrite.host"}


def check_name(node: Scalar, context: Context) -> bool:
    """Whether the node is the name of a field that rules may change; reported if not."""
    name = node.text
    if not _NAME.match(name):
        context.error(node, f"{name!r} is not a header name", help=_INSTEAD.get(name.lower(), ""))
        return False
    if name.lower() in FRAMING:
        context.error(node, f"{name} frames the message or belongs to one connection: the proxy writes it itself",
                      code="framing-field")
        return False
    if name.lower() == "host":
        context.error(node, "Host says where the request goes and is not set as a header", help=_INSTEAD["host"])
        return False
    return True


def header_value(node: Node, context: Context) -> str | Template | None:
    """One value; None after an error."""
    if not isinstance(node, Scalar):
        context.error(node, "a header value is one text")
        return None
    text = parse_template(node, context, place=Place.HEADER)
    constant = text if isinstance(text, str) else "".join(p for p in text.parts if isinstance(p, str))
    bad = _FORBIDDEN.search(constant)
    if bad is not None:
        names = {"\r": "a carriage return", "\n": "a line break", "\0": "NUL"}
        what = names.get(bad[0], f"the control U+{ord(bad[0]):04X}")
        context.error(node, f"a header value cannot contain {what}", code="header-value")
        return None
    return text.strip(" \t") if isinstance(text, str) else text


def header_values(node: Node, context: Context) -> tuple[Any, ...] | None:
    """One value or a list of them: a line each."""
    items = node.items if isinstance(node, Sequence) else (node,)
    found = [header_value(item, context) for item in items]
    return tuple(found) if all(value is not None for value in found) else None


def build_headers(node: Mapping, context: Context) -> tuple[Any, ...]:
    """`name: value` (or a list of values) as fields of a message made here, in bytes where they are constant."""
    fields: list[Any] = []
    for name, written in node:
        if not check_name(name, context):
            continue
        for text in header_values(written, context) or ():
            value = text.encode("utf-8") if isinstance(text, str) else Encoded(text, json=False)
            fields.append((name.text.encode("ascii"), value))
    return tuple(fields)
