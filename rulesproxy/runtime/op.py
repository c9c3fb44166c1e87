"""Operations: the effect of an action, with every template already expanded. Plain frozen data plus `apply`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rulesproxy.runtime.phase import Slot

if TYPE_CHECKING:
    from rulesproxy.runtime.decision import RuleInfo


@dataclass(frozen=True, slots=True)
class Op:
    """Base of operations. A subclass lives in its action's file.

    `SLOT` is the slot it competes for (None: it does not compete). `apply` carries it out on the subject of the
    phase: an HTTPFlow in request and response, a Tunnel in connect and tls, a DNSFlow in dns.
    """

    SLOT: ClassVar[Slot | None] = None

    def apply(self, subject: Any, rule: RuleInfo | None) -> None:
        raise TypeError(f"{type(self).__name__} has nothing to apply")
