"""`http://rulesproxy.test/` shows what it should and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rulesproxy.model.http import Request, Response
from rulesproxy.proxy.virtual_host import VirtualHost

PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
DER = b"\x30\x82\x01\x00\xff"
STATE: dict[str, Any] = {
    "digest": "4d7f2a",
    "rules": [{"name": "api-mock", "source": "rules/api.yaml:3"},
              {"name": "<script>alert(1)</script>\x1b[31m", "source": "rules/odd.yaml:1"}],
    "last_reload": "2025-01-02T03:04:05Z",
    "last_error": None,
}


def ask(path: str, method: str = "GET", accept: str = "*/*", state: dict[str, Any] = STATE) -> Response:
    request = Request.make(method, f"http://rulesproxy.test{path}", headers={"Accept": accept})
    return VirtualHost(PEM, DER, lambda: state).respond(request)


def text(response: Response) -> str:
    assert response.raw_content is not None
    return response.raw_content.decode()


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_start_page_says_what_this_is_and_how_to_trust_it(accept: str) -> None:
    response = ask("/", accept=accept)
    assert response.status_code == 200
    shown = text(response)
    for piece in ("rulesproxy", "ca.pem", "ca.crt", "--cacert", "api-mock", "rules/api.yaml:3", "4d7f2a",
                  "Last reload"):
        assert piece in shown
    assert "Last error" not in shown
    assert "<script" not in shown or accept == "*/*"
    assert "\x1b" not in shown


def test_last_error_is_shown_when_there_is_one() -> None:
    assert "rules/a.yaml:3:1: unknown key" in text(ask("/", state={"last_error": "rules/a.yaml:3:1: unknown key"}))


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_start_page_stands_an_empty_state(accept: str) -> None:
    assert "rulesproxy" in text(ask("/", accept=accept, state={}))


@pytest.mark.parametrize(("path", "content", "content_type"), [
    ("/ca.pem", PEM, "application/x-pem-file"),
    ("/ca.crt", DER, "application/x-x509-ca-cert"),
])
def test_certificate_is_a_download_as_it_is(path: str, content: bytes, content_type: str) -> None:
    response = ask(path)
    assert response.raw_content == content
    assert response.headers["content-type"] == content_type
    assert response.headers["content-disposition"].startswith("attachment; ")


def test_rules_are_json() -> None:
    response = ask("/rules")
    assert response.headers["content-type"] == "application/json"
    assert json.loads(text(response)) == STATE


def test_state_is_read_for_each_request() -> None:
    state = {"digest": "one"}
    host = VirtualHost(PEM, DER, lambda: state)
    request = Request.make("GET", "http://rulesproxy.test/rules")
    assert "one" in text(host.respond(request))
    state["digest"] = "two"
    assert "two" in text(host.respond(request))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"])
@pytest.mark.parametrize("path", ["/", "/rules", "/ca.pem", "/none"])
def test_nothing_but_get_and_head_is_answered(method: str, path: str) -> None:
    request = Request.make("GET", f"http://rulesproxy.test{path}")
    request.method = method
    response = VirtualHost(PEM, DER, dict).respond(request)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


def test_head_is_answered_with_the_headers_of_get() -> None:
    assert ask("/ca.pem", "HEAD").headers == ask("/ca.pem").headers


@pytest.mark.parametrize("path", ["/ca-key.pem", "/../ca-key.pem", "/%2e%2e/ca-key.pem", "/key", "/ca.pem/x", "/x%00y",
                                  "/x%1b[31m", "/<script>"])
def test_unknown_paths_are_404_without_an_echo_of_raw_input(path: str) -> None:
    response = ask(path, accept="text/html")
    assert response.status_code == 404
    assert "<script" not in text(response)
    assert not set("\x00\x1b") & set(text(response))


@pytest.mark.parametrize("path", ["/?x=1", "//", "/./", "/a/.."])
def test_spellings_of_the_start_page(path: str) -> None:
    assert ask(path).status_code == 200


@pytest.mark.parametrize("path", ["/", "/ca.pem", "/ca.crt", "/rules", "/none"])
@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_no_page_opens_itself_to_other_origins(path: str, accept: str) -> None:
    response = ask(path, accept=accept)
    assert not [name for name in response.headers if name.lower().startswith("access-control")]
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "set-cookie" not in response.headers
