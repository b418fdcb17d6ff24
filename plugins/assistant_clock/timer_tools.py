"""The tools that set, cancel and tell of timers."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from assistant import ToolError

from . import speech
from .names import clean, stored, with_article
from .timers import Timer, Timers

MAX_TIMERS = 100
MAX_SECONDS = 7 * 24 * 3600

_Amount = Annotated[float, msgspec.Meta(ge=0)]
_Name = Annotated[str, msgspec.Meta(description="What the timer is for, such as pasta; may be empty.")]
_KIND, _PLURAL = "timer", "timers"


class TimerTools:
    """What can be done with timers, answered in sentences."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers

    async def set_timer(self, hours: _Amount = 0, minutes: _Amount = 0, seconds: _Amount = 0, name: _Name = "") -> str:
        """Start a timer that rings after some hours, minutes and seconds. Give at least one of them."""
        total = _total(hours, minutes, seconds)
        if not 1 <= total <= MAX_SECONDS:
            raise ToolError("A timer can run for 1 second up to 7 days.", hint="Say for how long.")
        if len(self._timers.running()) >= MAX_TIMERS:
            raise ToolError(f"There are {MAX_TIMERS} timers already.", hint="Cancel one first.")
        timer = await stored(self._timers.add(total, clean(name, _KIND)), _PLURAL)
        return f"Timer set for {speech.duration(total)}{f' for {with_article(timer.name)}' if timer.name else ''}."

    async def cancel_timer(
        self,
        name: _Name = "",
        hours: _Amount = 0,
        minutes: _Amount = 0,
        seconds: _Amount = 0,
        all_timers: Annotated[bool, msgspec.Meta(description="Cancel every timer.")] = False,
    ) -> str:
        """Cancel the timer with this name or this original duration, the only timer, or all of them."""
        running = self._timers.running()
        unnamed = not (name.strip() or all_timers or hours or minutes or seconds)
        if unnamed and (rang := self._timers.just_rang()) is not None:
            others = f" {await self.list_timers()}" if running else ""
            return f"T{_label(rang)[1:]} is off.{others}"
        if not running:
            return "There are no timers running."
        if all_timers or clean(name, _KIND).casefold() in {"all", "every", "everything"}:
            await stored(self._timers.cancel(running), _PLURAL)
            count = len(running)
            return "The timer is cancelled." if count == 1 else f"All {count} timers are cancelled."
        found = _select(running, name, _total(hours, minutes, seconds))
        if len(found) > 1:
            raise ToolError(f"There are {len(found)} timers: {_listed(found)}.", hint="Say which one, or all.")
        await stored(self._timers.cancel(found), _PLURAL)
        return f"T{_label(found[0])[1:]} is cancelled."

    async def timer_left(self, name: _Name = "", hours: _Amount = 0, minutes: _Amount = 0, seconds: _Amount = 0) -> str:
        """Tell how much time is left on the timer with this name or this original duration, or on every timer."""
        running = self._timers.running()
        if not running:
            return "There are no timers running."
        found = _select(running, name, _total(hours, minutes, seconds))
        if len(found) == len(running) == 1:
            whose = f" on {_label(found[0])}" if found[0].name else ""
            return f"{speech.duration(self._timers.left(found[0]))} left{whose}."
        return f"{speech.joined([self._told(timer) for timer in found], 'and')}."

    async def list_timers(self) -> str:
        """Tell which timers are running and how much time each has left."""
        running = self._timers.running()
        if not running:
            return "There are no timers running."
        told = speech.joined([self._told(timer) for timer in running], "and")
        return f"There {'is 1 timer' if len(running) == 1 else f'are {len(running)} timers'}: {told}."

    def _told(self, timer: Timer) -> str:
        return f"{speech.duration(self._timers.left(timer))} left on {_label(timer)}"


def _total(hours: float, minutes: float, seconds: float) -> float:
    total = hours * 3600 + minutes * 60 + seconds
    if not math.isfinite(total) or min(hours, minutes, seconds) < 0:
        raise ToolError("That is no length of time.", hint="Say for how long.")
    return float(math.floor(total + 0.5))


def _select(running: list[Timer], name: str, seconds: float) -> list[Timer]:
    """Those with this name and duration; an empty name and no duration are any."""
    wanted = clean(name, _KIND).casefold()
    found = [timer for timer in running if not seconds or timer.seconds == seconds]
    same = [timer for timer in found if timer.name.casefold() == wanted]
    if wanted:
        found = same or [timer for timer in found if wanted in timer.name.casefold()]
    if not found:
        what = f"{speech.adjective(seconds)} timer" if seconds else f"timer for {with_article(wanted)}"
        raise ToolError(f"There is no {what}.", hint=f"There is {_listed(running)}.")
    return found


def _listed(timers: list[Timer]) -> str:
    return speech.joined([_label(timer) for timer in timers[:5]] + ["more"] * (len(timers) > 5), "and")


def _label(timer: Timer) -> str:
    return f"the {timer.name} timer" if timer.name else f"the {speech.adjective(timer.seconds)} timer"

