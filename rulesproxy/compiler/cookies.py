"""Set-Cookie lines as rule files write them: a value, or a value with attributes (RFC 6265 §4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rulesproxy.compiler.header_text import header_value
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Place, Template

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context

COOKIE_SCHEMA: dict[str, Any] = {
    "title": "cookie", "description": "A value, or a value with attributes.",
    "type": ["string", "number", "boolean", "object"],
    "properties": {
        "value": {"$ref": "#/$defs/text", "description": "The cookie's value."},
        "path": {"type": "string", "description": "The Path attribute."},
        "domain": {"type": "string", "description": "The Domain attribute."},
        "expires": {"type": "string", "description": "The Expires attribute, an HTTP date."},
        "max_age": {"type": "integer", "description": "Seconds to live."},
        "secure": {"type": "boolean", "description": "Only over TLS."},
        "httponly": {"type": "boolean", "description": "Not for scripts."},
        "samesite": {"enum": ["Strict", "Lax", "None"], "description": "The SameSite attribute."},
    },
    "required": ["value"], "additionalProperties": False,
}
_ATTRIBUTES = {"path": "Path", "domain": "Domain", "expires": "Expires", "max_age": "Max-Age", "samesite": "SameSite"}
_FLAGS = {"secure": "Secure", "httponly": "HttpOnly"}


def cookie_line(node: Node, context: Context) -> str | Template | None:
    """The text behind `name=`; None after an error."""
    value = node.get("value") if isinstance(node, Mapping) else node
    line = [] if value is None else [header_value(value, context, Place.COOKIE)]
    for key, attribute in node if isinstance(node, Mapping) else ():
        if key.text in _ATTRIBUTES:
            line += [f"; {_ATTRIBUTES[key.text]}=", header_value(attribute, context, Place.COOKIE)]
        elif key.text in _FLAGS and isinstance(attribute, Scalar) and attribute.value is True:
            line.append(f"; {_FLAGS[key.text]}")
    parts = [part for part in line if part is not None]
    if len(parts) < len(line):
        return None
    if all(isinstance(part, str) for part in parts):
        return "".join(map(str, parts))
    return Template(tuple(part for part in parts if part != ""), Place.HEADER)
