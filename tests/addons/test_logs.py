"""Log lines are one line each, cannot be forged by traffic, and cost nothing below the level."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from rulesproxy import logs


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def capture(json_lines: bool = False, level: int = logging.INFO) -> io.StringIO:
    stream = io.StringIO()
    logging.getLogger().handlers[:] = []  # the test runner's own capture cannot report what is hostile here
    logs.setup(json_lines=json_lines, level=level, stream=stream)
    return stream


def test_a_record_is_one_line_with_time_level_and_source() -> None:
    stream = capture()
    logging.getLogger("rulesproxy.script").warning("hello %s", "world")
    logging.getLogger("rulesproxy").info("started")
    logging.getLogger().info("from a script")
    lines = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning script: hello world", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d info started", lines[1])
    assert re.fullmatch(r"\d\d:\d\d:\d\d info from a script", lines[2])


@pytest.mark.parametrize("hostile, shown", [
    ("\x1b[2J", r"\x1b[2J"), ("a\rb", r"a\rb"), ("\x00", r"\x00"), ("\x9b31m", r"\x9b31m"), ("\u202e", r"\u202e"),
    ("\u2028", r"\u2028"), ("\udc80", r"\udc80"), ("\x7f", r"\x7f"), ("tab\t", r"tab\t"),
], ids=ascii)
def test_control_characters_are_escaped(hostile: str, shown: str) -> None:
    stream = capture()
    logging.getLogger("rulesproxy").info("path %s", hostile)
    assert stream.getvalue().endswith(f"path {shown}\n")


def test_text_that_is_only_unusual_stays_readable() -> None:
    assert logs.escape("grüße 東京 🦊 \\n") == "grüße 東京 🦊 \\n"


def test_a_line_break_cannot_fake_a_record() -> None:
    stream = capture()
    logging.getLogger("rulesproxy").info("path %s", "x\n12:00:00 error forged")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("path x")
    assert second == "    12:00:00 error forged"


def test_a_traceback_is_indented_and_escaped() -> None:
    stream = capture()
    try:
        raise ValueError("bad \x1b[31m")
    except ValueError:
        logging.getLogger("rulesproxy").exception("failed")
    first, *more = stream.getvalue().splitlines()
    assert first.endswith("error failed")
    assert more and all(line.startswith("    ") for line in more)
    assert more[-1] == r"    ValueError: bad \x1b[31m"


def test_json_lines_carry_the_same_and_the_data() -> None:
    stream = capture(json_lines=True)
    logging.getLogger("rulesproxy.reload").info("live\n%s", "\x1b", extra={"data": {"digest": "abc", "level": "mine"}})
    line, = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry["message"] == "live\n\x1b" and "\x1b" not in line
    assert (entry["level"], entry["logger"], entry["digest"]) == ("info", "rulesproxy.reload", "abc")
    assert isinstance(entry["time"], float)


def test_json_lines_carry_exceptions() -> None:
    stream = capture(json_lines=True)
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("rulesproxy").exception("failed")
    assert json.loads(stream.getvalue())["exception"].endswith("ValueError: bad")


def test_below_the_level_nothing_is_formatted() -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    stream = capture(level=logging.WARNING)
    logging.getLogger("rulesproxy").info("%s", Costly())
    assert stream.getvalue() == ""


def test_a_second_set_up_replaces_the_first() -> None:
    first, second = capture(), capture()
    logging.getLogger("rulesproxy").info("once")
    assert first.getvalue() == "" and second.getvalue().count("once") == 1


def test_a_closed_stream_loses_the_record_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    stream = capture()
    stream.close()
    logging.getLogger("rulesproxy").info("lost")
    assert capsys.readouterr().err == ""


def test_chatter_of_libraries_is_left_out() -> None:
    stream = capture()
    logging.getLogger("watchfiles.main").info("3 changes detected")
    assert stream.getvalue() == ""
