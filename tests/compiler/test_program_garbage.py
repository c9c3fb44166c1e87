"""What a compiler does with the garbage collector: it must not keep the garbage of others alive."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from rulesproxy.compiler import program
from rulesproxy.compiler.inputs import Disk
from rulesproxy.compiler.program import Compiler

RULES = "version: 1\nrules:\n  - {name: one, match: {host: a.test}, action: {respond: one}}\n"


class Flow:
    """Something with a cycle."""

    def __init__(self) -> None:
        self.itself = self


def is_set_apart(thing: object) -> bool:
    """The garbage collector does not look at it."""
    return gc.is_tracked(thing) and not any(known is thing for known in gc.get_objects())


def test_only_what_was_built_is_set_apart(tmp_path: Path) -> None:
    """The reloader looks every two seconds: what has cycles then would never be freed."""
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    compiler = Compiler(Disk())
    before, first = Flow(), compiler.compile([str(file)])
    assert is_set_apart(before) and is_set_apart(first)
    flow = Flow()
    for _ in range(3):
        assert compiler.compile([str(file)]) is first
    assert not is_set_apart(flow)
    file.write_text(RULES.replace("one", "two"))
    assert is_set_apart(compiler.compile([str(file)]))
    assert gc.isenabled()


def test_a_broken_file_is_set_apart_once(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES + "  - {name: one}\n")
    compiler = Compiler(Disk())
    assert compiler.compile([str(file)]).rules is None
    flow = Flow()
    assert compiler.compile([str(file)]).rules is None
    assert not is_set_apart(flow)


@pytest.mark.parametrize("searched", [True, False], ids=["few rules", "many rules"])
def test_what_was_open_during_a_build_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         searched: bool) -> None:
    """Unless there are so many rules that looking for it would hold up traffic."""
    file = tmp_path / "rules.yaml"
    compiler = Compiler(Disk())
    flow = Flow()
    known = weakref.ref(flow)
    for number in range(3):
        file.write_text(RULES.replace("one", f"rule{number}"))
        assert compiler.compile([str(file)]).rules is not None
    del flow
    gc.collect()
    assert known() is not None  # it is set apart
    if not searched:
        monkeypatch.setattr(program, "SEARCHED_RULES", 0)
    file.write_text(RULES)
    compiler.compile([str(file)])
    assert (known() is None) is searched
