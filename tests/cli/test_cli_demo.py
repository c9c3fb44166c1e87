"""`rulesproxy demo` ends well, by itself and when interrupted."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from rulesproxy.demo.scenes import SCENES, Unexpected
from rulesproxy.demo.show import show
from tests.support.command import rulesproxy, running
from tests.support.tools import curl


async def test_once(tmp_path: Path) -> None:
    done = await rulesproxy("demo", "--once", cwd=tmp_path)
    assert done.code == 0, done.text
    rows = [line for line in done.text.splitlines() if line.startswith("ok ")]
    assert len(rows) == len(SCENES)
    assert done.err == b""
    assert list(tmp_path.iterdir()) == []


async def test_it_goes_on_serving_until_interrupted(tmp_path: Path) -> None:
    async with running("demo", cwd=tmp_path) as demo:
        address = re.search(r"curl -x (\S+) http://api", await demo.printed("curl -x"))
        assert address is not None
        answer = await curl("http://api.shop.test/users/42", proxy=address[1])
        assert answer.text == '{"id": 42, "name": "Grace"}'
        demo.send(signal.SIGINT)
        assert await demo.ended() == 0


async def test_a_row_that_is_not_as_expected_is_a_failure(capsys: object, monkeypatch: object) -> None:
    """Shown on the real stage: one scene is replaced by one that fails."""
    from pytest import CaptureFixture, MonkeyPatch

    assert isinstance(monkeypatch, MonkeyPatch)
    assert isinstance(capsys, CaptureFixture)
    from rulesproxy.demo.scenes import Scene

    async def wrong(stage: object) -> str:
        raise Unexpected("it rained")

    monkeypatch.setattr("rulesproxy.demo.show.SCENES", (SCENES[0], Scene("look outside", "sunshine", wrong)))
    assert await show(once=True) == 1
    shown = capsys.readouterr().out
    assert re.search(r"^NO look outside +sunshine +Unexpected: it rained$", shown, re.MULTILINE)
    assert "1 of 2 rows are not as expected" in shown
