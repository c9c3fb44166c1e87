"""Rules follow their files: every way of saving, every way of failing (rule-language 6)."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.errors import OptionsError
from rulesproxy.addons.manager import AddonManager
from rulesproxy.last_good import LastGood
from rulesproxy.reload import Reloader, build_inline
from rulesproxy.rules_addon import Rules
from tests.support.app import RunningApp
from tests.support.leaks import nothing_left
from tests.support.origin import OriginConnection, RawRequest, run_origin

#: An ordinary save is live within 300 ms on a machine with nothing else to do; a test machine has other things to do.
SECONDS = 5.0
MakeApp = Callable[..., Awaitable[RunningApp]]
#: A change that must not come, or that comes with the regular look only.
PATIENCE = 4.0


def rule(*names: str) -> str:
    """A rule file with a mock per name, at http://NAME.test/."""
    entries = [f"  - {{name: {name}, match: {{host: {name}.test}}, action: {{respond: {name}}}}}\n" for name in names]
    return "version: 1\nrules:\n" + "".join(entries) if names else "version: 1\n"


BROKEN = rule("a") + "rubbish: 1\n"


class Running:
    """A reloader at work on `paths`."""

    def __init__(self, *paths: Path | str, addons: tuple[Any, ...] = (), last_good: LastGood | None = None,
                 profile: str | None = None) -> None:
        self.options = ProxyOptions()
        self.options.update(profile=profile)
        self.manager = AddonManager(self.options)
        self.rules = Rules(self.options, build_inline(self.options), refresh=self.manager.refresh)
        self.reloader = Reloader([str(path) for path in paths], self.options, self.rules, last_good)
        self.reloader.start(self.reloader.build())
        self.manager.add(self.rules, *addons)
        self.manager.configure_all()

    @property
    def names(self) -> list[str]:
        assert self.rules.current is not None
        return [info.name for info in self.rules.current.rules]

    @property
    def state(self) -> Any:
        return self.reloader.state

    async def until(self, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await self.reloader.judged()

    async def looked(self, times: int = 2) -> None:
        """Everything saved by now has been seen."""
        async with asyncio.timeout(PATIENCE * times):
            for _ in range(times):
                self.reloader.look()
                await self.reloader.judged()


@asynccontextmanager
async def reloading(*paths: Path | str, **more: Any) -> AsyncIterator[Running]:
    async with nothing_left():
        running = Running(*paths, **more)
        running.reloader.run()
        await running.looked(1)  # the watch stands
        try:
            yield running
        finally:
            await running.reloader.aclose()
            await running.manager.shutdown()


def replace(path: Path, text: str) -> None:
    """Save as vim and most editors do: a new file renamed over the old one."""
    temporary = path.with_name(f".{path.name}.swp")
    temporary.write_text(text)
    os.replace(temporary, path)


# --- saving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [Path.write_text, replace])
async def test_6_1_a_saved_file_goes_live(tmp_path: Path, save: Callable[[Path, str], Any],
                                      caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rulesproxy")
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a", "b"))
    async with reloading(path) as running:
        old = running.state.live
        save(path, rule("b", "c"))
        await running.until(lambda: running.names == ["b", "c"])
        lines = [record.getMessage() for record in caplog.records if record.name == "rulesproxy.reload"]
        assert lines == [f"rules live: {running.state.live} (was {old}); added c; removed a"]


async def test_6_1_a_changed_rule_is_named_and_a_moved_one_is_not(tmp_path: Path,
                                                              caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rulesproxy")
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a", "b"))
    async with reloading(path) as running:
        path.write_text("# a line more\n" + rule("a", "b").replace("respond: b", "respond: other"))
        await running.until(lambda: running.state.accepted == 2)
        assert caplog.messages[-1].endswith("; changed b")


async def test_6_2_truncate_then_write_is_one_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(path) as running:
        path.write_text("")
        await asyncio.sleep(0.2)  # as slow as some tools are
        assert running.names == ["a"]
        path.write_text(rule("b"))
        await running.until(lambda: running.names == ["b"])
        assert running.state.rejected == 0
        assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_6_2_delete_and_recreate_is_one_change(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(tmp_path) as running:
        path.unlink()
        await asyncio.sleep(0.2)
        assert running.names == ["a"]
        path.write_text(rule("b"))
        await running.until(lambda: running.names == ["b"])
        assert running.state.accepted == 2


async def test_6_2_a_half_written_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(path) as running:
        path.write_text(rule("b")[:-5])
        await running.until(lambda: running.state.rejected == 1)
        assert running.names == ["a"]
        path.write_text(rule("b"))
        await running.until(lambda: running.names == ["b"])


async def test_6_2_the_same_content_again_is_no_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rulesproxy")
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(path) as running:
        current = running.rules.current
        replace(path, rule("a"))
        os.utime(path)
        await running.looked()
        assert running.rules.current is current
        assert caplog.messages == []


async def test_6_2_the_last_of_many_saves_wins(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(path) as running:
        for number in range(200):
            replace(path, rule(f"r{number}"))
            await asyncio.sleep(0.001)
        await running.until(lambda: running.names == ["r199"])
        assert running.state.rejected == 0


# --- folders, includes, links --------------------------------------------------------------------------------------


async def test_6_2_a_folder_gains_and_loses_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(rule("a"))
    async with reloading(tmp_path) as running:
        (tmp_path / "b.yml").write_text(rule("b"))
        await running.until(lambda: running.names == ["a", "b"])
        (tmp_path / "a.yaml").unlink()
        await running.until(lambda: running.names == ["b"])
        assert running.state.rejected == 0


async def test_6_2_a_named_file_that_is_gone_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(path) as running:
        path.unlink()
        await running.until(lambda: running.state.rejected == 1)
        assert "no such file" in running.state.last_error
        assert running.names == ["a"]


async def test_6_2_files_newly_matching_an_include_come_in(tmp_path: Path) -> None:
    main = tmp_path / "rules.yaml"
    (tmp_path / "more").mkdir()
    main.write_text(rule("a") + "include: [more/*.yaml]\n")
    async with reloading(main) as running:
        (tmp_path / "more" / "b.yaml").write_text(rule("b"))
        await running.until(lambda: running.names == ["a", "b"])


async def test_6_2_a_body_read_from_a_file_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "body.txt").write_text("old")
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\nrules: [{name: a, match: {host: a.test}, action: {respond: {file: body.txt}}}]\n")
    async with reloading(path) as running:
        (tmp_path / "body.txt").write_text("new")
        await running.until(lambda: running.state.accepted == 2)


async def test_6_2_a_set_read_from_a_file_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "hosts.txt").write_text("a.test\n")
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\nsets: {s: {file: hosts.txt}}\n"
                    "rules: [{name: a, match: {host_in: s}, action: {block: {}}}]\n")
    async with reloading(path) as running:
        (tmp_path / "hosts.txt").write_text("b.test\n")
        await running.until(lambda: running.state.accepted == 2)


async def test_6_2_links_swapped_inside_the_folder(tmp_path: Path) -> None:
    """As Kubernetes updates a ConfigMap: rules.yaml -> ..data/rules.yaml, ..data -> ..1."""
    for number, name in (("1", "a"), ("2", "b")):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "rules.yaml").write_text(rule(name))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "rules.yaml").symlink_to("..data/rules.yaml")
    async with reloading(tmp_path) as running:
        (tmp_path / "..new").symlink_to("..2")
        os.replace(tmp_path / "..new", tmp_path / "..data")
        await running.until(lambda: running.names == ["b"], 1.0)


async def test_6_2_the_link_to_the_folder_is_swapped(tmp_path: Path) -> None:
    """As `releases/2` becomes `current`; afterwards the new folder is watched."""
    for number, name in (("1", "a"), ("2", "b")):
        (tmp_path / "releases" / number).mkdir(parents=True)
        (tmp_path / "releases" / number / "rules.yaml").write_text(rule(name))
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    async with reloading(current / "rules.yaml") as running:
        (tmp_path / "next").symlink_to("releases/2")
        os.replace(tmp_path / "next", current)
        await running.until(lambda: running.names == ["b"], 1.0)
        (tmp_path / "releases/2/rules.yaml").write_text(rule("c"))
        await running.until(lambda: running.names == ["c"], 1.0)


async def test_6_2_the_target_of_a_linked_file_is_watched(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "real" / "rules.yaml").write_text(rule("a"))
    (tmp_path / "here" / "rules.yaml").symlink_to("../real/rules.yaml")
    async with reloading(tmp_path / "here" / "rules.yaml") as running:
        (tmp_path / "real" / "rules.yaml").write_text(rule("b"))
        await running.until(lambda: running.names == ["b"], 1.0)


async def test_6_2_a_folder_that_goes_and_comes_back_is_watched_again(tmp_path: Path) -> None:
    """As `git checkout` of another branch may do it."""
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a.yaml").write_text(rule("a"))
    async with reloading(folder / "a.yaml") as running:
        shutil.rmtree(folder)
        await running.until(lambda: running.state.rejected == 1)
        folder.mkdir()
        (folder / "a.yaml").write_text(rule("b"))
        await running.until(lambda: running.names == ["b"])
        (folder / "a.yaml").write_text(rule("c"))
        await running.until(lambda: running.names == ["c"], 1.0)


# --- failing -------------------------------------------------------------------------------------------------------


async def test_6_4_a_mistake_is_reported_once_with_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(path) as running:
        path.write_text(BROKEN)
        await running.until(lambda: running.state.rejected == 1)
        await running.looked()
        assert running.names == ["a"]
        assert running.state.rejected == 1
        [record] = caplog.records
        assert f"{path}:4:1: error: unknown key" in record.getMessage()
        assert running.state.live in record.getMessage()


async def test_6_4_taking_a_mistake_back_is_no_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rulesproxy")
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(path) as running:
        current = running.rules.current
        path.write_text(BROKEN)
        await running.until(lambda: running.state.last_error != "")
        path.write_text(rule("a"))
        await running.until(lambda: running.state.last_error == "")
        assert running.rules.current is current
        assert "as they were before" in caplog.messages[-1]


class Veto:
    """Refuses rules while `why` says so."""

    def __init__(self) -> None:
        self.why = ""
        self.asked = 0

    def configure(self, updated: set[str]) -> None:
        self.asked += "rules" in updated
        if "rules" in updated and self.why:
            raise OptionsError(self.why)


async def test_6_1_any_addon_may_veto(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    veto = Veto()
    async with reloading(path, addons=(veto,)) as running:
        before, value = running.rules.current, running.options.rules
        veto.why = "not on a Friday"
        path.write_text(rule("b"))
        await running.until(lambda: running.state.rejected == 1)
        assert running.rules.current is before
        assert running.options.rules == value
        assert running.state.last_error == "not on a Friday"
        asked = veto.asked
        await running.looked()
        assert (veto.asked, len(caplog.records)) == (asked, 1)  # asked again only when something changes
        veto.why = ""
        path.write_text(rule("c"))
        await running.until(lambda: running.names == ["c"])


async def test_6_1_a_bug_in_the_compiler_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(path) as running:
        build, failed = running.reloader.build, asyncio.Event()
        loop = asyncio.get_running_loop()

        def fail() -> Any:
            loop.call_soon_threadsafe(failed.set)
            raise RecursionError("a bug")

        monkeypatch.setattr(running.reloader, "build", fail)
        path.write_text(rule("b"))
        async with asyncio.timeout(SECONDS):
            await failed.wait()
        assert running.names == ["a"]
        monkeypatch.setattr(running.reloader, "build", build)
        path.write_text(rule("c"))
        await running.until(lambda: running.names == ["c"])
        assert caplog.records[0].exc_info is not None


# --- options -------------------------------------------------------------------------------------------------------

PROFILES = """\
version: 1
vars: {host: everyday.test}
profiles: {lab: {vars: {host: lab.test}}}
rules:
  - {name: a, match: {host: "${vars.host}"}, action: {respond: a}}
  - {name: b, profile: lab, match: {host: b.test}, action: {respond: b}}
"""


async def test_6_1_the_profile_may_change_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(PROFILES)
    async with reloading(path) as running:
        assert running.names == ["a"]
        running.options.update(profile="lab")
        await running.until(lambda: running.names == ["a", "b"])
        running.options.update(profile=None)
        await running.until(lambda: running.names == ["a"])


async def test_6_4_a_profile_that_nobody_defines_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(PROFILES)
    async with reloading(path) as running:
        running.options.update(profile="lbb")
        await running.until(lambda: running.state.rejected == 1)
        assert 'did you mean "lab"?' in running.state.last_error
        assert running.names == ["a"]


async def test_6_1_an_addon_may_name_other_rules(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(rule("a"))
    second.write_text(rule("b"))
    async with reloading(first) as running:
        running.options.update(rules=[str(second)])
        assert running.names == ["b"]
        second.write_text(rule("c"))
        await running.until(lambda: running.names == ["c"])
        first.write_text(rule("d"))
        await running.looked()
        assert running.names == ["c"]


async def test_6_1_other_rules_that_do_not_compile_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(rule("a"))
    second.write_text(BROKEN)
    async with reloading(first) as running:
        with pytest.raises(OptionsError, match="unknown key"):
            running.options.update(rules=[str(second)])
        assert running.names == ["a"]


async def test_6_5_equal_files_have_equal_digests(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    async with reloading(path) as running:
        path.write_text(rule("b"))
        await running.until(lambda: running.names == ["b"])
        assert running.state.live == Running(path).state.live


# --- last good -----------------------------------------------------------------------------------------------------


async def test_6_4_what_was_live_is_kept_and_compiles_alone(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    path = folder / "rules.yaml"
    (folder / "body.txt").write_text("text")
    path.write_text("version: 1\nrules: [{name: a, match: {host: a.test}, action: {respond: {file: body.txt}}}]\n")
    last_good = LastGood(tmp_path / "conf")
    async with reloading(folder, last_good=last_good) as running:
        path.write_text(path.read_text() + "# saved again\n")
        await running.until(lambda: running.state.accepted == 2)
        live = running.state.live
    shutil.rmtree(folder)
    program = last_good.compile([str(folder)], None)
    assert program is not None
    assert program.digest == live
    kept = tmp_path / "conf" / "last-good"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in kept.iterdir()} == {0o600}
    assert [entry.name for entry in kept.parent.iterdir()] == ["last-good"]


async def test_6_4_rejected_rules_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    last_good = LastGood(tmp_path / "conf")
    async with reloading(path, last_good=last_good) as running:
        path.write_text(BROKEN)
        await running.until(lambda: running.state.rejected == 1)
    program = last_good.compile([str(path)], None)
    assert program is not None
    assert [info.name for info in program.build.rules] == ["a"]


async def test_6_4_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rule("a"))
    (tmp_path / "conf").write_text("a file is in the way")
    async with reloading(path, last_good=LastGood(tmp_path / "conf")) as running:
        path.write_text(rule("b"))
        await running.until(lambda: running.names == ["b"])
    assert "could not be kept" in caplog.messages[-1]


def test_6_4_nothing_kept_is_no_program(tmp_path: Path) -> None:
    assert LastGood(tmp_path).compile(["rules.yaml"], None) is None


# --- 6.3: what is under way ----------------------------------------------------------------------------------------


def marking(name: str) -> str:
    """A rule that marks the request and its answer."""
    edit = f"{{set: {{x-rules: {name}}}}}"
    return ("  - {name: mark, match: {host: 127.0.0.1}, "
            f"action: {{rewrite: {{headers: {edit}, response_headers: {edit}}}}}}}\n")


async def test_6_3_an_exchange_keeps_the_rules_of_its_request_head(make_app: MakeApp) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()
    seen: list[RawRequest] = []

    async def origin_script(connection: OriginConnection) -> None:
        while True:
            seen.append(await connection.read_request())
            asked.set()
            await go_on.wait()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    app = await make_app(marking("old"))
    async with run_origin(origin_script) as origin, asyncio.timeout(20):
        reader, writer = await app.connect()
        request = f"GET http://127.0.0.1:{origin.port}/ HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n\r\n".encode()
        writer.write(request)
        await asked.wait()
        await app.edit(marking("new"))
        go_on.set()
        assert b"x-rules: old" in await reader.readuntil(b"ok")
        writer.write(request)  # the next one on the same connection
        assert b"x-rules: new" in await reader.readuntil(b"ok")
        writer.close()
        await writer.wait_closed()
    assert [b"x-rules: old" in request.head for request in seen] == [True, False]


async def test_6_1_a_hook_is_entered_while_the_current_rules_or_pinned_ones_use_it(make_app: MakeApp) -> None:
    """The old set wants `responseheaders`, the new one nothing at all: the flow that pinned the old still gets it."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def origin_script(connection: OriginConnection) -> None:
        await connection.read_request()
        asked.set()
        await go_on.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    app = await make_app(marking("old"))
    async with run_origin(origin_script) as origin, asyncio.timeout(20):
        reader, writer = await app.connect()
        writer.write(f"GET http://127.0.0.1:{origin.port}/ HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n\r\n".encode())
        await asked.wait()
        await app.edit("version: 1\n")
        assert "responseheaders" in app.app.rules.active_hooks
        go_on.set()
        assert b"x-rules: old" in await reader.readuntil(b"ok")
        writer.close()
        await writer.wait_closed()


async def test_6_1_a_hook_that_no_rules_use_is_not_entered(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\nrules:\n" + marking("a"))
    async with reloading(path) as running:
        assert running.rules.active_hooks == {"requestheaders", "responseheaders"}
        for text in ("version: 1\n", "version: 1\nrules: []\n"):  # the set before the current one is still known
            live = running.state.live
            path.write_text(text)
            await running.until(lambda: running.state.live != live)  # noqa: B023 - used at once
        assert running.rules.active_hooks == frozenset()
