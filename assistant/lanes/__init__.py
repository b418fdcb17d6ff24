"""Lanes: one per device, each a child process (or a thread) that loads engines and steps their jobs by priority.

Engines are plain blocking Python; everything else in the daemon is asynchronous. A lane is the border between the
two: ``await lane.call(key, method, *args)`` and ``async with lane.stream(key, method, *args) as items``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import anyio

from assistant.engines import LaneObject
from assistant.events import Event
from assistant.wire import LaneInfo

from .base import Handle, Lane, Loadable, Priority
from .process import ProcessLane
from .thread import ThreadLane

if TYPE_CHECKING:
    from assistant.config import LaneSettings

__all__ = ["Handle", "Lane", "LaneObject", "Lanes", "Loadable", "Priority", "ProcessLane", "ThreadLane"]


class Lanes:
    """All lanes of the daemon, made on first use; leaving ``async with`` closes them.

    Args:
        settings: limits and intervals of the process lanes.
        publish: takes the lanes' events, on the event loop.
    """

    def __init__(self, settings: LaneSettings, publish: Callable[[Event], None]) -> None:
        self._settings = settings
        self._publish = publish
        self._lanes: dict[str, Lane] = {}

    def lane(self, name: str) -> Lane:
        """The lane of that name: ``thread:<name>`` is a thread, any other name a process."""
        if name not in self._lanes:
            if name.startswith("thread:"):
                self._lanes[name] = ThreadLane(name, self._publish)
            else:
                self._lanes[name] = ProcessLane(name, self._settings, self._publish)
        return self._lanes[name]

    def infos(self) -> tuple[LaneInfo, ...]:
        """All lanes as they are now, by name."""
        return tuple(self._lanes[name].info for name in sorted(self._lanes))

    async def close(self) -> None:
        """Close all lanes at once."""
        async with anyio.create_task_group() as tasks:
            for lane in self._lanes.values():
                tasks.start_soon(lane.close)

    async def __aenter__(self) -> Lanes:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()
