"""The parts of the rule-file schema that belong to no single matcher or action: envelope, tests, shared definitions.

Alternatives are written as one schema with several types where possible (`type: [string, array]` with `items`): that
validates faster and its errors name the place, where `anyOf` can only say that nothing fits.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

#: Any scalar, taken by its source text: `1.10` stays `1.10`.
TEXT_TYPES = ["string", "number", "boolean"]
_NAME = "^[A-Za-z_][A-Za-z0-9_.-]*$"


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def obj(title: str, properties: Schema, *, required: tuple[str, ...] = (), **more: Any) -> Schema:
    """A mapping with these keys and no others. `title` names it in messages: "unknown key x in a `title`"."""
    schema: Schema = {"title": title, "type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return schema | more


def text(description: str = "", **more: Any) -> Schema:
    schema: Schema = {"type": TEXT_TYPES, **more}
    return {"description": description, **schema} if description else schema


def texts(description: str, **more: Any) -> Schema:
    """One text or a list of them."""
    return {"description": description, "type": [*TEXT_TYPES, "array"], "items": text(), **more}


def _flag(description: str) -> Schema:
    return {"description": description, "type": "boolean"}


_COMPARE = {"type": ["number", "string"], "pattern": r"^\s*[-+]?[0-9]+(\.[0-9]+)?\s*$"}

STRING_MATCHER: Schema = {
    "title": "string matcher",
    "description": "A text (equal), a list (any of) or a mapping of tests that all hold.",
    "type": [*TEXT_TYPES, "array", "object"],
    "items": text(),
    "minItems": 1,
    "minProperties": 1,
    "properties": {
        "exact": texts("Equal to this text, or to one of the list."),
        "prefix": texts("Starts with."),
        "suffix": texts("Ends with."),
        "contains": texts("Has this text somewhere."),
        "glob": texts("The whole value, where * stands for any run of characters."),
        "regex": texts("An RE2 regular expression that is found somewhere in the value."),
        "in": texts("The name of a set, or a list of texts."),
        "absent": _flag("There is no such value at all."),
        "present": _flag("There is at least one value."),
        "has": texts("A comma-separated list has this element, parameters included."),
        "not": {"description": "This string matcher does not hold for any value.", **ref("string_matcher")},
        "ignore_case": _flag("Compare without case."),
        "gt": {"description": "The value is a decimal number greater than this.", **_COMPARE},
        "ge": {"description": "The value is a decimal number of at least this.", **_COMPARE},
        "lt": {"description": "The value is a decimal number less than this.", **_COMPARE},
        "le": {"description": "The value is a decimal number of at most this.", **_COMPARE},
    },
    "additionalProperties": False,
}

SHARED: dict[str, Schema] = {
    "text": text("Any scalar, by its source text."),
    "texts": texts("One text or a list of them."),
    "string_matcher": STRING_MATCHER,
    "string_matchers": {
        "description": "Name → string matcher.",
        "type": "object", "minProperties": 1, "additionalProperties": ref("string_matcher"),
    },
}  # fmt: skip

PRIORITY: Schema = {
    "description": "Rules of higher priority come first; equal ones in the order written. Default 0.",
    "type": "integer", "minimum": -1_000_000, "maximum": 1_000_000,
}  # fmt: skip
_FAILURE = ["refuse", "skip"]

#: Rule keys that a file may give values for in `defaults`.
DEFAULTABLE: dict[str, Schema] = {
    "enabled": _flag("false switches the rule off."),
    "priority": PRIORITY,
    "tags": texts("Words to find rules by."),
    "owner": text("Who looks after the rule."),
    "profile": text("The rule is on only when this profile is chosen."),
}

RULE = obj(
    "rule",
    {
        "name": text("The rule's name, unique among all files.", minLength=1, maxLength=200),
        "description": text("What the rule is for."),
        "match": {"description": "What the rule is for: all keys hold together. Without it: everything.",
                  **ref("match")},
        "unless": {"description": "Exceptions: where this matches, the rule does not.", **ref("match")},
        "action": {"description": "What happens; a list when the same action is wanted twice.", **ref("action")},
        **DEFAULTABLE,
        "stop": _flag("Once this rule took effect, later rules are not asked in that phase."),
        "on_error": {"description": "When the rule itself fails: refuse the exchange, or skip the rule.",
                     "enum": _FAILURE},
        "on_unreadable": {"description": "When a body the rule needs cannot be read: refuse the exchange, or skip.",
                          "enum": _FAILURE},
        "tests": {"description": "Examples of what the rule does.", "type": "array", "items": ref("test")},
    },
    required=("name", "action"),
)

_FIELDS = {"type": "object", "additionalProperties": {"type": [*TEXT_TYPES, "array"], "items": text()}}
_STATUS = {"type": "integer", "minimum": 100, "maximum": 599}
_EXPECTED: Schema = {
    "title": "expectation",
    "type": [*TEXT_TYPES, "null", "object"],
    "minProperties": 1,
    "properties": {
        "contains": text("The value has this text somewhere."),
        "regex": text("An RE2 regular expression is found in the value."),
        "absent": _flag("There is no such value."),
        "present": _flag("There is such a value."),
    },
    "additionalProperties": False,
}
_EXPECTED_FIELDS = {"type": "object", "additionalProperties": _EXPECTED}
_ANY_JSON: Schema = {}


def _message(title: str, first: Schema) -> Schema:
    return obj(title, {
        **first,
        "headers": {"description": "Name → value or list of values.", **_FIELDS},
        "body": text("The body as text."),
        "json": {"description": "The body as JSON.", **_ANY_JSON},
    })  # fmt: skip


_STATUS_DOC = {"description": "The status code.", **_STATUS}
_REQUEST = _message("request", {"method": text("GET unless given."), "url": text("The absolute URL.")})
_REQUEST |= {"type": [*TEXT_TYPES, "object"], "required": ["url"],
             "description": '"GET URL", or a mapping for headers and bodies.'}

EXPECT = obj(
    "expect",
    {
        "rule": texts("This rule took effect (of a list: each)."),
        "no_rule": {"description": "These rules did not take effect; true: none at all did.",
                    "type": [*TEXT_TYPES, "array"], "items": text()},
        "status": _STATUS_DOC,
        "headers": {"description": "Response fields: name → value, or null for none.", **_EXPECTED_FIELDS},
        "body": {"description": "The response body.", **_EXPECTED},
        "json": {"description": "The response body as JSON.", **_ANY_JSON},
        "server": text("host:port that the request goes to."),
        "via": text("The proxy that rules send it through, as http://host:port; `direct` for none."),
        "sent": {"description": "What the origin (of a message: the other side) gets; `nothing` when it must not.",
                 **obj("sent", {
                     "method": text("The method."),
                     "url": text("The URL."),
                     "headers": {"description": "Request fields: name → value, or null for none.", **_EXPECTED_FIELDS},
                     "body": {"description": "The request body.", **_EXPECTED},
                     "text": {"description": "The content of the message.", **_EXPECTED},
                     "json": {"description": "The request body, or the message, as JSON.", **_ANY_JSON},
                     "sni": text("The server name in TLS."),
                 }), "type": ["object", "string"], "pattern": "^nothing$"},
        "dns": {"description": "What a DNS client is told.", **obj("dns", {
            "rcode": text("NOERROR, NXDOMAIN, …"),
            "answers": texts("The records' values, in any order."),
        })},
        "tls": {"description": "What happens to the tunnel.", "enum": ["intercept", "relay", "refuse"]},
        "closed": _flag("The connection is closed without an answer; the conversation of a message is ended."),
        "messages": {"description": "All that a message leads to, in order.", **obj("messages", {
            "to_client": texts("What the client gets."), "to_server": texts("What the server gets."),
        }, minProperties=1)},
    },
    minProperties=1,
)  # fmt: skip

_SUBJECTS: dict[str, Schema] = {
    "request": _REQUEST,
    "dns": {"description": "A DNS query.", **obj("dns", {
        "name": text("The name asked for."), "type": text("A unless given."),
    }, required=("name",))},
    "tls": {"description": "A ClientHello in a tunnel.", **obj("tls", {
        "sni": text("The server name; without it none is sent."),
        "host": text("The CONNECT host; the server name unless given."),
        "port": {"description": "The CONNECT port; 443 unless given.", "type": "integer", "minimum": 1,
                 "maximum": 65535},
    })},
    "message": {"description": "A WebSocket message, what a TCP read brings, or a datagram.", **obj("message", {
        "on": {"description": '"GET https://shop.test/live", the handshake of a WebSocket (a mapping for headers); '
                              "tcp://host:port, tls://host:port or udp://host:port.",
               **obj("on", {"method": text("GET unless given."), "url": text("The URL."),
                            "headers": {"description": "Name → value or list of values.", **_FIELDS}},
                     required=("url",)), "type": [*TEXT_TYPES, "object"]},
        "direction": {"description": "to_server unless given.", "enum": ["to_server", "to_client"]},
        "text": text("The content as text."),
        "json": {"description": "The content as JSON.", **_ANY_JSON},
        "bytes": text("The content as hexadecimal digits, or base64:… ."),
        "opcode": {"description": "The kind of WebSocket message; bytes are binary unless given.",
                   "enum": ["text", "binary"]},
    }, required=("on",))},
}  # fmt: skip
_CIRCUMSTANCE: dict[str, Schema] = {
    "name": text("What the test shows."),
    "at": text("The time at which it happens, as 2026-12-31T23:59:59."),
    "client": text("The client's IP address."),
}
_OUTCOME: dict[str, Schema] = {
    "upstream": {"description": "What the origin would answer; an empty 200 unless given.",
                 **_message("upstream", {"status": _STATUS_DOC})},
    "expect": {"description": "What must hold.", **EXPECT},
}  # fmt: skip

STEP = obj("step", {**_CIRCUMSTANCE, **_SUBJECTS, **_OUTCOME}, required=("expect",))
TEST = obj("test", {
    **_CIRCUMSTANCE, **_SUBJECTS,
    "steps": {"description": "Several in a row.", "type": "array", "minItems": 1, "items": ref("step")},
    **_OUTCOME,
})  # fmt: skip

_VARS = {"type": "object", "additionalProperties": text(), "propertyNames": {"pattern": _NAME}}
_SET = {
    "title": "set",
    "description": "A list, or files to read it from.",
    "type": ["array", "object"],
    "items": text(),
    "properties": {
        "file": texts("The file or files, relative to this one."),
        "format": {"description": "plain: one entry per line; hosts, dnsmasq, adblock: what these tools read.",
                   "enum": ["plain", "hosts", "dnsmasq", "adblock"]},
        "values": {"description": "More entries.", "type": "array", "items": text()},
    },
    "additionalProperties": False,
}

FILE: dict[str, Schema] = {
    "version": {"description": "The version of the rule language: 1.", "const": 1},
    "include": texts("More rule files: names or globs, relative to this file; a folder means its *.yaml and *.yml."),
    "vars": {"description": "Variables: ${vars.name} in matches and actions.", **_VARS},
    "sets": {"description": "Named lists for host_in, client_ip and string matchers.", "type": "object",
             "additionalProperties": _SET, "propertyNames": {"pattern": _NAME}},
    "profiles": {"description": "Alternatives chosen by --profile.", "type": "object", "additionalProperties":
                 obj("profile", {"description": text("What it is for."),
                                 "vars": {"description": "Variables that replace those of the files.", **_VARS}})},
    "defaults": {"description": "Values for this file's rules.", **obj("defaults", DEFAULTABLE)},
    "rules": {"description": "The rules, first to last.", "type": "array", "items": ref("rule")},
    "tests": {"description": "Examples that concern several rules.", "type": "array", "items": ref("test")},
}  # fmt: skip
