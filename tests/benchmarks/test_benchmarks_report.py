"""What the benchmark prints follows from what was measured: ratios by round, and no number for a run with errors."""

from __future__ import annotations

from pathlib import Path

from benchmarks import report
from benchmarks.contenders import Contender
from benchmarks.load import Tally
from benchmarks.work import ITEMS, Plan, Result, Score

PLAN = Plan(rounds=3, seconds=1, connections=1, peers=None)


def score(name: str, *done: int, error: str = "") -> Score:
    made = Score(Contender(name, "1", lambda place: []), start_seconds=0.5)
    for count in done:
        made.add(Tally(seconds=2.0, done=count, errors=[error] if error else [], generator_seconds=0.2), 1.0)
    return made


def result(*scores: Score) -> Result:
    return Result(ITEMS[0], list(scores), [])


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    found = report.ratios(result(score("rulesproxy, uvloop", 100, 400, 90), score("mitmproxy", 10, 10, 30)))
    assert [(ratio["over"], ratio["ratio"]) for ratio in found] == [("mitmproxy", 10.0)]


def test_a_run_with_an_error_has_no_number_and_no_ratio() -> None:
    broken = result(score("rulesproxy, uvloop", 100), score("mitmproxy", 10, error="a wrong answer"))
    assert report.ratios(broken) == []
    assert "does not count: a wrong answer" in report.table(broken)
    values = {contender["name"]: contender for contender in report.document([broken], PLAN)["items"][0]["contenders"]}
    assert "median" not in values["mitmproxy"]
    assert values["rulesproxy, uvloop"]["median"] == 50.0


def test_a_load_generator_at_its_limit_is_named() -> None:
    busy = score("rulesproxy, uvloop", 100)
    busy.generator_load = [0.95]
    assert "the load generator is the limit" in report.table(result(busy))
    busy.generator_load = [0.5]
    assert "the load generator is the limit" not in report.table(result(busy))


def test_results_name_the_kind_of_machine() -> None:
    machine = report.document([], PLAN)["machine"]
    assert machine["cores"] >= 1
    assert machine["python"].startswith("3.")
    assert str(Path.home()) not in str(machine)
