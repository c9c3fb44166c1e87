"""Run the proxy with these rules.

Without RULES it takes ./rules.yaml, else ./rules/, else the starter rules that come along, and says which. Rules are
taken in again whenever their files change; files that do not compile change nothing and are reported. Ctrl-C or SIGTERM
lets open exchanges finish; a second one ends at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

SUMMARY = "run the proxy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("rules", nargs="*", metavar="RULES", help="rule files, or folders of them")
    add("--listen", action="append", default=[], metavar="HOST:PORT",
        help="serve HTTP and HTTPS there; short for --mode regular@HOST:PORT (127.0.0.1:8080 if nothing else is said)")
    add("--dns", action="append", default=[], metavar="HOST:PORT",
        help="serve DNS there; short for --mode dns@HOST:PORT (port 8053 if only a host is said)")
    add("--mode", action="append", default=[], metavar="MODE[:DATA][@[HOST:]PORT]",
        help="a listener: regular, reverse:URL, upstream:URL, socks5, transparent or dns (docs/modes.md); repeatable")
    add("--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments",
        help="set an option (docs/options.md, or --options); repeatable")
    add("-s", "--script", action="append", default=[], metavar="FILE.py", dest="scripts",
        help="a Python addon, taken in again when it changes; repeatable")
    add("--confdir", type=Path, metavar="DIR", help="where the certificate authority and config.yaml are")
    add("--profile", metavar="NAME", help="the profile to use, of those the rules define")
    add("--allow-remote", action="store_true", help="allow listening where other machines can reach it")
    add("--last-good", action="store_true", help="if the rules do not compile, start with the last ones that did")
    add("--json-log", action="store_true", help="log one JSON object per line")
    add("--verbose", "-v", action="store_true", help="log more")
    add("--options", action="store_true", help="print every option with its value, and end")


def run(args: argparse.Namespace) -> int:
    # Imported here, and in this order: help must not wait for it, and errors while loading want the log format.
    import logging

    from rulesproxy import logs
    from rulesproxy.app import App, make_options, run_in_loop

    logs.setup(json_lines=args.json_log, level=logging.DEBUG if args.verbose else logging.INFO)
    options = make_options(args.confdir, args.assignments, **_values(args))
    if args.options:
        return _print_options(options, args.scripts)

    async def serve() -> int:
        app = App(options, args.rules, scripts=args.scripts, last_good=args.last_good)
        await app.serve()
        return 0

    status = run_in_loop(serve())
    _leave_hanging_threads(status)
    return status


def _values(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, as option values. Flags that were not given leave config.yaml its say."""
    modes = [*args.mode, *(f"regular@{where}" for where in args.listen),
             *(f"dns@{where}" for where in args.dns)]
    values: dict[str, Any] = {}
    if modes:
        values["mode"] = modes
    if args.profile is not None:
        values["profile"] = args.profile
    if args.allow_remote:
        values["allow_remote"] = True
    return values


def _print_options(options: Any, scripts: list[str]) -> int:
    from rulesproxy.addons.context import ctx
    from rulesproxy.addons.manager import AddonManager
    from rulesproxy.addons.options_page import plain_text
    from rulesproxy.addons.script import Scripts

    if scripts:  # they may declare options of their own
        ctx.options = options
        manager = AddonManager(options)
        manager.add(Scripts(scripts, manager))
    options.check_deferred()
    print(plain_text(options), end="")
    return 0


def _leave_hanging_threads(status: int) -> None:
    """A name look-up in the C library cannot be interrupted, and Python would wait for its thread."""
    import os
    import sys
    import threading

    waiting = [thread for thread in threading.enumerate() if thread.name.startswith("rulesproxy-resolve")]
    for thread in waiting:
        thread.join(0.1)
    if any(thread.is_alive() for thread in waiting):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
