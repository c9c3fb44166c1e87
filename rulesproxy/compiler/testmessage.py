"""The `message` of a test beside the rules (rule-language 7): what comes, which way, and in which conversation."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from rulesproxy.compiler.byte_text import read_bytes
from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence, to_data

_LINE = re.compile(r"(?:([A-Za-z]+)\s+)?(\S+)")
_HTTP = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_RAW_PORTS = {"tcp": None, "tls": 443, "udp": None}


@dataclass(frozen=True, slots=True)
class TestMessage:
    """`url` is that of the handshake (`http` or `https`), or `tcp tls udp` with `host` and `port`."""

    __test__ = False  # not a pytest class

    url: str
    content: bytes
    is_text: bool = True
    direction: str = "to_server"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 443


def make_message(on: str, content: bytes, *, is_text: bool = True, direction: str = "to_server",
                 headers: tuple[tuple[str, str], ...] = ()) -> TestMessage:
    """`on` as people write it: `GET wss://shop.test/live`, `tcp://db.test:5432`. Raises ValueError."""
    found = _LINE.fullmatch(on.strip())
    if found is None:
        raise ValueError("a message needs a URL: that of the handshake, tcp://host:port or udp://host:port")
    method, url = (found[1] or "GET").upper(), found[2]
    parts = urlsplit(url)  # raises ValueError for brackets that are no address
    scheme, port = parts.scheme.lower(), parts.port  # raises for a port that is no number up to 65535
    if not parts.hostname or scheme not in (*_HTTP, *_RAW_PORTS):
        raise ValueError("messages come on http, https, ws, wss, tcp, tls or udp, as tcp://host:port")
    if scheme in _RAW_PORTS and not (port or _RAW_PORTS[scheme]):
        raise ValueError(f"{scheme} needs a port, as {scheme}://{parts.netloc}:1234")
    return TestMessage(http_url(parts.geturl()), content, is_text, direction, method, headers)


def http_url(url: str) -> str:
    """`ws` and `wss` as what the handshake is: a request for `http` or `https`. Other URLs as they are."""
    scheme, colon, rest = url.partition("://")
    return f"{_HTTP.get(scheme.lower(), scheme)}{colon}{rest}"


def build_message(node: Node | None, report: Report) -> TestMessage | None:
    """The message of a node of the right shape; None after an error."""
    if not isinstance(node, Mapping):
        return None
    content = _content(node, report)
    on, direction, opcode = node.get("on"), node.get("direction"), node.get("opcode")
    url = on.get("url") if isinstance(on, Mapping) else on
    if content is None or not isinstance(url, Scalar):
        return None
    method = on.get("method") if isinstance(on, Mapping) else None
    line = f"{method.text} {url.text}" if isinstance(method, Scalar) else url.text
    is_text = opcode.text == "text" if isinstance(opcode, Scalar) else content[1]
    try:
        return make_message(line, content[0], is_text=is_text,
                            direction=direction.text if isinstance(direction, Scalar) else "to_server",
                            headers=_headers(on.get("headers")) if isinstance(on, Mapping) else ())
    except ValueError as exc:
        report.error(url, str(exc))
        return None


def _content(node: Mapping, report: Report) -> tuple[bytes, bool] | None:
    """The bytes, and whether they are a text message unless something else is said."""
    given = [(key, value) for key, value in node if key.text in ("text", "json", "bytes")]
    if len(given) != 1:
        report.error(given[1][0] if given else node, "a message has exactly one of text, json and bytes")
        return None
    [(key, value)] = given
    if key.text == "json":
        return json.dumps(to_data(value), ensure_ascii=False).encode("utf-8", "replace"), True
    if not isinstance(value, Scalar):
        return None
    if key.text == "text":
        return value.text.encode("utf-8", "replace"), True
    try:
        return read_bytes(value.text), False
    except ValueError as exc:
        report.error(value, str(exc))
        return None


def _headers(node: Node | None) -> tuple[tuple[str, str], ...]:
    if not isinstance(node, Mapping):
        return ()
    return tuple((key.text, item.text) for key, value in node
                 for item in (value.items if isinstance(value, Sequence) else (value,)) if isinstance(item, Scalar))
