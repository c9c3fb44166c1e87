"""Named sets: lists written in the rule file or read from files as other tools keep them.

Entries that mean "this name and everything below" become two: `x` and `.x`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as MappingType

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.inputs import digest
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence

_HOSTS_LINE = re.compile(r"[0-9a-fA-F.:%]+\s+(.+)")
#: Names that hosts files give to the machine itself.
_OWN_NAMES = frozenset((
    "localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost", "ip6-loopback", "ip6-localnet",
    "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts", "0.0.0.0",
))  # fmt: skip
_DNSMASQ_LINE = re.compile(r"(?:address|server|local)=/([^=]*)/[^/]*")
_ADBLOCK_LINE = re.compile(r"\|\|([^/^$*|]+)\^?(?:\$(?:important|all|document))?")

SetCache = dict[tuple[str, str], frozenset[str]]


def build_set(node: Node, context: Context, cache: SetCache) -> frozenset[str]:
    """The entries of one set; mistakes are reported to `context`."""
    if isinstance(node, Sequence):
        return _inline(node, context)
    if not isinstance(node, Mapping):
        return frozenset()
    kind = node.get("format")
    style = kind.text if isinstance(kind, Scalar) else "plain"
    found = _inline(node.get("values"), context)
    files = node.get("file")
    for file in files.items if isinstance(files, Sequence) else (files,):
        if isinstance(file, Scalar) and (data := context.read_file(file)) is not None:
            found |= _from_file(data, style, cache)
    if not found and not context.report.has_errors:
        context.warning("empty-set", node, "this set has no entries")
    return found


def _inline(node: Node | None, context: Context) -> frozenset[str]:
    items = node.items if isinstance(node, Sequence) else ()
    return frozenset(context.match_text(item) for item in items if isinstance(item, Scalar))


def _from_file(data: bytes, style: str, cache: SetCache) -> frozenset[str]:
    key = (digest(data), style)
    if key not in cache:
        lines = data.decode("utf-8-sig", "replace").splitlines()
        cache[key] = frozenset(_FORMATS[style](lines))
    return cache[key]


def _plain(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if entry := line.partition("#")[0].strip():
            yield entry


def _hosts(lines: Iterable[str]) -> Iterator[str]:
    for line in _plain(lines):
        if found := _HOSTS_LINE.fullmatch(line):
            yield from (name for name in found[1].split() if name not in _OWN_NAMES)


def _dnsmasq(lines: Iterable[str]) -> Iterator[str]:
    for line in _plain(lines):
        if found := _DNSMASQ_LINE.fullmatch(line):
            for name in filter(None, found[1].split("/")):
                yield from (name, "." + name)


def _adblock(lines: Iterable[str]) -> Iterator[str]:
    # Exceptions (@@), paths and options narrower than a host have no meaning as a host list.
    for line in lines:
        if found := _ADBLOCK_LINE.fullmatch(line.strip()):
            yield from (found[1], "." + found[1])


_FORMATS: MappingType[str, Callable[[Iterable[str]], Iterator[str]]] = {
    "plain": _plain, "hosts": _hosts, "dnsmasq": _dnsmasq, "adblock": _adblock,
}  # fmt: skip
