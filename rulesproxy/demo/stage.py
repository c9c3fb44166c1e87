"""Sets the stage: a folder with the starter rules, the servers, the proxy in front of them, and a client."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rulesproxy.app import App, make_options
from rulesproxy.demo.client import Client
from rulesproxy.demo.origin import Origins
from rulesproxy.model.connection import Client as ClientConnection
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsDecision
from rulesproxy.model.tls import Tunnel
from rulesproxy.packaged import starter_rules
from rulesproxy.runtime.facts import DnsFacts, TunnelFacts
from rulesproxy.runtime.phase import Phase

LIVE_SECONDS = 5.0

#: Joins the starter rules: leads every host in .test to the servers of the demo. Its keys can be seen before a tunnel
#: is opened, so nothing is decrypted for it.
_RULES = """\
# Written by `rulesproxy demo`: leads the hosts in .test to servers in this process.
version: 1
profiles:
  demo:
    vars: {{staging: "127.0.0.1:{staging}"}}
defaults: {{priority: -1}}
rules:
  - name: demo-http
    match: {{domain: test, port: 80}}
    action: {{redirect_server: "127.0.0.1:{plain}"}}
  - name: demo-https
    match: {{domain: test, port: 443}}
    action: {{redirect_server: "127.0.0.1:{secure}"}}
"""


class Stage:
    """What the scenes of the demo play on."""

    def __init__(self, app: App, origins: Origins, client: Client, rules: Path, observer: Observer) -> None:
        self.app = app
        self.origins = origins
        self.client = client
        self.rules = rules
        self._observer = observer

    def acted(self) -> set[str]:
        """The rules that took effect on what was sent since the last call."""
        return self._observer.take()

    def acted_on_name(self, name: str, type_: str) -> set[str]:
        """The rules that take effect on a DNS query."""
        current = self.app.rules.current
        assert current is not None
        decision = current.decide(Phase.DNS, DnsFacts(None, name, type_), _ignore)
        return {rule.name for rule in decision.acted} if decision is not None else set()

    def decided_on_tls(self, name: str) -> TlsDecision | None:
        """What the rules want when a client starts TLS with a server of that name."""
        current = self.app.rules.current
        assert current is not None
        facts = TunnelFacts(Tunnel(ClientConnection(), name, 443))
        facts.scheme, facts.sni = "https", name
        return current.decide_tls(facts, False)

    async def edit(self, name: str, old: str, new: str, done: Callable[[], bool]) -> float:
        """Change a rule file as an editor does, and wait until `done`. Answers how many seconds that took."""
        path = self.rules / name
        text = path.read_text("utf-8")
        if old not in text:
            raise RuntimeError(f"{path} has no {old!r}")
        began = time.monotonic()
        path.write_text(text.replace(old, new), "utf-8")
        async with asyncio.timeout(LIVE_SECONDS):
            while not done():
                await self.app.reloader.judged()
        return time.monotonic() - began


@asynccontextmanager
async def set_stage(folder: Path) -> AsyncIterator[Stage]:
    """Everything up and running below `folder`, and down again afterwards."""
    origins = Origins(folder / "origin")
    await origins.start()
    try:
        rules = folder / "rules"
        shutil.copytree(starter_rules(), rules)
        (rules / "zz-demo.yaml").write_text(_RULES.format(
            plain=origins.plain.port, secure=origins.secure.port, staging=origins.staging.port), "utf-8")
        options = make_options(folder / "conf", mode=["regular@127.0.0.1:0", "dns@127.0.0.1:0"], profile="demo",
                               upstream_ca=str(origins.ca))
        observer = Observer()
        app = App(options, [str(rules)], addons=[observer])
        await app.start()
        try:
            client = Client(app.addresses[0], app.dns_addresses[0])
            yield Stage(app, origins, client, rules, observer)
        finally:
            await app.stop()
    finally:
        await origins.stop()


class Observer:
    """An addon that looks on: nothing is decrypted and no body is held back for it."""

    def __init__(self) -> None:
        self._flows: list[HTTPFlow] = []

    def take(self) -> set[str]:
        flows, self._flows = self._flows, []
        acted = {rule.name for flow in flows if flow.pinned is not None
                 for decision in flow.pinned.decisions.values() for rule in decision.acted}
        return acted | {flow.rule for flow in flows if flow.rule is not None}

    def responseheaders(self, flow: HTTPFlow) -> None:
        self._flows.append(flow)

    def http_connect(self, flow: HTTPFlow) -> None:
        self._flows.append(flow)

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision | None:
        return None

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        return False


def _ignore(rule: object, exc: Exception) -> None:
    """Failures are logged when it is not only a question."""
