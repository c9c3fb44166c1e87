"""Where log records go: one line each on standard error, for people or as JSON.

Whatever traffic puts into a message cannot write to the terminal or fake a record: control characters are escaped,
and the further lines of a record (a traceback) are indented. Code that logs passes arguments, not formatted text, so a
record below the level costs one comparison.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any, TextIO

#: C0 and C1 controls, DEL, line and paragraph separators, and the marks that turn the direction of text around.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_INDENT = "    "

#: Libraries whose everyday chatter is none of the user's business.
_QUIET = ("asyncio", "watchfiles", "hpack", "h2", "httpx", "httpcore")


def escape(text: str) -> str:
    """The text with everything that could move a cursor or start a line written as an escape."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


class LineFormatter(logging.Formatter):
    """`14:03:55 warning script: message`, further lines indented."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        source = record.name.removeprefix("rulesproxy").removeprefix(".")
        prefix = "" if source in ("", "root") else f"{source}: "
        first, *more = _text(record, self).split("\n")
        lines = [f"{clock} {record.levelname.lower()} {prefix}{escape(first)}"]
        lines += [_INDENT + escape(line) for line in more]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time level logger message`, `exception`, and what `extra={"data": {...}}` adds."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": round(record.created, 3), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        data = getattr(record, "data", None)
        if isinstance(data, dict):
            entry = {**data, **entry}
        return json.dumps(entry, default=str)


def _text(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    message = record.getMessage()
    if record.exc_info:
        message += "\n" + formatter.formatException(record.exc_info)
    return message


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Standard error may be closed, or its disk full: a record is lost then, and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handleError(record)


def setup(*, json_lines: bool = False, level: int = logging.INFO, stream: TextIO | None = None) -> logging.Handler:
    """Send all records of `level` and above to `stream` (standard error); replaces what an earlier call set up."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _StderrHandler):
            root.removeHandler(handler)
    new = _StderrHandler(stream if stream is not None else sys.stderr)
    new.setFormatter(JsonFormatter() if json_lines else LineFormatter())
    root.addHandler(new)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    return new
