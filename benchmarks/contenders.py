"""The proxies that are compared, each with one worker and one rule that sets one header on every request."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.origin import Origin
from benchmarks.process import HOST, BenchmarkError, Server, free_port
from benchmarks.rulesets import one_header_rule

PROJECT = Path(__file__).resolve().parent.parent

#: A child that starts the project's command line as if the `fast` extra were not installed.
_WITHOUT_FAST = "import sys; sys.modules['uvloop'] = None; from rulesproxy.__main__ import main; main()"

_MITMPROXY_ADDON = """\
def requestheaders(flow):
    flow.request.headers["x-bench"] = "1"
"""

_PROXY_PY_PLUGIN = """\
from proxy.http.proxy import HttpProxyBasePlugin


class SetHeader(HttpProxyBasePlugin):
    def handle_client_request(self, request):
        request.del_header(b"x-bench")
        request.add_header(b"x-bench", b"1")
        return request
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender starts: an empty folder of its own, a free port, and the origin it will be asked for."""

    folder: Path
    port: int
    origin: Origin


Command = Callable[[Place], list[str]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy that can be started. `version` is what it says of itself; `intercepts` whether it is asked to."""

    name: str
    version: str
    command: Command
    intercepts: bool = True
    patience: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, folder: Path, origin: Origin) -> Server:
        folder.mkdir(parents=True)
        place = Place(folder, free_port(), origin)
        environment = {"PYTHONPATH": str(folder), **self.environment}
        return Server(self.name, self.command(place), place.port, folder / "output.log",
                      environment=environment, cwd=folder)


# --- rulesproxy ---------------------------------------------------------------------------------------------------


def rulesproxy(rules: str, label: str = "rulesproxy", *, fast: bool, patience: float = 60.0) -> Contender:
    """This checkout, on uvloop (`fast`) or on asyncio's own loop, with these rules."""

    def command(place: Place) -> list[str]:
        (place.folder / "rules.yaml").write_text(rules)
        start = ["-m", "rulesproxy"] if fast else ["-c", _WITHOUT_FAST]
        return [sys.executable, *start, "run", str(place.folder / "rules.yaml"), "--listen", f"{HOST}:{place.port}",
                "--confdir", str(place.folder / "conf"), "--set", "verify_upstream=false"]

    version = f"Python {sys.version.split()[0]}, {'uvloop' if fast else 'asyncio'}"
    return Contender(label, version, command, patience=patience, environment={"PYTHONPATH": str(PROJECT)})


def both_rulesproxies() -> list[Contender]:
    """With and without the `fast` extra; only the latter where it is not installed."""
    plain = rulesproxy(one_header_rule(), "rulesproxy, asyncio", fast=False)
    if not fast_is_installed():
        return [plain]
    return [rulesproxy(one_header_rule(), "rulesproxy, uvloop", fast=True), plain]


def fast_is_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("uvloop") is not None


# --- the others ---------------------------------------------------------------------------------------------------


def find_program(name: str, peers: Path | None) -> str | None:
    """The program of a peer: in the given virtual environment if there is one, else on PATH."""
    if peers is None:
        return shutil.which(name)
    return shutil.which(name, path=f"{peers / 'bin'}:{peers}")


def mitmproxy(peers: Path | None, *, headers_rules: int = 0) -> Contender | None:
    """mitmproxy with a small addon, or with that many `modify_headers` entries instead. None if not installed."""
    program = find_program("mitmdump", peers)
    if program is None:
        return None

    def command(place: Place) -> list[str]:
        options = ["-q", "--listen-host", HOST, "-p", str(place.port), "--ssl-insecure",
                   "--set", f"confdir={place.folder / 'conf'}"]
        if headers_rules:
            (place.folder / "conf").mkdir()
            entries = [f'  - "/~d h{number}\\\\.example\\\\.test/x-bench/1"\n' for number in range(headers_rules)]
            (place.folder / "conf" / "config.yaml").write_text("modify_headers:\n" + "".join(entries))
            return [program, *options]
        addon = place.folder / "addon.py"
        addon.write_text(_MITMPROXY_ADDON)
        return [program, *options, "-s", str(addon)]

    name = f"mitmproxy, {headers_rules} rules" if headers_rules else "mitmproxy"
    return Contender(name, _version(program, "Mitmproxy:"), command)


def proxy_py(peers: Path | None) -> Contender | None:
    """proxy.py with a plugin. It passes answers on without reading them. None if not installed."""
    program = find_program("proxy", peers)
    if program is None:
        return None
    version = _version(program, "")
    if not version[:1].isdigit():  # some other program of that name
        return None

    def command(place: Place) -> list[str]:
        (place.folder / "set_header.py").write_text(_PROXY_PY_PLUGIN)
        return [program, "--hostname", HOST, "--port", str(place.port), "--num-workers", "1", "--num-acceptors", "1",
                "--log-level", "error", "--data-dir", str(place.folder / "data"), "--plugins", "set_header.SetHeader"]

    return Contender("proxy.py", version, command, intercepts=False)


def _version(program: str, prefix: str) -> str:
    try:
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        raise BenchmarkError(f"{program} --version: {exc}") from exc
    first = printed.strip().splitlines()[0] if printed.strip() else ""
    return first.removeprefix(prefix).strip()
