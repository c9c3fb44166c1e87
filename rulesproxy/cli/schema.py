"""Print the JSON Schema of rule files.

Editors complete and check rule files with it: put `# yaml-language-server: $schema=FILE` at the top of a rule file.
"""

from __future__ import annotations

import argparse
import sys

from rulesproxy.compiler.schema import schema_text

SUMMARY = "print the JSON Schema of rule files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    sys.stdout.write(schema_text())
    return 0
