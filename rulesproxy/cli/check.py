"""Report every mistake in the rules, with its place and what to do about it.

Exit status 0 when they compile (warnings do not count), 1 when they do not.
"""

from __future__ import annotations

import argparse
import sys

from rulesproxy.cli._rules import add_arguments, compile_rules, count, diagnostic_json, print_json

SUMMARY = "report mistakes in rule files"

__all__ = ["SUMMARY", "add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    program = compile_rules(args.rules, args.profile)
    report = program.report
    if args.json:
        print_json("check", {
            "ok": not report.has_errors, "files": [file.path for file in program.build.files],
            "rules": len(program.build.rules), "digest": program.rules.digest if program.rules is not None else None,
            "diagnostics": [diagnostic_json(diagnostic) for diagnostic in report.diagnostics],
        })  # fmt: skip
    else:
        sys.stdout.write(program.build.render(color=sys.stdout.isatty()))
        files = count(len(program.build.files), "file")
        errors, warnings = count(report.error_count, "error"), count(len(report.warnings), "warning")
        # A rule with errors may not be there to be counted.
        what = files if report.has_errors else f"{count(len(program.build.rules), 'rule')} in {files}"
        sys.stdout.write(f"{what}: {errors}, {warnings}\n")
    return 1 if report.has_errors else 0
