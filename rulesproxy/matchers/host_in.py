"""`host_in`: the host is in a named set (rule-language 1.1, 2.3)."""

from __future__ import annotations

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.operators import Operator, TextOperator, TreeOperator
from rulesproxy.compiler.source import Node
from rulesproxy.compiler.strings_build import all_of, scalars, texts_of
from rulesproxy.matchers._hosts import HOSTS, HostLeaf, one_of

KEY = "host_in"
SUMMARY = "The host is in a named set."
EXAMPLE = """\
version: 1
sets:
  trackers: [pixel.example.com, .tracker.example]
rules:
  - name: block-trackers
    match: {host_in: trackers}
    action: {block: {status: 403}}
    tests:
      - {request: GET http://pixel.example.com/, expect: {rule: block-trackers}}
      - {request: GET http://eu.tracker.example/, expect: {rule: block-trackers}}
      - {request: GET http://www.example.com/, expect: {no_rule: block-trackers}}
"""
SCHEMA = {
    "description": "The name of a set of hosts. An entry x is that name or address; .x, like *.x, is everything below "
                   "it. A list of sets means any of them.",
    "$ref": "#/$defs/texts",
}


def build(node: Node, context: Context) -> HostLeaf | None:
    if texts_of(node, context) is None:
        return None
    sets = all_of([context.set_values(item) for item in scalars(node)])
    if sets is None:
        return None
    names: set[str] = set()
    roots: set[str] = set()
    bad: list[str] = []
    for entry in frozenset().union(*sets):
        plain = entry.removeprefix("**").removeprefix("*")
        name = HOSTS.entry(plain.removeprefix("."))
        if name is None:
            bad.append(entry)
        else:
            (roots if plain.startswith(".") else names).add(name)
    if bad:
        context.warning("bad-set-entry", node, f"{len(bad)} entries of the set are no hosts and never match, such as "
                                               f'"{min(bad)}"')
    return HostLeaf(node.pos, one_of(_operators(frozenset(names), frozenset(roots))))


def _operators(names: frozenset[str], roots: frozenset[str]) -> list[Operator]:
    both = names & roots
    operators: list[Operator] = [TextOperator("exact", names - both)]
    if both:
        operators.append(TreeOperator(".", both))
    if below := roots - both:
        operators.append(TreeOperator(".", below, apex=False))
    return operators if len(operators) == 1 or names - both else operators[1:]
