"""Files that are gone or empty for a moment look as they did before (rule-language 6.2)."""

from __future__ import annotations

import pytest

from rulesproxy.settle import SETTLE_SECONDS, SettlingReader


class Files:
    """Files in memory, and the time."""

    def __init__(self, **contents: str) -> None:
        self.contents = {name.replace("_", "."): text for name, text in contents.items()}
        self.now = 100.0

    def read(self, path: str) -> bytes:
        try:
            return self.contents[path].encode()
        except KeyError:
            raise FileNotFoundError(2, "no such file", path) from None

    def glob(self, pattern: str) -> list[str]:
        return list(self.contents)

    def is_dir(self, path: str) -> bool:
        return False


@pytest.fixture
def files() -> Files:
    return Files(a_yaml="first", b_yaml="second")


@pytest.fixture
def reader(files: Files) -> SettlingReader:
    reader = SettlingReader(files, lambda: files.now)
    reader.glob("*")
    assert reader.read("a.yaml") == b"first"
    return reader


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_emptied_file_keeps_its_content_until_it_settled(files: Files, reader: SettlingReader, empty: str) -> None:
    files.contents["a.yaml"] = empty
    assert reader.read("a.yaml") == b"first"
    files.now += SETTLE_SECONDS - 0.01
    assert reader.read("a.yaml") == b"first"
    files.now += 0.02
    assert reader.read("a.yaml") == empty.encode()


def test_a_deleted_file_is_there_until_it_settled(files: Files, reader: SettlingReader) -> None:
    del files.contents["a.yaml"]
    assert reader.read("a.yaml") == b"first"
    assert sorted(reader.glob("*")) == ["a.yaml", "b.yaml"]
    files.now += SETTLE_SECONDS
    with pytest.raises(FileNotFoundError):
        reader.read("a.yaml")
    assert reader.glob("*") == ["b.yaml"]


def test_a_file_that_came_back_is_known_anew(files: Files, reader: SettlingReader) -> None:
    del files.contents["a.yaml"]
    assert reader.read("a.yaml") == b"first"
    files.contents["a.yaml"] = "third"
    assert reader.read("a.yaml") == b"third"
    files.now += 10
    files.contents["a.yaml"] = ""
    assert reader.read("a.yaml") == b"third"


def test_a_file_never_seen_is_not_waited_for(files: Files, reader: SettlingReader) -> None:
    with pytest.raises(FileNotFoundError):
        reader.read("c.yaml")
    files.contents["c.yaml"] = ""
    assert reader.read("c.yaml") == b""
    assert reader.unsettled_for is None


def test_it_says_when_to_look_again(files: Files, reader: SettlingReader) -> None:
    assert reader.unsettled_for is None
    files.contents["a.yaml"] = ""
    reader.read("a.yaml")
    files.now += 0.4
    assert reader.unsettled_for == pytest.approx(SETTLE_SECONDS - 0.4)
    files.now += 5
    assert reader.unsettled_for == 0.0
    reader.read("a.yaml")
    assert reader.unsettled_for is None
