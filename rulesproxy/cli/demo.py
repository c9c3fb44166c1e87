"""See it work: starts servers, and the proxy with the starter rules in front of them, all on loopback.

Sends real requests through it (HTTP, decrypted and relayed HTTPS, DNS), edits a rule file, and shows what came of each
as a row. Then it keeps serving until interrupted. The exit status is 0 if every row is as expected.
"""

from __future__ import annotations

import argparse

SUMMARY = "see it work: servers, proxy and requests in one process"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="end after the table")
    parser.add_argument("--verbose", "-v", action="store_true", help="log what the proxy does")


def run(args: argparse.Namespace) -> int:
    import logging

    from rulesproxy import logs
    from rulesproxy.app import run_in_loop
    from rulesproxy.demo.show import show

    # The table says what happens; a rejected edit, which is part of it, would be logged as an error besides.
    logs.setup(level=logging.INFO if args.verbose else logging.CRITICAL)
    return run_in_loop(show(once=args.once))
