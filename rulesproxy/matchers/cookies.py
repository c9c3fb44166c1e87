"""`cookies`: cookies of the request by name, HTTP/2 crumbs joined first (rule-language 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Predicate
from rulesproxy.compiler.source import Node
from rulesproxy.matchers._leaves import ValuesLeaf
from rulesproxy.matchers._names import build_values, cookie_name
from rulesproxy.runtime.phase import REQUEST_PHASES

KEY = "cookies"
SUMMARY = "Cookies of the request: name and string matcher."
EXAMPLE = """\
version: 1
rules:
  - name: logged-in
    match: {host: shop.example, cookies: {session: {present: true}}}
    action: {rewrite: {headers: {set: {x-logged-in: "yes"}}}}
    tests:
      - {request: {url: "http://shop.example/", headers: {Cookie: "a=b; session=42"}}, expect: {rule: logged-in}}
      - {request: GET http://shop.example/, expect: {no_rule: logged-in}}
"""
SCHEMA = {
    "description": "Cookie name (case counts) -> string matcher; holds if any cookie of that name fits. With not and "
                   "absent none may.",
    "$ref": "#/$defs/string_matchers",
}


@dataclass(frozen=True, slots=True)
class CookieLeaf(ValuesLeaf):
    PHASES = REQUEST_PHASES
    FACT = "cookie"
    WORD = "cookie"

    @property
    def key(self) -> str:
        return self.name


def build(node: Node, context: Context) -> Predicate | None:
    return build_values(node, context, CookieLeaf, cookie_name)
