"""HTTP messages as hooks see them, whatever version carried them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from rulesproxy.model import encoding
from rulesproxy.model.headers import Headers
from rulesproxy.model.names import DEFAULT_PORTS, authority, canonical_host

#: A body callable: gets each piece and once `b""` at the end; answers bytes or an iterable of bytes.
StreamCallable = Callable[[bytes], bytes | Iterable[bytes]]
#: `False`: buffer if something needs the body, else stream. `True`: stream. A callable: stream through it.
StreamMode = bool | StreamCallable

_CHARSET_DEFAULT = "utf-8"


class Message:
    """What requests and responses share.

    `raw_content` is the body as on the wire, `None` while unread or when it was streamed. `content` is decoded.
    """

    __slots__ = ("headers", "http_version", "raw_content", "stream", "timestamp_end", "timestamp_start", "trailers")

    def __init__(self, headers: Headers, http_version: str, content: bytes | None) -> None:
        self.headers = headers
        self.http_version = http_version
        self.raw_content = content
        self.trailers: Headers | None = None
        self.stream: StreamMode = False
        self.timestamp_start = time.time()
        self.timestamp_end: float | None = None

    @property
    def is_http10(self) -> bool:
        return self.http_version == "HTTP/1.0"

    @property
    def is_http11(self) -> bool:
        return self.http_version == "HTTP/1.1"

    @property
    def is_http2(self) -> bool:
        return self.http_version == "HTTP/2.0"

    def get_content(self, strict: bool = True) -> bytes | None:
        """The decoded body. A body that cannot be decoded raises ValueError, or comes raw when not strict."""
        if self.raw_content is None:
            return None
        try:
            return encoding.decode(self.raw_content, self.headers.get("content-encoding"))
        except encoding.DecodeError:
            if strict:
                raise
            return self.raw_content

    def set_content(self, value: bytes | None) -> None:
        """Replace the body: coded as Content-Encoding says, lengths corrected."""
        if value is None:
            self.raw_content = None
            return
        if not isinstance(value, bytes):
            raise TypeError(f"content must be bytes, not {type(value).__name__}")
        try:
            raw = encoding.encode(value, self.headers.get("content-encoding"))
        except encoding.DecodeError:
            del self.headers["content-encoding"]
            raw = value
        self.raw_content = raw
        if "transfer-encoding" in self.headers:
            del self.headers["transfer-encoding"]
        self.headers["content-length"] = str(len(raw))

    content = property(get_content, set_content)

    def get_text(self, strict: bool = True) -> str | None:
        content = self.get_content(strict)
        if content is None:
            return None
        return content.decode(self._charset(content), "strict" if strict else "replace")

    def set_text(self, value: str | None) -> None:
        self.set_content(None if value is None else value.encode(self._charset(b""), "surrogateescape"))

    text = property(get_text, set_text)

    def json(self) -> Any:
        """The body as JSON. Raises TypeError without a body, ValueError when it is not JSON."""
        content = self.get_content()
        if content is None:
            raise TypeError("message content is not available")
        return json.loads(content)

    def _charset(self, content: bytes) -> str:
        if content.startswith(b"\xef\xbb\xbf"):
            return "utf-8-sig"
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            key, _, value = parameter.strip().partition("=")
            if key.lower() == "charset":
                name = value.strip("\"' ")
                try:
                    "".encode(name)
                except (LookupError, UnicodeError):
                    break
                return name
        return _CHARSET_DEFAULT

    def _copy_into(self, new: Self) -> Self:
        new.trailers = self.trailers.copy() if self.trailers is not None else None
        new.stream = self.stream
        new.timestamp_start, new.timestamp_end = self.timestamp_start, self.timestamp_end
        return new


class Request(Message):
    """A request. `host` and `port` are where it goes, `path` is the request target: path and query as received.

    Assigning `host` or `port` keeps the Host field in step, as addon authors expect; the proxy core and the rules
    move traffic through `flow.route` instead, which leaves Host alone unless told otherwise.
    """

    __slots__ = ("_host", "_port", "authority", "method", "path", "scheme")

    def __init__(self, method: str, scheme: str, host: str, port: int, path: str, headers: Headers,
                 content: bytes | None = None, http_version: str = "HTTP/1.1", authority: str = "") -> None:
        super().__init__(headers, http_version, content)
        self.method = method
        self.scheme = scheme
        self._host = host
        self._port = port
        self.path = path
        self.authority = authority

    @classmethod
    def make(cls, method: str, url: str, content: bytes | str = b"",
             headers: Headers | dict[str, str] | Iterable[tuple[bytes, bytes]] = ()) -> Request:
        """A request for an absolute URL, with Host and, where there is a body, Content-Length."""
        scheme, host, port, path = split_url(url)
        if isinstance(headers, dict):
            headers = Headers((k.encode(), v.encode()) for k, v in headers.items())
        elif not isinstance(headers, Headers):
            headers = Headers(headers)
        request = cls(method.upper(), scheme, host, port, path, headers.copy())
        if "host" not in request.headers:
            request.headers.insert(0, "Host", authority(host, port, scheme))
        body = content.encode() if isinstance(content, str) else content
        if body:
            request.set_content(body)
        else:
            request.raw_content = b""
        return request

    @property
    def host(self) -> str:
        return self._host

    @host.setter
    def host(self, value: str) -> None:
        self._host = value
        self._update_host_header()

    @property
    def port(self) -> int:
        return self._port

    @port.setter
    def port(self, value: int) -> None:
        self._port = value
        self._update_host_header()

    def _update_host_header(self) -> None:
        name = authority(self._host, self._port, self.scheme)
        if "host" in self.headers:
            self.headers["host"] = name
        if self.authority:
            self.authority = name

    @property
    def host_header(self) -> str | None:
        return self.headers.get("host")

    @host_header.setter
    def host_header(self, value: str) -> None:
        self.headers["host"] = value

    @property
    def pretty_host(self) -> str:
        """The name the client meant: from Host where there is one."""
        header = self.headers.get("host") or self.authority
        return urlsplit("//" + header).hostname or self._host if header else self._host

    @property
    def url(self) -> str:
        return f"{self.scheme}://{authority(self._host, self._port, self.scheme)}{self.path}"

    @url.setter
    def url(self, value: str) -> None:
        self.scheme, self._host, self._port, self.path = split_url(value)
        self._update_host_header()

    @property
    def pretty_url(self) -> str:
        return f"{self.scheme}://{authority(self.pretty_host, self._port, self.scheme)}{self.path}"

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.path.partition("?")[2], keep_blank_values=True)

    @property
    def cookies(self) -> list[tuple[str, str]]:
        """The cookies of all Cookie lines, in order."""
        return parse_cookies(self.headers.get_all("cookie"))

    def copy(self) -> Request:
        return self._copy_into(Request(self.method, self.scheme, self._host, self._port, self.path,
                                       self.headers.copy(), self.raw_content, self.http_version, self.authority))

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url}>"


class Response(Message):
    """A response."""

    __slots__ = ("reason", "status_code")

    def __init__(self, status_code: int, reason: str, headers: Headers, content: bytes | None = None,
                 http_version: str = "HTTP/1.1") -> None:
        super().__init__(headers, http_version, content)
        self.status_code = status_code
        self.reason = reason

    @classmethod
    def make(cls, status_code: int = 200, content: bytes | str = b"",
             headers: Headers | dict[str, str] | Iterable[tuple[bytes, bytes]] = ()) -> Response:
        """A response with a body and a correct Content-Length."""
        if isinstance(headers, dict):
            headers = Headers((k.encode(), v.encode()) for k, v in headers.items())
        elif not isinstance(headers, Headers):
            headers = Headers(headers)
        response = cls(status_code, reason_phrase(status_code), headers.copy())
        response.set_content(content.encode() if isinstance(content, str) else content)
        return response

    def copy(self) -> Response:
        return self._copy_into(Response(self.status_code, self.reason, self.headers.copy(), self.raw_content,
                                        self.http_version))

    def __repr__(self) -> str:
        return f"<Response {self.status_code} {self.reason}>"


_REASONS = {status.value: status.phrase for status in HTTPStatus}


def reason_phrase(status_code: int) -> str:
    return _REASONS.get(status_code, "")


def split_url(url: str) -> tuple[str, str, int, str]:
    """`(scheme, host, port, path-and-query)` of an absolute http(s) URL. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"not an absolute http or https URL: {url!r}")
    if "@" in parts.netloc:
        raise ValueError(f"user information is not allowed in a URL: {url!r}")
    path = parts.path or "/"
    if parts.query or url.partition("#")[0].endswith("?"):
        path += "?" + parts.query
    return parts.scheme, canonical_host(parts.hostname), parts.port or DEFAULT_PORTS[parts.scheme], path


def parse_cookies(lines: Iterable[str]) -> list[tuple[str, str]]:
    """`name=value` pairs of Cookie lines; HTTP/2 crumbs are simply more lines (RFC 9113 §8.2.3)."""
    pairs = []
    for line in lines:
        for part in line.split(";"):
            name, equals, value = part.strip().partition("=")
            if equals:
                pairs.append((name.strip(), value.strip()))
    return pairs
