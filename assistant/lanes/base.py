"""What a lane is, whichever kind: its verbs, its priorities and what it loads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar, TypeVarTuple

from assistant.engines import LaneObject
from assistant.wire import LaneInfo

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Priority(IntEnum):
    """Who goes first when a lane picks its next step; equals take turns."""

    SPEECH = 0
    CONVERSATION = 10
    BACKGROUND = 20


class Loadable(Protocol):
    """Anything a lane can hold: light and picklable until it is loaded."""

    def load(self, model: Path | None) -> None:
        """Get ready; runs once, on the lane's thread, before any call."""

    def close(self) -> None:
        """Give everything back; runs on the lane's thread."""


@dataclass(frozen=True)
class Handle:
    """Something that was opened on a lane and stays there; it dies with the lane's process."""

    lane: str
    key: str
    """The engine that it belongs to."""
    id: int
    generation: int
    """Which process (or thread) of the lane holds it."""


class Lane(ABC):
    """One device: loads engines and steps their jobs, one ``next()`` at a time, by priority.

    Every verb raises ``EngineFailed`` (or the engine's own ``AssistantError``) when the engine raises,
    ``EngineCrashed`` when the lane's process dies or hangs, and ``LaneQuarantined`` once it has died too often.
    """

    name: str

    @property
    @abstractmethod
    def info(self) -> LaneInfo:
        """The lane as it is now."""

    @abstractmethod
    async def add(self, key: str, engine: Loadable, model: Path | None) -> None:
        """Load an engine under ``key``; nothing happens if that key is loaded. A load that began is never abandoned."""

    @abstractmethod
    async def remove(self, key: str) -> None:
        """Close an engine; its jobs fail and its handles die. The last one ends the lane's process."""

    @abstractmethod
    async def call(
        self, target: str | Handle, method: Callable[[Any, *Ts], R], *args: *Ts, priority: int = Priority.CONVERSATION
    ) -> R:
        """The result of one call.

        A cancelled call that is still queued is dropped; one that runs is left to finish and its result discarded.

        Args:
            target: the key of an engine, or a handle.
            method: the unbound method, such as ``LanguageModel.count``; the engine's own override is what runs.
            args: picklable for a process lane.
            priority: lower goes first.

        Raises:
            EngineNotFound: nothing was ever loaded under that key.
        """

    @abstractmethod
    async def open(
        self,
        target: str,
        method: Callable[[Any, *Ts], LaneObject],
        *args: *Ts,
        priority: int = Priority.CONVERSATION,
    ) -> Handle:
        """Call a method whose result stays in the lane, and get a handle to it."""

    @abstractmethod
    async def release(self, handle: Handle) -> None:
        """Forget what a handle stands for; one that is already gone is fine."""

    @abstractmethod
    def stream(
        self,
        target: str | Handle,
        method: Callable[[Any, *Ts], Iterator[R]],
        *args: *Ts,
        priority: int = Priority.CONVERSATION,
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """The items of an iterator that is stepped in the lane.

        Leaving the block, by whatever way, closes the iterator on its own thread after the step it is in. A slow
        consumer holds up only its own stream, which runs at most a window ahead.
        """

    @abstractmethod
    async def close(self) -> None:
        """Fail all jobs, close all engines on their thread and end the lane for good."""
