"""Results as a table to read and as JSON to keep."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from benchmarks.work import Plan, Result, Score

#: Above this share of a core the load generator may be what is measured.
_GENERATOR_LIMIT = 0.9


def table(result: Result) -> str:
    """One work item: a row per contender, then the ratios."""
    item = result.item
    lines = [f"{item.key}  {item.title}", "",
             f"  {'':24}{item.unit + ', median':>24}{'lowest to highest':>22}{'per CPU s':>12}{'CPU':>7}{'load':>7}"]
    for score in result.scores:
        lines.append(_row(score))
    lines.append("")
    for ratio in ratios(result):
        lines.append(_ratio_line(ratio))
    lines += [f"  {name}: not installed, left out" for name in result.skipped]
    return "\n".join(lines) + "\n"


def _row(score: Score) -> str:
    name = f"  {score.contender.name:24}"
    if score.errors:
        return f"{name}does not count: {score.errors[0]}" + (f" (and {len(score.errors) - 1} more)"
                                                             if len(score.errors) > 1 else "")
    spread = f"{min(score.rates):,.0f} to {max(score.rates):,.0f}"
    generator = statistics.median(score.generator_load)
    note = "  the load generator is the limit" if generator > _GENERATOR_LIMIT else ""
    return (f"{name}{score.rate:>24,.0f}{spread:>22}{statistics.median(score.per_processor_second):>12,.0f}"
            f"{statistics.median(score.proxy_load):>7.0%}{generator:>7.0%}{note}")


def _ratio_line(ratio: dict[str, Any]) -> str:
    text = (f"  {ratio['contender']} / {ratio['over']}: {ratio['ratio']:.2f}"
            f" (per CPU second {ratio['per_cpu']:.2f})")
    if ratio["wanted"] is None:
        return text
    return f"{text}, wanted {ratio['wanted']:g}: {'reached' if ratio['ratio'] >= ratio['wanted'] else 'not reached'}"


def ratios(result: Result) -> list[dict[str, Any]]:
    """Every pair an aim names. The ratio is the median of the rounds' own, as the machine changes between rounds."""
    scores = {score.contender.name: score for score in result.scores if not score.errors}
    found: list[dict[str, Any]] = []
    for aim in result.item.aims:
        one, other = scores.get(aim.contender), scores.get(aim.over)
        if one is None or other is None:
            continue
        found.append({
            "contender": aim.contender, "over": aim.over, "wanted": aim.at_least,
            "ratio": _median_ratio(one.rates, other.rates),
            "per_cpu": _median_ratio(one.per_processor_second, other.per_processor_second),
        })
    return found


def _median_ratio(ones: list[float], others: list[float]) -> float:
    return statistics.median(one / other if other else 0.0 for one, other in zip(ones, others, strict=True))


def document(results: list[Result], plan: Plan) -> dict[str, Any]:
    """Everything, as JSON values."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": plan.rounds, "seconds": plan.seconds, "connections": plan.connections,
        "items": [{
            "item": result.item.key, "title": result.item.title, "unit": result.item.unit,
            "contenders": [_score(score) for score in result.scores],
            "ratios": ratios(result),
            "absent": result.skipped,
        } for result in results],
    }


def _score(score: Score) -> dict[str, Any]:
    values: dict[str, Any] = {"name": score.contender.name, "version": score.contender.version,
                              "start_seconds": round(score.start_seconds, 2), "errors": score.errors}
    if not score.errors:
        values |= {"median": round(score.rate, 1), "rates": [round(rate, 1) for rate in score.rates],
                   "per_cpu_second": [round(rate, 1) for rate in score.per_processor_second],
                   "proxy_cpu": [round(share, 2) for share in score.proxy_load],
                   "load_cpu": [round(share, 2) for share in score.generator_load]}
    return values


def machine() -> dict[str, Any]:
    """The kind of machine, and how busy it was with other things."""
    return {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(), "load_average": round(os.getloadavg()[0], 2)}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
