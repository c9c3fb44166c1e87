"""Upstream errors as pages."""

from __future__ import annotations

from rulesproxy.model.http import Request
from rulesproxy.proxy.pages import upstream_error_response
from rulesproxy.proxy.upstream.target import UpstreamError

REQUEST = Request.make("GET", "http://example.test/", headers={"Accept": "*/*"})


def test_page_carries_everything_the_error_says() -> None:
    error = UpstreamError("example.test:80: timed out after 10 s", 504, title="Server unreachable", hint="Wait.",
                          rule="slow (rules/a.yaml:1)")
    response = upstream_error_response(error, REQUEST)
    assert response.status_code == 504
    for piece in (b"timed out after 10 s", b"Server unreachable", b"Wait.", b"slow (rules/a.yaml:1)"):
        assert piece in (response.raw_content or b"")


def test_error_without_details_is_a_502() -> None:
    assert upstream_error_response(UpstreamError("refused"), None).status_code == 502
