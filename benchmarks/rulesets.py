"""Rule files of any size for the measurements: one rule that acts, and many that concern something else."""

from __future__ import annotations

from benchmarks.origin import NAME

_ACTION = '    action: {rewrite: {headers: {set: {x-bench: "1"}}}}\n'
_OTHER = '    action: {rewrite: {headers: {set: {x-other: "1"}}}}\n'
_HEAD = f"version: 1\nrules:\n  - name: every-request\n    match: {{host: {NAME}}}\n{_ACTION}"


def one_header_rule() -> str:
    return _HEAD


def rules_on_other_hosts(count: int) -> str:
    """The acting rule and `count` rules for hosts that are never asked for."""
    rules = (f"  - name: other-{number}\n    match: {{host: h{number}.example.test, path: /v1/{number}/**}}\n{_OTHER}"
             for number in range(count))
    return _HEAD + "".join(rules)


def rules_on_same_host(count: int) -> str:
    """The acting rule and `count` rules for paths of the same host that are never asked for."""
    rules = (f"  - name: other-{number}\n    match: {{host: {NAME}, path: /v1/{number}/**}}\n{_OTHER}"
             for number in range(count))
    return _HEAD + "".join(rules)
