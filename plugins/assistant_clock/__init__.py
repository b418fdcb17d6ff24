"""The time and the date anywhere, and timers and alarms that survive a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from assistant import Intent, PluginContext, PluginError, PluginSettings, Tool, ToolError, hookimpl

if TYPE_CHECKING:
    from .alarms import Alarms
    from .timers import Timers


class Settings(PluginSettings, frozen=True):
    """The clock's settings."""

    zone: str = ""
    """The time zone or place that ``here`` is, such as ``Europe/Berlin``; empty is the system's."""


class Clock:
    """The plugin; what it remembers belongs to the context of one daemon."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[PluginContext, tuple[Timers, Alarms]] = WeakKeyDictionary()

    @hookimpl
    def plugin_settings(self) -> type[PluginSettings]:
        """``[plugins.clock]``."""
        return Settings

    @hookimpl
    def register_tools(self, context: PluginContext) -> Iterable[Tool]:
        """The time, the date, the timers and the alarms."""
        from .alarm_tools import AlarmTools
        from .calendar_tools import CalendarTools
        from .timer_tools import TimerTools

        calendar = CalendarTools(_home(context))
        kept = self._of(context)
        timers, alarms = TimerTools(kept[0]), AlarmTools(kept[1])
        return [
            Tool.of(calendar.get_time),
            Tool.of(calendar.get_date),
            Tool.of(timers.set_timer, effect="write"),
            Tool.of(timers.cancel_timer, effect="write"),
            Tool.of(timers.timer_left),
            Tool.of(timers.list_timers),
            Tool.of(alarms.set_alarm, effect="write"),
            Tool.of(alarms.cancel_alarm, effect="write"),
            Tool.of(alarms.list_alarms),
        ]

    @hookimpl
    def register_intents(self, context: PluginContext) -> Iterable[Intent]:
        """The usual ways to ask for them."""
        from . import alarm_sentences, sentences

        return [*sentences.intents(), *alarm_sentences.intents()]

    @hookimpl
    def lifespan(self, context: PluginContext) -> AbstractAsyncContextManager[None]:
        """Fires the timers and the alarms."""
        return self._running(context)

    @asynccontextmanager
    async def _running(self, context: PluginContext) -> AsyncIterator[None]:
        import anyio

        kept = self._of(context)
        for schedule in kept:
            schedule.load()
        try:
            async with anyio.create_task_group() as tasks:
                for schedule in kept:
                    tasks.start_soon(schedule.run)
                yield
                tasks.cancel_scope.cancel()
        finally:
            self._kept.pop(context, None)

    def _of(self, context: PluginContext) -> tuple[Timers, Alarms]:
        from .alarms import Alarms
        from .timers import Timers

        if context not in self._kept:
            folder, publish, log = context.data_dir, context.publish, context.log
            timers = Timers(folder / "timers.json", publish, log)
            self._kept[context] = timers, Alarms(folder / "alarms.json", publish, log, _home(context))
        return self._kept[context]


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
