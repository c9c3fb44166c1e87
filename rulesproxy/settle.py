"""Files as their author means them: a known file that is empty or gone counts only after staying so for a second.

Editors and tools save in steps (truncate, then write; delete, then rename). Reading through here, a step in between
looks like nothing happened (rule-language 6.2).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from rulesproxy.compiler.inputs import Disk, FileReader

SETTLE_SECONDS = 1.0


@dataclass(slots=True)
class _Known:
    content: bytes
    #: When the file was first found empty or gone, None while it is there.
    missing_since: float | None = None


class SettlingReader:
    """A `FileReader` that remembers. Use one per reloader; not for two builds at the same time."""

    def __init__(self, disk: FileReader | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._disk = disk if disk is not None else Disk()
        self._clock = clock
        self._known: dict[str, _Known] = {}
        #: pattern → what it matched last time, so that a file between delete and rename is still found
        self._matches: dict[str, set[str]] = {}

    def read(self, path: str) -> bytes:
        try:
            content = self._disk.read(path)
        except OSError:
            known = self._unsettled(path)
            if known is None:
                self._known.pop(path, None)
                raise
            return known.content
        if content.strip():
            self._known[path] = _Known(content)
            return content
        known = self._unsettled(path)
        if known is None:
            self._known.pop(path, None)
            return content
        return known.content

    def _unsettled(self, path: str) -> _Known | None:
        """The last content of a file that went missing less than a second ago."""
        known = self._known.get(path)
        if known is None:
            return None
        now = self._clock()
        if known.missing_since is None:
            known.missing_since = now
        return known if now - known.missing_since < SETTLE_SECONDS else None

    def glob(self, pattern: str) -> list[str]:
        """Matches on disk, and known files that matched a moment ago."""
        found = set(self._disk.glob(pattern))
        lost = self._matches.get(pattern, set()) - found
        found.update(path for path in lost if self._unsettled(_normal(path)) is not None)
        self._matches[pattern] = set(found)
        return list(found)

    def is_dir(self, path: str) -> bool:
        return self._disk.is_dir(path)

    @property
    def unsettled_for(self) -> float | None:
        """Seconds until the next missing file counts as gone; None when all is settled."""
        now = self._clock()
        waits = [SETTLE_SECONDS - (now - known.missing_since) for known in self._known.values()
                 if known.missing_since is not None]
        return max(0.0, min(waits)) if waits else None


def _normal(path: str) -> str:
    return os.path.normpath(path)
