"""The tables of the conformance page, written from the case lists: `python -m tests.conformance.conformance_table`.

The page is docs/conformance.md; what stands between its markers comes from here, and a test checks that it does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.conformance import non_strict
from tests.conformance.autobahn_cases import PROTOCOL_CASES
from tests.conformance.autobahn_volume_cases import COMPRESSION_CASES, LARGE_CASES
from tests.conformance.http2_client_cases import CLIENT_CASES
from tests.conformance.http2_server_cases import SERVER_CASES
from tests.conformance.verdicts import Case

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
_GROUPS = ("HTTP2_SERVER", "HTTP2_CLIENT", "WEBSOCKET", "H2SPEC")


def tables() -> str:
    websocket = (*PROTOCOL_CASES, *LARGE_CASES, *COMPRESSION_CASES)
    lines = ["| list | role of the proxy | cases | by chapter |", "|---|---|---|---|",
             _row("h2spec", "server", SERVER_CASES, "/", 2), _row("h2spec", "client", CLIENT_CASES, "/", 2),
             _row("Autobahn", "both", websocket, ".", 1), "",
             "| list | non-strict cases | why |", "|---|---|---|"]
    for group in _GROUPS:
        reasons: dict[str, list[str]] = {}
        for id, reason in getattr(non_strict, group).items():
            reasons.setdefault(reason, []).append(id)
        lines += [f"| {group.lower().replace('_', ' ')} | {' '.join(f'`{id}`' for id in ids)} | {reason} |"
                  for reason, ids in reasons.items()]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """`text` with the tables as they are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + tables() + END + after


def _row(name: str, role: str, cases: Iterable[Case], separator: str, depth: int) -> str:
    ids = [case.id for case in cases]
    chapters = Counter("/".join(id.replace(".", "/").split("/")[:depth]) for id in ids)
    shown = ", ".join(f"{chapter} ({count})" for chapter, count in chapters.items())
    return f"| {name} | {role} | {len(ids)} | {shown} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
