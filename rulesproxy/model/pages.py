"""Pages the proxy answers with itself: HTML for browsers, plain text for everything else.

Whatever a page shows may come from the other side of the network, so every piece goes through `printable` and, in
HTML, through escaping; nothing is loaded from anywhere and nothing can run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable

from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request, Response, reason_phrase

#: A shown piece is cut here: a page is not a mirror for whatever length was sent.
MAX_SHOWN = 2000

# C0 and C1 controls, line and paragraph separators, bidirectional overrides and lone surrogates: what can drive a
# terminal, turn text around or not be encoded at all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:12vh auto 0;padding:0 1.5rem;"
    "color:#1d2129;background:#fff}"
    "h1{font-size:1.4rem;margin:0 0 .8rem}p{margin:.6rem 0;overflow-wrap:anywhere}"
    "code,pre{font:14px/1.5 ui-monospace,monospace;background:#f1f3f5;border-radius:4px;padding:.1rem .3rem}"
    "pre{padding:.8rem;overflow-x:auto}a{color:#0b5cad}.hint{border-left:3px solid #c9ced6;padding-left:.8rem}"
    "footer{margin-top:2rem;font-size:.85rem;color:#6b7280}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0}"
    "@media(prefers-color-scheme:dark){body{color:#e4e6ea;background:#16181d}"
    "code,pre{background:#24272e}a{color:#7cb7ff}.hint{border-color:#3d424c}footer{color:#9aa1ac}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
#: No script, no image, no frame, no form: only the one style sheet, named by its hash.
CONTENT_SECURITY_POLICY = (f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
                           "form-action 'none'; frame-ancestors 'none'")


def printable(text: str) -> str:
    """`text` on one line without controls (each becomes U+FFFD), at most `MAX_SHOWN` characters."""
    shown = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", shown)


def wants_html(request: Request | None) -> bool:
    """True for a browser: it says so in Accept."""
    return request is not None and "text/html" in request.headers.get("accept", "").lower()


def escaped(text: str) -> str:
    """`printable` text, ready to stand anywhere in HTML."""
    return html.escape(printable(text), quote=True)


def html_document(title: str, body: str) -> str:
    """A whole document. `title` is text; `body` is HTML the caller has escaped."""
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n")


def own_response(status: int, content: bytes | str, content_type: str,
                 extra: Iterable[tuple[bytes, bytes]] = ()) -> Response:
    """An answer of the proxy's own: never cached, never sniffed, never framed, never run."""
    headers = Headers(((b"Content-Type", content_type.encode("ascii")),
                       (b"Cache-Control", b"no-store"),
                       (b"Content-Security-Policy", CONTENT_SECURITY_POLICY.encode("ascii")),
                       (b"X-Content-Type-Options", b"nosniff"),
                       (b"Referrer-Policy", b"no-referrer"),
                       *extra))
    response = Response(status, reason_phrase(status), headers)
    response.content = content.encode("utf-8") if isinstance(content, str) else content
    return response


def error_response(status: int, title: str, detail: str, *, request: Request | None = None, hint: str = "",
                   rule: str = "") -> Response:
    """The page for something that failed or was refused.

    `title` says what failed in a few words, `detail` why, `hint` what to do about it, `rule` which rule decided.
    All four are plain text and may hold anything at all.
    """
    if wants_html(request):
        return own_response(status, _error_html(status, title, detail, hint, rule), "text/html; charset=utf-8")
    return own_response(status, _error_text(status, title, detail, hint, rule), "text/plain; charset=utf-8")


def _error_text(status: int, title: str, detail: str, hint: str, rule: str) -> str:
    lines = [f"{status} {printable(title)}", printable(detail)]
    if rule:
        lines.append(f"Rule: {printable(rule)}")
    if hint:
        lines.append(printable(hint))
    lines.append("(answered by rulesproxy)")
    return "\n".join(line for line in lines if line) + "\n"


def _error_html(status: int, title: str, detail: str, hint: str, rule: str) -> str:
    parts = [f"<h1>{escaped(title)}</h1>"]
    if detail:
        parts.append(f"<p>{escaped(detail)}</p>")
    if rule:
        parts.append(f"<p>Rule: <code>{escaped(rule)}</code></p>")
    if hint:
        parts.append(f'<p class="hint">{escaped(hint)}</p>')
    parts.append(f"<footer>{status} {html.escape(reason_phrase(status))} · answered by rulesproxy</footer>")
    return html_document(f"{status} {title}", "\n".join(parts))
