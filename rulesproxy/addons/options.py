"""Typed options: declared once, read as plain attributes, changed together or not at all."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from rulesproxy.addons.errors import OptionsError
from rulesproxy.addons.option_types import OptionSpec, is_list, known_type

#: What other proxies call an option, or do in one, and what does it here.
_ELSEWHERE = {
    "ssl_insecure": "verify_upstream=false", "insecure": "verify_upstream=false", "proxyauth": "proxy_auth",
    "socks5_auth": "proxy_auth", "upstream_proxy_auth": "upstream_auth",
    "block_global": "allow_remote", "listen_host": "--listen HOST:PORT",
    "listen_port": "--listen HOST:PORT", "ssl_verify_upstream_trusted_ca": "upstream_ca",
    "dns_name_servers": "resolvers", "ignore_hosts": "a rule with tls: passthrough",
    "allow_hosts": "decrypt=named, and rules that name hosts", "stream_large_bodies": "rule_body_limit",
    "scripts": "-s FILE.py",
}  # fmt: skip


class Configure(Protocol):
    """Tells every addon that options changed.

    When one of them refuses it calls `restore`, which puts the old values back and answers every name that changed
    back with them, tells those that had agreed, and lets the OptionsError through.
    """

    def __call__(self, updated: frozenset[str], restore: Callable[[], frozenset[str]]) -> None: ...


class Options:
    """A set of options. Values live in the instance's own dictionary: reading one costs an attribute access."""

    _specs: dict[str, OptionSpec]
    _deferred: dict[str, tuple[Any, str]]
    _configure: Configure | None
    #: Called with the changed names after every addon has agreed. They cannot refuse and must not raise.
    _observers: list[Callable[[frozenset[str]], None]]

    def __init__(self) -> None:
        state = self.__dict__
        state["_specs"] = {}
        state["_deferred"] = {}
        state["_configure"] = None
        state["_observers"] = []

    # -- declaring ---------------------------------------------------------------------------------------------------

    def add(self, name: str, typespec: Any, default: Any, help: str, choices: Sequence[str] | None = None, *,
            minimum: float | None = None, owner: str = "", secret: bool = False) -> None:
        """Declare an option.

        `typespec` is bool, int, float, str, Size, Optional[str] or Sequence[str]; `minimum` is the smallest number
        allowed, the value of a `secret` one is never shown. A script (`owner`) may declare its own option again: the
        value stays where it still fits. A value set before the declaration is applied now. Raises OptionsError.
        """
        if not name.isidentifier() or name.startswith("_") or hasattr(type(self), name):
            raise OptionsError(f"{name!r} cannot be the name of an option")
        if not known_type(typespec):
            raise OptionsError(f"option {name}: values of type {typespec!r} are not supported")
        spec = OptionSpec(name, typespec, default, help, tuple(choices) if choices is not None else None,
                          minimum, owner, secret)
        declared = spec.check(default)
        value = self._kept_value(spec, declared)
        if name in self._deferred:
            value = _read(spec, *self._deferred.pop(name))
        self._specs[name] = spec
        self.__dict__[name] = value

    def _kept_value(self, spec: OptionSpec, default: Any) -> Any:
        """What a second declaration leaves of the value: a value that was set and is still allowed stays."""
        old = self._specs.get(spec.name)
        if old is None:
            return default
        if not spec.owner or spec.owner != old.owner:
            raise OptionsError(f"option {spec.name} is already declared by {old.owner or 'the proxy'}")
        value = self.__dict__[spec.name]
        if value == old.check(old.default):
            return default
        try:
            return spec.check(value)
        except OptionsError:
            return default

    # -- reading -----------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Reached only when there is no such value. AttributeError, so that `hasattr` works as usual.
        raise AttributeError(f'unknown option "{name}"{self._hint(name)}')

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._specs)

    def spec(self, name: str) -> OptionSpec:
        """The declaration. Raises OptionsError for an unknown name, with the nearest known one."""
        spec = self._specs.get(name)
        if spec is None:
            raise OptionsError(f'unknown option "{name}"{self._hint(name)}')
        return spec

    def items(self) -> list[tuple[OptionSpec, Any]]:
        """Every declaration with its current value, in the order declared."""
        return [(spec, self.__dict__[name]) for name, spec in self._specs.items()]

    def _hint(self, name: str) -> str:
        if name in ("listen", "dns") and "mode" in self._specs:  # as the command line calls it
            return f'; did you mean "mode: [{"dns" if name == "dns" else "regular"}@HOST:PORT]"?'
        if name in _ELSEWHERE and "mode" in self._specs:
            return f"; did you mean {_ELSEWHERE[name]}?"
        near = difflib.get_close_matches(name, self._specs, n=1)
        return f'; did you mean "{near[0]}"?' if near else ""

    # -- changing ----------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        self.update(**{name: value})

    def update(self, **values: Any) -> None:
        """Set options and tell every addon. Raises OptionsError, with every value as it was, when one refuses."""
        checked = {name: self.spec(name).check(value) for name, value in values.items()}
        changed = {name: value for name, value in checked.items() if self.__dict__[name] != value}
        if not changed:
            return
        updated = frozenset(changed)
        before = self.snapshot()
        self.__dict__.update(changed)
        if self._configure is not None:
            self._configure(updated, lambda: self.restore(before))
        for observer in self._observers:
            observer(updated)

    def parse(self, name: str, text: str) -> Any:
        """The value of option `name` written as `text`; nothing is set. Raises OptionsError."""
        return self.spec(name).parse(text)

    def set(self, assignments: Iterable[str]) -> None:
        """Apply `name=value` texts. A list option takes all its values in order; of others the last one counts.

        `name` alone means true. Unknown names wait for a script to declare them; see `check_deferred`.
        """
        texts: dict[str, list[str | bool]] = {}
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            texts.setdefault(name.strip().replace("-", "_"), []).append(text if equals else True)
        self.load({name: values if len(values) > 1 else values[0] for name, values in texts.items()}, "--set")

    def load(self, values: Mapping[str, Any], source: str) -> None:
        """Apply values: a text is read as the option's type, a list of texts is for list options.

        `source` opens every error message. Unknown names wait.
        """
        known: dict[str, Any] = {}
        for name, value in values.items():
            if name in self._specs:
                known[name] = _read(self._specs[name], value, source)
            else:
                self._deferred[name] = (value, source)
        try:
            self.update(**known)
        except OptionsError as exc:
            raise OptionsError(f"{source}: {exc}") from exc

    def check_deferred(self) -> None:
        """Call once every addon is loaded: names that nobody declared are mistakes. Raises OptionsError."""
        if self._deferred:
            raise OptionsError("\n".join(f'{source}: unknown option "{name}"{self._hint(name)}'
                                         for name, (_, source) in self._deferred.items()))

    # -- for the addon manager ---------------------------------------------------------------------------------------

    def bind(self, configure: Configure) -> None:
        """Make `configure` the one that asks the addons."""
        self.__dict__["_configure"] = configure

    def observe(self, observer: Callable[[frozenset[str]], None]) -> None:
        """Call `observer` with the changed names after each accepted change."""
        self._observers.append(observer)

    def snapshot(self) -> dict[str, Any]:
        """Declarations and values, for `restore`."""
        return {**self.__dict__, "_specs": dict(self._specs), "_deferred": dict(self._deferred)}

    def restore(self, snapshot: dict[str, Any]) -> frozenset[str]:
        """Put declarations and values back; answers the names whose value changed by that."""
        state = self.__dict__
        changed = frozenset(name for name in snapshot["_specs"] if state.get(name) != snapshot[name])
        for name in state.keys() - snapshot.keys():
            del state[name]
        state.update(snapshot)
        return changed


def _read(spec: OptionSpec, value: Any, source: str) -> Any:
    """A value as written in `source`. Raises OptionsError."""
    try:
        if isinstance(value, list) and not is_list(spec):
            if source != "--set":
                raise OptionsError(f"option {spec.name}: expected one value, not a list")
            value = value[-1]
        if value is True and source == "--set" and spec.typespec is not bool:
            raise OptionsError(f"option {spec.name} needs a value: {spec.name}=…")
        return spec.parse(value) if isinstance(value, str) else spec.check(value)
    except OptionsError as exc:
        raise OptionsError(f"{source}: {exc}") from None
