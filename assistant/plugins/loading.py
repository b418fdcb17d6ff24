"""Load plugins one by one: import, register, check, collect; whatever goes wrong with one becomes a ``PluginError``."""

from __future__ import annotations

import inspect
import logging
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal, TypeVar

import pluggy

from assistant import hookspecs
from assistant.config import ClusterSettings, Settings
from assistant.engines import Engine
from assistant.errors import AssistantError, PluginError
from assistant.hookspecs import GROUP, Cluster, PluginContext, PluginSettings
from assistant.intents import Intent
from assistant.paths import Paths
from assistant.tomlfile import convert, nearest
from assistant.tools import Tool

from .contributions import collect
from .lifespans import Lifespan
from .observers import GuardedPublish, Observer

T = TypeVar("T")

LOAD_SECONDS = 10.0
"""How long importing a plugin, or one hook of it at start, may take."""

NAME = r"[a-z][a-z0-9_]*"
"""A plugin's name: it is a table of the configuration, a folder, a logger and a part of URLs and variables."""

_SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}")
"""A slot in a template, and the argument that it is passed as if that has another name."""

HOOKS = frozenset(name for name, spec in vars(hookspecs).items() if hasattr(spec, f"{GROUP}_spec"))
"""The names of all hooks."""

AT_LOAD = (
    "register_stt", "register_llm", "register_tts", "register_tools", "register_resource_probes", "register_routes",
)
"""What is collected when a plugin is loaded; intents follow when all tools are known, the rest when it is needed."""

SAID = {
    "register_wake_words": "wake words", "register_commands": "commands", "lifespan": "lifespan",
    "prompt_parts": "prompt", "review_tool_call": "review", "on_event": "observer",
}
"""What a plugin that implements one of these hooks is said to provide."""

log = logging.getLogger("assistant.plugins")


@dataclass(eq=False)
class Plugin:
    """What the host knows of one entry point."""

    name: str
    version: str
    distribution: str
    log: logging.Logger
    state: Literal["loaded", "failed", "disabled"] = "loaded"
    reason: str = ""
    seconds: float = 0.0
    registered: object = None
    """The object that pluggy knows; None if loading failed."""
    hooks: frozenset[str] = frozenset()
    """The hooks that it implements."""
    context: PluginContext | None = None
    publish: GuardedPublish | None = None
    found: dict[str, list[Any]] = field(default_factory=dict)
    """What each ``register_*`` hook returned."""
    observer: Observer | None = None
    lifespan: Lifespan | None = None

    @property
    def engines(self) -> list[Engine]:
        """The engines that it offers."""
        return [engine for kind in ("stt", "llm", "tts") for engine in self.found.get(f"register_{kind}", ())]

    @property
    def tools(self) -> list[Tool]:
        """The tools that it offers."""
        return self.found.get("register_tools", [])

    @property
    def intents(self) -> list[Intent]:
        """The intents that it offers."""
        return self.found.get("register_intents", [])

    def claims(self) -> list[str]:
        """The names that no other plugin may take, for example ``tool:set_timer``."""
        engines = [f"{engine.kind}:{engine.name}" for engine in self.engines]
        return engines + [f"tool:{tool.name}" for tool in self.tools]

    def provides(self) -> tuple[str, ...]:
        """Everything that it contributes."""
        names = self.claims() + [f"intent:{intent.tool}" for intent in self.intents]
        names += [f"probe:{probe.name}" for probe in self.found.get("register_resource_probes", ())]
        names += [f"route:{route.method} {route.path}" for route in self.found.get("register_routes", ())]
        return (*dict.fromkeys(names), *(said for hook, said in SAID.items() if hook in self.hooks))


@dataclass(frozen=True)
class Given:
    """A plugin that a program hands over, in place of an entry point."""

    name: str
    plugin: object
    dist: None = None

    def load(self) -> object:
        """The plugin."""
        return self.plugin


class _Overdue(Exception):
    """A call into a plugin passed its deadline."""


class Loader:
    """Takes entry points to registered plugins, and calls one hook of one plugin."""

    def __init__(self, settings: Settings, paths: Paths) -> None:
        self.warnings: list[tuple[str, str]] = []
        """What looks wrong without being an error, each with a hint."""
        self._table = settings.plugins
        self._cluster = _cluster(settings.llm.cluster)
        self._paths = paths
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)

    def load(
        self, point: EntryPoint | Given, plugin: Plugin, others: Iterable[Plugin], publish: GuardedPublish
    ) -> None:
        """Import, register and configure a plugin, and collect what it offers, all but intents.

        Args:
            others: what is loaded already.

        Raises:
            AssistantError: it cannot be loaded; call ``withdraw``.
        """
        if not re.fullmatch(NAME, plugin.name) or plugin.name == "disabled":
            hint = f"the name of its entry point must match {NAME}"
            raise PluginError(f"{plugin.name!r} is no name for a plugin", hint=hint)
        registered = guarded("the import", point.load, LOAD_SECONDS)
        if registered is None:
            raise PluginError("the entry point names None", hint="it names a module or an object with hooks")
        for other in others:
            if other.registered is registered:
                raise PluginError(f"it is the same object as the plugin {other.name!r}")
        self._register(plugin, registered)
        self._configure(plugin, publish)
        for hook in AT_LOAD:
            self.collect(plugin, hook)
        refuse_duplicates(plugin, others)

    def withdraw(self, plugin: Plugin) -> None:
        """Forget a plugin that could not be loaded."""
        if plugin.registered is not None and self._manager.is_registered(plugin.registered):
            self._manager.unregister(plugin.registered)
        plugin.registered = None
        plugin.hooks = frozenset()

    def _register(self, plugin: Plugin, registered: object) -> None:
        plugin.registered = registered
        try:
            guarded("registering", lambda: self._manager.register(registered, name=plugin.name))
            callers = self._manager.get_hookcallers(registered) or []
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            unknown = sorted({caller.name for caller in self._manager.get_hookcallers(registered) or []} - HOOKS)
            if not unknown:
                raise PluginError(" ".join(str(error).split())) from error
            close = nearest(unknown[0], HOOKS)
            hint = f"did you mean {close}?" if close else f"the hooks are {', '.join(sorted(HOOKS))}"
            raise PluginError(f"there is no hook {unknown[0]!r}", hint=hint) from error
        for caller in callers:
            if sum(found.plugin is registered for found in caller.get_hookimpls()) > 1:
                raise PluginError(f"it implements {caller.name} twice", hint="return everything from one function")
        plugin.hooks = HOOKS & {caller.name for caller in callers}
        if not plugin.hooks:
            self.warnings.append((f"plugin {plugin.name!r} implements no hook", "mark its functions with @hookimpl"))
        for name in sorted(HOOKS - plugin.hooks):
            if callable(inspect.getattr_static(registered, name, None)):
                self.warnings.append((f"plugin {plugin.name!r}: {name} is never called", "mark it with @hookimpl"))

    def _configure(self, plugin: Plugin, publish: GuardedPublish) -> None:
        kind: Any = PluginSettings
        if "plugin_settings" in plugin.hooks:
            kind = self.call(plugin, "plugin_settings", LOAD_SECONDS)
        if not (isinstance(kind, type) and issubclass(kind, PluginSettings)):
            got = kind.__name__ if isinstance(kind, type) else type(kind).__name__
            raise PluginError(f"plugin_settings returned {got}, expected a subclass of PluginSettings")
        raw = self._table.tables.get(plugin.name, {})
        settings = convert(raw, kind, self._table.source, ("plugins", plugin.name))
        folder = self._paths.plugin_data(plugin.name)
        plugin.publish = publish
        plugin.context = PluginContext(plugin.name, settings, folder, plugin.log, publish, self._cluster)

    def caller(self, plugin: Plugin, hook: str) -> Callable[..., Any]:
        """A function that calls one hook of one plugin only, and returns its answer, None if it has none."""
        others = [known for known in self._manager.get_plugins() if known is not plugin.registered]
        call = self._manager.subset_hook_caller(hook, remove_plugins=others)

        def one(**arguments: object) -> Any:
            result = call(**arguments)
            return next(iter(result), None) if isinstance(result, list) else result

        return one

    def call(self, plugin: Plugin, hook: str, seconds: float = 0, **arguments: object) -> Any:
        """Call one hook of one plugin.

        Raises:
            PluginError: it raised, or took longer than ``seconds`` (0: no deadline).
        """
        return guarded(hook, lambda: self.caller(plugin, hook)(**arguments), seconds)

    def collect(self, plugin: Plugin, hook: str) -> list[Any]:
        """What a ``register_*`` hook of one plugin gives, checked; it is called once.

        Raises:
            PluginError: it raised or returned nonsense.
        """
        if hook in plugin.hooks and hook not in plugin.found:
            result = self.call(plugin, hook, LOAD_SECONDS, context=plugin.context)
            plugin.found[hook] = guarded(hook, lambda: collect(hook, result), LOAD_SECONDS)
        return plugin.found.get(hook, [])


def _cluster(settings: ClusterSettings) -> Cluster:
    return Cluster(tuple(settings.hosts), settings.backend, settings.python, settings.hostfile)


def guarded(what: str, call: Callable[[], T], seconds: float = 0) -> T:
    """Call into a plugin, on a thread of its own if it has a deadline: one that never returns is left behind there.

    Raises:
        AssistantError: it raised, or took longer than ``seconds``; names ``what``, the exception and the line of it.
    """
    try:
        return call() if not seconds else _within(seconds, call)
    except _Overdue as error:
        hint = "slow work belongs into an engine's load() or into lifespan"
        raise PluginError(f"{what} took longer than {seconds:g} s", hint=hint) from error
    except (AssistantError, pluggy.PluginValidationError):
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what} raised {said(error)}{_place(error)}") from error


def _within(seconds: float, call: Callable[[], T]) -> T:
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="plugin hook", daemon=True).start()
    try:
        return future.result(seconds)
    except FutureTimeoutError:
        if future.done():
            raise
        raise _Overdue from None


def said(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def line(error: AssistantError) -> str:
    """An error of ours in one line."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    file = Path(frames[-1].filename) if frames else Path(__file__)
    return "" if file.parent == Path(__file__).parent else f" at {file.parent.name}/{file.name}:{frames[-1].lineno}"


def refuse_duplicates(plugin: Plugin, others: Iterable[Plugin]) -> None:
    """Check that a plugin takes no name that is taken.

    Raises:
        PluginError: it does, or it takes one twice.
    """
    owners = {name: other.name for other in others for name in other.claims()}
    mine: set[str] = set()
    for name in plugin.claims():
        if name in owners:
            raise PluginError(f"{name} is offered by the plugin {owners[name]!r} already", hint="disable one of them")
        if name in mine:
            raise PluginError(f"it offers {name} twice")
        mine.add(name)


def check_intents(plugin: Plugin, tools: dict[str, Tool]) -> None:
    """Check that a plugin's intents name tools that exist, and arguments that these take.

    Raises:
        PluginError: one does not.
    """
    for intent in plugin.intents:
        tool = tools.get(intent.tool)
        if tool is None:
            close = nearest(intent.tool, tools)
            hint = f"did you mean {close}?" if close else "register the tool, or enable the plugin that has it"
            raise PluginError(f"register_intents: there is no tool {intent.tool!r}", hint=hint)
        known = tool.parameters.get("properties", {})
        references = [_SLOT.finditer(sentence) for sentence in intent.sentences]
        passed = dict.fromkeys(found[2] or found[1] for finder in references for found in finder)
        for name in (*passed, *intent.arguments):
            if name not in known:
                hint = f"it takes {', '.join(known) or 'no arguments'}"
                raise PluginError(f"register_intents: the tool {intent.tool!r} has no argument {name!r}", hint=hint)


def timed(plugin: Plugin, call: Callable[[], T]) -> T:
    """Add the time that a call takes to what loading the plugin cost."""
    started = time.perf_counter()
    try:
        return call()
    finally:
        plugin.seconds += time.perf_counter() - started
