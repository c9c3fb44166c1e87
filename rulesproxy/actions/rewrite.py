"""`rewrite`: change the request or the response (rule-language 3, 4.4).

Every key is one field or a family of fields; `_PARTS` says who builds it. Scheme, host, port and url are no edits:
they take the route slot, exactly as `map_remote`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonpatch
import jsonpointer

from rulesproxy.actions.map_remote import MapRemote, map_to
from rulesproxy.compiler.context import Context
from rulesproxy.compiler.cookies import COOKIE_SCHEMA, cookie_line
from rulesproxy.compiler.destination import server_name
from rulesproxy.compiler.edit_values import REPLACE_SCHEMA, replacements
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.header_text import check_name, check_token, header_values, text_bytes
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.template import Place, Template, document_bytes, parse_json, parse_template
from rulesproxy.model.names import host_for_url
from rulesproxy.runtime.edits import Edit
from rulesproxy.runtime.phase import Phase, Slot

KEY = "rewrite"
SUMMARY = "Change parts of the request (method, path, query, headers, cookies, body) and of the response."
EXAMPLE = """\
version: 1
rules:
  - name: mark-staging
    match: {host: api.shop.test}
    action:
      rewrite:
        headers: {set: {x-env: staging}, remove: [x-debug]}
        response_headers: {set: {x-served-by: staging}}
        response_body: {json_merge: {env: staging}}
    tests:
      - request: {method: GET, url: "http://api.shop.test/items", headers: {x-debug: "1"}}
        upstream: {json: {items: []}}
        expect:
          rule: mark-staging
          sent: {headers: {x-env: staging, x-debug: null}}
          headers: {x-served-by: staging}
          json: {items: [], env: staging}
"""


def _operations(what: str, value: dict[str, Any]) -> dict[str, Any]:
    """The schema of a family of named fields."""
    return {
        "title": what, "description": f"Change {what}.", "type": "object", "additionalProperties": False,
        "minProperties": 1,
        "properties": {
            "set": {"description": "Name → value, whatever there was.", "type": "object",
                    "additionalProperties": value},
            "add": {"description": "Name → value, beside what there is.", "type": "object",
                    "additionalProperties": value},
            "remove": {"$ref": "#/$defs/texts", "description": "Names."},
            "replace": {"description": "Name → replacement in each value.", "type": "object",
                        "additionalProperties": REPLACE_SCHEMA},
        },
    }


_TEXTS = {"$ref": "#/$defs/texts"}
_BODY: dict[str, Any] = {
    "title": "body", "description": "A text is the new body; or one of the ways to change it.",
    "type": ["object", "string", "number", "boolean"],
    "properties": {
        "set": {"$ref": "#/$defs/text", "description": "The new body as text."},
        "json": {"description": "The new body as a JSON document."},
        "file": {"$ref": "#/$defs/text", "description": "The new body is the content of this file."},
        "replace": REPLACE_SCHEMA,
        "json_merge": {"description": "JSON Merge Patch (RFC 7396): merged into the body; null removes."},
        "json_patch": {"description": "JSON Patch (RFC 6902).", "type": "array", "items": {"type": "object"}},
    },
    "additionalProperties": False, "minProperties": 1,
}
SCHEMA: dict[str, Any] = {
    "title": "rewrite", "description": "Change parts of the message.", "type": "object", "minProperties": 1,
    "properties": {
        "method": {"type": "string", "pattern": "^[A-Za-z-]+$", "description": "The request method."},
        "scheme": {"enum": ["http", "https"], "description": "The scheme towards the server."},
        "host": {"$ref": "#/$defs/text", "description": "Another server, with its own name as Host."},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535, "description": "Another port of the server."},
        "url": {"$ref": "#/$defs/text", "description": "Another URL altogether."},
        "path": {"title": "path", "description": "A new path, or `replace`. The query stays.",
                 "type": ["string", "object"], "properties": {"set": {"type": "string", "description": "A new path."},
                                                              "replace": REPLACE_SCHEMA},
                 "additionalProperties": False},
        "query": _operations("query", _TEXTS),
        "headers": _operations("headers", _TEXTS),
        "cookies": _operations("cookies", _TEXTS),
        "body": _BODY,
        "status": {"type": "integer", "minimum": 200, "maximum": 599, "description": "The response status."},
        "response_headers": _operations("response_headers", _TEXTS),
        "response_cookies": _operations("response_cookies", COOKIE_SCHEMA),
        "response_body": _BODY,
    },
    "additionalProperties": False,
}


def build(node: Node, context: Context) -> list[Effect]:
    if not isinstance(node, Mapping):
        return []
    effects = _route(node, context)
    for key, value in node:
        part = _PARTS.get(key.text)
        if part is not None:
            effects += part(key.text, value, context)
    return effects


def _edit(message: str, field: str, name: str, op: str, value: Any, node: Node, context: Context) -> Effect:
    args = {"message": message, "field": field, "name": name, "op": op, "value": value}
    phase = Phase.REQUEST if message == "request" else Phase.RESPONSE
    body = field == "body"
    return effect(context, node, Edit, args, phases=frozenset((phase,)), kind="edit", needs_plaintext=True,
                  reads_request_body=body and message == "request",
                  reads_response_body=body and message == "response", replaces_body=body and op in ("set", "file"))


# --- route --------------------------------------------------------------------------------------------------------


def _route(node: Mapping, context: Context) -> list[Effect]:
    """`scheme`, `host`, `port` and `url`: one route."""
    url = node.get("url")
    parts = {key: value for key in ("scheme", "host", "port") if isinstance(value := node.get(key), Scalar)}
    if isinstance(url, Scalar):
        if parts:
            context.error(url, "url says scheme, host and port already", help=f"leave {', '.join(parts)} out")
            return []
        return map_to(url, context, keep_host=False, whole_path=True)
    if not parts:
        return []
    host, port, scheme = parts.get("host"), parts.get("port"), parts.get("scheme")
    if host is None and port is None:
        assert scheme is not None
        args: dict[str, Any] = {"to": f"{scheme.text}:"}
        return [_route_effect(args, scheme, context)]
    name = server_name(host, context) if host is not None else ""
    if name is None:
        return []
    before = f"{scheme.text}://" if scheme is not None else ""
    after = f":{port.text}" if port is not None else ""
    if isinstance(name, str):
        to: str | Template = before + host_for_url(name) + after
    else:
        to = Template(tuple(part for part in (before, *name.parts, after) if part != ""), Place.URL)
    at = host or port
    assert at is not None
    return [_route_effect({"to": to}, at, context)]


def _route_effect(args: dict[str, Any], node: Node, context: Context) -> Effect:
    return effect(context, node, MapRemote, args, phases=frozenset((Phase.REQUEST,)), slot=Slot.ROUTE,
                  needs_plaintext=True)


# --- edits --------------------------------------------------------------------------------------------------------


def _single(key: str, node: Node, context: Context) -> list[Effect]:
    if not isinstance(node, Scalar):
        return []
    if key == "status":
        return [_edit("response", "status", "", "set", node.value, node, context)]
    method = node.text.upper()
    if method == "CONNECT":
        context.error(node, "a request cannot become a CONNECT: that opens tunnels")
        return []
    return [_edit("request", key, "", "set", (method,), node, context)]


def _path(key: str, node: Node, context: Context) -> list[Effect]:
    text = node.get("set") if isinstance(node, Mapping) else node
    effects = []
    if isinstance(text, Scalar):
        value = parse_template(text, context, place=Place.URL)
        fixed = (value,) if isinstance(value, str) else value.parts
        if any("?" in part for part in fixed if isinstance(part, str)):
            context.error(text, "a path has no query", help="use rewrite.query, or rewrite.url")
        effects.append(_edit("request", "path", "", "set", (value,), text, context))
    replace = node.get("replace") if isinstance(node, Mapping) else None
    if replace is not None:
        effects.append(_edit("request", "path", "", "replace", replacements(replace, context, Place.URL), replace,
                             context))
    return effects


def _family(key: str, node: Node, context: Context) -> list[Effect]:
    """`headers`, `cookies`, `query`, and the first two of the response."""
    if not isinstance(node, Mapping):
        return []
    message, field = _FAMILIES[key]
    effects = []
    for op, names in node:
        if op.text == "remove":
            items = names.items if isinstance(names, Sequence) else (names,)
            effects += [_edit(message, field, item.text, "remove", None, item, context)
                        for item in items if isinstance(item, Scalar) and _is_name(field, item, context)]
        elif isinstance(names, Mapping):
            for name, value in names:
                if _is_name(field, name, context):
                    effects.append(_edit(message, field, name.text, op.text,
                                         _field_value(field, op.text, value, context), name, context))
    return effects


_FAMILIES = {
    "headers": ("request", "header"), "cookies": ("request", "cookie"), "query": ("request", "query"),
    "response_headers": ("response", "header"), "response_cookies": ("response", "response_cookie"),
}


def _is_name(field: str, node: Scalar, context: Context) -> bool:
    match field:
        case "header":
            return check_name(node, context)
        case "cookie" | "response_cookie":
            return check_token(node, context)
    return True


#: Where the values of a family stand. Query values are texts; they are encoded when they are written.
_PLACES = {"header": Place.HEADER, "cookie": Place.COOKIE, "response_cookie": Place.HEADER, "query": Place.TEXT}


def _field_value(field: str, op: str, node: Node, context: Context) -> tuple[Any, ...]:
    place = _PLACES[field]
    if op == "replace":
        return replacements(node, context, place)
    if field == "response_cookie":
        line = cookie_line(node, context)
        return () if line is None else (line,)
    if field == "query":
        items = node.items if isinstance(node, Sequence) else (node,)
        return tuple(parse_template(item, context, place=place) for item in items if isinstance(item, Scalar))
    return header_values(node, context, place)


def _body(key: str, node: Node, context: Context) -> list[Effect]:
    message = "request" if key == "body" else "response"
    if isinstance(node, Scalar):
        text = parse_template(node, context, place=Place.BODY)
        return [_edit(message, "body", "", "set", text_bytes(text), node, context)]
    if not isinstance(node, Mapping):
        return []
    effects = []
    for op, value in node:
        name, change = _body_change(op.text, value, context)
        if change is not None:
            effects.append(_edit(message, "body", "", name, change, value, context))
    return effects


def _body_change(op: str, node: Node, context: Context) -> tuple[str, Any]:
    match op:
        case "set" if isinstance(node, Scalar):
            return "set", text_bytes(parse_template(node, context, place=Place.BODY))
        case "json":
            return "set", document_bytes(node, context)
        case "file" if isinstance(node, Scalar):
            return "file", context.read_file(node)
        case "replace":
            return op, replacements(node, context, Place.BODY)
        case "json_merge":
            return op, parse_json(node, context)
        case "json_patch":
            return op, _patch(node, context)
    return op, None


def _patch(node: Node, context: Context) -> Any:
    """The operations of a JSON Patch, their shape checked (RFC 6902 §4)."""
    document = parse_json(node, context)
    for operation, item in zip(document, node.items if isinstance(node, Sequence) else (), strict=True):
        try:
            jsonpatch.JsonPatch([operation])
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, ValueError) as exc:
            context.error(item, f"no operation of JSON Patch: {exc}", help="like {op: replace, path: /a/b, value: 1}")
    return document


_PARTS: dict[str, Callable[[str, Node, Context], list[Effect]]] = {
    "method": _single, "status": _single, "path": _path, "query": _family, "headers": _family, "cookies": _family,
    "response_headers": _family, "response_cookies": _family, "body": _body, "response_body": _body,
}
