"""Scripts are loaded, taken in again when they change, and never leave a gap."""


from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.addons.context import Context, ctx
from rulesproxy.addons.errors import ScriptError
from rulesproxy.addons.hooks import Hook
from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.options import Options
from rulesproxy.addons.script import Script, Scripts

VERSION = """
version = {version!r}
def script_probe(events):
    events.append(version)
def done():
    import builtins
    builtins.departed.append(version)
"""


@dataclass(slots=True)
class ScriptProbeHook(Hook):
    """An event of these tests."""

    events: list[Any]


@pytest.fixture(autouse=True)
def departed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where scripts of these tests note that they are done; sys.path is put back afterwards."""
    import builtins

    names: list[str] = []
    monkeypatch.setattr(builtins, "departed", names, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "probe_script.py"
    path.write_text(VERSION.format(version="one"))
    return path


@asynccontextmanager
async def running(*paths: Path) -> AsyncIterator[AddonManager]:
    manager = AddonManager(Options())
    manager.add(Scripts(paths, manager))
    manager.configure_all()
    await manager.running()
    try:
        yield manager
    finally:
        await asyncio.wait_for(manager.shutdown(), 5)


async def probe(manager: AddonManager) -> list[Any]:
    events: list[Any] = []
    await manager.fire(ScriptProbeHook(events))
    return events


async def until(manager: AddonManager, condition: Callable[[list[Any]], bool]) -> list[Any]:
    """Ask until the answer satisfies the condition: a watcher has no event to wait for."""
    async with asyncio.timeout(10):
        while not condition(events := await probe(manager)):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)
    return events


def only_script(manager: AddonManager) -> Script:
    return next(addon for addon in manager.chain if isinstance(addon, Script))


async def test_functions_of_a_script_are_handlers(path: Path) -> None:
    async with running(path) as manager:
        assert await probe(manager) == ["one"]
        handler, = manager.handlers(ScriptProbeHook)
        assert handler.addon_name == "probe_script.py"


async def test_a_script_may_carry_addons(path: Path) -> None:
    path.write_text("class Counter:\n  def script_probe(self, events): events.append('Counter')\n"
                    "addons = [Counter()]\n")
    async with running(path) as manager:
        assert await probe(manager) == ["Counter"]
        handler, = manager.handlers(ScriptProbeHook)
        assert handler.addon_name == "probe_script.py/Counter"


async def test_dataclasses_and_neighbours_work_in_scripts(path: Path) -> None:
    (path.parent / "probe_neighbour.py").write_text("answer = 42\n")
    path.write_text("from __future__ import annotations\nimport dataclasses, probe_neighbour\n"
                    "@dataclasses.dataclass\nclass Point:\n  x: int\n"
                    "def script_probe(events): events.append(Point(probe_neighbour.answer).x)\n")
    async with running(path) as manager:
        assert await probe(manager) == [42]


@pytest.mark.parametrize("replace", ["write", "rename"])
async def test_a_changed_script_takes_the_place_of_the_old_one(path: Path, departed: list[str], replace: str) -> None:
    async with running(path) as manager:
        text = VERSION.format(version="two")
        if replace == "write":
            path.write_text(text)
        else:
            (path.parent / "new").write_text(text)
            os.replace(path.parent / "new", path)
        events = await until(manager, lambda events: events != ["one"])
        assert events == ["two"]
        assert departed == ["one"]
    assert departed == ["one", "two"]


async def test_a_swapped_folder_link_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "probe_script.py").write_text(VERSION.format(version=name))
    (tmp_path / "live").symlink_to("one")
    async with running(tmp_path / "live" / "probe_script.py") as manager:
        assert await probe(manager) == ["one"]
        (tmp_path / "next").symlink_to("two")
        os.replace(tmp_path / "next", tmp_path / "live")
        assert await until(manager, lambda events: events != ["one"]) == ["two"]


async def test_touching_a_script_does_not_reload_it(path: Path, departed: list[str]) -> None:
    async with running(path) as manager:
        os.utime(path)
        assert not await only_script(manager).look(manager)
        assert departed == []


@pytest.mark.parametrize("text, reason", [
    ("def script_probe(events:\n", "SyntaxError"),
    ("import sys\nsys.exit(3)\n", "SystemExit"),
    ("1/0\n", "ZeroDivisionError"),
    ("def script_probe(): pass\n", "expected script_probe(events)"),
    ("def load(loader): raise RuntimeError('no load')\n", "failed in load: RuntimeError: no load"),
    ("def load(loader): loader.add_option('x', dict, {}, '')\n", "not supported"),
    ("from rulesproxy.addons.errors import OptionsError\ndef configure(updated): raise OptionsError('vetoed')\n",
     "vetoed"),
    ("def configure(updated): raise KeyError('bug')\n", "failed in configure: KeyError: 'bug'"),
    ("async def configure(updated): pass\n", "must not be async"),
    ("x = '\0'\n", "null bytes"),
])
async def test_a_broken_edit_keeps_the_old_script(
        path: Path, departed: list[str], caplog: pytest.LogCaptureFixture, text: str, reason: str) -> None:
    async with running(path) as manager:
        modules = set(sys.modules)
        script = only_script(manager)
        path.write_text(text)
        await script.look(manager)
        assert await probe(manager) == ["one"]
        assert departed == []
        record, = [record for record in caplog.records if record.name == "rulesproxy.script"]
        message = record.getMessage()
        assert message.startswith("script probe_script.py not reloaded, the old one stays: ")
        assert reason in message
        assert {name for name in sys.modules if name.startswith("rulesproxy_script")} <= modules
        path.write_text(VERSION.format(version="repaired"))
        await script.look(manager)
        assert await probe(manager) == ["repaired"]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
async def test_a_file_emptied_or_gone_for_a_moment_changes_nothing(
        path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    async with running(path) as manager:
        script = only_script(manager)
        path.write_bytes(content)
        assert not await script.look(manager)
        path.unlink()
        assert not await script.look(manager)
        assert await probe(manager) == ["one"]
        assert "not reloaded" not in caplog.text


async def test_options_of_a_script_survive_its_reload(path: Path) -> None:
    text = ("def load(loader): loader.add_option('greeting', str, 'hello', '')\n"
            "def configure(updated):\n  from rulesproxy.addons.context import ctx\n  global seen\n"
            "  seen = ctx.options.greeting\n"
            "def script_probe(events): events.append(seen)\n")
    path.write_text(text)
    options = Options()
    ctx.options = options
    try:
        manager = AddonManager(options)
        options.set(["greeting=servus"])
        manager.add(Scripts([path], manager))
        options.check_deferred()
        manager.configure_all()
        assert await probe(manager) == ["servus"]
        path.write_text(text + "# edited\n")
        assert await only_script(manager).look(manager)
        assert await probe(manager) == ["servus"]
        options.update(greeting="moin")
        assert await probe(manager) == ["moin"]
    finally:
        del ctx.options


async def test_running_is_fired_on_the_new_version(path: Path) -> None:
    async with running(path) as manager:
        path.write_text("state = []\nasync def running(): state.append('ran')\n"
                        "def script_probe(events): events.extend(state)\n")
        await only_script(manager).look(manager)
        assert await probe(manager) == ["ran"]


def test_the_traceback_is_the_scripts_own(path: Path) -> None:
    path.write_text("def fail():\n    raise ValueError('inside')\nfail()\n")
    with pytest.raises(ScriptError) as caught:
        Script(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be imported\n")
    assert f'File "{path}", line 3' in message and f'File "{path}", line 2, in fail' in message
    assert message.endswith("ValueError: inside")
    assert "importlib" not in message and "addons/script.py" not in message


def test_a_syntax_error_points_at_its_line(path: Path) -> None:
    path.write_text("x = 1\ny = (\n")
    with pytest.raises(ScriptError) as caught:
        Script(path)
    assert f'File "{path}", line 2' in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_missing_script_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"absent\.py: No such file or directory$"):
        Script(tmp_path / "absent.py")


def test_the_context_says_when_there_is_no_proxy() -> None:
    with pytest.raises(AttributeError, match=r"ctx\.options is available only in a running proxy"):
        _ = Context().options
