"""Every broken file is reported where its markers say, and nowhere else (tests/broken/README.md)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from rulesproxy.compiler.build import Build, build
from rulesproxy.compiler.diagnostics import Diagnostic
from rulesproxy.compiler.inputs import Disk
from tests.compiler.rulefiles import build_text

BROKEN = Path(__file__).parent.parent / "broken"
_MARKER = re.compile(r"(?P<indent>\s*)#\s*\^(?P<column>[0-9]*) (?P<text>.+)")

Marker = tuple[str, int, int, str]  # file, line, column, fragment


def markers(path: Path, shown: str) -> list[Marker]:
    found: list[Marker] = []
    line = 0
    for number, text in enumerate(path.read_text("utf-8").split("\n"), 1):
        marker = _MARKER.fullmatch(text)
        if marker is None:
            line = number
        else:
            column = int(marker["column"]) if marker["column"] else text.index("^") + 1
            found.append((shown, line, column, marker["text"].strip()))
    return found


def cases() -> list[str]:
    files = [path.stem for path in BROKEN.glob("*.yaml")]
    return sorted(files + [path.parent.name for path in BROKEN.glob("*/main.yaml")])


def compile_in(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Build:
    monkeypatch.chdir(folder)
    return build([name], files=Disk())


def says(diagnostic: Diagnostic, fragment: str) -> bool:
    return fragment in f"{diagnostic.message}\n{diagnostic.help}"


@pytest.mark.parametrize("case", cases())
def test_every_marker_is_met_and_nothing_else_is_reported(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = BROKEN / case if (BROKEN / case).is_dir() else BROKEN
    main = "main.yaml" if folder != BROKEN else f"{case}.yaml"
    files = sorted(path.name for path in folder.glob("*.yaml")) if folder != BROKEN else [main]
    expected = [marker for name in files for marker in markers(folder / name, name)]
    assert expected, "a broken file needs a marker"

    result = compile_in(folder, main, monkeypatch)

    left = list(result.report.errors)
    for file, line, column, fragment in expected:
        here = [d for d in left if (d.pos.file, d.pos.line, d.pos.column) == (file, line, column) and says(d, fragment)]
        assert here, f"{file}:{line}:{column} should say {fragment!r}\n{result.render()}"
        left.remove(here[0])
    assert left == [], f"errors without a marker\n{result.render()}"
    rendered = result.render()
    assert "Traceback" not in rendered
    assert all(f"{file}:{line}:{column}: error: " in rendered for file, line, column, _ in expected)


def test_there_are_at_least_thirty_broken_files() -> None:
    assert len(cases()) >= 30


@pytest.mark.parametrize("name", sorted(path.name for path in (BROKEN / "accepted").glob("*.yaml")))
def test_accepted_files_compile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = compile_in(BROKEN / "accepted", name, monkeypatch)
    assert not result.report.has_errors, result.render()
    assert result.rules


VALID = "version: 1\nrules:\n  - {name: a, match: {host: shop.test}, action: {block: true}}\n"

# What cannot be kept as a text file: content, and the line, column and words that must be reported.
GENERATED = {
    "utf-16": (VALID.encode("utf-16"), 1, 1, "UTF-16"),
    "utf-16-without-bom": (VALID.encode("utf-16-le"), 1, 1, "UTF-16"),
    "utf-32": (VALID.encode("utf-32"), 1, 1, "UTF-32"),
    "nul": (b"version: 1\nvars: {a: b\0c}\n", 2, 12, "NUL"),
    "bell": (b"version: 1\nvars: {a: \x07}\n", 2, 11, "U+0007"),
    "invalid-utf-8": (b"version: 1\nvars:\n  caf\xc3\xa9: a\xff\n", 3, 10, "0xff"),
    "truncated-utf-8": (b"version: 1\nvars: {a: \xe2\x82", 2, 11, "0xe2"),
    "brackets": (b"[" * 100_000, 1, 65, "64 deep"),
    "braces": (b"{" * 100_000, 1, 65, "64 deep"),
    "dashes": (b"- " * 100_000, 1, 129, "64 deep"),
    "questions": (b"? " * 100_000, 1, 129, "64 deep"),
    "too-large": (b"# " + b"x" * (16 * 1024 * 1024), 1, 1, "is the limit"),
    "empty": (b"", 1, 1, "empty"),
    "only-a-comment": (b"# nothing\n", 1, 1, "empty"),
}


@pytest.mark.parametrize("case", GENERATED)
def test_hostile_bytes_are_reported_at_their_place(case: str) -> None:
    data, line, column, words = GENERATED[case]
    result = build_text(data)
    [error] = result.report.errors
    assert (error.pos.line, error.pos.column) == (line, column)
    assert words in error.message
    assert len(result.render()) < 2000


def test_a_byte_order_mark_is_accepted_and_moves_no_column() -> None:
    result = build_text(b"\xef\xbb\xbf" + VALID.encode())
    assert not result.report.has_errors
    assert [rule.name for rule in result.rules] == ["a"]
    broken = build_text(b"\xef\xbb\xbfversoin: 1\n")
    assert {(error.pos.line, error.pos.column) for error in broken.report.errors} == {(1, 1)}


def test_windows_line_ends_move_no_line() -> None:
    result = build_text(b"version: 1\r\nrules:\r\n  - nme: a\r\n    action: {block: true}\r\n")
    assert (3, 5) in {(error.pos.line, error.pos.column) for error in result.report.errors}


def test_special_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    for path in (str(tmp_path / "fifo.yaml"), "/dev/zero"):
        result = build([path], files=Disk())
        [error] = result.report.errors
        assert "not a regular file" in error.message
