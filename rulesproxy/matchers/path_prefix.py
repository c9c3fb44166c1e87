"""`path_prefix`: a path and everything below it (rule-language 2.5)."""

from __future__ import annotations

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.operators import TreeOperator
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.strings import Condition, StringMatcher
from rulesproxy.compiler.strings_build import all_of, texts_of
from rulesproxy.matchers._paths import PathLeaf, is_path
from rulesproxy.model.names import canonical_path

KEY = "path_prefix"
SUMMARY = "A path and everything below it."
EXAMPLE = """\
version: 1
rules:
  - name: api-is-down
    match: {host: shop.example, path_prefix: /api}
    action: {respond: {status: 503, body: down}}
    tests:
      - {request: GET http://shop.example/api/items, expect: {rule: api-is-down, status: 503}}
      - {request: GET http://shop.example/apiary, expect: {no_rule: api-is-down}}
"""
SCHEMA = {
    "description": "This path and everything below it, by whole segments: /a covers /a, /a/ and /a/b, not /ab. A "
                   "slash at the end makes no difference.",
    "$ref": "#/$defs/texts",
}


def build(node: Node, context: Context) -> PathLeaf | None:
    texts = texts_of(node, context)
    roots = all_of([_root(text, item, context) for text, item in texts]) if texts is not None else None
    if roots is None:
        return None
    return PathLeaf(node.pos, StringMatcher((Condition((TreeOperator("/", frozenset(roots)),)),)))


def _root(text: str, node: Scalar, context: Context) -> str | None:
    if not is_path(text, node, context):
        return None
    if "*" in text or "{" in text:
        context.error(node, "path_prefix has no wildcards", code="bad-path",
                      help="use path for * and {captures}; a plain * is %2A, a plain { is %7B")
        return None
    return canonical_path(text).rstrip("/")
