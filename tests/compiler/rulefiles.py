"""Rule files in memory, for tests that build without a disk."""

from __future__ import annotations

import errno
import fnmatch
from collections.abc import Mapping

from rulesproxy.compiler.build import Build, BuildCache, build
from rulesproxy.compiler.check import check


class Memory:
    """A `FileReader` over a dict. `reads` counts how often each path was read."""

    def __init__(self, files: Mapping[str, str | bytes]) -> None:
        self.files = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        self.reads: list[str] = []

    def read(self, path: str) -> bytes:
        self.reads.append(path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return self.files[path]

    def glob(self, pattern: str) -> list[str]:
        # Unlike fnmatch, a glob's * does not cross a slash.
        return [path for path in self.files
                if path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)]

    def is_dir(self, path: str) -> bool:
        return any(name.startswith(path + "/") for name in self.files)


def build_files(files: Mapping[str, str | bytes], *paths: str, profile: str | None = None,
                cache: BuildCache | None = None) -> Build:
    """Build the given paths, the first file when none is given."""
    return build(paths or (next(iter(files)),), profile=profile, files=Memory(files), cache=cache)


def build_text(text: str | bytes, profile: str | None = None) -> Build:
    return build_files({"rules.yaml": text}, profile=profile)


def errors(result: Build) -> list[str]:
    """`line:column message` of every error."""
    return [f"{error.pos.line}:{error.pos.column} {error.message}" for error in result.report.errors]


def warnings(text: str) -> list[tuple[str, int]]:
    """(code, line) of every warning about a file without errors."""
    result = build_text(text)
    assert not result.report.has_errors, result.render()
    check(result)
    return [(warning.code, warning.pos.line) for warning in result.report.warnings]
