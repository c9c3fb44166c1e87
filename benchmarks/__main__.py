"""The command: starts the origin and the proxies, lets them work in turn, prints medians and ratios."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks import report
from benchmarks.origin import running_origin
from benchmarks.process import BenchmarkError
from benchmarks.work import Plan, Result, items, measure


def main() -> int:
    args = _parser().parse_args()
    peers = Path(args.peers).expanduser().resolve() if args.peers else None
    if args.smoke:
        plan = Plan(rounds=1, seconds=1, connections=8, peers=peers, smoke=True)
    else:
        plan = Plan(args.rounds, args.seconds, args.connections, peers)
    try:
        results = _measure(args.only, plan)
    except BenchmarkError as exc:
        print(f"benchmarks: {exc}", file=sys.stderr)
        return 2
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report.document(results, plan), indent=1) + "\n")
    # Never for being slow: a machine that others use too proves nothing about speed.
    return 1 if any(score.errors for result in results for score in result.scores) else 0


def _measure(only: str | None, plan: Plan) -> list[Result]:
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="rulesproxy-bench-") as name:
        folder = Path(name)
        with running_origin(folder / "origin") as origin:
            for item in items(only):
                result = measure(item, plan, origin, folder, _say)
                results.append(result)
                print(report.table(result), flush=True)
    return results


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", metavar="P1,P2", help="these work items only")
    add("--rounds", type=int, default=3, metavar="N", help="how often everybody has a turn (3)")
    add("--seconds", type=float, default=5.0, metavar="S", help="how long a turn is (5)")
    add("--connections", type=int, default=32, metavar="N", help="how many clients at a time (32)")
    add("--peers", default=os.environ.get("RULESPROXY_PEERS"), metavar="DIR",
        help="a virtual environment with mitmproxy and proxy.py ($RULESPROXY_PEERS; else those on PATH)")
    add("--json", type=Path, metavar="FILE", help="write everything there as well")
    add("--smoke", action="store_true", help="one short turn each: does everything work?")
    return parser


if __name__ == "__main__":
    sys.exit(main())
