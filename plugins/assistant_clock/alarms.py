"""The alarms of one daemon: each rings at a time of the clock on the wall, wherever that clock stands by then."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from assistant.events import Event, TimerSet

from . import speech
from .schedule import Entry, Schedule

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Repeat = Literal["", "daily", "weekdays", "weekends"] | Weekday
"""Empty: it rings once."""

WEEK: tuple[Weekday, ...] = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Alarm(Entry, frozen=True, kw_only=True):
    """An alarm, as it is stored: in local time, so that it keeps its hour when the clocks are changed."""

    hour: int
    minute: int
    day: date
    """When it rings next."""
    repeat: Repeat = ""


class Alarms(Schedule[Alarm]):
    """All alarms that are set.

    Args:
        zone: a key of the time zone database; empty is the system's.
    """

    def __init__(
        self,
        path: Path,
        publish: Callable[[Event], None],
        log: logging.Logger,
        zone: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(Alarm, "alarms", path, publish, log, wall)
        self._zone = ZoneInfo(zone) if zone else None

    def title(self, entry: Alarm) -> str:
        """``7:30 AM alarm``, or what it is for."""
        return f"{entry.name or self.said_time(entry)} alarm"

    def said_time(self, alarm: Alarm) -> str:
        """``7:30 AM``."""
        return speech.clock_time(clock_time(alarm.hour, alarm.minute))

    def due_in(self, entry: Alarm) -> float:
        """Seconds until its moment.

        A time that the clocks jump over in spring is taken as one hour later, and of one that comes twice in autumn
        the first counts (PEP 495).
        """
        return self._moment(entry.day, entry.hour, entry.minute) - self._wall()

    def following(self, entry: Alarm) -> Alarm | None:
        """The next one after now of those that repeat."""
        return self._at(entry, self.next_day(entry.hour, entry.minute, entry.repeat)) if entry.repeat else None

    def now(self) -> datetime:
        """The local time."""
        return datetime.fromtimestamp(self._wall(), self._zone)

    def next_day(self, hour: int, minute: int, repeat: Repeat) -> date:
        """The first day on which that time is still to come; for an alarm that repeats, one of its days."""
        day = self.now().date()
        while not (_rings(repeat, day) and self._moment(day, hour, minute) > self._wall()):
            day += timedelta(days=1)
        return day

    def is_ahead(self, day: date, hour: int, minute: int) -> bool:
        """Whether that moment is still to come."""
        return self._moment(day, hour, minute) > self._wall()

    async def add(self, *, hour: int, minute: int, day: date, repeat: Repeat = "", name: str = "") -> Alarm:
        """Set an alarm.

        Raises:
            OSError: it cannot be stored, and so was not set.
        """
        alarm = Alarm(id=uuid.uuid4().hex[:12], name=name, hour=hour, minute=minute, day=day, repeat=repeat)
        await self._add(alarm)
        fires_at = self._moment(day, hour, minute)
        self._publish(TimerSet(timer_id=alarm.id, name=self.title(alarm), fires_at=fires_at))
        return alarm

    def _at(self, alarm: Alarm, day: date) -> Alarm:
        return Alarm(
            id=alarm.id, name=alarm.name, hour=alarm.hour, minute=alarm.minute, day=day, repeat=alarm.repeat
        )

    def _moment(self, day: date, hour: int, minute: int) -> float:
        return datetime.combine(day, clock_time(hour, minute), self._zone).timestamp()


def _rings(repeat: Repeat, day: date) -> bool:
    weekday = day.weekday()
    match repeat:
        case "" | "daily":
            return True
        case "weekdays":
            return weekday < 5
        case "weekends":
            return weekday >= 5
    return WEEK[weekday] == repeat
