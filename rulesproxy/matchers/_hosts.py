"""Host names in rules: reading them, their index keys, and the leaf that `host`, `domain` and `host_in` share.

Rule text goes through the same canonical form as traffic (rule-language 2.3), a glob label by label.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import HostKeys
from rulesproxy.compiler.operators import Glob, GlobOperator, Operator, RegexOperator, TextOperator, TreeOperator
from rulesproxy.compiler.source import Scalar
from rulesproxy.compiler.strings import Condition, StringMatcher
from rulesproxy.compiler.strings_build import Dialect, Text, all_of
from rulesproxy.matchers._leaves import TextLeaf
from rulesproxy.model.names import InvalidHost, canonical_host
from rulesproxy.runtime.patterns import glob_source, host_source
from rulesproxy.runtime.phase import ALL_PHASES

_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):([0-9]*)")
_LABEL = re.compile(r"[a-z0-9_*-]+")
_REGEX_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_STARTS = ("^", r"\A", r"\.", r"(^|\.)", r"(?:^|\.)")


@dataclass(frozen=True, slots=True)
class HostLeaf(TextLeaf):
    """The host is one of these: the query name, CONNECT host, SNI or request host, by phase."""

    PHASES = ALL_PHASES
    IS_HOST = True
    FACT = "host"

    def host_keys(self) -> HostKeys | None:
        return matcher_keys(self.matcher)

    @property
    def unanchored(self) -> bool:
        """True if an expression also fits inside longer names."""
        return any(not _is_anchored(text)
                   for condition in self.matcher.conditions
                   for operator in condition.operators if isinstance(operator, RegexOperator)
                   for text in operator.patterns)


def matcher_keys(matcher: StringMatcher) -> HostKeys | None:
    """Keys that cover every name the matcher holds for; None when there are none."""
    found = HostKeys()
    for condition in matcher.conditions:
        keys = _condition_keys(condition)
        if keys is None:
            return None
        found |= keys
    return found


def _condition_keys(condition: Condition) -> HostKeys | None:
    """The keys of any of the operators will do: they all hold together."""
    return next((keys for operator in condition.operators if (keys := _operator_keys(operator)) is not None), None)


def _operator_keys(operator: Operator) -> HostKeys | None:
    match operator:
        case TextOperator(kind="exact", texts=texts):
            return HostKeys(exact=texts)
        case TextOperator(kind="suffix", texts=texts) if all(len(text) > 1 and text[0] == "." for text in texts):
            return HostKeys(suffixes=frozenset(text[1:] for text in texts))
        case TreeOperator(roots=roots):
            return HostKeys(suffixes=roots)
        case GlobOperator(globs=globs) if all(glob.tree for glob in globs):
            return HostKeys(suffixes=frozenset(glob.tree for glob in globs))
    return None


def _is_anchored(expression: str) -> bool:
    """True if every branch starts where a label starts and ends where the name ends."""
    branches: list[list[str]] = [[]]
    depth = 0
    for token in _REGEX_TOKEN.findall(expression):
        depth += (token == "(") - (token == ")")
        if token == "|" and depth == 0:
            branches.append([])
        else:
            branches[-1].append(token)
    return all("".join(branch).startswith(_STARTS) and branch[-1] in ("$", r"\z") for branch in branches)


def one_of(operators: list[Operator]) -> StringMatcher:
    """The matcher that holds if any of the operators does."""
    return StringMatcher(tuple(Condition((operator,)) for operator in operators))


# --- reading ------------------------------------------------------------------------------------------------------


class HostDialect(Dialect):
    """A bare text is a name or an address, or with `*` a glob."""

    LOWERED = True

    def bare(self, texts: Sequence[Text], context: Context) -> list[Operator] | None:
        exact = all_of([self.exact(text, node, context) for text, node in texts if "*" not in text])
        globs = all_of([self.glob(text, node, context) for text, node in texts if "*" in text])
        if exact is None or globs is None:
            return None
        # `**.example.com` needs no expression: it is everything below a name
        below = [glob for glob in globs if glob.text == f"**.{glob.tree}"]
        operators: list[Operator] = [TextOperator("exact", frozenset(exact))] if exact else []
        if below:
            operators.append(TreeOperator(".", frozenset(glob.tree for glob in below), apex=False))
        return [*operators, *(GlobOperator((glob,)) for glob in globs if glob not in below)]

    def exact(self, text: str, node: Scalar, context: Context) -> str | None:
        if _is_misplaced(text, node, context):
            return None
        try:
            return canonical_host(text)
        except InvalidHost as exc:
            context.error(node, str(exc), code="bad-host",
                          help="variables are written ${vars.NAME}" if "{{" in text else "")
            return None

    def entry(self, text: str) -> str | None:
        try:
            return canonical_host(text)
        except InvalidHost:
            return None

    def glob(self, text: str, node: Scalar, context: Context) -> Glob | None:
        if _is_misplaced(text, node, context):
            return None
        labels = all_of([_glob_label(label, node, context) for label in text.removesuffix(".").split(".")])
        return None if labels is None else _glob(labels)


def _is_misplaced(text: str, node: Scalar, context: Context) -> bool:
    """Reports what belongs under another key: a port, a URL, a path."""
    if "://" in text or "/" in text:
        rest = text.partition("://")[2] or text
        host, _, path = rest.partition("/")
        wanted = ", ".join([f"host: {host}"] * bool(host) + [f"path: /{path}"] * bool(path))
        context.error(node, f'"{text}" is a URL, not a host', help=f"write {wanted}" if wanted else "", code="bad-host")
        return True
    if found := _WITH_PORT.fullmatch(text):
        host, port = found.groups()
        keys = f"host: {host}, port: {port}" if port else f"host: {host}"
        context.error(node, f'a host has no port: "{text}"', help=f"write {keys}", code="bad-host")
        return True
    return False


def _glob_label(label: str, node: Scalar, context: Context) -> str | None:
    if "**" in label and label != "**":
        context.error(node, '"**" stands for whole labels, so it has to be one', code="bad-glob",
                      help='"*" is one label or a part of one, "**" is one or more labels')
        return None
    try:
        canonical = label.lower() if label.isascii() else canonical_host(label)
    except InvalidHost:
        canonical = ""
    if not _LABEL.fullmatch(canonical):
        context.error(node, f'"{label}" is not a label of a host name', code="bad-glob",
                      help='a label with "*" in it has to be written in its xn-- form' if "*" in label else "")
        return None
    return canonical


def _glob(labels: list[str]) -> Glob:
    blocks = [""]
    fixed: list[str] = []
    for label in labels:
        fixed = [] if "*" in label else [*fixed, label]
        if label == "**":
            blocks.append("")
        else:
            blocks[-1] += r"\." + (r"[^.]+" if label == "*" else glob_source(label, "[^.]"))
    blocks[0] = blocks[0].removeprefix(r"\.")
    return Glob(".".join(labels), host_source(blocks), ".".join(fixed))


HOSTS = HostDialect()
