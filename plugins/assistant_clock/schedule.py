"""What is to ring at some moment: kept in memory and on disk, fired when it is due."""

from __future__ import annotations

import logging
import os
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
import msgspec

from assistant import PluginError
from assistant.events import Event, TimerCancelled, TimerFired

RECHECK_SECONDS = 10.0
"""How long the scheduler sleeps at most: its sleep does not count the time that the machine itself was asleep."""

PUNCTUAL_SECONDS = 1.0
"""What fires within this of its moment is not called late."""

RANG_SECONDS = 90.0
"""So long after it fired, to cancel without a name means to silence it: it rings for a minute, and people take time."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that will ring."""

    id: str
    name: str
    """What it is for, without an article; may be empty."""


T = TypeVar("T", bound=Entry)


class Schedule(ABC, Generic[T]):
    """Entries of one kind. Used on the event loop only; every change is on disk before it is confirmed.

    Args:
        kind: the type of an entry.
        plural: what the entries are called, in the file and in messages.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        kind: type[T],
        plural: str,
        path: Path,
        publish: Callable[[Event], None],
        log: logging.Logger,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._kind = kind
        self._plural = plural
        self._path = path
        self._publish = publish
        self._log = log
        self._wall = wall
        self._entries: dict[str, T] | None = None
        self._rang: tuple[T, float] | None = None
        self._lock = anyio.Lock()
        self._changed = anyio.Event()

    @abstractmethod
    def title(self, entry: T) -> str:
        """What it is called when it fires."""

    @abstractmethod
    def due_in(self, entry: T) -> float:
        """Seconds until its moment; negative after it."""

    def following(self, entry: T) -> T | None:
        """What takes the place of one that fired; None: nothing does."""
        return None

    def load(self) -> None:
        """Read the file, once; one that makes no sense is moved aside.

        Raises:
            PluginError: it cannot be read.
        """
        if self._entries is not None:
            return
        try:
            raw = msgspec.json.decode(self._path.read_bytes(), type=dict[str, msgspec.Raw])
            stored = msgspec.json.decode(raw[self._plural], type=list[self._kind])  # type: ignore[name-defined]
        except FileNotFoundError:
            stored = []
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
            aside = self._path.with_name(f"{self._path.name}.corrupt-{uuid.uuid4().hex[:8]}")
            self._path.replace(aside)
            message = "%s are lost: %s is damaged (%s); it was moved to %s"
            self._log.error(message, self._plural, self._path, error, aside)
            stored = []
        except OSError as error:
            raise PluginError(f"cannot read the {self._plural} in {self._path}: {error.strerror}") from error
        self._entries = {entry.id: entry for entry in stored}

    def pending(self) -> list[T]:
        """Those that have not fired, the next one first."""
        self.load()
        assert self._entries is not None
        return sorted(self._entries.values(), key=self.due_in)

    def left(self, entry: T) -> float:
        """Seconds until it fires."""
        return max(0.0, self.due_in(entry))

    def just_rang(self) -> T | None:
        """What fired a moment ago, told once: "turn it off" means that one, and none that is still to come."""
        rang, self._rang = self._rang, None
        return rang[0] if rang is not None and 0 <= self._wall() - rang[1] <= RANG_SECONDS else None

    async def cancel(self, entries: list[T]) -> None:
        """Stop these; one that has fired meanwhile is passed over.

        Raises:
            OSError: it cannot be stored, and so nothing was cancelled.
        """
        async with self._lock:
            gone = {entry.id for entry in entries}
            stopped = [entry for entry in self.pending() if entry.id in gone]
            await self._store([entry for entry in self.pending() if entry.id not in gone])
        for entry in stopped:
            self._publish(TimerCancelled(timer_id=entry.id, name=self.title(entry)))

    async def fire_due(self) -> None:
        """Fire what is due. It is told before it is struck off the file: a crash in between tells it twice."""
        async with self._lock:
            due = [(entry, -self.due_in(entry)) for entry in self.pending() if self.due_in(entry) <= 0]
            for entry, late in due:
                late_seconds = late if late > PUNCTUAL_SECONDS else 0.0
                self._publish(TimerFired(timer_id=entry.id, name=self.title(entry), late_seconds=late_seconds))
                self._rang = entry, self._wall()
            if due:
                with anyio.CancelScope(shield=True):
                    await self._forget([entry for entry, _ in due])

    async def run(self) -> None:
        """Fire what is due for ever."""
        while True:
            self._changed = anyio.Event()
            await self.fire_due()
            pending = self.pending()
            pause = min(RECHECK_SECONDS, max(0.001, self.left(pending[0]))) if pending else None
            with anyio.move_on_after(pause):
                await self._changed.wait()

    async def _add(self, entry: T) -> None:
        async with self._lock:
            await self._store([*self.pending(), entry])

    async def _forget(self, fired: list[T]) -> None:
        gone = {entry.id for entry in fired}
        rest = [entry for entry in self.pending() if entry.id not in gone]
        rest += [after for entry in fired if (after := self.following(entry)) is not None]
        self._entries = {entry.id: entry for entry in rest}
        try:
            await self._store(rest)
        except OSError as error:
            self._log.error(
                "cannot write %s (%s): %s that fired may fire again after a restart", self._path, error, self._plural
            )

    async def _store(self, entries: list[T]) -> None:
        data = msgspec.json.encode({"version": 1, self._plural: entries})
        await anyio.to_thread.run_sync(_write, self._path, data)
        self._entries = {entry.id: entry for entry in entries}
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
