"""Name → string matcher mappings: one leaf for each name, so that `explain` can say which one failed."""

from __future__ import annotations

import re
from collections.abc import Callable

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import All, Predicate
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.strings_build import all_of, build_strings, text_of
from rulesproxy.matchers._leaves import ValuesLeaf

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
NameReader = Callable[[str, Scalar, Context], str | None]


def build_values(node: Node, context: Context, leaf: type[ValuesLeaf], read_name: NameReader) -> Predicate | None:
    """All of the names' leaves. None after an error, which is reported."""
    if not isinstance(node, Mapping):
        return None
    built: list[ValuesLeaf | None] = [_leaf(name, value, context, leaf, read_name) for name, value in node]
    leaves: list[ValuesLeaf] | None = all_of(built)
    if leaves is None:
        return None
    return leaves[0] if len(leaves) == 1 else All(tuple(leaves))


def _leaf(name: Scalar, value: Node, context: Context, leaf: type[ValuesLeaf],
          read_name: NameReader) -> ValuesLeaf | None:
    text = text_of(name, context)
    wanted = read_name(text, name, context) if text is not None else None
    matcher = build_strings(value, context)
    return None if wanted is None or matcher is None else leaf(name.pos, wanted, matcher)


def field_name(text: str, node: Scalar, context: Context) -> str | None:
    """A field name in lower case: they have no case (RFC 9110 §5.1)."""
    if _TOKEN.fullmatch(text):
        return text.lower()
    help = "write the name without the colon" if text.endswith(":") else "a name is letters, digits, - and _"
    context.error(node, f'"{text}" is not a header name', help=help, code="bad-name")
    return None


def cookie_name(text: str, node: Scalar, context: Context) -> str | None:
    """A cookie name, with its case. Browsers send more than RFC 6265 allows; what splits a Cookie line is refused."""
    if text and text == text.strip() and not any(char in "=;\x00\r\n" for char in text):
        return text
    context.error(node, f'"{text}" is not a cookie name', code="bad-name")
    return None


def query_key(text: str, node: Scalar, context: Context) -> str | None:
    """A query key as it is after decoding: any text."""
    return text
