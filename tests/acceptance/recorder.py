"""A script for `rulesproxy run -s`: writes down every hook as it fires, and at the end what was out of order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.support.automaton import Recorder

LOG = "HOOK_LOG"


class Judge(Recorder):
    def record(self, name: str, argument: Any = None) -> None:
        super().record(name, argument)
        lines = [name]
        if name == "done":
            lines += [f"violation: {violation}" for violation in self.order.finish()]
        with Path(os.environ[LOG]).open("a") as log:
            log.writelines(f"{line}\n" for line in lines)


addons = [Judge()]
