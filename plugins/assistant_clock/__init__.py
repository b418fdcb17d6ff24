"""The time and the date anywhere, and timers that survive a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from assistant import Intent, PluginContext, PluginError, PluginSettings, Tool, ToolError, hookimpl

if TYPE_CHECKING:
    from .timers import Timers


class Settings(PluginSettings, frozen=True):
    """The clock's settings."""

    zone: str = ""
    """The time zone or place that ``here`` is, such as ``Europe/Berlin``; empty is the system's."""


class Clock:
    """The plugin; what it remembers belongs to the context of one daemon."""

    def __init__(self) -> None:
        self._timers: WeakKeyDictionary[PluginContext, Timers] = WeakKeyDictionary()

    @hookimpl
    def plugin_settings(self) -> type[PluginSettings]:
        """``[plugins.clock]``."""
        return Settings

    @hookimpl
    def register_tools(self, context: PluginContext) -> Iterable[Tool]:
        """The time, the date and the timers."""
        from .calendar_tools import CalendarTools
        from .timer_tools import TimerTools

        calendar = CalendarTools(_home(context))
        timers = TimerTools(self._of(context))
        return [
            Tool.of(calendar.get_time),
            Tool.of(calendar.get_date),
            Tool.of(timers.set_timer, effect="write"),
            Tool.of(timers.cancel_timer, effect="write"),
            Tool.of(timers.timer_left),
            Tool.of(timers.list_timers),
        ]

    @hookimpl
    def register_intents(self, context: PluginContext) -> Iterable[Intent]:
        """The usual ways to ask for them."""
        from .sentences import intents

        return intents()

    @hookimpl
    def lifespan(self, context: PluginContext) -> AbstractAsyncContextManager[None]:
        """Fires the timers."""
        return self._running(context)

    @asynccontextmanager
    async def _running(self, context: PluginContext) -> AsyncIterator[None]:
        import anyio

        timers = self._of(context)
        timers.load()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(timers.run)
                yield
                tasks.cancel_scope.cancel()
        finally:
            self._timers.pop(context, None)

    def _of(self, context: PluginContext) -> Timers:
        from .timers import Timers

        if context not in self._timers:
            self._timers[context] = Timers(context.data_dir / "timers.json", context.publish, context.log)
        return self._timers[context]


def _home(context: PluginContext) -> str:
    """The key of the configured zone, or empty for the system's."""
    from .places import find

    zone = context.settings.zone if isinstance(context.settings, Settings) else ""
    if not zone:
        return ""
    try:
        return find(zone).zone
    except ToolError as error:
        hint = f"{error.hint} Or leave it empty for the system's."
        raise PluginError(f"[plugins.clock] zone = {zone!r} is no time zone", hint=hint) from None


plugin = Clock()
