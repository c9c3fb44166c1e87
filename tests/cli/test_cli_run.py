"""`rulesproxy run` as a process: rules from files, listeners, signals, and what can be wrong at the start."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import RunningCommand, rulesproxy, running
from tests.support.origin import OriginConnection, run_origin
from tests.support.tools import require_tool, run_tool

HTTP = ("--listen", "127.0.0.1:0")
DNS = ("--dns", "127.0.0.1:0")
MOCK = """\
version: 1
rules:
  - {name: mock, match: {host: api.test}, action: {respond: one}}
"""
BROKEN = MOCK + "rubbish: 1\n"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(MOCK)
    return path


# --- serving -------------------------------------------------------------------------------------------------------


async def test_rules_work_and_follow_their_file(rules: Path, tmp_path: Path) -> None:
    async with running("run", rules, *HTTP, cwd=tmp_path) as proxy:
        assert (await proxy.curl("http://api.test/")).out == b"one"
        rules.write_text(MOCK.replace("one", "two"))
        line = await proxy.line("rules live:")
        assert re.search(r"rules live: [0-9a-f]{16} \(was [0-9a-f]{16}\); changed mock$", line)
        assert (await proxy.curl("http://api.test/")).out == b"two"
        assert (await proxy.curl("https://api.test/")).out == b"two"


async def test_a_broken_edit_is_reported_and_changes_nothing(rules: Path, tmp_path: Path) -> None:
    async with running("run", rules, *HTTP, cwd=tmp_path) as proxy:
        await proxy.address()
        rules.write_text(BROKEN)
        await proxy.line(f"{rules}:4:1: error: unknown key")
        assert (await proxy.curl("http://api.test/")).out == b"one"


async def test_what_looks_wrong_in_rules_is_said_once(rules: Path, tmp_path: Path) -> None:
    odd = "  - {{name: {0}, match: {{host: api.test, path: '/{0}/:id'}}, action: {{respond: two}}}}\n"
    rules.write_text(MOCK + odd.format("a"))
    async with running("run", rules, *HTTP, cwd=tmp_path) as proxy:
        await proxy.line('":id" is plain text in a path, not a capture; write {id}')
        rules.write_text(MOCK + odd.format("a") + "".join(odd.format(f"b{n}") for n in range(7)))
        await proxy.line("and 2 more such warnings")
        said = [line for line in proxy.text.splitlines() if "plain text in a path" in line]
        assert [line.split(f"{rules}:")[1].split(":")[0] for line in said] == ["4", "5", "6", "7", "8", "9"]


async def test_dns_is_served_over_udp_and_tcp(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "version: 1\nrules: [{name: n, match: {host: a.test}, action: {spoof_dns: {A: 192.0.2.7}}}]\n")
    async with running("run", *HTTP, *DNS, cwd=tmp_path) as proxy:
        host, port = (await proxy.address("DNS")).rsplit(":", 1)
        for protocol in ("+notcp", "+tcp"):
            answer = await run_tool("dig", f"@{host}", "-p", port, protocol, "+short", "+tries=1", "a.test")
            assert answer.text == "192.0.2.7\n"


async def test_the_status_page_tells_of_rules_and_failures(rules: Path, tmp_path: Path) -> None:
    async with running("run", rules, *HTTP, cwd=tmp_path) as proxy:
        await proxy.address()
        rules.write_text(BROKEN)
        await proxy.line("rules not changed")
        state = json.loads((await proxy.curl("http://rulesproxy.test/rules")).out)
        assert state["rules"] == [{"name": "mock", "source": f"{rules}:3", "failures": 0}]
        assert (state["reloads"], state["rejected"]) == (0, 1)
        assert "unknown key" in state["last_error"]
        assert "\n" not in state["last_error"]  # the place and the mistake, not the lines of the file


async def test_every_listener_asked_for_runs(rules: Path, tmp_path: Path) -> None:
    async with running("run", rules, *HTTP, "--mode", "regular@127.0.0.1:0", *DNS, "--mode", "dns@127.0.0.1:0",
                       cwd=tmp_path) as proxy:
        await proxy.line("http://rulesproxy.test/")
        kinds = re.findall(r"listening on 127\.0\.0\.1:\d+ for (HTTP|DNS)", proxy.text)
        assert kinds == ["HTTP", "HTTP", "DNS", "DNS"]


async def test_a_script_with_an_option_of_its_own(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "greet.py").write_text(
        "from rulesproxy.addons.context import ctx\n"
        "def load(loader):\n    loader.add_option('greeting', str, 'hello', 'What to say.')\n"
        "def response(flow):\n    flow.response.headers['x-greeting'] = ctx.options.greeting\n")
    async with running("run", rules, *HTTP, "-s", "greet.py", "--set", "greeting=ahoy", cwd=tmp_path) as proxy:
        assert b"x-greeting: ahoy" in (await proxy.curl("-i", "http://api.test/")).out.lower()
        assert "all TLS that no rule decides on is decrypted" in proxy.text


async def test_a_script_may_end_the_proxy(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "end.py").write_text("from rulesproxy.addons.context import ctx\n"
                                     "def running():\n    ctx.master.shutdown()\n"
                                     "def done():\n    print('done', flush=True)\n")
    done = await rulesproxy("run", rules, *HTTP, "-s", "end.py", cwd=tmp_path)
    assert (done.code, done.text) == (0, "done\n")


async def test_a_profile_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "version: 1\nvars: {answer: everyday}\nprofiles: {lab: {vars: {answer: lab}}}\n"
        "rules: [{name: a, match: {host: api.test}, action: {respond: '${vars.answer}'}}]\n")
    async with running("run", *HTTP, "--profile", "lab", cwd=tmp_path) as proxy:
        assert (await proxy.curl("http://api.test/")).out == b"lab"


async def test_config_yaml_is_read_and_the_command_line_wins(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir(mode=0o700)
    (tmp_path / "conf" / "config.yaml").write_text("mode: [regular@127.0.0.1:0]\ngrace: 3\nidle_timeout: 77\n")
    shown = (await rulesproxy("run", "--options", "--set", "grace=2", cwd=tmp_path)).text
    assert "\ngrace = 2 (default 5)\n" in shown
    assert "\nidle_timeout = 77 (default 300)\n" in shown
    async with running("run", rules, cwd=tmp_path) as proxy:
        assert (await proxy.curl("http://api.test/")).out == b"one"


async def test_the_log_as_json(rules: Path, tmp_path: Path) -> None:
    async with running("run", rules, *HTTP, "--json-log", cwd=tmp_path) as proxy:
        await proxy.line("rulesproxy.test")
        records = [json.loads(line) for line in proxy.lines]
        assert all(record["logger"] == "rulesproxy" and record["time"] > 1e9 for record in records)
        assert any(record["message"].startswith("listening on 127.0.0.1:") for record in records)


# --- which rules ---------------------------------------------------------------------------------------------------


async def test_without_rules_those_here_are_taken(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "other.yaml").write_text(MOCK.replace("mock", "other"))
    async with running("run", *HTTP, cwd=tmp_path) as proxy:
        assert "rules: 1 from rules.yaml (found here)" in await proxy.line("rules: ")
    rules.unlink()
    async with running("run", *HTTP, cwd=tmp_path) as proxy:
        assert "rules: 1 from rules (found here)" in await proxy.line("rules: ")


async def test_without_any_the_starter_rules_run(tmp_path: Path) -> None:
    async with running("run", *HTTP, cwd=tmp_path) as proxy:
        assert "the starter rules, as there is no rules.yaml and no rules/ here" in await proxy.line("rules: ")
        assert b'"Ada"' in (await proxy.curl("http://api.shop.test/users/7")).out
        assert "decrypted" not in proxy.text


async def test_a_rule_that_decrypts_everything_is_named(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "version: 1\nrules:\n  - {name: greedy, match: {path: /x}, action: {respond: x}}\n")
    async with running("run", *HTTP, cwd=tmp_path) as proxy:
        assert "rule greedy (rules.yaml:3:" in await proxy.line("all TLS is decrypted")


# --- the end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_0(rules: Path, tmp_path: Path, number: signal.Signals) -> None:
    async with running("run", rules, *HTTP, cwd=tmp_path) as proxy:
        host, port = (await proxy.address()).rsplit(":", 1)
        _, writer = await asyncio.open_connection(host, int(port))  # idle: not waited for
        began = time.monotonic()
        proxy.send(number)
        assert await proxy.ended() == 0
        assert time.monotonic() - began < 3
        writer.close()


class SlowOrigin:
    """Sends the head and half of the body, then waits to be told to go on."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
        self.asked.set()
        await self.go_on.wait()
        await connection.send(b"-last")


async def _get(proxy: RunningCommand, port: int) -> bytes:
    return (await proxy.curl(f"http://127.0.0.1:{port}/")).out


async def _refused(address: str) -> None:
    """Nobody listens there, now or in a moment."""
    host, port = address.rsplit(":", 1)
    async with asyncio.timeout(2):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except (ConnectionRefusedError, ConnectionResetError):
                return  # reset: it was in the listen queue when that was closed
            writer.close()


async def test_an_open_exchange_is_finished_first(rules: Path, tmp_path: Path) -> None:
    require_tool("curl")
    script = SlowOrigin()
    async with run_origin(script) as origin, running("run", rules, *HTTP, cwd=tmp_path) as proxy:
        exchange = asyncio.create_task(_get(proxy, origin.port))
        await asyncio.wait_for(script.asked.wait(), 10)
        proxy.send(signal.SIGTERM)
        await proxy.line("stopping")
        await _refused(await proxy.address())
        script.go_on.set()
        assert await exchange == b"first-last"
        assert await proxy.ended() == 0


async def test_a_second_signal_ends_it_at_once(rules: Path, tmp_path: Path) -> None:
    require_tool("curl")
    script = SlowOrigin()
    async with (run_origin(script) as origin,
                running("run", rules, *HTTP, "--set", "grace=60", cwd=tmp_path) as proxy):
        exchange = asyncio.create_task(_get(proxy, origin.port))
        await asyncio.wait_for(script.asked.wait(), 10)
        proxy.send(signal.SIGINT)
        await proxy.line("stopping")
        began = time.monotonic()
        proxy.send(signal.SIGINT)
        assert await proxy.ended() == -signal.SIGINT
        assert time.monotonic() - began < 3
        assert await exchange == b"first"


async def test_what_does_not_finish_is_cut_after_the_grace_time(rules: Path, tmp_path: Path) -> None:
    require_tool("curl")
    script = SlowOrigin()
    async with (run_origin(script) as origin,
                running("run", rules, *HTTP, "--set", "grace=0.3", cwd=tmp_path) as proxy):
        exchange = asyncio.create_task(_get(proxy, origin.port))
        await asyncio.wait_for(script.asked.wait(), 10)
        proxy.send(signal.SIGTERM)
        assert await proxy.ended() == 0
        assert await exchange == b"first"


# --- what can be wrong at the start --------------------------------------------------------------------------------


@contextmanager
def busy_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[int]:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        yield taken.getsockname()[1]


async def test_a_busy_port_is_one_clear_line(rules: Path, tmp_path: Path) -> None:
    with busy_port() as port:
        done = await rulesproxy("run", rules, "--listen", f"127.0.0.1:{port}", cwd=tmp_path)
    # A machine that allows few open files is warned of before.
    assert (done.code, done.err.decode().splitlines()[-1]) == (
        1, f"rulesproxy: cannot listen on 127.0.0.1:{port}: the port is in use; stop what uses it, or choose another "
           "with --mode regular@HOST:PORT")


async def test_a_busy_dns_port_stops_the_rest_too(rules: Path, tmp_path: Path) -> None:
    with busy_port(socket.SOCK_DGRAM) as port:
        done = await rulesproxy("run", rules, *HTTP, "--dns", f"127.0.0.1:{port}", cwd=tmp_path)
    assert done.code == 1
    assert f"cannot listen on 127.0.0.1:{port}: the port is in use" in done.err.decode()


async def test_broken_rules_end_a_cold_start(rules: Path, tmp_path: Path) -> None:
    rules.write_text(BROKEN)
    done = await rulesproxy("run", rules, *HTTP, cwd=tmp_path)
    assert done.code == 1
    assert f"{rules}:4:1: error: unknown key" in done.err.decode()


async def test_last_good_starts_when_the_files_do_not_compile(rules: Path, tmp_path: Path) -> None:
    async with running("run", rules, *HTTP, cwd=tmp_path) as proxy:
        assert (await proxy.curl("http://api.test/")).out == b"one"
        proxy.send(signal.SIGTERM)
        assert await proxy.ended() == 0
    rules.write_text(BROKEN)
    async with running("run", rules, *HTTP, "--last-good", cwd=tmp_path) as proxy:
        assert (await proxy.curl("http://api.test/")).out == b"one"
        assert "the last good ones, as the files do not compile" in proxy.text
        assert f"{rules}:4:1: error: unknown key" in proxy.text
        rules.write_text(MOCK.replace("one", "two"))
        await proxy.line("rules live:")
        assert (await proxy.curl("http://api.test/")).out == b"two"


async def test_last_good_is_not_used_when_the_files_compile(rules: Path, tmp_path: Path) -> None:
    async with running("run", rules, *HTTP, cwd=tmp_path) as proxy:
        await proxy.address()
        proxy.send(signal.SIGTERM)
        assert await proxy.ended() == 0
    rules.write_text(MOCK.replace("one", "two"))
    async with running("run", rules, *HTTP, "--last-good", cwd=tmp_path) as proxy:
        assert (await proxy.curl("http://api.test/")).out == b"two"
        assert "last good" not in proxy.text


async def test_last_good_without_any_is_an_error(rules: Path, tmp_path: Path) -> None:
    rules.write_text(BROKEN)
    done = await rulesproxy("run", rules, *HTTP, "--last-good", cwd=tmp_path)
    assert done.code == 1
    assert "conf/last-good has none that do" in done.err.decode()


@pytest.mark.parametrize(("arguments", "said"), [
    (["--listen", "0.0.0.0:0"], "add --allow-remote"),
    (["--dns", "[::]:0"], "add --allow-remote"),
    (["--listen", "127.0.0.1:port"], "the port must be a number"),
    (["--listen", "::1:8080"], "write an IPv6 address in brackets"),
    (["--listen", "203.0.113.1:0", "--allow-remote"], "this machine does not have that address"),
    (["--mode", "socks4@127.0.0.1:0"], "there is no mode 'socks4' (did you mean socks5?); there are regular, reverse"),
    (["--mode", "reverse:shop.test"], "write reverse:http|https|tcp|tls|udp|dns://shop.test"),
    (["--mode", "upstream:http://me:pw@proxy:3128"], "set upstream_auth to user:password"),
    (["--mode", "socks5@0.0.0.0:0"], "add --allow-remote"),
    (["--mode", "regular", "--mode", "reverse:http://shop.test"],
     "regular and reverse cannot both listen on 127.0.0.1:8080; give one another port: "
     "--mode reverse:http://shop.test@8081"),
    (["--mode", "dns@5353", "--mode", "reverse:udp://log.test:514@5353"], "dns and reverse cannot both listen on"),
    (["--mode", "reverse:dns://nowhere.invalid@127.0.0.1:0"], "nowhere.invalid"),
    (["--set", "proxy_auth=me"], "option proxy_auth: write user:password"),
    (["--set", "proxy_auth=@missing"], "missing: no such file"),
    (["--set", "upstream_auth=me"], "option upstream_auth: user and password are written user:password"),
    (["--set", "tls_timout=3"], 'unknown option "tls_timout"; did you mean "tls_timeout"?'),
    (["--set", "grace=soon"], "option grace: expected a number"),
    (["--set", "decrypt"], "option decrypt needs a value: decrypt=…"),
    (["--set", "upstream_ca=missing.pem"], "option upstream_ca: cannot read missing.pem: no such file"),
    (["--set", "upstream_ca=rules.yaml"], "option upstream_ca: "),
    (["--set", "resolvers=dns.example"], "option resolvers: not a resolver address"),
    (["--profile", "lab"], 'no file defines the profile "lab"'),
    (["-s", "missing.py"], "missing.py"),
    (["no-such-file.yaml"], "cannot read no-such-file.yaml: no such file"),
])
async def test_mistakes_are_said_in_plain_words(rules: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    listen = [] if any(flag in arguments for flag in ("--listen", "--mode")) else HTTP
    done = await rulesproxy("run", rules, *arguments, *listen, cwd=tmp_path)
    assert done.code == 1
    assert said in done.err.decode()
    assert "\nrulesproxy: " in f"\n{done.err.decode()}"


async def test_a_script_that_fails_ends_the_start_with_its_line(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1\nundefined\n")
    done = await rulesproxy("run", rules, *HTTP, "-s", "bad.py", cwd=tmp_path, traceback=True)
    assert done.code == 1
    assert done.err.decode().startswith("rulesproxy: ")
    assert 'bad.py", line 2' in done.err.decode()


async def test_remote_listening_is_warned_of(rules: Path, tmp_path: Path) -> None:
    async with running("run", rules, "--listen", "0.0.0.0:0", "--allow-remote", cwd=tmp_path) as proxy:
        assert "warning" in await proxy.line("can be reached from other machines")


async def test_an_open_configuration_folder_is_refused(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir(mode=0o755)
    (tmp_path / "conf").chmod(0o755)
    done = await rulesproxy("run", rules, *HTTP, cwd=tmp_path)
    assert done.code == 1
    assert "chmod 700" in done.err.decode()


async def test_options_are_printed(tmp_path: Path) -> None:
    done = await rulesproxy("run", "--options", cwd=tmp_path)
    assert done.code == 0
    assert "\ndecrypt = auto\n    auto | named | none\n" in done.text
