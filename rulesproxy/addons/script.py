"""`-s addon.py`: Python files as addons, taken in again when their content changes.

A change is noticed by the watcher, or by the look once a second that covers what no watcher sees (symbolic links
swapped further up, network folders, a machine out of watches). The content's digest decides whether it is one. The
new module is imported beside the old one, loaded and configured; only then does it take the old one's place.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Iterable
from importlib.abc import ExecutionLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

import watchfiles

from rulesproxy.addons.errors import AddonManagerError, OptionsError, ScriptError
from rulesproxy.addons.manager import AddonManager

logger = logging.getLogger("rulesproxy.script")

_LOOK_INTERVAL_MS = 1000
_serial = itertools.count(1)


class Script:
    """One file. `addons` holds its module, which may carry addons of its own in `addons = [...]`."""

    container = True  # its module takes the file's name in logs

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Reads and imports the file. Raises ScriptError."""
        self.path = Path(os.path.abspath(path))
        content = self._read()
        self._seen = _digest(content)
        self.addons: list[Any] = [import_script(self.path, content)]

    @property
    def name(self) -> str:
        return self.path.name

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as exc:
            raise ScriptError(f"{self.path}: {exc.strerror or exc}") from None

    async def look(self, manager: AddonManager) -> bool:
        """Take the file in again if it changed; True when a new version is live. Whatever fails is logged."""
        try:
            content = await asyncio.to_thread(self._read)
        except ScriptError:
            return False  # being replaced, or gone: what is loaded stays
        digest = _digest(content)
        # An editor that truncates before it writes leaves an empty file for a moment.
        if digest == self._seen or not content.strip():
            return False
        self._seen = digest
        try:
            # In a thread: a module may take seconds to import, and traffic must not wait for it.
            module = await asyncio.to_thread(import_script, self.path, content)
        except ScriptError as exc:
            logger.error("script %s not reloaded, the old one stays: %s", self.name, exc)
            return False
        return await self._exchange(manager, module)

    async def _exchange(self, manager: AddonManager, module: ModuleType) -> bool:
        old = self.addons
        try:
            await manager.replace(self, [module])
        except (AddonManagerError, OptionsError) as exc:
            sys.modules.pop(module.__name__, None)
            logger.error("script %s not reloaded, the old one stays: %s", self.name, exc)
            return False
        for addon in old:
            sys.modules.pop(addon.__name__, None)
        logger.info("script %s reloaded", self.name)
        return True


class Scripts:
    """The addon that carries all scripts and watches their files while the proxy runs."""

    name = "scripts"
    container = True

    def __init__(self, paths: Iterable[str | os.PathLike[str]], manager: AddonManager) -> None:
        """Imports every file. Raises ScriptError."""
        self.addons: list[Any] = [Script(path) for path in paths]
        self._manager = manager
        self._stop = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    def running(self) -> None:
        if self.addons:
            self._watch = asyncio.create_task(self._watch_files(), name="watch scripts")

    async def done(self) -> None:
        self._stop.set()
        if self._watch is not None:
            await self._watch

    async def _watch_files(self) -> None:
        folders = {script.path.parent for script in self.addons}
        names = {script.path.name for script in self.addons}
        try:
            async for _ in watchfiles.awatch(
                    *folders, watch_filter=lambda _, path: os.path.basename(path) in names, stop_event=self._stop,
                    rust_timeout=_LOOK_INTERVAL_MS, yield_on_timeout=True, recursive=False):
                await self._look()
        except (OSError, RuntimeError) as exc:  # out of watches or descriptors, or a folder vanished
            logger.warning("cannot watch scripts (%s); looking at them once a second", exc)
            await self._look_until_stopped()

    async def _look_until_stopped(self) -> None:
        while not self._stop.is_set():
            await self._look()
            try:
                await asyncio.wait_for(self._stop.wait(), _LOOK_INTERVAL_MS / 1000)
            except TimeoutError:
                pass  # time for the next look

    async def _look(self) -> None:
        for script in self.addons:
            await script.look(self._manager)


class _TextLoader(ExecutionLoader):
    """Imports text that was already read, under the name of its file.

    Python's own loader would read the file again and could take byte code of an earlier edit in the same second.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = str(path)
        self._content = content

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._content)

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._content, self._path)


def import_script(path: Path, content: bytes) -> ModuleType:
    """The file's content as a module with a name of its own.

    Raises ScriptError with the traceback of the script itself, without the frames that led there.
    """
    name = f"rulesproxy_script_{next(_serial)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_TextLoader(path, content))
    if spec is None or spec.loader is None:
        raise ScriptError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)  # at the end: a neighbour must not shadow an installed module
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        del sys.modules[name]
        raise ScriptError(_explain(exc, path)) from None
    return module


def _explain(exc: BaseException, path: Path) -> str:
    frames = _script_frames(exc.__traceback__, str(path))
    text = "".join(traceback.format_exception(type(exc), exc, frames)).rstrip()
    return f"{path} cannot be imported\n{text}"


def _script_frames(frames: TracebackType | None, filename: str) -> TracebackType | None:
    """From the script's first frame on; None when it never ran (a syntax error)."""
    while frames is not None and frames.tb_frame.f_code.co_filename != filename:
        frames = frames.tb_next
    return frames


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
