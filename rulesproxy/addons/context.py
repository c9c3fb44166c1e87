"""`ctx`: how a script reaches the proxy it runs in.

    from rulesproxy.addons.context import ctx

    def running():
        print(ctx.options.mode)
"""

from __future__ import annotations

from typing import Protocol

from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.options import Options


class Master(Protocol):
    """What scripts may do with the running proxy."""

    @property
    def addons(self) -> AddonManager: ...

    def shutdown(self) -> None:
        """Ask the proxy to finish open exchanges and exit."""
        ...


class Context:
    """`options` and `master` of the proxy in this process. Filled by the app before the first addon is added."""

    options: Options
    master: Master

    def __getattr__(self, name: str) -> object:
        # Reached only while the attribute is unset: at import time of a script that was not started by the proxy.
        raise AttributeError(f"ctx.{name} is available only in a running proxy")


ctx = Context()
