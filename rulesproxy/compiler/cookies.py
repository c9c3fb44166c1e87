"""Set-Cookie lines as rule files write them: a value, or a value with attributes (RFC 6265 §4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rulesproxy.compiler.header_text import header_value
from rulesproxy.compiler.source import Mapping, Node, Scalar

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


def cookie_line(node: Node, context: Context) -> Any:
    """The text behind `name=`; None after an error."""
    if isinstance(node, Scalar):
        return header_value(node, context)
    if not isinstance(node, Mapping):
        return None
    value = node.get("value")
    if not isinstance(value, Scalar):
        return None
    line = value.text
    for key, attribute in node:
        if not isinstance(attribute, Scalar):
            continue
        if key.text in _ATTRIBUTES:
            if ";" in attribute.text:
                context.error(attribute, "an attribute of a cookie has no semicolon")
                return None
            line += f"; {_ATTRIBUTES[key.text]}={attribute.text}"
        elif key.text in _FLAGS and attribute.value is True:
            line += f"; {_FLAGS[key.text]}"
    return header_value(Scalar(value.pos, line, value.plain), context)

