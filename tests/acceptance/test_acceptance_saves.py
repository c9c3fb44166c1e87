"""Acceptance line 3, one at a time: every way of saving, every way of failing, and starts with broken files."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.command import RulesProxy, run_command, run_to_end
from tests.acceptance.conftest import MakeResolver, Start
from tests.acceptance.stream_large import MIB, resident
from tests.support.tools import require_tool, run_tool

#: An ordinary save is live within 0.3 s; a machine that runs other tests meanwhile is given more.
ORDINARY = 1.0


def mock(text: str, name: str = "mock") -> str:
    return f"version: 1\nrules:\n  - name: {name}\n    match: {{host: {name}.test}}\n    action: {{respond: {text}}}\n"


BROKEN = mock("broken").replace("host:", "hots:")  # line 4, column 13


@dataclass
class Scene:
    proxy: RulesProxy

    async def get(self, host: str = "mock.test") -> str:
        return (await self.proxy.curl(f"http://{host}/")).text

    async def state(self) -> dict[str, object]:
        """What the status page says."""
        state: dict[str, object] = json.loads((await self.proxy.curl("http://rulesproxy.test/rules")).out)
        return state

    async def live(self, since: int) -> float:
        """When the next swap was announced."""
        after, _ = await self.proxy.wait_for_line("rules live: ", since)
        return self.proxy.lines[after - 1].at

    async def rejected(self, since: int, place: str) -> float:
        """When the next edit was refused, with this in the lines that follow."""
        after, _ = await self.proxy.wait_for_line("rules not changed", since)
        await self.proxy.wait_for_line(place, after, 1.0)
        return self.proxy.lines[after - 1].at

    @property
    def now(self) -> int:
        return len(self.proxy.lines)


@pytest.fixture
async def scene(start: Start, rules: Path) -> Scene:
    """The command with a rule file that it was given by name."""
    rules.write_text(mock("old"))
    proxy = Scene(await start(rules))
    assert await proxy.get() == "old"
    return proxy


# --- saving ------------------------------------------------------------------------------------------------------


async def test_an_ordinary_save_is_live_at_once(scene: Scene, rules: Path) -> None:
    delays = []
    for number in range(5):
        since, written = scene.now, time.monotonic()
        rules.write_text(mock(f"new-{number}"))
        delays.append(await scene.live(since) - written)
        assert await scene.get() == f"new-{number}"
    assert max(delays) < ORDINARY, delays


async def test_vi_saves_by_renaming(scene: Scene, rules: Path) -> None:
    """vi moves the file away and writes a new one; a watch on the file itself would lose it."""
    require_tool("vi")
    for old, new in (("old", "second"), ("second", "third")):
        since, inode = scene.now, rules.stat().st_ino
        done = await run_tool("vi", "-e", "-s", "-u", "NONE", "-c", "set nocp backupcopy=no writebackup",
                              "-c", "silent! set backupskip=", "-c", f"%s/{old}/{new}/", "-c", "wq", str(rules))
        assert done.code == 0
        assert rules.stat().st_ino != inode
        await scene.live(since)
        assert await scene.get() == new


async def test_a_pause_after_truncating_is_no_change(scene: Scene, rules: Path) -> None:
    since = scene.now
    rules.write_text("")
    await asyncio.sleep(0.2)
    assert await scene.get() == "old"
    rules.write_text(mock("new"))
    await scene.live(since)
    assert await scene.get() == "new"
    assert "not changed" not in scene.proxy.stderr


async def test_a_half_written_file_changes_nothing(scene: Scene, rules: Path) -> None:
    """Cut inside the action, as a slow copy over the network shows it."""
    content, since = mock("new"), scene.now
    rules.write_text(content[:content.index("respond")])
    await scene.rejected(since, r"rules\.yaml:\d+:\d+: error: ")
    assert await scene.get() == "old"
    since = scene.now
    rules.write_text(content)
    await scene.live(since)
    assert await scene.get() == "new"


async def test_git_checkout_between_branches(start: Start, rules: Path) -> None:
    folder = rules.parent

    async def git(*arguments: str) -> None:
        done = await run_tool("git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.test",
                              *arguments)
        assert done.code == 0, done.err

    await git("init", "-q", "-b", "main")
    rules.write_text(mock("main"))
    await git("add", ".")
    await git("commit", "-q", "-m", "main")
    await git("checkout", "-q", "-b", "other")
    rules.write_text(mock("other"))
    (folder / "more.yaml").write_text(mock("more", name="more"))
    await git("add", ".")
    await git("commit", "-q", "-m", "other")
    await git("checkout", "-q", "main")
    scene = Scene(await start(folder))
    assert await scene.get() == "main"
    since = scene.now
    await git("checkout", "-q", "other")
    # git writes file by file; more.yaml comes with the same look or with one right after.
    await scene.proxy.wait_for_line("rules live: .*mock", since)
    await scene.proxy.wait_for_line("rules live: .*more", since)
    assert (await scene.get(), await scene.get("more.test")) == ("other", "more")
    since = scene.now
    await git("checkout", "-q", "main")
    await scene.proxy.wait_for_line("rules live: .*mock", since)
    await scene.proxy.wait_for_line("rules live: .*removed more", since)
    assert await scene.get() == "main"
    assert "not changed" not in scene.proxy.stderr


async def test_a_mounted_folder_is_swapped(start: Start, rules: Path) -> None:
    """As Kubernetes updates a ConfigMap: rules.yaml -> ..data/rules.yaml, ..data -> another folder."""
    folder = rules.parent
    for number in range(3):
        (folder / f"..{number}").mkdir()
        (folder / f"..{number}" / "rules.yaml").write_text(mock(f"text-{number}"))
    (folder / "..data").symlink_to("..0")
    rules.symlink_to("..data/rules.yaml")
    scene = Scene(await start(folder))
    for number in (1, 2):
        since, swapped = scene.now, time.monotonic()
        (folder / "..new").symlink_to(f"..{number}")
        os.replace(folder / "..new", folder / "..data")
        assert await scene.live(since) - swapped < ORDINARY
        assert await scene.get() == f"text-{number}"


@pytest.mark.slow
async def test_many_quick_saves_leave_nothing_behind(start: Start, rules: Path) -> None:
    """300 saves in 3 s, renamed and in place by turns: the last one is live, and no memory and no watch was added."""
    rules.write_text(mock("first"))
    scene = Scene(await start(rules, dev=False))
    process = Path(f"/proc/{scene.proxy.process.pid}")

    async def save(start: int, count: int) -> None:
        for number in range(start, start + count):
            new = rules.with_name(".new") if number % 2 else rules
            new.write_text(mock(f"text-{number}"))
            os.replace(new, rules)
            await asyncio.sleep(0.01)
        since = scene.now
        rules.write_text(mock(f"last-{start}", name="last"))
        await scene.proxy.wait_for_line("rules live: .*added last", since)
        assert await scene.get("last.test") == f"last-{start}"

    await save(0, 50)  # so that what is made once was made
    descriptors, size = len(list((process / "fd").iterdir())), resident(scene.proxy.process.pid, "VmRSS")
    await save(1000, 300)
    assert len(list((process / "fd").iterdir())) <= descriptors + 2  # a connection of the last request
    assert resident(scene.proxy.process.pid, "VmRSS") - size < 4 * MIB
    assert "not changed" not in scene.proxy.stderr


# --- deleting ----------------------------------------------------------------------------------------------------


async def test_a_named_file_that_stays_away_is_an_error(scene: Scene, rules: Path) -> None:
    since, deleted = scene.now, time.monotonic()
    rules.unlink()
    reported = await scene.rejected(since, "rules.yaml")
    assert reported - deleted >= 0.95
    assert await scene.get() == "old"
    since = scene.now
    rules.write_text(mock("new"))
    await scene.live(since)
    assert await scene.get() == "new"


async def test_an_included_file_that_stays_away_is_an_error(start: Start, rules: Path) -> None:
    more = rules.with_name("more.yaml")
    rules.write_text(mock("main").replace("rules:", "include: [more.yaml]\nrules:"))
    more.write_text(mock("included", name="more"))
    scene = Scene(await start(rules))
    since = scene.now
    more.unlink()
    await scene.rejected(since, r"rules\.yaml:2:11: error: ")
    assert await scene.get("more.test") == "included"


async def test_a_file_of_a_folder_takes_its_rules_with_it(start: Start, make_resolver: MakeResolver,
                                                          rules: Path) -> None:
    more = rules.with_name("more.yaml")
    rules.write_text(mock("main"))
    more.write_text(mock("found", name="more"))
    resolver = await make_resolver({})  # knows no name
    scene = Scene(await start(rules.parent, "--set", f"resolvers={resolver.address}"))
    assert await scene.get("more.test") == "found"
    since, deleted = scene.now, time.monotonic()
    more.unlink()
    assert await scene.live(since) - deleted >= 0.95
    assert await scene.get() == "main"
    done = await scene.proxy.curl("--output", "/dev/null", "--write-out", "%{http_code}", "http://more.test/")
    assert done.text == "502"
    assert "not changed" not in scene.proxy.stderr


async def test_a_file_that_comes_back_in_time_was_never_away(scene: Scene, rules: Path) -> None:
    since = scene.now
    rules.unlink()
    await asyncio.sleep(0.4)
    assert await scene.get() == "old"
    rules.write_text(mock("new"))
    await scene.live(since)
    assert await scene.get() == "new"
    assert "not changed" not in scene.proxy.stderr


# --- failing -----------------------------------------------------------------------------------------------------


async def test_a_broken_edit_is_reported_on_console_and_status_page(scene: Scene, rules: Path) -> None:
    before = await scene.state()
    since = scene.now
    rules.write_text(BROKEN)
    await scene.rejected(since, r"rules\.yaml:4:13: error: ")
    assert await scene.get() == "old"
    after = await scene.state()
    assert after["digest"] == before["digest"]
    assert after["rejected"] == 1
    assert "rules.yaml:4:13: error: " in str(after["last_error"])
    since = scene.now
    rules.write_text(mock("old"))
    await scene.proxy.wait_for_line("again as they were", since)
    assert not (await scene.state())["last_error"]


async def test_a_rule_set_has_no_history(scene: Scene, rules: Path) -> None:
    """After edits the digest, and with it program, order and plan, is that of a cold start with the same files."""
    for content in (mock("b"), BROKEN, mock("c")):
        since = scene.now
        rules.write_text(content)
        await scene.proxy.wait_for_line("rules (live|not changed)", since)
    live = (await scene.state())["digest"]
    cold = json.loads((await run_command("plan", "--json", rules)).out)["digest"]
    assert live == cold


async def test_a_broken_file_at_start_ends_the_command(rules: Path, tmp_path: Path) -> None:
    rules.write_text(BROKEN)
    status, err = await run_to_end(tmp_path / "conf", rules, "--listen", "127.0.0.1:0")
    assert status == 1
    assert f"{rules}:4:13: error: " in err
    assert "listening" not in err
    status, err = await run_to_end(tmp_path / "conf", rules, "--listen", "127.0.0.1:0", "--last-good")
    assert status == 1
    assert "last-good has none" in err


async def test_last_good_starts_in_spite_of_a_broken_file(start: Start, rules: Path, tmp_path: Path) -> None:
    rules.write_text(mock("old"))
    first = Scene(await start(rules))
    since = first.now
    rules.write_text(mock("good"))
    await first.live(since)
    since = first.now
    rules.write_text(BROKEN)
    await first.rejected(since, "error")
    await first.proxy.end()
    kept = tmp_path / "conf" / "last-good"
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}
    assert (await run_to_end(tmp_path / "conf", rules, "--listen", "127.0.0.1:0"))[0] == 1
    second = Scene(await start(rules, "--last-good"))
    assert "last good" in second.proxy.stderr
    assert "rules.yaml:4:13: error: " in second.proxy.stderr
    assert await second.get() == "good"
    since = second.now
    rules.write_text(mock("mended"))
    await second.live(since)
    assert await second.get() == "mended"
