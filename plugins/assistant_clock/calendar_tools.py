"""The tools that tell the time and the date."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec

from . import places, speech

_Place = Annotated[str, msgspec.Meta(description="City, country or time zone; empty for here.")]


def utc_now() -> datetime:
    """The moment, from the system's clock."""
    return datetime.now(UTC)


class CalendarTools:
    """Tells the time and the date, here and elsewhere."""

    def __init__(self, home: str, now: Callable[[], datetime] = utc_now) -> None:
        """Take ``home``, the key of the zone here, or empty for the system's."""
        self._home = home
        self._now = now

    async def get_time(self, place: _Place = "") -> str:
        """Tell what time it is, here or in a city or country."""
        moment, where = self._there(place)
        return f"It is {speech.clock_time(moment.time())}{f' in {where}' if where else ''}."

    async def get_date(self, place: _Place = "", day: Literal["today", "tomorrow", "yesterday"] = "today") -> str:
        """Tell the date and the day of the week of today, tomorrow or yesterday, here or in a city or country."""
        moment, where = self._there(place)
        shift = {"today": 0, "tomorrow": 1, "yesterday": -1}[day]
        said = speech.calendar_date(moment.date() + timedelta(days=shift))
        opening = f"In {where}, {day}" if where else day.capitalize()
        return f"{opening} {'was' if shift < 0 else 'is'} {said}."

    def _there(self, place: str) -> tuple[datetime, str]:
        now = self._now()
        if place.strip():
            found = places.find(place)
            return now.astimezone(ZoneInfo(found.zone)), found.name
        return now.astimezone(ZoneInfo(self._home) if self._home else None), ""
