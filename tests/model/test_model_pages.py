"""The proxy's own pages: readable, inert, and never an echo of raw input."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import re

import pytest

from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request, Response
from rulesproxy.model.pages import MAX_SHOWN, error_response, printable

BROWSER = Request.make("GET", "http://example.test/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
CURL = Request.make("GET", "http://example.test/", headers={"Accept": "*/*"})

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></head><b>",
    "a\r\nSet-Cookie: x=1",
    "\x1b]0;owned\x07\x1b[31m",
    "\u202egnp.exe",
    "caf\udce9",  # a byte that was not UTF-8, as surrogateescape carries it
    "&lt;&amp;",
    "\x00\x9b31m\u2028",
]


class Tags(html.parser.HTMLParser):
    """The tags and attributes of a document, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def page(request: Request | None, text: str = "plain words") -> Response:
    return error_response(502, text, text, request=request, hint=text, rule=text)


def body(response: Response) -> str:
    assert response.raw_content is not None
    return response.raw_content.decode()


def test_browsers_get_html_and_everybody_else_plain_text() -> None:
    assert page(BROWSER).headers["content-type"] == "text/html; charset=utf-8"
    assert page(CURL).headers["content-type"] == "text/plain; charset=utf-8"
    assert page(None).headers["content-type"] == "text/plain; charset=utf-8"
    assert page(Request("GET", "http", "x.test", 80, "/", Headers())).headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("request_", [BROWSER, CURL], ids=["html", "text"])
def test_page_names_what_failed_why_what_to_do_and_the_rule(request_: Request) -> None:
    response = error_response(502, "Origin unreachable", "connection refused by 127.0.0.1:1", request=request_,
                              hint="Is the server running?", rule="api-mock (rules/api.yaml:3)")
    text = body(response)
    for piece in ("502", "Origin unreachable", "connection refused by 127.0.0.1:1", "Is the server running?",
                  "api-mock (rules/api.yaml:3)", "rulesproxy"):
        assert piece in text
    assert (response.status_code, response.reason) == (502, "Bad Gateway")


@pytest.mark.parametrize("text", HOSTILE, ids=[ascii(text) for text in HOSTILE])
def test_hostile_text_adds_no_tag_attribute_or_control_character(text: str) -> None:
    innocent, hostile = Tags(body(page(BROWSER))), Tags(body(page(BROWSER, text)))
    assert hostile.tags == innocent.tags
    assert hostile.attributes == innocent.attributes
    for request in (BROWSER, CURL):
        shown = body(page(request, text))
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", shown)
        assert shown.count("\n") == body(page(request)).count("\n")


def test_text_comes_back_unchanged_where_it_is_harmless() -> None:
    text = 'a <b> & "c" é 漢字'
    assert text in Tags(body(page(BROWSER, text))).text
    assert text in body(page(CURL, text))


def test_page_is_not_a_mirror_for_any_length() -> None:
    assert len(body(page(CURL, "x" * 1_000_000))) < 5 * MAX_SHOWN
    assert printable("y" * MAX_SHOWN) == "y" * MAX_SHOWN


@pytest.mark.parametrize("request_", [BROWSER, CURL], ids=["html", "text"])
def test_page_is_never_cached_sniffed_or_run(request_: Request) -> None:
    response = page(request_)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert response.headers["content-length"] == str(len(response.raw_content or b""))
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


def test_style_sheet_is_the_one_the_policy_allows() -> None:
    response = page(BROWSER)
    style = re.search("<style>(.*?)</style>", body(response), re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in response.headers["content-security-policy"]
    assert "url(" not in style[1] and "@import" not in style[1]


def test_page_is_small_and_asks_nobody_for_anything() -> None:
    text = body(page(BROWSER))
    assert len(text) < 3000
    assert not {"script", "img", "link", "iframe", "form", "object"} & set(Tags(text).tags)
