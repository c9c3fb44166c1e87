"""Diagnostics as people see them."""

from __future__ import annotations

from rulesproxy.compiler.diagnostics import Report, Severity, printable
from rulesproxy.compiler.source import Position, Scalar

AT = Position("rules/api.yaml", 2, 5)


def test_an_error_shows_its_line_marker_notes_and_help() -> None:
    report = Report()
    report.error(AT, 'unknown key "mach"', help='did you mean "match"?', notes=[(Position("b.yaml", 1, 1), "as here")])
    assert report.render({"rules/api.yaml": b"rules:\n    mach: {}\n", "b.yaml": "match: {}\n"}) == (
        'rules/api.yaml:2:5: error: unknown key "mach"\n'
        "    2 |     mach: {}\n"
        "      |     ^\n"
        "  note: b.yaml:1:1: as here\n"
        "    1 | match: {}\n"
        "      | ^\n"
        '  help: did you mean "match"?\n'
    )


def test_a_warning_names_its_code_and_is_no_error() -> None:
    report = Report()
    report.warning("shadowed", AT, "never takes effect")
    assert report.render({}) == "rules/api.yaml:2:5: warning [shadowed]: never takes effect\n"
    assert not report.has_errors
    assert [d.severity for d in report.warnings] == [Severity.WARNING] and report.errors == []


def test_a_node_stands_for_its_position() -> None:
    report = Report()
    report.error(Scalar(AT, "x", True), "wrong")
    assert report.errors[0].pos == AT and report.error_count == 1


def test_the_same_diagnostic_is_kept_once() -> None:
    report = Report()
    for _ in range(2):
        report.error(AT, "wrong")
    report.error(AT, "wrong in another way")
    assert [d.message for d in report.diagnostics] == ["wrong", "wrong in another way"]


def test_diagnostics_go_from_top_to_bottom_file_by_file() -> None:
    report = Report()
    for file, line in (("b", 9), ("a", 1), ("b", 2)):
        report.error(Position(file, line, 1), "wrong")
    assert [str(d.pos) for d in report.diagnostics] == ["b:2:1", "b:9:1", "a:1:1"]


def test_the_marker_stands_under_the_character_whatever_came_before() -> None:
    for line, column, before in (("\thost: x", 2, " "), ("日本: x", 5, "日本: "), ("e\u0301: x", 5, "e\u0301: ")):
        report = Report()
        report.error(Position("f", 1, column), "wrong")
        _, shown, marker, *_ = report.render({"f": line}).split("\n")
        width = {"日本: ": 6, "e\u0301: ": 3}.get(before, len(before))
        assert shown.startswith("    1 | " + before)
        assert marker == "      | " + " " * width + "^"


def test_text_of_unknown_origin_cannot_write_to_the_terminal() -> None:
    report = Report()
    report.error(Position("f\x1b[2J", 1, 3), "bad \x1b[31m\u202e value", help="\x07")
    text = report.render({"f\x1b[2J": "a\x1b[2Jb"})
    assert not any(ord(char) < 32 and char != "\n" for char in text)
    assert "\u202e" not in text and "\\x1b[31m" in text
    assert printable("plain é") == "plain é"


def test_long_lines_are_cut_around_the_place() -> None:
    report = Report()
    report.error(Position("f", 1, 5000), "wrong")
    _, shown, marker, *_ = report.render({"f": "x" * 4999 + "Y" + "z" * 5000}).split("\n")
    assert len(shown) < 120
    assert shown[marker.index("^")] == "Y"


def test_colour_changes_no_text() -> None:
    report = Report()
    report.error(AT, "wrong", help="so", notes=[(AT, "here")])
    sources = {"rules/api.yaml": "a: 1\n    b: 2\n"}
    import re

    coloured = report.render(sources, color=True)
    assert "\x1b[" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == report.render(sources)
