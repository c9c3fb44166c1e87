"""How a table of cases is run and judged: many at a time, every case by its id, one report."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar


class Verdict(Enum):
    """STRICT: what the RFC asks for. NON_STRICT: allowed by the public list, though less than the RFC asks for.
    INFORMATIONAL: the public list records what happens and judges nothing. FAILED: anything else."""

    STRICT = "strict"
    NON_STRICT = "non-strict"
    INFORMATIONAL = "informational"
    FAILED = "failed"


class Unmet(Exception):
    """The other side did not do what the case expects."""

    def __init__(self, expected: str, seen: object) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")


class Case(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def title(self) -> str: ...


AnyCase = TypeVar("AnyCase", bound=Case)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one case. `why` says what went wrong with a failed one."""

    id: str
    title: str
    verdict: Verdict
    why: str = ""

    def __str__(self) -> str:
        return f"{self.id} ({self.title}): {self.verdict.value} {self.why}".rstrip()


async def run_table(cases: Sequence[AnyCase], play: Callable[[AnyCase], Awaitable[Verdict]], *,
                    at_once: int = 12, seconds: float = 20.0) -> list[Outcome]:
    """Play every case, `at_once` of them at a time; a case that takes longer than `seconds` has failed."""
    slots = asyncio.Semaphore(at_once)

    async def one(case: AnyCase) -> Outcome:
        async with slots:
            try:
                async with asyncio.timeout(seconds):
                    return Outcome(case.id, case.title, await play(case))
            except TimeoutError:
                return Outcome(case.id, case.title, Verdict.FAILED, f"not over after {seconds:g} s")
            except (Unmet, OSError, EOFError) as exc:
                return Outcome(case.id, case.title, Verdict.FAILED, f"{type(exc).__name__}: {exc}")

    return list(await asyncio.gather(*map(one, cases)))


def check(outcomes: Sequence[Outcome], non_strict: Mapping[str, str]) -> None:
    """Every case passed, and no other than the listed ones only non-strictly."""
    if os.environ.get("CONFORMANCE_SHOW") == "1":
        print(*(outcome for outcome in outcomes if outcome.verdict is not Verdict.STRICT), sep="\n")
    counts = {verdict.value: sum(outcome.verdict is verdict for outcome in outcomes) for verdict in Verdict}
    wrong = [outcome for outcome in outcomes if outcome.verdict is Verdict.FAILED]
    wrong += [outcome for outcome in outcomes if outcome.verdict is Verdict.NON_STRICT and outcome.id not in non_strict]
    assert not wrong, "\n".join([f"{len(outcomes)} cases: {counts}", *map(str, wrong)])
