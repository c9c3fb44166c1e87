"""The proxy of the mixed traffic: an `App` in a process of its own that says on request what is alive in it.

Standard input takes a line per question, standard output gives one line of JSON for each: `ports`, `report`,
`holders CLASS`, `tasks`, `stop`. Standard error is the proxy's log.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import logging
import os
import sys
import threading
import tracemalloc
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from rulesproxy import logs
from rulesproxy.addons.hooks import ALL_HOOKS
from rulesproxy.app import App, make_options, run_in_loop

#: Where objects come from that traffic makes.
_MODULES = ("rulesproxy.", "h2.", "hpack.", "wsproto.", "asyncio.", "uvloop.", "ssl", "dns.")

_libc = ctypes.CDLL(None)


class EveryHook:
    """Handles all hooks: counts them, and looks at what each is given as a script would."""

    def __init__(self) -> None:
        self.fired: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        if name not in ALL_HOOKS:
            raise AttributeError(name)

        def handle(*arguments: object) -> None:
            self.fired[name] += 1
            for argument in arguments:
                repr(argument)

        return handle

    async def request(self, flow: Any) -> None:
        """Asynchronous, as a hook may be."""
        self.fired["request"] += 1
        await asyncio.sleep(0)

    def websocket_message(self, flow: Any) -> None:
        self.fired["websocket_message"] += 1
        assert flow.websocket.messages[-1].content is not None

    def tcp_message(self, flow: Any) -> None:
        self.fired["tcp_message"] += 1
        assert flow.messages[-1].content


def resident() -> int:
    """Bytes in memory, once what is free was given back to the system."""
    _libc.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def alive() -> dict[str, int]:
    """Objects by class, of those classes that make up a proxy."""
    while gc.collect():
        pass
    counts: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        if kind.__module__.startswith(_MODULES):
            counts[_name(kind)] += 1
    return dict(counts)


def _stacks() -> list[str]:
    """Where every task waits, its innermost coroutine last."""
    stacks = []
    for task in asyncio.all_tasks():
        places, waiting = [], task.get_coro()
        while waiting is not None and (frame := getattr(waiting, "cr_frame", None)) is not None:
            places.append(f"{Path(frame.f_code.co_filename).stem}:{frame.f_lineno}")
            waiting = waiting.cr_await
        stacks.append(" ".join(places))
    return stacks


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def descriptors() -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            kinds[os.readlink(f"/proc/self/fd/{name}").partition(":[")[0]] += 1
        except OSError:  # the one that listed the folder
            continue
    return dict(kinds)


class Control:
    """Answers questions about the app it runs in."""

    def __init__(self, app: App, hooks: EveryHook) -> None:
        self._app = app
        self._hooks = hooks
        self._before: tracemalloc.Snapshot | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        questions: asyncio.Queue[str] = asyncio.Queue()

        def read() -> None:  # a thread: a pipe in the loop would be a descriptor and a task more
            for line in sys.stdin:
                loop.call_soon_threadsafe(questions.put_nowait, line.strip())
            loop.call_soon_threadsafe(questions.put_nowait, "stop")

        threading.Thread(target=read, daemon=True).start()
        while (question := await questions.get()) != "stop":
            what, _, name = question.partition(" ")
            print(json.dumps(self._answer(what, name)), flush=True)

    def _answer(self, what: str, name: str) -> object:
        match what:
            case "ports":
                return self._ports()
            case "report":
                return self._report()
            case "tasks":
                return _stacks()
            case _:
                return self._holders(name)

    def _holders(self, name: str) -> list[str]:
        """What holds one object of a class, a few steps up."""
        one = next((thing for thing in gc.get_objects() if _name(type(thing)) == name), None)
        found: list[str] = []
        while one is not None and len(found) < 12:
            found.append(f"{_name(type(one))} {str(one)[:200]}")
            holders = [holder for holder in gc.get_referrers(one) if not isinstance(holder, FrameType)]
            one = holders[0] if holders else None
        return found

    def _ports(self) -> list[tuple[str, int]]:
        return [(str(mode), address[1]) for mode, address in self._app.listening]

    def _report(self) -> dict[str, object]:
        objects = alive()
        proxy = self._app.proxy
        assert proxy is not None
        grown = []
        if tracemalloc.is_tracing():
            now = tracemalloc.take_snapshot()
            grown = [str(line) for line in now.compare_to(self._before or now, "traceback")[:15]]
            self._before = self._before or now
        return {
            "grown": grown,
            "objects": objects,
            "tasks": len(asyncio.all_tasks()),
            "descriptors": descriptors(),
            "threads": threading.active_count(),
            "sessions": len(proxy.core.sessions), "frozen": gc.get_freeze_count(),
            "resident": resident(),
            "fired": dict(self._hooks.fired),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rules")
    parser.add_argument("--confdir", type=Path, required=True)
    parser.add_argument("--mode", action="append", required=True)
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    parser.add_argument("--bare", action="store_true", help="no addon: whatever can be shared between clients is")
    args = parser.parse_args()
    logs.setup(json_lines=False, level=logging.WARNING)

    async def serve() -> int:
        hooks = EveryHook()
        app = App(make_options(args.confdir, args.assignments, mode=tuple(args.mode)), [args.rules],
                  addons=[] if args.bare else [hooks])
        await app.start()
        gc.freeze()  # as `App.serve` does
        await Control(app, hooks).run()
        await app.stop()
        print(json.dumps({"fired": dict(hooks.fired)}), flush=True)
        return 0

    return run_in_loop(serve())


if __name__ == "__main__":
    sys.exit(main())
