"""The timers of one daemon: they run for some time, whatever the clock on the wall does."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from assistant.events import Event, TimerSet

from .schedule import Entry, Schedule


class Timer(Entry, frozen=True, kw_only=True):
    """A running timer, as it is stored."""

    seconds: float
    """How long it was set for."""
    fires_at: float
    """Unix time in seconds."""


def seconds_passed() -> float:
    """Seconds since some moment, the machine's sleep included; setting the clock does not change it.

    That is ``CLOCK_BOOTTIME`` on Linux and ``CLOCK_MONOTONIC`` on macOS (clock_gettime(2), clock_gettime(3)).
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Timers(Schedule[Timer]):
    """All timers that run."""

    def __init__(
        self,
        path: Path,
        publish: Callable[[Event], None],
        log: logging.Logger,
        wall: Callable[[], float] = time.time,
        passed: Callable[[], float] = seconds_passed,
    ) -> None:
        super().__init__(Timer, "timers", path, publish, log, wall)
        self._passed = passed
        self._due: dict[str, float] = {}

    def title(self, entry: Timer) -> str:
        """The timer's name."""
        return entry.name

    def due_in(self, entry: Timer) -> float:
        """Seconds until it has run out."""
        return self._due[entry.id] - self._passed()

    def load(self) -> None:
        """Read the file, once; from here on the wall clock means nothing.

        Raises:
            PluginError: it cannot be read.
        """
        if self._entries is None:
            super().load()
            offset = self._passed() - self._wall()
            stored: dict[str, Timer] = self._entries or {}
            self._due = {timer.id: timer.fires_at + offset for timer in stored.values()}

    def running(self) -> list[Timer]:
        """Those that have not fired, the next one first."""
        return self.pending()

    async def add(self, seconds: float, name: str) -> Timer:
        """Start a timer.

        Raises:
            OSError: it cannot be stored, and so was not started.
        """
        timer = Timer(id=uuid.uuid4().hex[:12], name=name, seconds=seconds, fires_at=self._wall() + seconds)
        self.load()
        self._due[timer.id] = self._passed() + seconds
        await self._add(timer)
        self._publish(TimerSet(timer_id=timer.id, name=name, fires_at=timer.fires_at))
        return timer

    async def cancel(self, entries: list[Timer]) -> None:
        """Stop these; one that has fired meanwhile is passed over.

        Raises:
            OSError: it cannot be stored, and so nothing was cancelled.
        """
        await super().cancel(entries)
        self._drop(entries)

    async def _forget(self, fired: list[Timer]) -> None:
        await super()._forget(fired)
        self._drop(fired)

    def _drop(self, gone: list[Timer]) -> None:
        for timer in gone:
            self._due.pop(timer.id, None)
