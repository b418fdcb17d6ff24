"""The host of all plugins: what they contribute, and what happens when one of them breaks.

Plugins are called in the order of their names, each hook one plugin at a time. A plugin that raises, returns nonsense
or takes a name that is taken is failed: all that it contributed is withdrawn, and the reason is kept and published.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import anyio

from assistant.config import Settings
from assistant.engines import Engine, ToolCall
from assistant.errors import AssistantError, ConfigError, PluginError
from assistant.events import Event, PluginFailed
from assistant.hookspecs import GROUP, PluginSettings, ResourceProbe, Route, Session, Verdict, WakeWord
from assistant.intents import Intent
from assistant.paths import Paths
from assistant.tomlfile import nearest
from assistant.tools import Tool
from assistant.wire import PluginInfo

from .deaths import DEATHS, LoadMarks
from .lifespans import SECONDS, Lifespan
from .loading import Given, Loader, Plugin, check_intents, line, log, timed
from .observers import GuardedPublish, Observer

if TYPE_CHECKING:
    import click

Kind = Literal["stt", "llm", "tts"]


class PluginHost:
    """All plugins of this installation, and what they contribute.

    Args:
        plugins: modules or objects with hooks, by their names, that are not installed; one takes the place of the
            installed one of its name.
    """

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        publish: Callable[[Event], None],
        *,
        lifespan_seconds: float = SECONDS,
        plugins: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self.problems: list[str] = []
        """What is wrong with the plugins' configuration, or missing; an error for ``config check``, else a warning."""
        self._table = settings.plugins
        self._publish = publish
        self._lifespan_seconds = lifespan_seconds
        self._given = [Given(name, plugin) for name, plugin in plugins.items()]
        self._all: list[Plugin] = []
        self._lock = threading.RLock()
        self._loader = Loader(settings, paths)
        self._marks = LoadMarks(paths.state / "loading")

    def load(self) -> None:
        """Load every plugin that is not disabled; never raises for what a plugin does."""
        given = {point.name for point in self._given}
        points: list[EntryPoint | Given] = [*self._given]
        points += [point for point in importlib.metadata.entry_points(group=GROUP) if point.name not in given]
        points.sort(key=lambda point: (point.name, point.dist.name if point.dist else ""))
        for point in points:
            self._load(point)
        self._load_intents()
        for plugin in self._loaded("on_event"):
            call = self._loader.caller(plugin, "on_event")
            plugin.observer = Observer(plugin.name, _by_name(call), plugin.log, self._failing(plugin))
        for what, hint in self._loader.warnings:
            self._problem(what, hint)
        self._check_names(sorted({point.name for point in points}))

    def _load(self, point: EntryPoint | Given) -> None:
        version, distribution = (point.dist.version, point.dist.name) if point.dist else ("", "")
        plugin = Plugin(point.name, version, distribution, log.getChild(point.name))
        taken = next((other for other in self._all if other.name == plugin.name), None)
        others = self._loaded()
        self._all.append(plugin)
        if plugin.name in self._table.disabled:
            plugin.state, plugin.reason = "disabled", "it is listed in [plugins] disabled"
            return
        try:
            if taken:
                raise PluginError(f"{taken.distribution} has a plugin of that name too", hint="uninstall one of them")
            if self._marks.deaths(plugin.name, version) >= DEATHS:
                hint = f"update or disable it; to try it again, delete {self._marks.file(plugin.name)}"
                raise PluginError(f"the daemon died {DEATHS} times while loading it", hint=hint)
        except AssistantError as error:
            self._withdraw(plugin, error)
            return
        self._marks.begin(plugin.name, version)
        try:
            publish = GuardedPublish(self._publish, self._failing(plugin))
            timed(plugin, lambda: self._loader.load(point, plugin, others, publish))
        except AssistantError as error:
            self._withdraw(plugin, error)
        self._marks.end(plugin.name)

    def _load_intents(self) -> None:
        """Collect intents; failing a plugin can take away the tool of another's intent, so repeat until all is well."""
        for plugin in self._loaded("register_intents"):
            try:
                timed(plugin, lambda plugin=plugin: self._loader.collect(plugin, "register_intents"))  # type: ignore[misc]
            except AssistantError as error:
                self._withdraw(plugin, error)
        before = -1
        while before != len(self._loaded()):
            before = len(self._loaded())
            for plugin in self._loaded():
                try:
                    check_intents(plugin, self.tools)
                except AssistantError as error:
                    self._withdraw(plugin, error)

    def _withdraw(self, plugin: Plugin, error: AssistantError) -> None:
        """Fail a plugin that could not be loaded, and forget it."""
        if isinstance(error, ConfigError):
            self.problems.append(line(error))
        self._fail(plugin, line(error), error)
        self._loader.withdraw(plugin)

    def _problem(self, what: str, hint: str) -> None:
        self.problems.append(f"{what} ({hint})")

    def _check_names(self, names: list[str]) -> None:
        if not names:
            self._problem("no plugins are installed", "run pip install")
        named = [(name, ("plugins", name), f"[plugins.{name}]") for name in self._table.tables]
        named += [(name, ("plugins", "disabled"), "[plugins] disabled") for name in self._table.disabled]
        for name, key, shown in named:
            if name not in names:
                close = nearest(name, names)
                hint = f"did you mean {close}?" if close else f"the plugins are {', '.join(names) or 'none'}"
                self._problem(f"{self._table.source.where(key)}: {shown}: there is no plugin {name!r}", hint)

    # What the plugins contribute

    def _loaded(self, hook: str = "") -> list[Plugin]:
        return [plugin for plugin in self._all if plugin.state == "loaded" and (not hook or hook in plugin.hooks)]

    @property
    def plugins(self) -> list[PluginInfo]:
        """Every plugin that was found, in the order of their names."""
        return [
            PluginInfo(
                name=plugin.name,
                version=plugin.version,
                distribution=plugin.distribution,
                state=plugin.state,
                reason=plugin.reason,
                provides=plugin.provides() if plugin.state == "loaded" else (),
                seconds=plugin.seconds,
            )
            for plugin in self._all
        ]

    @property
    def settings(self) -> dict[str, PluginSettings]:
        """The settings of every loaded plugin, by its name."""
        return {plugin.name: plugin.context.settings for plugin in self._loaded() if plugin.context}

    @property
    def engines(self) -> dict[tuple[Kind, str], Engine]:
        """Every engine by its kind and name."""
        return {(engine.kind, engine.name): engine for plugin in self._loaded() for engine in plugin.engines}

    def engine_plugin(self, kind: Kind, name: str) -> str:
        """The plugin that offers an engine; empty if none does."""
        return next((plugin.name for plugin in self._loaded() if f"{kind}:{name}" in plugin.claims()), "")

    @property
    def tools(self) -> dict[str, Tool]:
        """Every tool by its name."""
        return {tool.name: tool for plugin in self._loaded() for tool in plugin.tools}

    @property
    def intents(self) -> list[Intent]:
        """Every intent whose tool exists."""
        tools = self.tools
        return [intent for plugin in self._loaded() for intent in plugin.intents if intent.tool in tools]

    @property
    def routes(self) -> list[tuple[str, Route]]:
        """Every HTTP route, with the name of its plugin."""
        return [(plugin.name, route) for plugin in self._loaded() for route in plugin.found.get("register_routes", ())]

    @property
    def probes(self) -> list[ResourceProbe]:
        """Everything that measures the machine."""
        return [probe for plugin in self._loaded() for probe in plugin.found.get("register_resource_probes", ())]

    def wake_words(self) -> list[WakeWord]:
        """Every wake word; asks the plugins at the first call."""
        return self._late("register_wake_words")

    def wake_plugin(self, name: str) -> str:
        """The plugin that offers a wake word, once ``wake_words`` was called; empty if none does."""
        return next(
            (
                plugin.name
                for plugin in self._loaded("register_wake_words")
                if any(word.name == name for word in plugin.found.get("register_wake_words", ()))
            ),
            "",
        )

    def commands(self) -> list[click.Command]:
        """Every subcommand; asks the plugins at the first call. A plugin that takes another's name is failed."""
        return self._late("register_commands")

    def _late(self, hook: str) -> list[Any]:
        found: list[Any] = []
        for plugin in self._loaded(hook):
            try:
                items = self._loader.collect(plugin, hook)
                names = [item.name for item in found]
                if taken := next((item.name for item in items if item.name in names), ""):
                    raise PluginError(f"{hook}: another plugin has {taken!r} already", hint="disable one of them")
                found += items
            except AssistantError as error:
                self._fail(plugin, line(error), error)
        return found

    # What the plugins are asked

    def prompt_parts(self, session: Session) -> list[str]:
        """What the plugins add to the system prompt; one that raises is failed and left out."""
        parts: list[str] = []
        for plugin in self._loaded("prompt_parts"):
            try:
                part = self._loader.call(plugin, "prompt_parts", session=session)
                if part is not None and not isinstance(part, str):
                    raise PluginError(f"prompt_parts returned {type(part).__name__}, expected str or None")
            except AssistantError as error:
                self._fail(plugin, line(error), error)
                continue
            parts += [part.strip()] if part and part.strip() else []
        return parts

    def review(self, call: ToolCall, session: Session) -> Verdict | None:
        """The first verdict on a tool call; None: nobody has an opinion. A review that raises denies the call.

        A plugin that was failed while it ran still reviews: breaking it must not open what it guards.
        """
        for plugin in [plugin for plugin in self._all if "review_tool_call" in plugin.hooks]:
            try:
                verdict = self._loader.call(plugin, "review_tool_call", call=call, session=session)
                if verdict is not None and not isinstance(verdict, Verdict):
                    raise PluginError(f"review_tool_call returned {type(verdict).__name__}, expected Verdict or None")
            except AssistantError as error:
                plugin.log.error("the review failed: %s", line(error), exc_info=error)
                return Verdict("deny", f"the plugin {plugin.name!r} could not review it: {error.message}")
            if verdict is not None:
                return verdict
        return None

    def observe(self, event: Event) -> None:
        """Hand an event to every observer; never waits for one."""
        for plugin in self._loaded("on_event"):
            if plugin.observer:
                plugin.observer.put(event)

    @property
    def dropped(self) -> dict[str, int]:
        """Events that each observer lost because it was slow."""
        return {plugin.name: plugin.observer.dropped for plugin in self._all if plugin.observer}

    # Running and failing

    @asynccontextmanager
    async def lifespans(self) -> AsyncIterator[None]:
        """Enter every plugin's lifespan, one after another; leave them in the opposite order."""
        broken: Exception | None = None
        entered: list[Lifespan] = []
        async with anyio.create_task_group() as tasks:
            try:
                for plugin in self._loaded("lifespan"):
                    if lifespan := self._lifespan(plugin):
                        await tasks.start(lifespan.run)
                        entered.append(lifespan)
                yield
            except Exception as error:
                broken = error
            finally:
                with anyio.CancelScope(shield=True):
                    for lifespan in reversed(entered):
                        await lifespan.leave()
        if broken:
            raise broken

    def _lifespan(self, plugin: Plugin) -> Lifespan | None:
        try:
            manager = self._loader.call(plugin, "lifespan", context=plugin.context)
            if not isinstance(manager, AbstractAsyncContextManager):
                raise PluginError(
                    f"lifespan returned {type(manager).__name__}, expected an async context manager",
                    hint="decorate it with @hookimpl and below that @asynccontextmanager",
                )
        except AssistantError as error:
            self._fail(plugin, line(error), error)
            return None
        plugin.lifespan = Lifespan(manager, plugin.log, self._failing(plugin), self._lifespan_seconds)
        return plugin.lifespan

    def fail(self, name: str, reason: str) -> None:
        """Isolate a plugin that runs, from any thread: withdraw what it contributed and publish ``PluginFailed``."""
        for plugin in self._all:
            if plugin.name == name:
                self._fail(plugin, reason)

    def _failing(self, plugin: Plugin) -> Callable[[str], None]:
        return lambda reason: self._fail(plugin, reason)

    def _fail(self, plugin: Plugin, reason: str, error: Exception | None = None) -> None:
        with self._lock:
            if plugin.state != "loaded":
                return
            plugin.state, plugin.reason = "failed", reason
        plugin.log.error("failed: %s", reason, exc_info=error)
        if plugin.publish:
            plugin.publish.close()
        if plugin.observer:
            plugin.observer.stop()
        if plugin.lifespan:
            plugin.lifespan.cancel()
        self._publish(PluginFailed(plugin=plugin.name, reason=reason))

    def close(self, seconds: float = 1.0) -> None:
        """Let the observers finish what they have, for at most so long each, and take no more."""
        observers = [plugin.observer for plugin in self._all if plugin.observer]
        for observer in observers:
            observer.stop(drain=True)
        for observer in observers:
            observer.join(seconds)


def _by_name(call: Callable[..., Any]) -> Callable[[Event], object]:
    return lambda event: call(event=event)
