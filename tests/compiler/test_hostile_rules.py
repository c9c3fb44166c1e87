"""Rule files as an attacker would write them, saved while traffic runs: refused in time, the last good set stays."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rulesproxy.logs import LineFormatter
from tests.support.app import RunningApp, document
from tests.support.origin import run_origin

MakeApp = Callable[..., Awaitable[RunningApp]]

SECONDS = 20.0
#: How long the event loop may stand still. The promise is 100 ms; a machine that runs other tests gets some more.
STALL = 0.25
GOOD = "  - {name: good, match: {host: good.test}, action: {respond: good}}\n"

_LAUGHS = "".join(f"  v{level}: &v{level} [{', '.join([f'*v{level - 1}'] * 10)}]\n" for level in range(1, 9))
HOSTILE = {
    "alias bomb": f"version: 1\nvars:\n  v0: &v0 [a, a]\n{_LAUGHS}rules: []\n",
    "brackets": "version: 1\nrules: " + "[" * 100_000,
    "braces": "version: 1\nrules: " + "{a: " * 100_000,
    "dashes": "version: 1\nrules:\n" + "- " * 100_000,
    "deep indentation": "\n".join(" " * depth + "a:" for depth in range(3_000)),
    "too large": "# " + "x" * (17 << 20),
    "one large comment": "# " + "x" * (15 << 20) + "\n[",
    "one large scalar": "version: 1\nrules: " + "x" * (15 << 20),
    "many small keys": "version: 1\nvars:\n" + "".join(f"  v{number}: x\n" for number in range(200_000)) + "rules: 1\n",
    "many anchors": "version: 1\nvars:\n" + "".join(f"  v{n}: &a{n} x\n" for n in range(100_000)) + "  w: *nowhere\n",
    "tags": "!!python/object/apply:os.system ['true']\n",
    "NUL": "version: 1\x00\n",
    "circle of variables": "version: 1\nvars: {a: '${vars.b}', b: '${vars.a}'}\n" + "rules: []\n",
    "variables that multiply": "version: 1\nvars:\n  v0: " + "x" * 100 + "\n" + "".join(
        f"  v{n}: '{('${vars.v' + str(n - 1) + '}') * 10}'\n" for n in range(1, 12)) +
        "rules:\n  - {name: a, match: {host: a.test}, action: {respond: '${vars.v11}'}}\n",
    "large regex": document("  - {name: r, match: {path_regex: '(a{1,1000}){1,1000}'}, action: {block: true}}\n"),
    "endless list of hosts": document("  - name: r\n    match: {host: [" + "'*.a*b*c*', " * 50_000 + "]}\n"
                                      "    action: {nothing: 1}\n"),
    "include itself": "version: 1\ninclude: [rules.yaml, ./rules.yaml, '*.yaml']\nrules: 1\n",
    "include a device": "version: 1\ninclude: [/dev/zero]\nrules: []\n",
    "include a terminal": "version: 1\ninclude: [/dev/tty]\nrules: []\n",
    "a body from a device": document("  - {name: d, match: {host: a}, action: {respond: {file: /dev/zero}}}\n"),
    "a set from a device": "version: 1\nsets: {s: {file: /dev/urandom}}\nrules: []\n",
    "a template within a template": document("  - {name: t, match: {host: a}, action: {respond: '" + "${" * 20_000
                                             + "'}}\n"),
}


@asynccontextmanager
async def watched() -> AsyncIterator[list[float]]:
    """Measures how long the event loop stood still."""
    gaps = [0.0]

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - before - 0.005)

    ticking = asyncio.create_task(tick())
    try:
        yield gaps
    finally:
        ticking.cancel()


async def get(app: RunningApp, host: str, path: str = "/") -> bytes:
    return await app.talk(f"GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


def replace(path: Path, text: str) -> None:
    """Save in one step: half of a large file would be judged, too."""
    new = path.with_name(".new")
    new.write_text(text)
    new.rename(path)


async def judge(app: RunningApp, seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        app.app.reloader.look()
        await app.app.reloader.judged()


@pytest.mark.parametrize("name", HOSTILE)
async def test_the_last_good_rules_stay_and_traffic_runs(make_app: MakeApp, name: str) -> None:
    app = await make_app(GOOD)
    async with watched() as gaps:
        await asyncio.to_thread(replace, app.rules, HOSTILE[name])
        await judge(app)
        assert (await get(app, "good.test")).endswith(b"good")
    assert app.app.reloader.state.rejected == 1
    assert app.app.reloader.state.accepted == 1
    assert len(app.app.reloader.state.last_error) < 100_000
    assert max(gaps) < STALL
    await app.edit(GOOD.replace("respond: good", "respond: again"))
    assert (await get(app, "good.test")).endswith(b"again")


@pytest.mark.parametrize("kind", ["fifo", "socket", "link to a device", "link to itself", "unreadable"])
async def test_a_rule_file_that_is_none(make_app: MakeApp, kind: str) -> None:
    app = await make_app(GOOD)
    rules = app.rules
    rules.unlink()
    match kind:
        case "fifo":
            os.mkfifo(rules)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                os.chdir(rules.parent)
                listener.bind(rules.name)
        case "link to a device":
            rules.symlink_to("/dev/zero")
        case "link to itself":
            rules.symlink_to(rules)
        case _:
            rules.write_text("version: 1\n")
            rules.chmod(0)
            if os.access(rules, os.R_OK):
                pytest.skip("root reads everything")
    async with watched() as gaps:
        await judge(app)
        await asyncio.sleep(1.2)  # a file that is gone counts after a second
        await judge(app)
        assert (await get(app, "good.test")).endswith(b"good")
    assert app.app.reloader.state.accepted == 1
    assert max(gaps) < STALL


async def test_thousands_of_rules_go_live_without_holding_up_traffic(make_app: MakeApp) -> None:
    app = await make_app(GOOD)
    many = GOOD + "".join(f"  - {{name: r{number}, match: {{host: h{number}.test, path: '/a/{{id}}/*'}}, "
                          f"action: {{respond: {{json: {{n: {number}, p: '${{path.id}}'}}}}}}}}\n"
                          for number in range(2000))
    async with watched() as gaps:
        async with asyncio.timeout(SECONDS):
            await app.edit(many)
        assert (await get(app, "h1999.test", "/a/7/x")).endswith(b'{"n": 1999, "p": "7"}')
    assert max(gaps) < STALL


async def test_answers_from_files_never_leave_their_folder_or_wait(make_app: MakeApp, tmp_path: object) -> None:
    app = await make_app(GOOD)
    root = app.rules.parent / "root"
    root.mkdir()
    (root / "fine.txt").write_text("fine")
    (root / "zero").symlink_to("/dev/zero")
    (root / "out").symlink_to(app.rules.parent)
    (root / "rules").symlink_to(app.rules)
    (root / "self").symlink_to("self")
    os.mkfifo(root / "fifo")
    await app.edit(f"  - {{name: files, match: {{host: files.test}}, action: {{map_local: {{path: {root}}}}}}}\n")
    assert (await get(app, "files.test", "/fine.txt")).endswith(b"fine")
    for path in ("/zero", "/fifo", "/rules", "/out/rules.yaml", "/out/conf/ca-key.pem", "/../rules.yaml",
                 "/%2e%2e/rules.yaml", "/..%2frules.yaml", "/.%2e%2frules.yaml", "//etc/passwd", "/%2fetc%2fpasswd",
                 "/self", "/fine.txt%00", "/fine.txt/", "/out/../rules.yaml", "/%c0%ae%c0%ae/rules.yaml",
                 "/..%5crules.yaml", "/" + "a/" * 4000, "/" + "a" * 5000):
        answer = await get(app, "files.test", path)
        assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")) or answer.endswith(b"fine"), path
        assert b"version" not in answer
        assert b"PRIVATE" not in answer


TEMPLATES = {
    "header": "rewrite: {headers: {set: {x-v: '${query.v}'}}}",
    "cookie": "rewrite: {cookies: {set: {c: '${query.v}'}}}",
    "response header": "rewrite: {response_headers: {set: {x-v: '${query.v}'}}}",
    "redirect": "redirect: {to: 'http://b.test/${query.v}'}",
    "respond header": "respond: {body: ok, headers: {x-v: '${query.v}'}}",
    "path": "rewrite: {path: '/p/${query.v}'}",
    "query": "rewrite: {query: {set: {q: '${query.v}'}}}",
}


@pytest.mark.parametrize("field", TEMPLATES)
@pytest.mark.parametrize("value", ["%0d%0aX-Evil:%20yes", "%0aX-Evil:%20yes", "%0dX-Evil:yes", "%00",
                                   "a%0d%0a%0d%0aGET%20/evil",
                                   "%20HTTP/1.1%0d%0aX-Evil:%20yes%0d%0a", "%c4%8d%c4%8aX-Evil:yes", "..%2f..%2fetc",
                                   "%e5%98%8a%e5%98%8dX-Evil:yes", "%1b%5b31m"])
async def test_what_a_client_says_stays_inside_its_field(make_app: MakeApp, field: str, value: str) -> None:
    app = await make_app(GOOD)
    async with run_origin(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as origin:
        await app.edit(f"  - {{name: t, match: {{host: localhost}}, action: {{{TEMPLATES[field]}}}}}\n")
        answer = await get(app, f"localhost:{origin.port}", f"/?v={value}")
        heads = answer.partition(b"\r\n\r\n")[0] + origin.received
        for line in heads.replace(b"\r", b"\n").split(b"\n"):
            assert not line.startswith((b"X-Evil", b"GET /evil"))
        assert len(origin.requests) <= 1
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_the_log_carries_no_control_characters(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    app = await make_app("  - {name: \"n\\e[31m\\nFAKE line\\u202e\", match: {host: a.test}, action: {block: true}}\n"
                         "  - {name: l, match: {host: b.test}, "
                         "action: {log: 'x ${query.v}', respond: ok}}\n")
    with caplog.at_level("DEBUG"):
        await get(app, "a.test", "/%1b[31m")
        await get(app, "b.test", "/?v=%1b%5b31m%0aFAKE%C2%9b31m%E2%80%AE")
        await app.talk(b"GET http://\x1b[31m/ HTTP/1.1\r\nHost: \x1b\r\n\r\n")
        await app.talk(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n")
    formatter = LineFormatter()
    for record in caplog.records:
        first, *more = formatter.format(record).split("\n")
        assert all(line.startswith("    ") for line in more)  # nothing passes for a record of its own
        assert all(line.isprintable() for line in (first, *more))
