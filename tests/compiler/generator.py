"""Random rule files and exchanges that have something to do with each other.

An exchange is drawn first; matchers are then mostly written so that they hold for it. Everything is drawn from one
`random.Random`, so Hypothesis (`st.randoms()`) and a fixed seed drive the same generator. Rules go through the real
front end as text; one that does not build (two answers, keys that are never seen together) is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from rulesproxy.compiler.build import Build, build
from rulesproxy.compiler.ir import Rule
from tests.compiler.rulefiles import Memory

HOSTS = ("a.test", "b.test", "x.a.test", "y.x.a.test", "other.example")
PATHS = ("/", "/a", "/a/", "/a/b", "/users/7", "/users/ada", "/a%20b/c")
VALUES = ("one", "two", "3", "12.5", "One,Two", "")
NAMES = ("x-a", "x-b", "accept")
KEYS = ("q", "k")
TYPES = ("A", "AAAA", "TXT", "HTTPS")
ADDRESSES = ("127.0.0.1", "10.1.2.3", "2001:db8::7")


@dataclass(frozen=True)
class Exchange:
    """What rules may see, of all protocols: the same host is asked for, dialled and requested."""

    host: str
    port: int
    scheme: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    cookies: tuple[tuple[str, str], ...]
    body: str
    status: int
    response_headers: tuple[tuple[str, str], ...]
    response_body: str
    client: str
    mode: str
    dns_type: str
    message: str
    direction: str
    opcode: str

    @property
    def target(self) -> str:
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in self.query)
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True)
class Case:
    """An exchange and the rules it meets. `source` is the rule file, for the report of a failure."""

    exchange: Exchange
    source: str
    build: Build = field(repr=False)

    @property
    def rules(self) -> list[Rule]:
        return self.build.rules


def some(r: Random, names: tuple[str, ...], most: int = 2) -> tuple[tuple[str, str], ...]:
    return tuple((r.choice(names), r.choice(VALUES)) for _ in range(r.randint(0, most)))


def draw_exchange(r: Random) -> Exchange:
    json_body = json.dumps({"k": r.choice([1, "x", None]), "list": [1, 2]})
    query = some(r, KEYS) if r.random() < 0.8 else tuple((key, "not\r\nfor: headers") for key in KEYS)
    return Exchange(
        r.choice(HOSTS), r.choice((80, 443, 8080)), r.choice(("http", "https")), r.choice(("GET", "POST", "PUT")),
        r.choice(PATHS), query, some(r, NAMES), some(r, ("c", "d")), r.choice(("", "plain one text", json_body)),
        r.choice((200, 204, 404, 503)), some(r, ("server", "x-b", "set-cookie")),
        r.choice(("", "an answer with one", json_body)), r.choice(ADDRESSES), r.choice(("regular", "dns")),
        r.choice(TYPES), r.choice(("", "one two", "3", json_body, json.dumps(["a", {"k": "x"}]))),
        r.choice(("to_server", "to_client")), r.choice(("text", "binary")),
    )  # fmt: skip


# --- matchers ------------------------------------------------------------------------------------------------------


def string_matcher(r: Random, value: str | None) -> Any:
    """A string matcher that holds for the value, with every operator there is."""
    if value is None:
        return r.choice([{"absent": True}, {"present": False}])
    choices: list[Any] = [
        value, [value, "else"], {"exact": value}, {"prefix": value[:1]}, {"suffix": value[-1:]},
        {"contains": value[1:2]}, {"glob": f"{value[:1]}*"}, {"regex": f"^{re.escape(value)}$"}, {"present": True},
        {"not": "something else"}, {"exact": value.upper(), "ignore_case": True}, {"in": [value, "nothing"]},
    ]  # fmt: skip
    if re.fullmatch(r"[0-9.]+", value):
        choices += [{"ge": 3}, {"gt": 1, "lt": 100}, {"le": "12.5"}] * 2
    if "," in value:
        choices += [{"has": "two"}] * 3
    return r.choice([choice for choice in choices if choice != ""])


def named(pairs: tuple[tuple[str, str], ...], names: tuple[str, ...]) -> Callable[[Random], Any]:
    def draw(r: Random) -> Any:
        name = r.choice(names)
        values = [value for key, value in pairs if key == name]
        return {name: string_matcher(r, r.choice(values) if values else None)}

    return draw


def pattern(r: Random, message: str) -> Any:
    """A document that is in the message, where that is one."""
    document = json.loads(message) if message[:1] in ("{", "[", "3") else {"k": "nothing"}
    if isinstance(document, dict) and r.random() < 0.7:
        return {key: document[key] for key in r.sample(sorted(document), 1)}
    return [r.choice(document)] if isinstance(document, list) else document


def found(r: Random, message: str) -> dict[str, Any]:
    document = json.loads(message) if message[:1] == "{" else {}
    value = {1: "1", "x": "x", None: "null"}.get(document.get("k")) if document else None
    return r.choice([{"$.k": string_matcher(r, value)}, {"$.list[*]": r.choice(["2", {"absent": True}])},
                     {"$..k": {"present": True}}, {"$[?@.k == 'x'].k": {"exact": ["x", "y"]}}, {"$": {"not": "4"}}])


def raw(r: Random, content: bytes) -> Any:
    if not content:
        return r.choice(["", {"exact": [""]}])
    part = r.randrange(len(content))
    return r.choice([content.hex(), {"prefix": content[:part + 1].hex(" ")}, {"suffix": [content[part:].hex(), "00"]},
                     {"contains": content[part:part + 2].hex()}, {"prefix": content[:1].hex(), "contains": "20"}])


def matchers(x: Exchange) -> dict[str, Callable[[Random], Any]]:
    """For each key, how to draw a value that holds for the exchange."""
    parent = x.host.partition(".")[2]
    segments = re.sub("%20", " ", x.path).split("/")
    fixed = "/".join(segments[:2]) or "/"
    last = segments[-1]
    return {
        "host": lambda r: r.choice([x.host, [x.host, "z.test"], f"*.{parent}", f"**.{parent}", {"suffix": parent},
                                    {"regex": f"^{re.escape(x.host)}$"}, "*a*.*" if "a" in x.host else x.host]),
        "domain": lambda r: r.choice([x.host, parent, [x.host, "z.test"]]),
        "host_in": lambda r: r.choice(["here", ["here", "there"]]),
        "scheme": lambda r: r.choice([x.scheme, ["http", "https"]]),
        "port": lambda r: r.choice([x.port, [x.port, 9], f"{x.port}-{x.port + 9}"]),
        "method": lambda r: r.choice([x.method, [x.method.lower(), "PATCH"]]),
        "path": lambda r: r.choice([x.path, f"{fixed}/**" if fixed != "/" else "/**", "/".join([*segments[:-1], "*"])
                                    if last else x.path, {"exact": x.path}, {"not": "/nowhere"},
                                    "/".join([*segments[:-1], "{id}"]) if last else "/**"]),
        "path_prefix": lambda r: r.choice([fixed, "/", [fixed, "/nowhere"]]),
        "path_regex": lambda r: r.choice(["^/", f"{re.escape(last)}$", "^/(.*)$"]),
        "query": named(x.query, KEYS), "headers": named(x.headers, NAMES), "cookies": named(x.cookies, ("c", "d")),
        "status": lambda r: r.choice([x.status, f"{x.status // 100}xx", f"{x.status - 1}-{x.status + 1}",
                                      [x.status, 418]]),
        "response_headers": named(x.response_headers, ("server", "x-b")),
        "client_ip": lambda r: r.choice([x.client, [x.client, "192.0.2.9"], "2001:db8::/32" if ":" in x.client
                                         else x.client.split(".")[0] + ".0.0.0/8"]),
        "sni": lambda r: r.choice([x.host, f"**.{parent}", {"present": True}]),
        "dns_type": lambda r: r.choice([x.dns_type, [x.dns_type.lower(), "MX"]]),
        "listener": lambda r: r.choice([x.mode, [x.mode, "@9999"], "@8080"]),
        "direction": lambda r: r.choice([x.direction, ["to_server", "to_client"]]),
        "opcode": lambda r: r.choice([x.opcode, ["text", "binary"]]),
        "text": lambda r: string_matcher(r, x.message) if x.message else {"exact": ""},
        "json": lambda r: pattern(r, x.message), "json_path": lambda r: found(r, x.message),
        "bytes": lambda r: raw(r, x.message.encode()),
    }  # fmt: skip


MESSAGE_KEYS = {"direction", "opcode", "text", "json", "json_path", "bytes"}
MESSAGE_ACTIONS = {"websocket", "tcp", "udp", "block", "tag", "log", "pass"}

#: Keys that can be seen together, so that most rules build.
GROUPS = (
    ("host", "domain", "host_in", "client_ip", "listener"),
    ("host", "domain", "port", "listener"),
    ("host", "sni", "scheme", "port"),
    ("host", "dns_type", "client_ip"),
    ("host", "host_in", "path", "path_prefix", "path_regex", "query", "headers", "cookies", "method", "scheme", "port"),
    ("host", "path", "status", "response_headers", "headers", "method"),
    ("host", "direction", "text", "json", "json_path", "bytes", "port"),
    ("host", "direction", "opcode", "text", "path", "headers", "json"),
)


def draw_match(r: Random, x: Exchange, depth: int = 0) -> dict[str, Any]:
    """Keys that mostly hold for the exchange; with `all`, `any` and `not` among them."""
    here, elsewhere = matchers(x), matchers(draw_exchange(r))
    group = r.choice(GROUPS)
    match: dict[str, Any] = {}
    for key in r.sample(group, r.choice((0, 1, 1, 1, 2, 2, 3))):
        match[key] = (here if r.random() < 0.9 else elsewhere)[key](r)
    if depth < 2 and r.random() < 0.3:
        kind = r.choice(("all", "any", "any", "not"))
        if kind == "not":
            other = {key: elsewhere[key](r) for key in r.sample(group, 1)}
            match["not"] = other
        else:
            match[kind] = [draw_match(r, x, depth + 1) for _ in range(r.randint(1, 3))]
    return match


# --- actions -------------------------------------------------------------------------------------------------------

TEXTS = (
    "plain", '${query.q | default("none")}', "${request.method} ${request.path}", "$${raw}", "${vars.v}", "${now}",
    "${uuid}", "${random(1, 9)}", '${request.headers.x-a | default("d") | upper}', "${path.id}", "${match.1}",
    '${request.json.k | default(0)}', '${request.cookies.c | default("")}', '${request.host | lower}',
    '${query["k"] | default("") | json}', "${request.url | urlencode}",
    '${query.k | default("-")}', '${query.k | default("none")}', "${query.k | default(1)}",
)  # fmt: skip
RESPONSE_TEXTS = (*TEXTS, "${response.status}", '${response.headers.server | default("no")}',
                  '${response.json.k | default("no")}')


def text(r: Random, choices: tuple[str, ...] = TEXTS) -> str:
    found = r.choice(choices)
    # Most captures are wanted where there is none; a rule that does not build is worth little.
    return found if not found.startswith(("${path", "${match")) or r.random() < 0.3 else "plain"


def replacement(r: Random) -> dict[str, Any]:
    return r.choice([{"regex": "(o)(n)", "with": "${match.2}${match.1}!"}, {"text": "e", "with": "${vars.v}"},
                     {"regex": "O", "with": "0", "ignore_case": True}])


def family(r: Random, names: tuple[str, ...], texts: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for op in r.sample(("set", "add", "remove", "replace"), r.randint(1, 2)):
        name = r.choice(names)
        found[op] = {"set": lambda n=name: {n: r.choice([text(r, texts), ["first", text(r, texts)]])},
                     "add": lambda n=name: {n: text(r, texts)}, "remove": lambda n=name: [n],
                     "replace": lambda n=name: {n: replacement(r)}}[op]()
    return found


def body(r: Random, texts: tuple[str, ...]) -> Any:
    return r.choice([
        lambda: text(r, texts), lambda: {"set": text(r, texts)}, lambda: {"json": {"a": text(r, texts), "b": [1]}},
        lambda: {"file": "body.txt"}, lambda: {"replace": replacement(r)},
        lambda: {"json_merge": {"k": None, "n": {"m": 1}}},
        lambda: {"json_patch": [{"op": "add", "path": "/z", "value": 1}]},
    ])()  # fmt: skip


def rewrite_request(r: Random) -> dict[str, Any]:
    draws: dict[str, Callable[[], Any]] = {
        "method": lambda: r.choice(("PUT", "delete")), "path": lambda: r.choice(["/new/${query.q | default(1)}",
                                                                                 {"replace": replacement(r)}]),
        "query": lambda: family(r, KEYS, TEXTS), "headers": lambda: family(r, NAMES, TEXTS),
        "cookies": lambda: family(r, ("c", "e"), ("plain", "${vars.v}")), "body": lambda: body(r, TEXTS),
        "host": lambda: "elsewhere.test", "port": lambda: 8443, "scheme": lambda: "https",
    }  # fmt: skip
    return {key: draws[key]() for key in r.sample(tuple(draws), r.randint(1, 2))}


def rewrite_response(r: Random) -> dict[str, Any]:
    draws: dict[str, Callable[[], Any]] = {
        "status": lambda: r.choice((201, 404)),
        "response_headers": lambda: family(r, ("server", "x-b", "etag"), RESPONSE_TEXTS),
        "response_cookies": lambda: r.choice([{"set": {"s": {"value": "1", "path": "/"}}}, {"remove": ["t"]}]),
        "response_body": lambda: body(r, RESPONSE_TEXTS),
    }
    return {key: draws[key]() for key in r.sample(tuple(draws), r.randint(1, 2))}


def conversation(r: Random, ends: list[Any]) -> dict[str, Any]:
    """What may be done to a message."""
    draws: dict[str, Callable[[], Any]] = {
        "replace": lambda: r.choice([text(r), {"text": text(r)}, {"json": {"a": text(r)}}, {"bytes": "ff 00"},
                                     replacement(r), [replacement(r), replacement(r)]]),
        "drop": lambda: True,
        "send": lambda: r.choice([{"to": "client", "text": text(r)}, [{"to": "server", "json": [text(r)]},
                                                                      {"to": "client", "bytes": "base64:AAE="}]]),
        "close": lambda: r.choice(ends),
    }  # fmt: skip
    keys = r.sample(tuple(draws), r.choice((1, 1, 2)))
    return {key: draws[key]() for key in keys if key != "replace" or "drop" not in keys}


def duration(r: Random) -> Any:
    return r.choice(["20ms", {"uniform": ["1ms", "2ms"]}, {"normal": {"mean": "5ms", "deviation": "1ms"}}])


ACTIONS: dict[str, Callable[[Random], Any]] = {
    "block": lambda r: r.choice([{}, "close", {"status": 451}, {"dns": "refuse"}, {"body": text(r)}]),
    "respond": lambda r: r.choice([text(r), {"json": {"v": text(r)}}, {"status": 201, "headers": {"x-m": text(r)}},
                                   {"file": "body.txt"}]),
    "redirect": lambda r: r.choice(["https://new.test/${request.host}", {"to": "/moved", "status": 308}]),
    "map_local": lambda r: r.choice(["files/page.html", {"path": "files/", "fallthrough": True},
                                     {"path": "files/${query.q | default(1)}.txt", "fallthrough": r.random() < 0.5}]),
    "rewrite": lambda r: r.choice((rewrite_request, rewrite_response))(r),
    "redirect_server": lambda r: r.choice(["next.test", ":8443", {"to": "https://next.test", "keep_host": False}]),
    "map_remote": lambda r: r.choice(["http://far.test:81/base", {"to": "https://far.test", "keep_host": True}]),
    "upstream_proxy": lambda r: r.choice(["http://proxy.test:3128", "socks5://192.0.2.5", "direct",
                                          {"url": "https://proxy.test", "auth": "ada:secret"},
                                          'http://${query.q | default("proxy.test")}:81']),
    "spoof_dns": lambda r: r.choice(["192.0.2.1", {"A": ["192.0.2.1", "192.0.2.2"], "others": "forward"},
                                     {"rcode": "NXDOMAIN"}, {"TXT": "hello", "for": r.choice(("clients", "proxy"))},
                                     {"CNAME": "b.test"}]),
    "tls": lambda r: r.choice(("intercept", "passthrough", "refuse")),
    "delay": duration,
    "tag": lambda r: r.choice(["seen", ["a", text(r)]]),
    "log": lambda r: text(r),
    "pass": lambda r: {},
    "websocket": lambda r: conversation(r, [4001, {"code": 1008, "reason": text(r)}, True]),
    "tcp": lambda r: conversation(r, ["close", "reset", True]),
    "udp": lambda r: conversation(r, [True]),
}  # fmt: skip


def draw_rule(r: Random, x: Exchange, name: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"name": name}
    match = draw_match(r, x)
    if match:
        rule["match"] = match
    if r.random() < 0.15:
        rule["unless"] = draw_match(r, draw_exchange(r)) or {"host": "nobody.test"}
    # The weights make the common actions common, and `pass` rare: it ends everything.
    weights = (4, 5, 2, 3, 9, 4, 4, 4, 3, 2, 2, 2, 2, 1, 3, 2, 2)
    if MESSAGE_KEYS & set(match):
        weights = tuple(weight if key in MESSAGE_ACTIONS else 0 for key, weight in zip(ACTIONS, weights, strict=True))
    keys = r.choices(tuple(ACTIONS), weights, k=r.choice((1, 1, 2)))
    rule["action"] = {key: ACTIONS[key](r) for key in keys}
    if r.random() < 0.3:
        rule["priority"] = r.randint(-1, 2)
    if r.random() < 0.08:
        rule["stop"] = True
    if r.random() < 0.04:
        rule["enabled"] = False
    if r.random() < 0.05:
        rule["on_error"] = r.choice(("refuse", "skip"))
    return rule


# --- rule files ----------------------------------------------------------------------------------------------------


def to_yaml(data: Any) -> str:
    """Flow style on one line; every text quoted, whatever is in it."""
    match data:
        case dict():
            return "{" + ", ".join(f"{to_yaml(str(key))}: {to_yaml(value)}" for key, value in data.items()) + "}"
        case list() | tuple():
            return f"[{', '.join(map(to_yaml, data))}]"
        case str():
            return '"' + "".join(_escaped(char) for char in data) + '"'
    return json.dumps(data)


def _escaped(char: str) -> str:
    if char in '"\\' or not char.isascii() or not char.isprintable():
        return f"\\U{ord(char):08x}"
    return char


def draw_case(r: Random, most: int = 6) -> Case:
    x = draw_exchange(r)
    rules = [draw_rule(r, x, f"r{number}") for number in range(r.randint(1, most))]
    return make_case(x, rules)


def make_case(x: Exchange, rules: list[dict[str, Any]]) -> Case:
    """The case with those rules that build."""
    parent = x.host.partition(".")[2]
    while True:
        source = "\n".join(["version: 1", "vars: {v: of-vars}",
                            f"sets: {{here: [{x.host}, .{parent}], there: [there.test]}}", "rules:",
                            *(f"  - {to_yaml(rule)}" for rule in rules)]) + ("\n" if rules else " []\n")
        found = build(["rules.yaml"], files=Memory({"rules.yaml": source, "body.txt": "from a file, one"}))
        bad = {error.pos.line - 5 for error in found.report.errors}
        if not bad:
            return Case(x, source, found)
        assert bad <= set(range(len(rules))), found.render()
        rules = [rule for number, rule in enumerate(rules) if number not in bad]
