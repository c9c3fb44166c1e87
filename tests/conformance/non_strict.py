"""The cases that need not be passed strictly, and why. docs/conformance.md shows this list; it has at most 10 entries.

Nothing else is exempt: a case that fails is a bug.
"""

from __future__ import annotations

HTTP2_SERVER: dict[str, str] = {}
HTTP2_CLIENT: dict[str, str] = {}
_FAILED_EARLY = ("the message before the violation is on its way through the far end when the violation ends the "
                 "connection: its echo may come too late")
WEBSOCKET: dict[str, str] = dict.fromkeys(
    ("3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15"), _FAILED_EARLY)
#: Where bytes are only relayed, the far end decides: cases that the `websockets` library answers in its own way.
FAR_END: dict[str, str] = {
    "6.4.1": "it looks at UTF-8 when a message is whole", "6.4.2": "as 6.4.1", "6.4.3": "as 6.4.1", "6.4.4": "as 6.4.1",
    "7.1.5": "it takes a close between two fragments for an error",
}
#: What h2spec itself may report as failed, by the ids of its list.
H2SPEC: dict[str, str] = {}

MOST = 10
