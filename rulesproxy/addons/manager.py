"""The addon manager: keeps addons in order and enters their handlers, one at a time."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any

from rulesproxy.addons.errors import AddonHalt, AddonManagerError, OptionsError
from rulesproxy.addons.handlers import Handler, Member, check, traverse
from rulesproxy.addons.hooks import Hook
from rulesproxy.addons.lifecycle import ConfigureHook, DoneHook, Loader, LoadHook, RunningHook
from rulesproxy.addons.options import Options
from rulesproxy.addons.policy import PolicyChain
from rulesproxy.addons.refusal import refuse

logger = logging.getLogger("rulesproxy.addons")


class _HandlerTable(dict[type[Hook], tuple[Handler, ...]]):
    """Handler tuples by hook, filled when a hook is first asked for; a look-up afterwards is one dictionary access."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self._members = members

    def __missing__(self, hook_type: type[Hook]) -> tuple[Handler, ...]:
        found = (member.handler(hook_type.name) for member in self._members)
        handlers = self[hook_type] = tuple(handler for handler in found if handler is not None)
        return handlers


class AddonManager:
    """Addons in order, depth first through `addon.addons`.

    Start-up: `add` each addon, `options.check_deferred()`, `configure_all()`, listeners up, `await running()`. End:
    `await shutdown()`. An exception in a handler is logged and the next addon runs; with `addon_errors=refuse` it
    ends the exchange (addons/refusal.py) and the chain.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.policy = PolicyChain(options)
        #: Functions that addons declared with `loader.add_command`.
        self.commands: dict[str, Callable[..., Any]] = {}
        self._roots: list[Any] = []
        self._members: tuple[Member, ...] = ()
        self._table = _HandlerTable(())
        self._configured = False
        self._running = False
        self._in_configure: list[Handler] = []
        self._farewells: set[asyncio.Task[None]] = set()
        options.bind(self._configure)

    # -- the hot path ------------------------------------------------------------------------------------------------

    def active(self, hook_type: type[Hook]) -> bool:
        """Whether any addon handles the hook; if not, do not even make the event."""
        return bool(self._table[hook_type])

    def handlers(self, hook_type: type[Hook]) -> tuple[Handler, ...]:
        return self._table[hook_type]

    async def fire(self, hook: Hook) -> None:
        """Enter every handler of the hook, in order. Never raises what a handler raised."""
        handlers = self._table[type(hook)]
        if not handlers:
            return
        arguments = hook.arguments()
        for handler in handlers:
            try:
                result = handler.call(*arguments)
                if result is not None and inspect.isawaitable(result):
                    await result
            except AddonHalt:
                return
            except Exception as exc:
                if self._failed(handler, hook, exc):
                    return

    def fire_sync(self, hook: Hook) -> None:
        """`fire` where nothing can be awaited. A handler that turns out to be asynchronous is an error of its own."""
        arguments = hook.arguments()
        for handler in self._table[type(hook)]:
            try:
                _call_sync(handler, hook, arguments)
            except AddonHalt:
                return
            except Exception as exc:
                if self._failed(handler, hook, exc):
                    return

    def _failed(self, handler: Handler, hook: Hook, exc: Exception) -> bool:
        """Log the failure; True when the chain ends here because the exchange was refused."""
        _log_failure(handler.addon_name, hook.name, exc)
        if getattr(self.options, "addon_errors", "continue") != "refuse":
            return False
        for argument in hook.arguments():
            refuse(hook.name, argument, handler.addon_name)
        return True

    # -- the chain ---------------------------------------------------------------------------------------------------

    @property
    def chain(self) -> tuple[Any, ...]:
        """Every addon in the order in which it sees events."""
        return tuple(member.addon for member in self._members)

    def add(self, *addons: Any) -> None:
        """Append addons: `load`, and `configure` with every option when the proxy is configured already.

        Raises AddonManagerError (a bad handler, `load` failed) or OptionsError; the addon is then not in the chain.
        """
        for addon in addons:
            self._enter(self._entering([addon], self._roots))
            self._roots.append(addon)
            self.refresh()

    def remove(self, addon: Any) -> None:
        """Take an addon that was added out of the chain, with those it carries, and fire `done` on each."""
        if not any(root is addon for root in self._roots):
            raise AddonManagerError(f"addon {addon!r} is not in the chain")
        leaving = tuple(traverse([addon]))
        self._roots = [root for root in self._roots if root is not addon]
        self.refresh()
        self._leave(leaving)

    async def replace(self, parent: Any, addons: list[Any]) -> None:
        """Put `addons` in the place of those `parent` carries: all of them loaded and configured first, or none.

        Raises what `add` raises, with the old addons still in the chain and every option as it was. Afterwards the
        old ones got `done` and the new ones, once the proxy runs, `running`.
        """
        place = next((member for member in self._members if member.addon is parent), None)
        if place is None:
            raise AddonManagerError(f"addon {parent!r} is not in the chain")
        leaving = tuple(traverse(parent.addons, place.prefix))
        entering = self._entering(addons, [], place.prefix)
        self._enter(entering)
        parent.addons = addons
        self.refresh()
        self._leave(leaving)
        if self._running:
            await self._tell(entering, RunningHook())

    def refresh(self) -> None:
        """Compute handler tuples anew. Addons call it when their `active_hooks` or `addons` changed."""
        self._members = tuple(traverse(self._roots))
        self._table = _HandlerTable(self._members)
        self.policy.rebuild(self._members)

    def _entering(self, addons: list[Any], present: list[Any], prefix: str = "") -> tuple[Member, ...]:
        members = tuple(traverse(addons, prefix))
        known = {id(member.addon) for member in traverse(present)}
        for member in members:
            if id(member.addon) in known:
                raise AddonManagerError(f"addon {member.name} is in the chain twice")
            known.add(id(member.addon))
            check(member)
        return members

    def _enter(self, members: tuple[Member, ...]) -> None:
        """`load`, then `configure`, on each; on failure those loaded get `done` and the options are put back."""
        before = self.options.snapshot()
        loaded: list[Member] = []
        try:
            for member in members:
                _enter_one(member, LoadHook(Loader(self.options, self.commands, member.name)))
                loaded.append(member)
            if self._configured:
                for member in members:
                    _enter_one(member, ConfigureHook(self.options.names))
        except (AddonManagerError, OptionsError):
            changed = self.options.restore(before)
            if changed:  # the newcomer had set options that the others have heard of
                self._reconfigure(self._table[ConfigureHook], changed)
            self._leave(loaded)
            raise

    def _leave(self, members: Sequence[Member]) -> None:
        for member in members:
            handler = member.handler(DoneHook.name)
            if handler is None:
                continue
            try:
                result = handler.call()
                if inspect.isawaitable(result):
                    self._leave_later(member.name, result)
            except Exception as exc:
                _log_failure(member.name, DoneHook.name, exc)

    def _leave_later(self, name: str, awaitable: Awaitable[Any]) -> None:
        async def finish() -> None:
            try:
                await awaitable
            except Exception as exc:
                _log_failure(name, DoneHook.name, exc)

        farewell = finish()
        try:
            task = asyncio.get_running_loop().create_task(farewell)
        except RuntimeError:  # start-up failed before there was a loop: no one else is waiting
            asyncio.run(farewell)
            return
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    # -- life cycle --------------------------------------------------------------------------------------------------

    def configure_all(self) -> None:
        """The first `configure`, with every option name. Raises OptionsError."""
        self._configure(self.options.names, frozenset)
        self._configured = True

    async def running(self) -> None:
        """The listeners are up."""
        self._running = True
        await self.fire(RunningHook())

    async def shutdown(self) -> None:
        """Fire `done` on every addon and empty the chain."""
        self._running = False
        told: list[Member] = []
        # One by one from the chain as it is now: a script may still be exchanged until its watcher has stopped.
        while (member := self._first_not_in(told)) is not None:
            told.append(member)
            await self._tell([member], DoneHook())
        self._roots = []
        self.refresh()
        while self._farewells:
            await asyncio.wait(self._farewells)

    def _first_not_in(self, told: Sequence[Member]) -> Member | None:
        return next((member for member in self._members if all(member.addon is not one.addon for one in told)), None)

    async def _tell(self, members: Sequence[Member], hook: Hook) -> None:
        for member in members:
            handler = member.handler(hook.name)
            if handler is None:
                continue
            try:
                result = handler.call(*hook.arguments())
                if inspect.isawaitable(result):
                    await result
            except Exception as exc:
                _log_failure(member.name, hook.name, exc)

    def _configure(self, updated: frozenset[str], restore: Callable[[], frozenset[str]]) -> None:
        """Ask every addon; when one refuses, those that had agreed hear of the restored values."""
        hook = ConfigureHook(updated)
        agreed: list[Handler] = []
        for handler in self._table[ConfigureHook]:
            try:
                self._configure_one(handler, hook)
            except OptionsError:
                self._reconfigure(agreed, updated | restore())
                raise
            except Exception as exc:
                _log_failure(handler.addon_name, hook.name, exc)
            agreed.append(handler)

    def _reconfigure(self, handlers: Sequence[Handler], updated: frozenset[str]) -> None:
        hook = ConfigureHook(updated & self.options.names)
        for handler in handlers:
            # An addon that itself made the refused change, inside its `configure`, learns of it by the exception.
            # Told again it would make the change again, without end.
            if handler in self._in_configure:
                continue
            try:
                self._configure_one(handler, hook)
            except Exception as exc:
                _log_failure(handler.addon_name, hook.name, exc)

    def _configure_one(self, handler: Handler, hook: ConfigureHook) -> None:
        self._in_configure.append(handler)
        try:
            _call_sync(handler, hook, hook.arguments())
        finally:
            self._in_configure.pop()


def _enter_one(member: Member, hook: Hook) -> None:
    """Call one handler; whatever goes wrong is a reason not to take the addon in."""
    handler = member.handler(hook.name)
    if handler is None:
        return
    try:
        _call_sync(handler, hook, hook.arguments())
    except (AddonManagerError, OptionsError):
        raise
    except Exception as exc:
        raise AddonManagerError(f"addon {member.name} failed in {hook.name}: {type(exc).__name__}: {exc}") from exc


def _call_sync(handler: Handler, hook: Hook, arguments: tuple[Any, ...]) -> None:
    result = handler.call(*arguments)
    if result is None or not inspect.isawaitable(result):
        return
    if inspect.iscoroutine(result):
        result.close()
    raise AddonManagerError(f"addon {handler.addon_name}: {hook.name} must not be async")


def _log_failure(addon_name: str, hook_name: str, exc: BaseException) -> None:
    logger.error("addon %s failed in %s", addon_name, hook_name,
                 exc_info=(type(exc), exc, _addon_frames(exc.__traceback__)))


def _addon_frames(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without this module's frames, which say nothing to the addon's author."""
    while traceback is not None and traceback.tb_next and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback
