"""The whole proxy, rules and all, in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rulesproxy.app import App, make_options
from tests.support.automaton import Recorder
from tests.support.proxy import RunningProxy

SECONDS = 10.0


class RunningApp(RunningProxy):
    """A started `App` whose rules are in `rules`, a file that `edit` changes."""

    def __init__(self, app: App, rules: Path, recorder: Recorder) -> None:
        assert app.proxy is not None
        super().__init__(app.proxy, app.addons, app.authority, recorder)
        self.app = app
        self.rules = rules

    @property
    def dns_address(self) -> tuple[str, int]:
        return self.app.dns_addresses[0]

    async def edit(self, text: str) -> None:
        """Save other rules; returns when they are live."""
        before = self.app.reloader.state.accepted
        self.rules.write_text(document(text))
        async with asyncio.timeout(SECONDS):
            while self.app.reloader.state.accepted == before:
                self.app.reloader.look()
                await self.app.reloader.judged()


def document(text: str) -> str:
    """The rules of a test as a file: `text` is what stands under `rules:`, or a whole file."""
    return text if text.startswith("version:") else f"version: 1\nrules:\n{text}"


@asynccontextmanager
async def run_app(folder: Path, text: str, *addons: Any, mode: tuple[str, ...] = ("regular@127.0.0.1:0",),
                  record: bool = True, **options: Any) -> AsyncIterator[RunningApp]:
    """Start the app with these rules; stop it and check the order of all hooks that fired.

    `folder` holds the rule file, and the configuration folder with the certificate authority. `record=False` leaves
    the recorder out, for what depends on nobody handling a hook.
    """
    folder.mkdir(exist_ok=True)
    rules = folder / "rules.yaml"
    rules.write_text(document(text))
    recorder = Recorder()
    all_addons = [recorder, *addons] if record else list(addons)
    app = App(make_options(folder / "conf", mode=mode, **options), [str(rules)], addons=all_addons)
    await app.start()
    try:
        yield RunningApp(app, rules, recorder)
    finally:
        await app.stop()
    violations = recorder.order.finish()
    assert not violations, "\n".join([*violations, "", "hooks fired:", *recorder.names])
