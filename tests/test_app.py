"""The composition root: options, listeners, start and stop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.addons.context import ctx
from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.app import App, default_rules, listeners, make_options
from rulesproxy.errors import OptionsError, StartupError
from rulesproxy.packaged import rule_schema, starter_rules
from tests.support.leaks import nothing_left
from tests.support.origin import run_origin
from tests.support.tools import curl

RULES = "version: 1\nrules:\n  - {name: mock, match: {host: api.test}, action: {respond: one}}\n"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def options(tmp_path: Path, **values: Any) -> ProxyOptions:
    return make_options(tmp_path / "conf", mode=["regular@127.0.0.1:0", "dns@127.0.0.1:0"], **values)


# --- options and listeners -----------------------------------------------------------------------------------------


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("grace: 1\nidle_timeout: 1\nhead_timeout: 1\n")
    made = make_options(tmp_path, ["grace=2", "idle_timeout=2"], grace=3.0)
    assert (made.grace, made.idle_timeout, made.head_timeout, made.confdir) == (3.0, 2.0, 1.0, str(tmp_path))


def test_confdir_is_not_set_by_set(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="use --confdir"):
        make_options(tmp_path, ["confdir=/elsewhere"])


@pytest.mark.parametrize(("modes", "expected"), [
    ([], ["regular@127.0.0.1:8080"]),
    (["dns"], ["regular@127.0.0.1:8080", "dns@127.0.0.1:8053"]),
    (["dns@127.0.0.1"], ["regular@127.0.0.1:8080", "dns@127.0.0.1:8053"]),
    (["regular@9000"], ["regular@127.0.0.1:9000"]),
    (["regular@[::1]:9000", "regular@localhost:9001", "dns@127.0.0.5:53"],
     ["regular@[::1]:9000", "regular@localhost:9001", "dns@127.0.0.5:53"]),
    (["socks5", "reverse:http://shop.test"], ["socks5@127.0.0.1:1080", "reverse:http://shop.test@127.0.0.1:8080"]),
    (["reverse:dns://9.9.9.9"], ["reverse:dns://9.9.9.9@127.0.0.1:8053"]),
])
def test_what_listens(tmp_path: Path, modes: list[str], expected: list[str]) -> None:
    assert [str(mode) for mode in listeners(make_options(tmp_path, mode=modes))] == expected


@pytest.mark.parametrize("mode", ["regular@0.0.0.0:0", "dns@[::]:0", "regular@192.0.2.1:8080", "regular@host.test:80",
                                  "socks5@0.0.0.0:0", "reverse:tcp://10.0.0.7:1@0.0.0.0:0", "transparent@[::]:0"])
def test_listening_for_others_must_be_asked_for(tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StartupError, match="--allow-remote"):
        listeners(make_options(tmp_path, mode=[mode]))
    assert caplog.records == []
    assert mode in {str(one) for one in listeners(make_options(tmp_path, mode=[mode], allow_remote=True))}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_rules_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_rules()[0] == (str(starter_rules()),)
    (tmp_path / "rules").mkdir()
    assert default_rules()[0] == ("rules",)
    (tmp_path / "rules.yaml").write_text(RULES)
    assert default_rules()[0] == ("rules.yaml",)


def test_packaged_files_are_there() -> None:
    assert list(starter_rules().glob("*.yaml"))
    assert rule_schema().is_file()


# --- start and stop ------------------------------------------------------------------------------------------------


async def test_everything_starts_and_nothing_is_left(rules: Path, tmp_path: Path) -> None:
    async with nothing_left():
        app = App(options(tmp_path), [str(rules)])
        await app.start()
        try:
            assert ctx.master is app
            assert (len(app.addresses), len(app.dns_addresses)) == (1, 1)
            host, port = app.addresses[0]
            assert (await curl("http://api.test/", proxy=f"{host}:{port}")).out == b"one"
            assert [rule["name"] for rule in app.state()["rules"]] == ["mock"]
        finally:
            await app.stop()
        assert not hasattr(ctx, "master")


class Witness:
    """Writes down its life, and fails where it is told to."""

    def __init__(self, fails_in: str = "") -> None:
        self.seen: list[str] = []
        self._fails_in = fails_in

    def _see(self, hook: str) -> None:
        self.seen.append(hook)
        if hook == self._fails_in:
            raise OptionsError(f"no {hook}")

    def load(self, loader: object) -> None:
        self._see("load")

    def configure(self, updated: set[str]) -> None:
        assert self.seen[-1:] != ["load"] or updated >= {"rules", "mode"}  # the first time: every option
        self._see("configure")

    def running(self) -> None:
        self._see("running")

    async def done(self) -> None:
        await asyncio.sleep(0)
        self._see("done")


async def test_the_life_of_an_addon(rules: Path, tmp_path: Path) -> None:
    witness = Witness()
    app = App(options(tmp_path), [str(rules)], addons=[witness])
    await app.start()
    await app.stop()
    assert witness.seen == ["load", "configure", "running", "done"]


@pytest.mark.parametrize("hook", ["load", "configure"])
async def test_an_addon_that_refuses_stops_the_start(rules: Path, tmp_path: Path, hook: str) -> None:
    async with nothing_left():
        first = Witness()
        app = App(options(tmp_path), [str(rules)], addons=[first, Witness(hook)])
        with pytest.raises(OptionsError, match=f"no {hook}"):
            await app.start()
        assert first.seen[-1] == "done"
        assert app.addresses == []


async def test_a_taken_dns_port_closes_what_was_open(rules: Path, tmp_path: Path) -> None:
    async with run_origin() as taken, nothing_left():
        made = make_options(tmp_path / "conf", mode=["regular@127.0.0.1:0", f"dns@127.0.0.1:{taken.port}"])
        app = App(made, [str(rules)])
        with pytest.raises(StartupError, match="the port is in use"):
            await app.start()
        host, port = app.addresses[0]
        with pytest.raises(OSError):
            await asyncio.open_connection(host, port)


async def test_settings_follow_options(rules: Path, tmp_path: Path) -> None:
    app = App(options(tmp_path), [str(rules)])
    await app.start()
    try:
        assert app.proxy is not None
        app.options.update(head_timeout=1.5, identity="warn")
        settings = app.proxy.core.settings
        assert (settings.head_timeout, settings.identity) == (1.5, "warn")
    finally:
        await app.stop()


async def test_what_rules_open_is_closed_by_an_edit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A relayed tunnel that new rules would open ends at its next silence, and the reload line counts it."""
    caplog.set_level("INFO", "rulesproxy")
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\n")
    app = App(options(tmp_path), [str(path)])
    await app.start()
    try:
        hello = asyncio.Event()

        async def server(connection: Any) -> None:
            await connection.read_exactly(5)
            hello.set()
            await connection.read_to_end()

        async with run_origin(server) as origin, asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(*app.addresses[0])
            target = f"127.0.0.1:{origin.port}"
            writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.write(_client_hello("api.test"))
            await hello.wait()
            path.write_text(RULES)
            assert await reader.read() == b""
            writer.close()
        assert "closing 1 tunnel they decide differently" in "\n".join(caplog.messages)
    finally:
        await app.stop()


def _client_hello(name: str) -> bytes:
    import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()
