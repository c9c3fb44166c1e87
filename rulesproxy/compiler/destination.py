"""What `redirect_server`, `map_remote` and `rewrite` share: where to, and how the matched path continues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rulesproxy.compiler.ir import Predicate, leaves
from rulesproxy.compiler.source import Scalar
from rulesproxy.compiler.template import Place, Template, parse_template
from rulesproxy.runtime.destination import BadDestination, parse_destination

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context


def destination(node: Scalar, context: Context) -> str | Template | None:
    """`host`, `host:port`, `:port` or `http(s)://host[:port]`, checked where it is constant; None after an error."""
    text = parse_template(node, context, place=Place.URL)
    if isinstance(text, str):
        try:
            parse_destination(text)
        except BadDestination as exc:
            context.error(node, str(exc), help="write host, host:port, :port or http(s)://host[:port]")
            return None
    return text


def path_bases(match: Predicate) -> tuple[str, ...]:
    """The fixed parts of the path that the match stands on, longest first: `path_prefix`, or what is before `/**`.

    Empty when the match says nothing of the kind: then a mapped path replaces the whole path.
    """
    found = {base for leaf in leaves(match) for base in leaf.bases}
    return tuple(sorted(found, key=lambda base: (-len(base), base)))


def flag(node: Any, otherwise: bool) -> bool:
    return node.value is True if isinstance(node, Scalar) else otherwise
