"""Expansion of `${vars.x}` where no other template may stand: in matches, sets, includes and vars themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from typing import Protocol

from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.suggest import did_you_mean


class Reporter(Protocol):
    """Where mistakes go: a `Report` or a `Context`."""

    def error(self, at: Node, message: str, *, help: str = "", code: str = "") -> None: ...


_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
#: Vars that name vars must not multiply without bound.
MAX_EXPANDED = 64 * 1024


def expand_vars(node: Scalar, values: MappingType[str, str], report: Reporter, where: str = "in a match") -> str:
    """The node's text with `${vars.x}` expanded literally and `$${` as `${`; anything else in `${…}` is an error."""
    if "${" not in node.text:
        return node.text

    def replace(found: re.Match[str]) -> str:
        inner = found[1]
        if inner is None:
            return "${"
        group, _, name = inner.strip().partition(".")
        if not found[0].endswith("}"):
            report.error(node, 'a "${" is never closed', help="write $${ for the text ${ itself")
        elif group != "vars":
            report.error(node, f"${{{inner}}} is not known {where}: only ${{vars.…}} is",
                         help=f"did you mean ${{vars.{group}}}?" if group in values and not name else
                         "write $${ for the text ${ itself")
        elif name in values:
            return values[name]
        else:
            report.error(node, f"no variable {name}", code="unknown-var",
                         help=did_you_mean(name, values) or "variables are defined under vars: at the top of a file")
        return found[0]

    text = _REFERENCE.sub(replace, node.text)
    if len(text) > MAX_EXPANDED:
        report.error(node, f"with its variables expanded this is longer than {MAX_EXPANDED:,} characters")
        return ""
    return text
