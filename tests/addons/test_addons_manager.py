"""The manager enters handlers in order, survives them, and takes addons in whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from rulesproxy.addons.errors import AddonHalt, AddonManagerError, OptionsError
from rulesproxy.addons.hooks import ALL_HOOKS, Hook
from rulesproxy.addons.lifecycle import ConfigureHook, DoneHook, RunningHook
from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.options import Options


@dataclass(slots=True)
class ProbeHook(Hook):
    """An event of these tests."""

    events: list[str]


@dataclass(slots=True)
class ProbeSilentHook(Hook):
    """An event without an argument."""


class Recorder:
    """Notes which events it saw in a list shared by all of a test."""

    def __init__(self, name: str, log: list[str], addons: list[Any] | None = None) -> None:
        self.name = name
        self.log = log
        self.addons = addons or []

    def load(self, loader: Any) -> None:
        self.log.append(f"{self.name} load")

    def configure(self, updated: frozenset[str]) -> None:
        self.log.append(f"{self.name} configure {','.join(sorted(updated))}")

    def probe(self, events: list[str]) -> None:
        events.append(self.name)

    def done(self) -> None:
        self.log.append(f"{self.name} done")


def make(*addons: Any, **options: Any) -> AddonManager:
    declared = Options()
    for name, value in options.items():
        declared.add(name, type(value), value, "")
    manager = AddonManager(declared)
    manager.add(*addons)
    return manager


async def test_handlers_run_in_order_depth_first() -> None:
    log: list[str] = []
    manager = make(Recorder("a", log, [Recorder("b", log, [Recorder("c", log)])]), Recorder("d", log))
    events: list[str] = []
    await manager.fire(ProbeHook(events))
    assert events == ["a", "b", "c", "d"]
    assert log == ["a load", "b load", "c load", "d load"]
    assert [handler.addon_name for handler in manager.handlers(ProbeHook)] == ["a", "a/b", "a/b/c", "d"]


async def test_async_handlers_are_awaited_one_at_a_time() -> None:
    class Slow:
        async def probe(self, events: list[str]) -> None:
            events.append("slow starts")
            await asyncio.sleep(0)
            events.append("slow ends")

    events: list[str] = []
    await make(Slow(), Recorder("next", [])).fire(ProbeHook(events))
    assert events == ["slow starts", "slow ends", "next"]


async def test_a_plain_function_may_return_an_awaitable() -> None:
    class Wrapped:
        def probe(self, events: list[str]) -> Any:
            async def work() -> None:
                events.append("awaited")
            return work()

    events: list[str] = []
    await make(Wrapped()).fire(ProbeHook(events))
    assert events == ["awaited"]


async def test_hooks_without_argument() -> None:
    class Silent:
        entered = 0

        def probe_silent(self) -> None:
            self.entered += 1

    addon = Silent()
    await make(addon).fire(ProbeSilentHook())
    assert addon.entered == 1


def test_active_tells_whether_anyone_handles_the_hook() -> None:
    manager = make()
    assert not manager.active(ProbeHook)
    addon = Recorder("a", [])
    manager.add(addon)
    assert manager.active(ProbeHook)
    assert not manager.active(ProbeSilentHook)
    manager.remove(addon)
    assert not manager.active(ProbeHook)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_exception_is_logged_with_the_addons_name_and_the_next_runs(
        asynchronous: bool, caplog: pytest.LogCaptureFixture) -> None:
    class Sync:
        name = "broken"

        def probe(self, events: list[str]) -> None:
            raise ValueError("no good")

    class Async:
        name = "broken"

        async def probe(self, events: list[str]) -> None:
            raise ValueError("no good")

    events: list[str] = []
    await make(Async() if asynchronous else Sync(), Recorder("next", [])).fire(ProbeHook(events))
    assert events == ["next"]
    record, = caplog.records
    assert record.getMessage() == "addon broken failed in probe"
    assert record.name == "rulesproxy.addons" and record.levelno == logging.ERROR
    assert "no good" in caplog.text
    assert "handler.call" not in caplog.text


async def test_addon_halt_ends_the_chain_quietly(caplog: pytest.LogCaptureFixture) -> None:
    class Halting:
        def probe(self, events: list[str]) -> None:
            events.append("halting")
            raise AddonHalt

    events: list[str] = []
    manager = make(Halting(), Recorder("never", []))
    await manager.fire(ProbeHook(events))
    manager.fire_sync(ProbeHook(events))
    assert events == ["halting", "halting"]
    assert not caplog.records


async def test_cancellation_is_not_swallowed() -> None:
    class Waiting:
        async def probe(self, events: list[str]) -> None:
            await asyncio.Event().wait()

    task = asyncio.create_task(make(Waiting()).fire(ProbeHook([])))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)


def test_active_hooks_choose_which_handlers_are_entered() -> None:
    class Choosy(Recorder):
        active_hooks: frozenset[str] | None = frozenset()

    log: list[str] = []
    addon = Choosy("choosy", log)
    manager = make(addon)
    assert not manager.active(ProbeHook)
    assert manager.active(ConfigureHook), "life-cycle hooks are always entered"
    addon.active_hooks = frozenset({"probe"})
    assert not manager.active(ProbeHook), "only refresh() looks again"
    manager.refresh()
    assert manager.active(ProbeHook)
    addon.active_hooks = None
    manager.refresh()
    assert manager.active(ProbeHook)


@pytest.mark.parametrize("handler, expected", [
    (lambda: None, "probe(events)"),
    (lambda one, two: None, "probe(events)"),
    (lambda *, events: None, "probe(events)"),
])
def test_a_wrong_signature_is_refused_with_the_right_one(handler: Any, expected: str) -> None:
    addon = ModuleType("script")
    addon.__file__ = "/somewhere/script.py"
    addon.probe = handler  # type: ignore[attr-defined]
    with pytest.raises(AddonManagerError) as caught:
        make(addon)
    assert "addon script.py: probe(" in str(caught.value)
    assert f"expected {expected}" in str(caught.value)


@pytest.mark.parametrize("handler", [lambda *args: None, lambda flow, extra=1: None, [].append])
def test_fitting_signatures_are_accepted(handler: Any) -> None:
    addon = ModuleType("script")
    addon.probe = handler  # type: ignore[attr-defined]
    assert make(addon).active(ProbeHook)


@pytest.mark.parametrize("value", [None, 3, "text", Recorder])
def test_data_and_classes_that_share_a_hooks_name_are_ignored(value: Any) -> None:
    addon = ModuleType("script")
    addon.probe = value  # type: ignore[attr-defined]
    assert not make(addon).active(ProbeHook)


@pytest.mark.parametrize("name", ["load", "configure", "tls_decision", "needs_body", "resolve"])
def test_synchronous_hooks_must_not_be_async(name: str) -> None:
    async def handler(*args: Any) -> None:
        raise AssertionError("never entered")

    addon = ModuleType("script")
    setattr(addon, name, handler)
    with pytest.raises(AddonManagerError, match=f"{name} must not be async"):
        make(addon)


def test_removed_hooks_get_one_line(caplog: pytest.LogCaptureFixture) -> None:
    class Old:
        def clientconnect(self, layer: Any) -> None: ...
        def serverdisconnect(self, conn: Any) -> None: ...
        def next_layer(self, layer: Any) -> None: ...
        def quic_start_client(self, data: Any) -> None: ...

    make(Old())
    record, = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.WARNING
    for expected in ("client_connected", "server_disconnected", "next_layer (not offered", "quic_start_client (not"):
        assert expected in message


def test_names_that_are_nearly_hooks_get_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    class Mistyped:
        response = None  # a hook that is not defined is no mistake

        def reqest(self, flow: Any) -> None: ...
        def response_headers(self, flow: Any) -> None: ...
        def respond(self, flow: Any) -> None: ...
        def _request(self, flow: Any) -> None: ...
        def error(self, flow: Any) -> None: ...

    make(Mistyped())
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "reqest is no hook and is never called; did you mean request?",
        "response_headers is no hook and is never called; did you mean responseheaders?"]


def test_an_addon_is_in_the_chain_once() -> None:
    addon = Recorder("a", [])
    manager = make(addon)
    with pytest.raises(AddonManagerError, match="twice"):
        manager.add(addon)
    with pytest.raises(AddonManagerError, match="not in the chain"):
        manager.remove(Recorder("b", []))
    assert manager.chain == (addon,)


def test_configure_at_start_then_for_each_change() -> None:
    log: list[str] = []
    manager = make(Recorder("a", log), color="red", size=1)
    manager.configure_all()
    manager.options.update(size=2)
    manager.options.update(size=2)
    assert log == ["a load", "a configure color,size", "a configure size"]


def test_an_addon_added_later_is_configured_at_once() -> None:
    log: list[str] = []
    manager = make(color="red")
    manager.configure_all()
    manager.add(Recorder("late", log))
    assert log == ["late load", "late configure color"]


class Veto:
    """Refuses the colour blue."""

    def __init__(self, manager: AddonManager) -> None:
        self.manager = manager

    def configure(self, updated: frozenset[str]) -> None:
        if self.manager.options.color == "blue":
            raise OptionsError("not blue")


def test_a_veto_restores_every_value_and_tells_those_who_had_agreed() -> None:
    log: list[str] = []
    manager = make(color="red", size=1)
    seen: list[tuple[str, int]] = []

    class Follower:
        def configure(self, updated: frozenset[str]) -> None:
            seen.append((manager.options.color, manager.options.size))

    manager.add(Follower(), Veto(manager), Recorder("after", log))
    manager.configure_all()
    del seen[:], log[:]
    observed: list[frozenset[str]] = []
    manager.options.observe(observed.append)
    with pytest.raises(OptionsError, match="not blue"):
        manager.options.update(color="blue", size=2)
    assert (manager.options.color, manager.options.size) == ("red", 1)
    assert seen == [("blue", 2), ("red", 1)]
    assert log == [], "addons after the veto never saw the change"
    assert observed == []


def test_a_veto_takes_back_what_another_addon_changed_along_with_it(caplog: pytest.LogCaptureFixture) -> None:
    manager = make(color="red", size=1)
    seen: list[tuple[str, int]] = []

    class Meddler:
        def configure(self, updated: frozenset[str]) -> None:
            seen.append((manager.options.color, manager.options.size))
            if manager.options.color == "blue":
                manager.options.update(size=99)

    manager.add(Meddler(), Veto(manager))
    manager.configure_all()
    del seen[:]
    with pytest.raises(OptionsError):
        manager.options.update(color="blue")
    assert (manager.options.color, manager.options.size) == ("red", 1)
    assert seen == [("blue", 1), ("blue", 99)], "the addon that made the change is not driven to make it again"
    assert not caplog.records


def test_a_bug_in_configure_is_logged_and_does_not_veto(caplog: pytest.LogCaptureFixture) -> None:
    class Buggy:
        def configure(self, updated: frozenset[str]) -> None:
            raise ZeroDivisionError

    log: list[str] = []
    manager = make(Buggy(), Recorder("after", log), color="red")
    manager.options.update(color="green")
    assert manager.options.color == "green"
    assert "after configure color" in log
    assert "addon " in caplog.text and "Buggy failed in configure" in caplog.text


def test_a_failing_load_leaves_no_trace() -> None:
    log: list[str] = []

    class Failing:
        def load(self, loader: Any) -> None:
            loader.add_option("extra", int, 1, "")
            raise RuntimeError("boom")

    manager = make()
    with pytest.raises(AddonManagerError, match="failed in load: RuntimeError: boom"):
        manager.add(Recorder("parent", log, [Failing()]))
    assert manager.chain == ()
    assert "extra" not in manager.options
    assert log == ["parent load", "parent done"]


async def test_replace_brings_all_in_or_none() -> None:
    log: list[str] = []
    child = Recorder("old", log)
    parent = Recorder("parent", log, [child])
    manager = make(parent, color="red")
    manager.configure_all()
    await manager.running()
    del log[:]

    class Refusing(Recorder):
        def configure(self, updated: frozenset[str]) -> None:
            raise OptionsError("no")

    with pytest.raises(OptionsError):
        await manager.replace(parent, [Refusing("new", log)])
    assert manager.chain == (parent, child)
    assert log == ["new load", "new done"]
    del log[:]

    class Newer(Recorder):
        async def running(self) -> None:
            log.append("running")

    newer = Newer("new", log)
    await manager.replace(parent, [newer])
    assert manager.chain == (parent, newer)
    assert log == ["new load", "new configure color", "old done", "running"]


async def test_shutdown_fires_done_once_on_each_and_empties_the_chain() -> None:
    log: list[str] = []

    class AsyncDone:
        async def done(self) -> None:
            await asyncio.sleep(0)
            log.append("async done")

    manager = make(Recorder("a", log), AsyncDone(), Recorder("b", log))
    del log[:]
    await asyncio.wait_for(manager.shutdown(), 2)
    assert log == ["a done", "async done", "b done"]
    assert manager.chain == () and not manager.active(DoneHook)
    await asyncio.wait_for(manager.shutdown(), 2)
    assert len(log) == 3


async def test_an_async_done_after_removal_ends_before_shutdown_does() -> None:
    ended: list[str] = []

    class AsyncDone:
        async def done(self) -> None:
            await asyncio.sleep(0)
            ended.append("done")

    addon = AsyncDone()
    manager = make(addon)
    manager.remove(addon)
    await asyncio.wait_for(manager.shutdown(), 2)
    assert ended == ["done"]


async def test_running_reaches_handlers() -> None:
    ran: list[str] = []

    class Starting:
        def running(self) -> None:
            ran.append("running")

    manager = make(Starting())
    await manager.running()
    assert ran == ["running"] and manager.active(RunningHook)


def test_commands_are_registered() -> None:
    class Commanding:
        def load(self, loader: Any) -> None:
            loader.add_command("greet", lambda: "hello")

    assert make(Commanding()).commands["greet"]() == "hello"


def test_two_hooks_cannot_share_a_name() -> None:
    with pytest.raises(TypeError, match="two hooks are named 'probe'"):
        type("Other", (Hook,), {"name": "probe"})
    assert ALL_HOOKS["probe"] is ProbeHook
