"""What a compiler does with the garbage collector: it must not keep the garbage of others alive."""

from __future__ import annotations

import gc
from pathlib import Path

from rulesproxy.compiler.inputs import Disk
from rulesproxy.compiler.program import Compiler

RULES = "version: 1\nrules:\n  - {name: one, match: {host: a.test}, action: {respond: one}}\n"


def test_only_what_was_built_is_set_apart(tmp_path: Path) -> None:
    """The reloader looks every two seconds: what has cycles then would never be freed."""
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    compiler = Compiler(Disk())
    first = compiler.compile([str(file)])
    apart = gc.get_freeze_count()
    assert apart
    traffic = [[] for _ in range(10_000)]
    for _ in range(3):
        assert compiler.compile([str(file)]) is first
    assert gc.get_freeze_count() <= apart
    file.write_text(RULES.replace("one", "two"))
    assert compiler.compile([str(file)]).digest != first.digest
    assert gc.get_freeze_count() > apart + len(traffic)
    assert gc.isenabled()


def test_a_broken_file_is_set_apart_once(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES + "  - {name: one}\n")
    compiler = Compiler(Disk())
    assert compiler.compile([str(file)]).rules is None
    apart = gc.get_freeze_count()
    traffic = [[] for _ in range(10_000)]
    assert compiler.compile([str(file)]).rules is None
    assert gc.get_freeze_count() < apart + len(traffic)
