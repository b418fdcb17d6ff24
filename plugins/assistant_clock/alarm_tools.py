"""The tools that set, cancel and tell of alarms."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

import msgspec

from assistant import ToolError

from . import speech
from .alarms import WEEK, Alarm, Alarms, Repeat, Weekday
from .names import clean, stored, with_article

MAX_ALARMS = 100
DAYTIME = range(5, 17)
"""Hours of the clock that are meant when a day is named and neither morning nor evening: from 5 AM until 5 PM."""

Period = Literal["", "am", "pm"]
Day = Literal["", "today", "tomorrow"] | Weekday

_Hour = Annotated[int, msgspec.Meta(ge=0, le=23)]
_Minute = Annotated[int, msgspec.Meta(ge=0, le=59)]
_Period = Annotated[Period, msgspec.Meta(description="Empty if the user did not say, or for a 24-hour time.")]
_Day = Annotated[Day, msgspec.Meta(description="Empty: the next time that it is that late.")]
_Name = Annotated[str, msgspec.Meta(description="What the alarm is for, such as medicine; may be empty.")]
_Repeat = Annotated[Repeat, msgspec.Meta(description="Empty: it rings once.")]
_KIND, _PLURAL = "alarm", "alarms"


class AlarmTools:
    """What can be done with alarms, answered in sentences."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms

    async def set_alarm(
        self,
        hour: _Hour,
        minute: _Minute = 0,
        period: _Period = "",
        day: _Day = "",
        repeat: _Repeat = "",
        name: _Name = "",
    ) -> str:
        """Set an alarm that rings at a time of day, once or again and again."""
        if len(self._alarms.pending()) >= MAX_ALARMS:
            raise ToolError(f"There are {MAX_ALARMS} alarms already.", hint="Cancel one first.")
        hour, when = self._settle(hour, minute, period, day, repeat)
        alarm = await stored(
            self._alarms.add(hour=hour, minute=minute, day=when, repeat=repeat, name=clean(name, _KIND)), _PLURAL
        )
        return f"Alarm{f' for {with_article(alarm.name)}' if alarm.name else ''} set for {self._said(alarm)}."

    async def cancel_alarm(
        self,
        name: _Name = "",
        hour: _Hour | None = None,
        minute: _Minute = 0,
        period: _Period = "",
        all_alarms: Annotated[bool, msgspec.Meta(description="Cancel every alarm.")] = False,
    ) -> str:
        """Cancel the alarm with this name or for this time, the only alarm, or all of them."""
        pending = self._alarms.pending()
        unnamed = not (name.strip() or all_alarms) and hour is None
        if unnamed and (rang := self._alarms.just_rang()) is not None:
            others = f" {await self.list_alarms()}" if pending else ""
            return f"The {self._alarms.title(rang)} is off.{others}"
        if not pending:
            return "There are no alarms set."
        if all_alarms or clean(name, _KIND).casefold() in {"all", "every", "everything"}:
            await stored(self._alarms.cancel(pending), _PLURAL)
            return "The alarm is cancelled." if len(pending) == 1 else f"All {len(pending)} alarms are cancelled."
        found = self._select(pending, name, hour, minute, period)
        if len(found) > 1:
            raise ToolError(f"There are {len(found)} alarms: {self._listed(found)}.", hint="Say which one, or all.")
        await stored(self._alarms.cancel(found), _PLURAL)
        return f"The alarm for {self._label(found[0])} is cancelled."

    async def list_alarms(self) -> str:
        """Tell which alarms are set."""
        pending = self._alarms.pending()
        if not pending:
            return "There are no alarms set."
        told = speech.joined([self._label(alarm) for alarm in pending], "and")
        return f"There {'is 1 alarm' if len(pending) == 1 else f'are {len(pending)} alarms'}: {told}."

    def _settle(self, hour: int, minute: int, period: Period, day: Day, repeat: Repeat) -> tuple[int, date]:
        """The hour of 24 and the day that are meant."""
        hours = _hours(hour, period)
        if repeat or day not in ("", "today"):
            hours = [each for each in hours if each in DAYTIME] or hours
        today = self._alarms.now().date()
        if repeat or not day:
            candidates = [(self._alarms.next_day(each, minute, repeat), each) for each in hours]
        elif day == "today":
            candidates = [(today, each) for each in hours if self._alarms.is_ahead(today, each, minute)]
        else:
            candidates = [(self._named_day(day, each, minute), each) for each in hours]
        if not candidates:
            raise ToolError("That time has passed today.", hint="Say tomorrow, or another time.")
        when, hour = min(candidates)
        return hour, when

    def _named_day(self, day: Day, hour: int, minute: int) -> date:
        if day == "tomorrow":
            return self._alarms.now().date() + timedelta(days=1)
        return self._alarms.next_day(hour, minute, next(each for each in WEEK if each == day))

    def _select(
        self, pending: list[Alarm], name: str, hour: int | None, minute: int, period: Period
    ) -> list[Alarm]:
        wanted = clean(name, _KIND).casefold()
        found = [alarm for alarm in pending if wanted in alarm.name.casefold()]
        found = [alarm for alarm in found if alarm.name.casefold() == wanted] or found if wanted else found
        if hour is not None:
            hours = _hours(hour, period)
            found = [alarm for alarm in found if alarm.hour in hours and alarm.minute == minute]
        if not found:
            raise ToolError("There is no such alarm.", hint=f"There is {self._listed(pending)}.")
        return found

    def _listed(self, alarms: list[Alarm]) -> str:
        return speech.joined([self._label(alarm) for alarm in alarms[:5]] + ["more"] * (len(alarms) > 5), "and")

    def _label(self, alarm: Alarm) -> str:
        return self._said(alarm) + (f" for {with_article(alarm.name)}" if alarm.name else "")

    def _said(self, alarm: Alarm) -> str:
        """``7:30 AM tomorrow``."""
        return f"{self._alarms.said_time(alarm)} {self._said_day(alarm)}"

    def _said_day(self, alarm: Alarm) -> str:
        match alarm.repeat:
            case "daily":
                return "every day"
            case "weekdays" | "weekends":
                return f"on {alarm.repeat}"
            case "":
                away = (alarm.day - self._alarms.now().date()).days
                return {0: "today", 1: "tomorrow"}.get(away, f"on {alarm.day:%A}, {alarm.day:%B} {alarm.day.day}")
        return f"every {alarm.repeat.capitalize()}"


def _hours(hour: int, period: Period) -> list[int]:
    """The hours of 24 that may be meant."""
    if hour > 12 or hour == 0:
        return [hour]
    morning = hour % 12
    return {"": [morning, morning + 12], "am": [morning], "pm": [morning + 12]}[period]
