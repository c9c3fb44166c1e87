"""Plays the scenes and prints the table; then serves until interrupted, or ends."""

from __future__ import annotations

import logging
import tempfile
from http.client import HTTPException
from pathlib import Path

import dns.exception

from rulesproxy.demo.client import TunnelRefused
from rulesproxy.demo.scenes import SCENES, Scene, Unexpected
from rulesproxy.demo.stage import Stage, set_stage

_FAILURES = (Unexpected, TunnelRefused, OSError, HTTPException, dns.exception.DNSException, LookupError, ValueError)


async def show(*, once: bool) -> int:
    """The exit status: 0 if every scene ended as it has to."""
    with tempfile.TemporaryDirectory(prefix="rulesproxy-demo-") as folder:
        async with set_stage(Path(folder)) as stage:
            stage.app.take_signals()
            failed = await _play(stage)
            if not once and not stage.app.stopping:
                _invite(stage)
                logging.getLogger().setLevel(logging.INFO)
                await stage.app.wait()
    return 1 if failed else 0


async def _play(stage: Stage) -> int:
    widths = max(len(scene.request) for scene in SCENES), max(len(scene.rule) for scene in SCENES)
    _print_row("", "request", "rule", "effect", widths)
    _print_row("", "-" * widths[0], "-" * widths[1], "------", widths)
    failed = 0
    for scene in SCENES:
        if stage.app.stopping:
            break
        mark, effect = await _outcome(stage, scene)
        failed += mark != "ok"
        _print_row(mark, scene.request, scene.rule, effect, widths)
    verdict = f"{failed} of {len(SCENES)} rows are not as expected" if failed else f"all {len(SCENES)} rows as expected"
    print(f"\n{verdict}", flush=True)
    return failed


async def _outcome(stage: Stage, scene: Scene) -> tuple[str, str]:
    try:
        return "ok", await scene.play(stage)
    except _FAILURES as exc:
        return "NO", f"{type(exc).__name__}: {exc}"


def _print_row(mark: str, request: str, rule: str, effect: str, widths: tuple[int, int]) -> None:
    print(f"{mark:<3}{request:<{widths[0]}}  {rule:<{widths[1]}}  {effect}", flush=True)


def _invite(stage: Stage) -> None:
    proxy, names = stage.app.addresses[0], stage.app.dns_addresses[0]
    print(f"""
The proxy keeps running until you press Ctrl-C. In another shell:

  curl -x {proxy[0]}:{proxy[1]} http://api.shop.test/users/42
  curl -x {proxy[0]}:{proxy[1]} --cacert {stage.app.authority.path} https://shop.test/api/items/hat
  dig @{names[0]} -p {names[1]} printer.lab.test

Edit the files in {stage.rules} and ask again.
""", flush=True)
