"""Whatever a rule file says, compiling it answers with rules or diagnostics and never raises."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rulesproxy.compiler.program import Compiler
from rulesproxy.compiler.schema import build_schema
from tests.compiler.rulefiles import Memory

SCHEMA = build_schema()
# Characters beyond the basic plane become surrogate pairs in JSON, which YAML does not have.
_CHARACTERS = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])
_ODD = st.sampled_from([
    "", " ", "*", "**", "a.test", "*.a.test", "a.test:1", "http://a.test/x", "/", "/a/**", "/{id}", "/{id:int}", "{",
    "(", "[", "\\", "${", "${vars.a}", "${path.id}", "${match.1}", "${query.k | default(\"x\")}", "${request.json.a}",
    "$${", "${now}", "10.0.0.0/8", "::1", "5xx", "GET", "\r\n", "\0", "é", "xn--", "a" * 300, "1.10", "-1", "1e5",
    "200ms", "nowhere.txt", "../x", ":0", "@8080", "\ufffe", "on", "true", "no such", "%2e%2e", "A", "TYPE1",
])  # fmt: skip
_TEXTS = _ODD | _ODD | st.integers(-10, 700) | st.text(_CHARACTERS, max_size=12)
_SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False) | _TEXTS
#: Values that are right under these keys: without them hardly any rule would be.
_RIGHT: dict[str, list[Any]] = {
    "host": ["a.test", ["*.a.test", "b.test"], {"suffix": ".a.test"}], "domain": ["a.test"], "host_in": ["s"],
    "sni": ["a.test"], "path": ["/a/**", "/u/{id}", "/*"], "path_prefix": ["/a"], "path_regex": ["^/(?P<n>[a-z]+)"],
    "method": ["GET", ["get", "POST"]], "scheme": ["https"], "port": [443, "8000-8999"], "status": [404, "5xx"],
    "client_ip": ["10.0.0.0/8", "::1"], "dns_type": ["A"], "listener": ["regular"], "headers": [{"x-a": "b"}],
    "query": [{"k": {"regex": "a(b)"}}], "cookies": [{"c": {"present": True}}], "block": [True, {"status": 403}],
    "respond": [{"body": "${request.path}"}, {"json": {"a": ["${query.k | default('x')}"]}}], "log": ["${now}"],
    "redirect": ["https://b.test/"], "redirect_server": [{"to": "b.test:80"}], "spoof_dns": [{"A": "10.0.0.1"}],
    "map_remote": ["http://b.test/x"], "tls": ["intercept"], "delay": ["10ms"], "tag": ["t"], "pass": [True],
    "rewrite": [{"headers": {"set": {"x-a": "${request.method}"}}}, {"response_headers": {"remove": ["x-a"]}},
                {"body": {"replace": {"regex": "a", "with": "b"}}}, {"path": "/x"}],
}  # fmt: skip
_NAMES = _ODD | st.sampled_from(["x-a", "k", "a"])
_ANYTHING = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_ODD, inner, max_size=3), max_leaves=6)


def values(schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that mostly have the shape a schema wants."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if depth > 9:
        return _SCALARS
    fitting: list[st.SearchStrategy[Any]] = []
    if "enum" in schema:
        fitting.append(st.sampled_from(schema["enum"]))
    if "const" in schema:
        fitting.append(st.just(schema["const"]))
    fitting += [values(part, depth + 1) for part in schema.get("anyOf", [])]
    types = schema.get("type", [])
    for kind in [types] if isinstance(types, str) else types:
        match kind:
            case "object":
                fitting.append(_mappings(schema, depth))
            case "array":
                fitting.append(st.lists(values(schema.get("items", {}), depth + 1), min_size=1, max_size=2))
            case "integer":
                fitting.append(st.integers(schema.get("minimum", -5), schema.get("maximum", 10**9)))
            case "boolean":
                fitting.append(st.booleans())
            case "null":
                fitting.append(st.none())
            case _:
                fitting.append(_TEXTS)
    return st.one_of(fitting) if fitting else _ANYTHING


def _mappings(schema: Any, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    known = schema.get("properties", {})
    if not known:
        more = schema.get("additionalProperties")
        return st.dictionaries(_NAMES, values(more, depth + 1) if isinstance(more, dict) else _ANYTHING, min_size=1,
                               max_size=2)
    required = [key for key in schema.get("required", ()) if key in known]
    fewest = 0 if required else 1
    return st.lists(st.sampled_from(sorted(known)), min_size=fewest, max_size=2, unique=True).flatmap(
        lambda keys: st.fixed_dictionaries({
            key: st.deferred(lambda key=key: _of_key(key, known[key], depth + 1))  # type: ignore[misc]
            for key in [*required, *keys]}))


def _of_key(key: str, schema: Any, depth: int) -> st.SearchStrategy[Any]:
    odd = values(schema, depth)
    right = st.sampled_from(_RIGHT[key]) if key in _RIGHT else odd
    return st.integers(0, 9).flatmap(lambda dice: odd if dice == 0 else right)


_RULES = st.lists(
    st.fixed_dictionaries({
        "name": st.sampled_from(["a", "b", "c"]),
        "match": values({"$ref": "#/$defs/match"}, 4),
        "action": values({"$ref": "#/$defs/action"}, 4),
    }), min_size=1, max_size=3)  # fmt: skip


def must_answer(document: Any) -> None:
    text = json.dumps(document)
    program = Compiler(Memory({"rules.yaml": text})).compile(["rules.yaml"])
    result = program.build
    lines = text.split("\n")
    for diagnostic in result.report.diagnostics:
        pos = diagnostic.pos
        assert pos.file == "rules.yaml" and 1 <= pos.line <= len(lines) and 1 <= pos.column <= len(text) + 1
    assert (program.rules is None) == result.report.has_errors
    result.render()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(_RULES)
def test_rules_of_nearly_the_right_shape_are_built_or_reported(rules: list[Any]) -> None:
    must_answer({"version": 1, "vars": {"a": "b"}, "sets": {"s": ["a.test"]}, "rules": rules})


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(_mappings(SCHEMA, 0))
def test_documents_of_nearly_the_right_shape_are_built_or_reported(document: dict[str, Any]) -> None:
    must_answer({"version": 1, **document})


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(_ANYTHING)
def test_anything_is_reported(document: Any) -> None:
    must_answer(document)
