"""The composition root: joins options, addons, rules, reloader, proxy and DNS server into one running thing.

The only module that knows both the compiler and the proxy. In the order of `start`: the rules are compiled and become
an option; the Rules addon enters the chain first, scripts after it; every addon is configured; listeners open;
`running` fires; the reloader begins to watch. `stop` undoes it: no new connections, open exchanges finish within the
grace time, the watchers end, `done` fires.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from rulesproxy.addons.context import ctx
from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.script import Scripts
from rulesproxy.certs.authority import Authority
from rulesproxy.certs.client_certificates import check_client_certificates
from rulesproxy.certs.contexts import client_context
from rulesproxy.certs.keylog import prepare_keylog
from rulesproxy.config import CONFIG_NAME, default_confdir, load_config
from rulesproxy.errors import CertificateError, OptionsError, StartupError
from rulesproxy.last_good import LastGood
from rulesproxy.listeners import Listeners, listeners, purpose
from rulesproxy.model.connection import Address
from rulesproxy.model.names import host_for_url
from rulesproxy.net.dns_forward import Forwarder
from rulesproxy.net.resolve import DnsResolver, Resolver, SystemResolver
from rulesproxy.packaged import starter_rules
from rulesproxy.proxy.local_file import LocalFiles
from rulesproxy.proxy.modes import Mode
from rulesproxy.proxy.server import Proxy
from rulesproxy.proxy.settings import Settings
from rulesproxy.proxy.virtual_host import VIRTUAL_HOST, VirtualHost
from rulesproxy.reload import Reloader, build_inline
from rulesproxy.rules_addon import Rules

log = logging.getLogger("rulesproxy")

def make_options(confdir: Path | None = None, assignments: Sequence[str] = (), **values: Any) -> ProxyOptions:
    """The options of a run: `config.yaml` first, then `name=value` texts, then `values`. Raises OptionsError."""
    options = ProxyOptions()
    folder = confdir if confdir is not None else default_confdir()
    options.load(load_config(folder), CONFIG_NAME)
    options.set(assignments)
    if options.confdir is not None:
        raise OptionsError("--set: confdir is where config.yaml is read from; use --confdir")
    options.update(confdir=str(folder), **values)
    return options


def default_rules() -> tuple[tuple[str, ...], str]:
    """What runs when no rules are named, and why (rule-language 1.4)."""
    if os.path.isfile("rules.yaml"):
        return ("rules.yaml",), "found here"
    if os.path.isdir("rules"):
        return ("rules",), "found here"
    return (str(starter_rules()),), "the starter rules, as there is no rules.yaml and no rules/ here"


class App:
    """One proxy process: `start` once, then `stop` once, in one event loop; or `serve`, which is both and the wait.

    `rules` are files and folders, none for those of `default_rules`; `scripts` are paths; `addons` follow the scripts.
    With `last_good`, rules that do not compile are replaced by those that last did. Everything raised from `start` that
    a user can mend is one of `errors.USER_ERRORS`.
    """

    def __init__(self, options: ProxyOptions, rules: Sequence[str] = (), *, scripts: Sequence[str] = (),
                 addons: Sequence[Any] = (), last_good: bool = False) -> None:
        self.options = options
        self.addons = AddonManager(options)
        self.rules = Rules(options, build_inline(options), refresh=self.addons.refresh, files=LocalFiles())
        paths, self._rules_from = (tuple(rules), "") if rules else default_rules()
        self._confdir = Path(options.confdir) if options.confdir is not None else default_confdir()
        self._last_good = LastGood(self._confdir)
        self.reloader = Reloader(paths, options, self.rules, self._last_good, self._rules_changed)
        self._scripts = tuple(scripts)
        self._more_addons = tuple(addons)
        self._use_last_good = last_good
        self._stopping = asyncio.Event()
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.authority: Authority
        self.proxy: Proxy | None = None
        self._listeners: Listeners | None = None

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen and serve. Raises one of `errors.USER_ERRORS`; nothing is left running then."""
        ctx.options, ctx.master = self.options, self
        try:
            modes = listeners(self.options)
            self._compile_rules()
            self._enter_addons()
            self.authority = Authority.load_or_create(self._confdir)
            await self._listen(modes)
            await self.addons.running()
            self.reloader.run()
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace: float | None = None) -> None:
        """Accept nothing more, let open exchanges finish for `grace` seconds (option `grace`), end everything."""
        seconds = self.options.grace if grace is None else grace
        if self._listeners is not None:
            await self._listeners.stop(seconds)
        await self.reloader.aclose()
        while self._closers:
            await self._closers.pop()()
        await self.addons.shutdown()
        for name in ("options", "master"):
            ctx.__dict__.pop(name, None)

    def shutdown(self) -> None:
        """Ask `serve` to come to its end. Scripts call this as `ctx.master.shutdown()`."""
        self._stopping.set()

    async def serve(self) -> None:
        """Start, run until `shutdown`, SIGINT or SIGTERM, then stop. A second signal ends the process at once."""
        self.take_signals()
        await self.start()
        # What exists now stays. Searching it for garbage would hold up traffic, by a second with ten thousand rules.
        gc.freeze()
        self.announce()
        await self.wait()
        await self.stop()

    def take_signals(self) -> None:
        """From now on SIGINT and SIGTERM call `shutdown`; a second one ends the process at once."""
        loop = asyncio.get_running_loop()

        def first(signals: Sequence[signal.Signals]) -> None:
            for number in signals:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)  # the second one, whatever the loop is doing
            self.shutdown()

        both = (signal.SIGINT, signal.SIGTERM)
        for number in both:
            loop.add_signal_handler(number, first, both)

    @property
    def stopping(self) -> bool:
        """True once `shutdown` was called."""
        return self._stopping.is_set()

    async def wait(self) -> None:
        """Until somebody asked for the end."""
        await self._stopping.wait()
        log.info("stopping: open exchanges have %g s to finish", self.options.grace)

    # --- starting ----------------------------------------------------------------------------------------------

    def _compile_rules(self) -> None:
        """Raises StartupError with the diagnostics when the rules do not compile."""
        program = self.reloader.build()
        if program.rules is not None:
            self.reloader.start(program)
            return
        diagnostics = program.build.render().rstrip()
        count = program.report.error_count
        summary = f"the rules do not compile: {count} {'error' if count == 1 else 'errors'}"
        if not self._use_last_good:
            raise StartupError(f"{summary}\n{diagnostics}")
        kept = self._last_good.compile(self.reloader.paths, self.options.profile)
        if kept is None:
            raise StartupError(f"{summary}, and {self._confdir}/last-good has none that do\n{diagnostics}")
        self.reloader.start(kept, broken=program)
        self._rules_from = "the last good ones, as the files do not compile; the next good edit replaces them"

    def _enter_addons(self) -> None:
        self.addons.add(self.rules)
        self.addons.add(Scripts(self._scripts, self.addons))
        self.addons.add(*self._more_addons)
        self.options.check_deferred()
        self.addons.configure_all()

    async def _listen(self, modes: list[Mode]) -> None:
        options = self.options
        settings = Settings.from_options(options)
        options.observe(lambda _: _follow(settings, options))
        _check_tls(settings)
        try:
            forwarder = Forwarder(options.resolvers, timeout=options.dns_timeout)
        except ValueError as exc:
            raise OptionsError(f"option resolvers: {exc}") from None
        resolver: Resolver = DnsResolver(forwarder) if options.resolvers else SystemResolver()
        self._closers.append(resolver.aclose)
        status = VirtualHost(self.authority.certificate_pem, self.authority.certificate_der, self.state)
        proxy = Proxy(self.addons, self.authority, resolver, modes=modes, settings=settings, virtual_host=status)
        options.observe(proxy.core.options_changed)
        listening = Listeners(options, proxy, forwarder, resolver)
        self._listeners, self.proxy = listening, proxy
        await listening.start(modes)

    # --- while it runs -------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[Address]:
        """Where TCP modes are served, in their order, with real port numbers."""
        return self.proxy.addresses if self.proxy is not None else []

    @property
    def dns_addresses(self) -> list[Address]:
        """Where DNS is served, over UDP and TCP."""
        return [server.address for server in self._listeners.dns_servers] if self._listeners is not None else []

    @property
    def listening(self) -> list[tuple[Mode, Address]]:
        """Every listener: what it is, and where."""
        return self._listeners.places if self._listeners is not None else []

    def _rules_changed(self) -> int:
        return self.proxy.core.reconsider_tunnels() if self.proxy is not None else 0

    def state(self) -> Mapping[str, Any]:
        """For the status page and `/rules`: plain JSON values."""
        current, reload = self.rules.current, self.reloader.state
        rules = current.rules if current is not None else ()
        return {
            "digest": reload.live,
            "rules": [{"name": rule.name, "source": f"{rule.file}:{rule.line}",
                       "failures": self.rules.failures.get(rule.name, 0)} for rule in rules],
            "last_reload": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(reload.live_since)),
            "reloads": max(0, reload.accepted - 1),
            "rejected": reload.rejected,
            "last_error": _without_excerpts(reload.last_error),
            "unnamed_relays": self.proxy.core.unnamed_relays if self.proxy is not None else 0,
            "refusing_clients": self.proxy.core.pinned.suggestions if self.proxy is not None else [],
        }

    def announce(self) -> None:
        """The lines that say what runs, where, and what to do next."""
        current = self.rules.current
        assert current is not None
        origin = f" ({self._rules_from})" if self._rules_from else ""
        log.info("rules: %d from %s%s", len(current.rules), ", ".join(self.reloader.paths), origin)
        for rule in current.decrypts_everything:
            log.warning("rule %s (%s) names no host: all TLS is decrypted; confine it with --set decrypt=named",
                        rule.name, rule.where)
        if self._scripts and self.addons.policy.decrypts_for_scripts:
            log.info("scripts want HTTP: all TLS that no rule decides on is decrypted (--set decrypt=named|none)")
        for mode, (host, port) in self.listening:
            log.info("listening on %s:%d for %s", host_for_url(host), port, purpose(mode))
        if any(mode.is_proxy for mode, _ in self.listening):
            log.info("http://%s/ through the proxy has the certificate to trust and the state of the rules; "
                     "`rulesproxy ca` says how", VIRTUAL_HOST)


def _without_excerpts(diagnostics: str) -> str:
    """What is wrong and where, for whoever can use the proxy: not the lines of the files themselves."""
    return "\n".join(line for line in diagnostics.splitlines() if line and not line[0].isspace())


def _check_tls(settings: Settings) -> None:
    """Look at the files named in options: better now than in the page for every request. Raises OptionsError."""
    checks: dict[str, Callable[[], object]] = {
        "upstream_ca": lambda: client_context(extra_ca=settings.upstream_ca),
        "client_certs": lambda: check_client_certificates(settings.client_certs),
    }
    for option, check in checks.items():
        try:
            check()
        except CertificateError as exc:
            raise OptionsError(f"option {option}: {exc}") from exc
    keylog = prepare_keylog()
    if keylog is not None:
        log.warning("SSLKEYLOGFILE is set: the secrets of all TLS are written to %s, and whoever reads that can read "
                    "the traffic", keylog)


def _follow(settings: Settings, options: ProxyOptions) -> None:
    try:
        settings.update_from(options)
    except OptionsError as exc:
        log.error("%s; what was set before holds", exc)


# --- the event loop ---------------------------------------------------------------------------------------------


def run_in_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` in a new event loop, uvloop's where it is installed, and answer what it answers."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None
    try:
        from uvloop import new_event_loop as factory
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
