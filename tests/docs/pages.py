"""Reads documentation pages as scripts: their fenced blocks, and how each kind is carried out.

The words after the language of a fence say what a block is:

* `yaml`: a complete rule file; it compiles and its tests pass. `yaml fragment`: a piece of one; only read.
* any language with `file=NAME`: saved under that name in the page's folder, for the blocks that follow.
* `console`: `$ command` lines are run there, and print what follows them. `rulesproxy run` stays running.
* `text log`: lines that the running proxy logs.
* anything else (`sh`, `text`, …) is for reading.

In expected output `…` stands for any text of a line, and a line that is `…` alone for any number of lines.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 20.0
#: The ports that pages speak of; tests use free ones instead. Those of modes are told apart by what the log says of
#: them: a page has one listener of each kind.
HTTP, DNS = "8080", "8053"
_KINDS = {"regular": ("HTTP", HTTP), "upstream": ("HTTP", HTTP), "socks5": ("SOCKS5", "1080"), "dns": ("DNS", DNS)}
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: the page's line it starts at, its language and the words after it."""

    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def file(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        language, *words = found["info"].split() or [""]
        indent = len(found["indent"])
        body = "".join(line[indent:] if line.strip() else line for line in found["text"].splitlines(keepends=True))
        yield Block(text.count("\n", 0, found.start()) + 1, language, tuple(words), body)


def commands(session: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console session with the lines it prints."""
    command, printed = "", list[str]()
    for line in session.splitlines():
        if command.endswith("\\"):
            command = command[:-1] + line.strip()
        elif line.startswith("$ "):
            if command:
                yield command, printed
            command, printed = line[2:], []
        else:
            printed.append(line)
    if command:
        yield command, printed


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether all of `printed` is as expected, `…` standing for anything."""
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "…" else _pattern(line) + "\n" for line in expected)
    return re.fullmatch(pattern, "".join(line.rstrip() + "\n" for line in printed)) is not None


def _pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.rstrip().split("…")))


class Running:
    """`rulesproxy run`, as a page starts it, on free ports."""

    def __init__(self, process: asyncio.subprocess.Process, said: Mapping[str, str]) -> None:
        """`said` has the port of the page for each kind of listener that is not on the usual one."""
        self._process = process
        self._said = {"DNS": DNS, **said}
        self._lines: list[str] = []
        self._more = asyncio.Event()
        self._seen = 0
        self._reader = asyncio.create_task(self._read())
        self.ports: dict[str, str] = {}

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode().rstrip("\n")
            for kind, port in re.findall(r"listening on 127\.0\.0\.1:(?P<port>\d+) for (\w+)", text):
                self.ports[self._said.get(port, HTTP)] = kind
            self._lines.append(text)
            self._more.set()

    async def log(self, expected: list[str]) -> None:
        """Wait until the lines were logged, after those that were waited for before. AssertionError after a time."""
        wanted = [_pattern(line) for line in expected if line.strip() != "…"]
        for pattern in wanted:
            try:
                async with asyncio.timeout(SECONDS):
                    while not await self._found(pattern):
                        pass
            except TimeoutError:
                raise AssertionError(f"not logged: {pattern}\n" + "\n".join(self._lines[self._seen:])) from None

    async def _found(self, pattern: str) -> bool:
        self._more.clear()
        for number in range(self._seen, len(self._lines)):
            if re.fullmatch(pattern, here(self._lines[number], self.ports)):
                self._seen = number + 1
                return True
        if self._process.returncode is not None:
            raise AssertionError("the proxy has ended\n" + "\n".join(self._lines))
        await self._more.wait()
        return False

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS):
            assert await self._process.wait() == 0, "\n".join(self._lines)
            await self._reader
        assert not [line for line in self._lines if "Traceback" in line], "\n".join(self._lines)


def modes(words: list[str]) -> Iterator[tuple[str, str]]:
    """What the log will say of each mode's listener, and its port in the page; in `words` each gets a free one."""
    for index, word in enumerate(words):
        if index and words[index - 1] == "--mode":
            spec, _, place = word.partition("@")
            name, _, data = spec.partition(":")
            kind, port = _KINDS.get(name, (data.partition(":")[0], HTTP))
            words[index] = f"{spec}@127.0.0.1:0"
            yield kind, place.rpartition(":")[2] or port


def here(text: str, ports: Mapping[str, str]) -> str:
    """Output with the ports as the page has them."""
    for said, real in ports.items():
        text = re.sub(rf"\b{real}\b", said, text)
    return text


class Page:
    """Carries out the console blocks of a page in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "page"
        self.folder.mkdir()
        binary = folder / "bin"
        binary.mkdir()
        command = binary / "rulesproxy"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m rulesproxy "$@"\n')
        command.chmod(0o755)
        self._environment = {
            "PATH": f"{binary}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(folder), "LANG": "C.UTF-8",
            "RULESPROXY_CONFDIR": str(folder / "conf"), "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._running: Running | None = None

    async def run(self, command: str, printed: list[str]) -> None:
        """Run one command and compare. AssertionError if it prints something else."""
        if f"{command} ".startswith("rulesproxy run ") and "; " not in command:
            await self._start(command, printed)
            return
        if command.startswith("rulesproxy run "):  # one that ends by itself
            await self.stop()
        ports = self._running.ports if self._running is not None else {}
        for said, real in ports.items():
            command = re.sub(rf"\b{said}\b", real, command)
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", command, cwd=self.folder, env=self._environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
        lines = here(output.decode().replace("\r\n", "\n"), ports).splitlines()
        assert matches(printed, lines), f"$ {command}\n" + "\n".join(lines) + "\n--- but the page says\n" + "\n".join(
            printed)

    async def _start(self, command: str, printed: list[str]) -> None:
        await self.stop()
        words = shlex.split(command)[2:]
        words = [re.sub(rf":(?:{HTTP}|{DNS})$", ":0", word) for word in words]
        said = dict(modes(words))
        if "--listen" not in words and not said:
            words += ["--listen", "127.0.0.1:0"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rulesproxy", "run", *words, cwd=self.folder, env=self._environment,
            stderr=asyncio.subprocess.PIPE)
        self._running = Running(process, said)
        await self._running.log(printed)

    async def log(self, expected: list[str]) -> None:
        assert self._running is not None, "nothing runs"
        await self._running.log(expected)

    async def stop(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            await running.stop()
