"""What `redirect_server`, `map_remote` and `rewrite` share: where to, and how the matched path continues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rulesproxy.compiler.ir import All, AnyOf, Not, Predicate
from rulesproxy.compiler.source import Scalar
from rulesproxy.compiler.template import Place, Template, parse_template
from rulesproxy.model.names import InvalidHost, canonical_host
from rulesproxy.runtime.destination import BadDestination, parse_destination

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context


def destination(node: Scalar, context: Context) -> str | Template | None:
    """`host`, `host:port`, `:port` or `http(s)://host[:port]`, checked where it is constant; None after an error."""
    return checked(parse_template(node, context, place=Place.URL), node, context)


def checked(text: str | Template, node: Scalar, context: Context) -> str | Template | None:
    """The same for text that was parsed already."""
    if isinstance(text, str):
        try:
            parse_destination(text)
        except BadDestination as exc:
            context.error(node, str(exc),
                          help="write host, host:port, :port or http(s)://host[:port]; map_remote takes a path too")
            return None
    return text


def server_name(node: Scalar, context: Context) -> str | Template | None:
    """A host name for SNI and verification, canonical where it is constant; None after an error."""
    text = parse_template(node, context, place=Place.URL)
    if not isinstance(text, str):
        return text
    try:
        return canonical_host(text)
    except InvalidHost as exc:
        context.error(node, str(exc), help="a name, without a port")
        return None


def path_bases(match: Predicate) -> tuple[str, ...]:
    """The fixed parts of the path that the match stands on, longest first: `path_prefix`, or what is before `/**`.

    Empty when the match says nothing of the kind: then a mapped path replaces the whole path.
    """
    return tuple(sorted(_bases(match), key=lambda base: (-len(base), base)))


def _bases(match: Predicate) -> set[str]:
    match match:
        case All(items) | AnyOf(items):
            return {base for item in items for base in _bases(item)}
        case Not():
            return set()
    return set(match.bases)


def flag(node: Any, otherwise: bool) -> bool:
    return node.value is True if isinstance(node, Scalar) else otherwise
