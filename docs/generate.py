"""Writes the reference parts of the documentation from the code: `python -m docs.generate`.

In: matcher and action files, the hook table, the option declarations. Out: `matchers.md`, `actions.md` and
`options.md` as a whole, and what stands between the marks in `addons.md`. A test fails while a page is not up to date.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rulesproxy import app as _app  # imports every module that declares a hook
from rulesproxy.addons import options_page
from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.hooks import ALL_HOOKS
from rulesproxy.compiler import schema_parts, unit
from rulesproxy.compiler.inputs import Disk
from rulesproxy.compiler.ir import visible_phases
from rulesproxy.compiler.program import Compiler
from rulesproxy.runtime.phase import spoken

HERE = Path(__file__).resolve().parent
assert _app is not None

Schema = Mapping[str, Any]

#: The hooks in the order in which they fire, over the life of a proxy, then of a connection, then of a query.
HOOK_ORDER = (
    "load", "configure", "running",
    "client_connected", "socks5_auth", "http_connect", "http_connected", "http_connect_error",
    "tls_clienthello", "tls_start_client", "tls_established_client", "tls_failed_client",
    "requestheaders", "request",
    "server_connect", "http_connect_upstream", "server_connected", "server_connect_error",
    "tls_start_server", "tls_established_server", "tls_failed_server",
    "responseheaders", "response", "error",
    "server_disconnected", "client_disconnected",
    "websocket_start", "websocket_message", "websocket_end",
    "tcp_start", "tcp_message", "tcp_end", "tcp_error",
    "udp_start", "udp_message", "udp_end", "udp_error",
    "dns_request", "dns_response", "dns_error",
    "update", "done",
)  # fmt: skip

_WRITTEN = "This page is written by `python -m docs.generate` from the files in `{}`.\n"

_MATCHERS = """\
# Matchers

What may stand under `match` and `unless`. All keys of a mapping hold together; a list under a key means any of its
entries; `all`, `any` and `not` nest. How they work together is told in [rules.md](rules.md).

*Seen in* says in which phases a key is known. An action happens only in phases that see every key of its rule: a rule
with `path` cannot answer a DNS query, and one with `status` acts on the response.

""" + _WRITTEN.format("rulesproxy/matchers")

_ACTIONS = """\
# Actions

What may stand under `action`. Several actions in one mapping belong together: the rule does all of them, or, when an
earlier rule has taken what one of them needs, none. How they work together is told in [rules.md](rules.md).

*Text* is any plain value, taken as written; templates (`${…}`) may stand in texts.

""" + _WRITTEN.format("rulesproxy/actions")

_COMBINERS = """\
## all, any, not

`all` and `any` take a list of matches, `not` takes one match. Seen in the phases in which all their keys are.

```yaml
version: 1
rules:
  - name: writers
    match:
      host: api.test
      any:
        - {method: [PUT, PATCH, DELETE]}
        - {method: POST, not: {path: /search}}
    action: {block: {status: 405}}
    tests:
      - {request: DELETE http://api.test/items/1, expect: {rule: writers, status: 405}}
      - {request: POST http://api.test/items, expect: {rule: writers}}
      - {request: POST http://api.test/search, expect: {no_rule: writers}}
      - {request: GET http://api.test/items/1, expect: {no_rule: writers}}
```
"""


def pages() -> dict[str, str]:
    """Every generated page, by its path relative to this folder."""
    addons = (HERE / "addons.md").read_text("utf-8")
    return {
        "matchers.md": matchers_page(),
        "actions.md": actions_page(),
        "options.md": options_page.markdown(ProxyOptions()),
        "addons.md": with_block(addons, "hooks", hook_table()),
    }


# --- matchers and actions ----------------------------------------------------------------------------------------


def matchers_page() -> str:
    found = unit.matchers()
    parts = [_MATCHERS, _contents({key: entry.summary for key, entry in found.items()}), _COMBINERS]
    for key, entry in found.items():
        parts.append(_section(key, entry.summary, entry.schema, entry.example, [f"Seen in: {_phases(entry)}."]))
    parts.append(_string_matcher())
    return "\n".join(parts)


def actions_page() -> str:
    found = unit.actions()
    parts = [_ACTIONS, _contents({key: entry.summary for key, entry in found.items()})]
    for key, entry in found.items():
        parts.append(_section(key, entry.summary, entry.schema, entry.example, []))
    return "\n".join(parts)


def _contents(summaries: Mapping[str, str]) -> str:
    rows = "".join(f"| [`{key}`](#{key}) | {summary} |\n" for key, summary in summaries.items())
    return f"| key | what for |\n|---|---|\n{rows}"


def _section(key: str, summary: str, schema: Schema, example: str, notes: list[str]) -> str:
    value = f"Value: {_kind(schema)}. {schema.get('description', '')}".rstrip()
    lines = [f"## {key}", "", summary, "", _wrapped(value), *([""] if notes else []), *notes]
    fields = list(_fields(schema, "", {}))
    if fields:
        lines += ["", *fields]
    return "\n".join([*lines, "", "```yaml", example.rstrip(), "```", ""])


def _phases(entry: unit.MatcherUnit) -> str:
    """The phases in which the key is seen, from a rule that has no other key."""
    document = yaml.safe_load(entry.example)
    value = next(found for rule in document["rules"] for found in _values(rule.get("match", {}), entry.key))
    document["rules"] = [{"name": "example", "match": {entry.key: value}, "action": {"log": "x"}}]
    build = Compiler(_OneFile(json.dumps(document))).compile(["example.yaml"]).build
    assert not build.report.has_errors, build.render()
    return ", ".join(spoken(visible_phases(build.rules[0].match)))


def _values(match: Any, key: str) -> Iterator[Any]:
    """What stands under `key` in a match, however deep."""
    if isinstance(match, dict):
        if key in match:
            yield match[key]
        for inner in match.values():
            yield from _values(inner, key)
    elif isinstance(match, list):
        for inner in match:
            yield from _values(inner, key)


class _OneFile(Disk):
    """Any path is this text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self, path: str) -> bytes:
        return self._text.encode()


# --- schemas in words --------------------------------------------------------------------------------------------

_REFERENCES = {"text": "a text", "texts": "a text or a list of texts",
               "string_matcher": "a [string matcher](#string-matcher)",
               "string_matchers": "names with a [string matcher](#string-matcher) each"}
_SCALARS = {"string", "number", "boolean"}


def _kind(schema: Schema) -> str:
    """What may stand there, in a few words."""
    if "$ref" in schema:
        return _REFERENCES[schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return " or ".join(f"`{choice}`" for choice in schema["enum"])
    types = schema.get("type", [])
    names = [types] if isinstance(types, str) else list(types)
    if "string" in names:  # every scalar is taken as text then
        names = [name for name in names if name not in _SCALARS or name == "string" or "null" in names]
    words = [_word(name, schema) for name in names if name != "null"]
    return " or ".join(dict.fromkeys(words)) or "anything"


def _word(name: str, schema: Schema) -> str:
    match name:
        case "integer":
            least, most = schema.get("minimum"), schema.get("maximum")
            bounds = f" from {least}" if least is not None else ""
            return "a whole number" + (f"{bounds} to {most}" if bounds and most is not None else bounds)
        case "number":
            return "a number"
        case "string":
            return "a text"
        case "boolean":
            return "`true`" if "null" in schema.get("type", ()) or schema.get("maxProperties") == 0 else "true or false"
        case "array":
            return "a list"
        case "object":
            if schema.get("maxProperties") == 0 or "null" in schema.get("type", ()):
                return "`{}`" if "properties" not in schema else "`{}`, or a mapping"
            return "names with values" if "properties" not in schema else "a mapping"
    return ""


def _fields(schema: Schema, indent: str, seen: dict[str, str]) -> Iterator[str]:
    """One list item per key of a mapping. Keys within keys are written out once and named the next time."""
    required = schema.get("required", ())
    for key, inner in schema.get("properties", {}).items():
        words = f"{_kind(inner)}{', required' if key in required else ''}. {inner.get('description', '')}".rstrip()
        below = _below(inner)
        same = seen.setdefault(json.dumps(below["properties"], sort_keys=True), key) if below else key
        if same != key:
            words += f" Keys as in `{same}` above."
        yield _wrapped(f"- `{key}`: {words}", indent)
        if same == key:
            yield from _fields(below, indent + "  ", seen)


def _below(schema: Schema) -> Schema:
    """What says which keys there are within: the schema itself, or that of each of its values."""
    values = schema.get("additionalProperties")
    found = schema if "properties" in schema else values
    return found if isinstance(found, Mapping) and "properties" in found else {}


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, initial_indent=indent, subsequent_indent=indent + "  " * text.startswith("- "),
                         break_long_words=False, break_on_hyphens=False)


def _string_matcher() -> str:
    schema = schema_parts.STRING_MATCHER
    return "\n".join([
        "## String matcher", "",
        "A text (the value equals it), a list (equals one of them), or a mapping of these tests, which all hold:", "",
        *_fields(schema, "", {}),
        "", "```yaml", _STRING_EXAMPLE.rstrip(), "```", "",
    ])  # fmt: skip


_STRING_EXAMPLE = """\
version: 1
rules:
  - name: old-clients
    match:
      host: api.test
      headers:
        user-agent: {prefix: "shop/", not: {regex: "^shop/[3-9]"}}
        accept: {has: application/json, ignore_case: true}
        authorization: {absent: true}
      query: {page: {ge: 1, lt: 100}}
    action: {respond: {status: 426, body: "Please update."}}
    tests:
      - request:
          url: http://api.test/items?page=2
          headers: {user-agent: shop/2.1, accept: "text/html, Application/JSON"}
        expect: {rule: old-clients, status: 426}
      - request:
          url: http://api.test/items?page=2
          headers: {user-agent: shop/4.0, accept: application/json}
        expect: {no_rule: old-clients}
      - request:
          url: http://api.test/items?page=last
          headers: {user-agent: shop/2.1, accept: application/json}
        expect: {no_rule: old-clients}
"""


# --- hooks -------------------------------------------------------------------------------------------------------


def hook_table() -> str:
    """Every hook in the order of firing. Raises ValueError when a hook has no place in the order."""
    declared = {name for name, hook in ALL_HOOKS.items() if hook.__module__.startswith("rulesproxy.")}
    missing = declared ^ set(HOOK_ORDER)
    if missing:
        raise ValueError(f"docs/generate.py: HOOK_ORDER and the declared hooks differ in {', '.join(sorted(missing))}")
    rows = []
    for name in HOOK_ORDER:
        hook = ALL_HOOKS[name]
        when = " ".join((hook.__doc__ or "").split())
        rows.append(f"| `{name}({', '.join(hook.__match_args__)})` | {when} |")
    return "\n".join(["| handler | when |", "|---|---|", *rows, ""])


def with_block(page: str, name: str, block: str) -> str:
    """The page with what stands between the marks of that name replaced."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the marks of {name} are missing")
    return f"{head}{begin}{block}{end}{tail}"


if __name__ == "__main__":
    for page_name, text in pages().items():
        (HERE / page_name).write_text(text, "utf-8")
