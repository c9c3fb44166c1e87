"""Last good on disk: the rule files of the set that is live, kept for a start with broken ones (rule-language 6.4).

Files are stored by their absolute path below `CONFDIR/last-good/files/`, with an index that says which belong
together. Everything is 0600; a new generation is written beside the old and renamed over it.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rulesproxy.compiler.inputs import Disk
from rulesproxy.compiler.program import Compiler, Program

log = logging.getLogger("rulesproxy.reload")

_LARGEST_KEPT = 1 << 20  # bytes; larger bodies are read from where they are
_SECRET = b"PRIVATE KEY-----"  # so are files with a key: one copy of it is enough


class LastGood:
    """Saves generations in the background, one at a time, newest wins."""

    def __init__(self, confdir: Path) -> None:
        self._folder = confdir / "last-good"
        self._pending: dict[str, bytes] | None = None
        self._task: asyncio.Task[None] | None = None

    def save_later(self, program: Program) -> None:
        self._pending = {os.path.abspath(path): data for path, data in program.build.contents.items()
                         if len(data) <= _LARGEST_KEPT and _SECRET not in data}
        if self._task is None or self._task.done():
            try:
                self._task = asyncio.get_running_loop().create_task(self._save(), name="save last good")
            except RuntimeError:  # start-up, no loop yet: save at once
                contents, self._pending = self._pending, None
                self._write(contents)

    async def _save(self) -> None:
        while self._pending is not None:
            contents, self._pending = self._pending, None
            await asyncio.to_thread(self._write, contents)

    async def aclose(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    def _write(self, contents: dict[str, bytes]) -> None:
        try:
            self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix=".last-good-", dir=self._folder.parent))  # 0700
            names = {}
            for number, (path, data) in enumerate(sorted(contents.items())):
                names[path] = f"{number:05d}"
                _write_private(new / names[path], data)
            _write_private(new / "index.json", json.dumps(names, indent=1).encode())
            old = self._folder.with_name(".last-good-old")
            shutil.rmtree(old, ignore_errors=True)
            if self._folder.exists():
                os.rename(self._folder, old)
            os.rename(new, self._folder)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as exc:
            log.warning("the last good rules could not be kept in %s: %s", self._folder, exc.strerror or exc)

    def compile(self, paths: Sequence[str], profile: str | None) -> Program | None:
        """The program of the kept generation; None when there is none that compiles."""
        reader = self._reader()
        if reader is None:
            return None
        program = Compiler(reader, warn=False).compile(paths, profile=profile)
        return program if program.rules is not None else None

    def _reader(self) -> LastGoodReader | None:
        """The kept generation as files under their own names; None when there is none."""
        try:
            names = json.loads((self._folder / "index.json").read_bytes())
        except (OSError, ValueError):
            return None
        return LastGoodReader(self._folder, names)


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)


class LastGoodReader:
    """A `FileReader` in which the kept files stand where they stood. What was not kept is read from its own place."""

    def __init__(self, folder: Path, names: dict[str, str]) -> None:
        self._folder = folder
        self._names = names
        self._disk = Disk()

    def read(self, path: str) -> bytes:
        name = self._names.get(os.path.abspath(path))
        return (self._folder / name).read_bytes() if name is not None else self._disk.read(path)

    def glob(self, pattern: str) -> list[str]:
        full = os.path.abspath(pattern)
        return [os.path.relpath(path) if not os.path.isabs(pattern) else path
                for path in self._names if fnmatch.fnmatch(path, full)]

    def is_dir(self, path: str) -> bool:
        prefix = os.path.abspath(path) + os.sep
        return any(name.startswith(prefix) for name in self._names)
