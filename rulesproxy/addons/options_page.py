"""Writes `docs/options.md` from the declarations: `python -m rulesproxy.addons.options_page > docs/options.md`."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.option_types import OptionSpec
from rulesproxy.addons.options import Options

_INTRODUCTION = """\
# Options

Set with `rulesproxy run --set NAME=VALUE` or in `config.yaml` in the configuration folder, one `NAME: VALUE` per line
(a YAML list for lists; on the command line a list option is given several times). The command line wins. Sizes may
carry `k`, `m` or `g`; times are seconds.

This page is written by `python -m rulesproxy.addons.options_page`.
"""


def markdown(options: Options) -> str:
    """The reference page: every option with type, default and meaning, by name."""
    specs = sorted((spec for spec, _ in options.items()), key=lambda spec: spec.name)
    return "\n".join([_INTRODUCTION, *map(_entry, specs)])


def plain_text(options: Options) -> str:
    """Every option with its value, for a terminal: those of the proxy by name, then those of scripts."""
    entries = sorted(options.items(), key=lambda entry: (entry[0].owner, entry[0].name))
    return "\n".join(_plain_entry(spec, value) for spec, value in entries)


def _plain_entry(spec: OptionSpec, value: Any) -> str:
    kind = " | ".join(spec.choices) if spec.choices else spec.type_name
    changed = "" if value == spec.check(spec.default) else f" (default {_plain(spec.default)})"
    shown = "(not shown)" if spec.secret and value else _plain(value)
    head = f"{spec.name} = {shown}{changed}\n    {kind}{f', declared by {spec.owner}' if spec.owner else ''}\n"
    return head + textwrap.fill(spec.help, 100, initial_indent="    ", subsequent_indent="    ") + "\n"


def _plain(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list | tuple) else _default(value)
    return text.strip("`") or "none"


def _entry(spec: OptionSpec) -> str:
    kind = " \\| ".join(f"`{choice}`" for choice in spec.choices) if spec.choices else spec.type_name
    return f"## {spec.name}\n\n{kind}, default {_default(spec.default)}\n\n{spec.help}\n"


def _default(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(markdown(ProxyOptions()))
