"""The hook table: each event is a dataclass, declared beside the code that fires it.

The handler method an addon defines derives from the class name (`DnsRequestHook` → `dns_request`) unless the class
sets `name`. A hook has exactly one field: the argument its handlers receive.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

#: Every declared hook by handler name; filled as the modules that fire them are imported.
ALL_HOOKS: dict[str, type[Hook]] = {}


class Hook:
    """Base of all hooks. Subclasses are dataclasses with one field, or none (`running`, `done`)."""

    __slots__ = ()

    name: ClassVar[str] = ""
    #: The names of the fields; written by `dataclass`.
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Hook")).lower()
        existing = ALL_HOOKS.get(cls.name)
        # `slots=True` makes dataclass build the class a second time: the same name from the same place is no clash.
        if existing is not None and existing.__qualname__ != cls.__qualname__:
            raise TypeError(f"two hooks are named {cls.name!r}")
        ALL_HOOKS[cls.name] = cls

    def arguments(self) -> tuple[Any, ...]:
        """What the handler is called with."""
        # Reading the match arguments costs a fifth of `dataclasses.fields`, and this runs for every event fired.
        fields = self.__match_args__
        return (getattr(self, fields[0]),) if fields else ()
