"""The timers of one daemon: kept in memory and on disk, fired when they are due."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from assistant import PluginError
from assistant.events import Event, TimerCancelled, TimerFired, TimerSet

RECHECK_SECONDS = 10.0
"""How long the scheduler sleeps at most: its sleep does not count the time that the machine itself was asleep."""

PUNCTUAL_SECONDS = 1.0
"""A timer that fires within this of its moment is not called late."""


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """A running timer, as it is stored."""

    id: str
    name: str
    """What it is for, without an article; may be empty."""
    seconds: float
    """How long it was set for."""
    fires_at: float
    """Unix time in seconds."""


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    version: int = 1
    timers: list[Timer]


def seconds_passed() -> float:
    """Seconds since some moment, the machine's sleep included; setting the clock does not change it.

    That is ``CLOCK_BOOTTIME`` on Linux and ``CLOCK_MONOTONIC`` on macOS (clock_gettime(2), clock_gettime(3)).
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Timers:
    """All timers that run. Used on the event loop only; every change is on disk before it is confirmed."""

    def __init__(
        self,
        path: Path,
        publish: Callable[[Event], None],
        log: logging.Logger,
        wall: Callable[[], float] = time.time,
        passed: Callable[[], float] = seconds_passed,
    ) -> None:
        self._path = path
        self._publish = publish
        self._log = log
        self._wall = wall
        self._passed = passed
        self._timers: dict[str, Timer] | None = None
        self._due: dict[str, float] = {}
        self._lock = anyio.Lock()
        self._changed = anyio.Event()

    def load(self) -> None:
        """Read the file, once; a file that is no list of timers is moved aside.

        Raises:
            PluginError: it cannot be read.
        """
        if self._timers is not None:
            return
        try:
            stored = msgspec.json.decode(self._path.read_bytes(), type=_Stored).timers
        except FileNotFoundError:
            stored = []
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            aside = self._path.with_name(f"{self._path.name}.corrupt-{uuid.uuid4().hex[:8]}")
            self._path.replace(aside)
            self._log.error("timers are lost: %s is damaged (%s); it was moved to %s", self._path, error, aside)
            stored = []
        except OSError as error:
            raise PluginError(f"cannot read the timers in {self._path}: {error.strerror}") from error
        self._timers = {timer.id: timer for timer in stored}
        offset = self._passed() - self._wall()
        self._due = {timer.id: timer.fires_at + offset for timer in stored}

    def running(self) -> list[Timer]:
        """Those that have not fired, the next one first."""
        self.load()
        assert self._timers is not None
        return sorted(self._timers.values(), key=lambda timer: self._due[timer.id])

    def left(self, timer: Timer) -> float:
        """Seconds until it fires."""
        return max(0.0, self._due[timer.id] - self._passed())

    async def add(self, seconds: float, name: str) -> Timer:
        """Start a timer.

        Raises:
            OSError: it cannot be stored, and so was not started.
        """
        timer = Timer(id=uuid.uuid4().hex[:12], name=name, seconds=seconds, fires_at=self._wall() + seconds)
        due = self._passed() + seconds
        async with self._lock:
            await self._store([*self.running(), timer], {**self._due, timer.id: due})
        self._publish(TimerSet(timer_id=timer.id, name=name, fires_at=timer.fires_at))
        return timer

    async def cancel(self, timers: list[Timer]) -> None:
        """Stop these timers; one that has fired meanwhile is passed over.

        Raises:
            OSError: it cannot be stored, and so nothing was cancelled.
        """
        async with self._lock:
            gone = {timer.id for timer in timers}
            stopped = [timer for timer in self.running() if timer.id in gone]
            await self._store([timer for timer in self.running() if timer.id not in gone], self._due)
        for timer in stopped:
            self._publish(TimerCancelled(timer_id=timer.id, name=timer.name))

    async def fire_due(self) -> None:
        """Fire what is due. It is told before it is struck off the file: a crash in between tells it twice."""
        async with self._lock:
            now = self._passed()
            due = [timer for timer in self.running() if self._due[timer.id] <= now]
            for timer in due:
                late = now - self._due[timer.id]
                late_seconds = late if late > PUNCTUAL_SECONDS else 0.0
                self._publish(TimerFired(timer_id=timer.id, name=timer.name, late_seconds=late_seconds))
            if due:
                with anyio.CancelScope(shield=True):
                    await self._forget(due)

    async def run(self) -> None:
        """Fire timers for ever."""
        while True:
            self._changed = anyio.Event()
            await self.fire_due()
            running = self.running()
            pause = min(RECHECK_SECONDS, max(0.001, self.left(running[0]))) if running else None
            with anyio.move_on_after(pause):
                await self._changed.wait()

    async def _forget(self, fired: list[Timer]) -> None:
        gone = {timer.id for timer in fired}
        rest = [timer for timer in self.running() if timer.id not in gone]
        self._timers = {timer.id: timer for timer in rest}
        try:
            await self._store(rest, self._due)
        except OSError as error:
            self._log.error("cannot write %s (%s): timers that fired may fire again after a restart", self._path, error)

    async def _store(self, timers: list[Timer], due: dict[str, float]) -> None:
        await anyio.to_thread.run_sync(_write, self._path, msgspec.json.encode(_Stored(timers=timers)))
        self._timers = {timer.id: timer for timer in timers}
        self._due = {timer.id: due[timer.id] for timer in timers}
        self._changed.set()


def _write(path: Path, data: bytes) -> None:
    """Replace the file so that a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
