"""Runs client programs, and tells what they saw in the words of the table."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.clients.table import CLIENTS, Cell, wanted
from tests.acceptance.clients.world import World
from tests.support.command import ROOT
from tests.support.tools import require_tool

#: For all jobs of one client.
SECONDS = 100.0
#: undici 6 is the last one for Node 18, which distributions still have.
NODE_MODULES = ("undici@6.29.1", "socks@2.8.10")
_TOOLS = {"run_curl": ("curl",), "run_node": ("node", "npm"), "run_chromium": ("chromium", "certutil", "bash")}
_WORDS = re.compile(r"(plain|other) words over HTTP/([12])")
#: Who signs certificates: of origins, and of proxies.
ORIGINS, OURS = "Test origin CA", "rulesproxy CA"


async def check(world: World, name: str, ways: tuple[str, ...], modules: Path) -> None:
    """Let a client take these ways, with and without a rule in them, and compare with the table."""
    client, cells = CLIENTS[name], wanted(name, ways)
    jobs = {cell: world.job(cell[0], client.kind, cell[1], marked=cell[2]) for cell in cells}
    reports = await _run(client.program, [asdict(job) | {"client": name} for job in jobs.values()], world, modules)
    seen = {cell: outcome(cell, report) for cell, report in zip(jobs, reports, strict=True)}
    assert seen == cells


def outcome(cell: Cell, report: dict[str, Any]) -> str:
    """A cell of the table, or whatever went wrong."""
    way, scheme, marked = cell
    found = _WORDS.search(report.get("text", ""))
    if found is None:
        return str(report)
    secure, raw = scheme in ("https", "wss", "grpcs"), way in ("reverse:tcp", "reverse:tls")
    # A rule sets x-mark, and other words where there are messages or nothing but bytes.
    changed = found[1] == "other" if raw or scheme in ("ws", "wss") else report["mark"] == "yes"
    ours = secure and (marked or way in ("reverse:http", "reverse:tls"))
    signed = report.get("issuer")
    if changed is not marked or (secure and signed not in (None, OURS if ours else ORIGINS)):
        return str(report)
    client = re.match(r"HTTP/([12])", report["version"])
    assert client is not None, report
    relayed = raw or (secure and not marked)
    if relayed and client[1] == found[2]:
        return client[1]
    return f"{client[1]}-{found[2]}"


async def _run(program: str, jobs: list[dict[str, Any]], world: World, modules: Path) -> list[dict[str, Any]]:
    for tool in _TOOLS.get(program, ()):
        require_tool(tool)
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment["GRPC_DNS_RESOLVER"] = "native"  # the other one asks name servers for what /etc/hosts has
    if program == "run_node":
        command = ["node", str(Path(__file__).with_name("run_node.mjs"))]
        environment["CLIENT_MODULES"] = str(await asyncio.to_thread(_node_modules, modules))
    else:
        command = [sys.executable, "-m", f"tests.acceptance.clients.{program}"]
    process = await asyncio.create_subprocess_exec(
        *world.prefix, *command, json.dumps(jobs), cwd=ROOT, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, err.decode()
    reports: list[dict[str, Any]] = json.loads(out)
    return reports


def _node_modules(folder: Path) -> Path:
    """A folder with the modules in it, installed once for all workers."""
    folder.mkdir(exist_ok=True)
    done = folder / "done"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            installed = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder),
                                        *NODE_MODULES], capture_output=True, text=True, timeout=60)
            if installed.returncode:
                message = f"needs {' and '.join(NODE_MODULES)} from npm: {installed.stderr[-300:]}"
                pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
            done.touch()
    return folder
