"""The configuration folder and its `config.yaml`."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from rulesproxy.errors import OptionsError

CONFIG_NAME = "config.yaml"

_LIMIT = 1 << 20  # bytes; a configuration is a page of text

#: A value as written: Options reads it as the option's type, so `10:30`, `no` and `1e3` mean what they say.
ConfigValue = str | list[str] | None


def default_confdir() -> Path:
    """`$RULESPROXY_CONFDIR`, else `$XDG_CONFIG_HOME/rulesproxy`, else `~/.config/rulesproxy`."""
    named = os.environ.get("RULESPROXY_CONFDIR")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # XDG Base Directory Specification: a relative path there is invalid and is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".config") / "rulesproxy"


def load_config(confdir: Path) -> dict[str, ConfigValue]:
    """The option values of `config.yaml`, for `options.load(values, "config.yaml")`; empty without that file.

    Raises OptionsError with the line for what is not a flat mapping. Unknown options are found by
    `options.check_deferred()`, when scripts had their chance to declare them.
    """
    try:
        with open(confdir / CONFIG_NAME, "rb") as file:
            content = file.read(_LIMIT + 1)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise OptionsError(f"{confdir / CONFIG_NAME}: {exc.strerror or exc}") from None
    if len(content) > _LIMIT:
        raise OptionsError(f"{CONFIG_NAME}: larger than 1 MiB")
    return _values(_compose(content))


def _compose(content: bytes) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(content, Loader=yaml.SafeLoader)
    except RecursionError:
        raise OptionsError(f"{CONFIG_NAME}: nested too deeply") from None
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise OptionsError(f"{CONFIG_NAME}{where}: {exc.problem or exc.context}") from None
    except (yaml.YAMLError, UnicodeError) as exc:
        raise OptionsError(f"{CONFIG_NAME}: {' '.join(str(exc).split())}") from None
    return node


def _values(node: yaml.Node | None) -> dict[str, ConfigValue]:
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise _error(node, "expected one `option: value` per line")
    values: dict[str, ConfigValue] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _error(key, "expected the name of an option")
        name = key.value.replace("-", "_")
        if name in values:
            raise _error(key, f'option "{name}" is set twice')
        if name == "confdir":
            raise _error(key, "confdir cannot be set in its own config.yaml; use --confdir")
        values[name] = _value(name, value)
    return values


def _value(name: str, node: yaml.Node) -> ConfigValue:
    if isinstance(node, yaml.SequenceNode):
        if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
            raise _error(node, f'option "{name}": expected a list of plain values')
        return [item.value for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        raise _error(node, f'option "{name}": expected a value or a list of values')
    return None if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def _error(node: yaml.Node, message: str) -> OptionsError:
    mark = node.start_mark
    return OptionsError(f"{CONFIG_NAME}:{mark.line + 1}:{mark.column + 1}: {message}")
