"""The table of clients is whole, the page shows it, and nothing but what it says counts as seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.clients import table
from tests.acceptance.clients.programs import outcome

SEEN = {"version": "HTTP/1.1", "text": "plain words over HTTP/2.0\n", "mark": "yes", "issuer": "rulesproxy CA"}


def test_the_tables_have_every_client_and_every_way() -> None:
    assert table.is_whole()
    assert set(table.REASONS).isdisjoint(table.DNS_REASONS)


def test_the_page_shows_the_tables() -> None:
    text = table.PAGE.read_text()
    assert text == table.page(text), "run python -m tests.acceptance.clients.table"


def test_most_cells_are_run() -> None:
    cells = sum(len(table.wanted(client, table.WAYS)) for client in table.CLIENTS)
    assert cells > 550


@pytest.mark.parametrize(("way", "marked", "report", "judged"), [
    ("regular", True, SEEN, "1-2"),
    ("regular", True, SEEN | {"version": "HTTP/2"}, "2-2"),
    ("regular", False, SEEN | {"mark": None, "issuer": "Test origin CA", "version": "HTTP/2"}, "2"),
    ("regular", False, SEEN | {"mark": None, "issuer": "Test origin CA"}, "1-2"),
    ("reverse:tls", True, SEEN | {"mark": None, "text": "other words over HTTP/1.1", "issuer": None}, "1"),
    ("regular", True, SEEN | {"mark": None}, None),
    ("regular", True, SEEN | {"issuer": "Test origin CA"}, None),
    ("regular", False, SEEN | {"issuer": "Test origin CA"}, None),
    ("regular", False, SEEN | {"mark": None}, None),
    ("reverse:tls", True, SEEN, None),
    ("regular", True, SEEN | {"text": "502 Bad Gateway"}, None),
    ("regular", True, {"failed": "TimeoutError: "}, None),
])
def test_only_what_was_wanted_counts(way: str, marked: bool, report: dict[str, Any], judged: str | None) -> None:
    """What is not as it should be is shown as it is, so that it equals no cell."""
    assert outcome((way, "https", marked), report) == (judged or str(report))
