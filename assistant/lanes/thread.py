"""A lane in a thread of the daemon: the same verbs for what is cheap and does not crash, such as the store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import anyio

from assistant import errors, events
from assistant.wire import LaneInfo

from .exchange import MessageLane
from .messages import Close, FromLane, ToLane
from .scheduler import Scheduler

CLOSE_SECONDS = 10.0
"""How long ``close()`` waits for the step in hand."""


class ThreadLane(MessageLane):
    """Runs its engines on one thread; bodies are passed as they are, and nothing contains a crash.

    Args:
        name: with its ``thread:`` prefix.
        publish: takes ``EngineLoaded`` and ``EngineUnloaded``.
    """

    def __init__(self, name: str, publish: Callable[[events.Event], None]) -> None:
        super().__init__(name, publish)
        self._scheduler: Scheduler | None = None
        self._ended: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def info(self) -> LaneInfo:
        """The lane as it is now."""
        state: Literal["up", "down"] = "up" if self._scheduler else "down"
        return LaneInfo(name=self.name, state=state, engines=tuple(self._loaded), jobs=len(self._pending))

    async def close(self) -> None:
        """Fail all jobs, close all engines on their thread and end it."""
        self._closed = True
        self._wanted.clear()
        self._retire()
        self._lose(lambda key: errors.LaneError(f"lane {self.name!r} is closed", hint="the daemon is going down"))
        with anyio.CancelScope(shield=True):
            await self._retired()

    async def _up(self) -> None:
        if self._closed:
            raise errors.LaneError(f"lane {self.name!r} is closed", hint="the daemon is going down")
        if self._scheduler is None:
            await self._retired()
        if self._scheduler is None:
            self._start()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def send(message: FromLane) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._receive, message)

        def finish() -> None:
            if not ended.done():
                ended.set_result(None)

        def run() -> None:
            scheduler.run()
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(finish)

        scheduler = self._scheduler = Scheduler(send, self._pack, self._unpack)
        self._ended = ended
        threading.Thread(target=run, name=f"lane {self.name}", daemon=True).start()

    def _send(self, message: ToLane) -> None:
        if self._scheduler is not None:
            self._scheduler.inbox.put(message)

    def _pack(self, body: Any) -> Any:
        return body

    def _unpack(self, body: Any) -> Any:
        return body

    def _retire(self) -> None:
        self._send(Close())
        self._scheduler = None

    async def _retired(self) -> None:
        if self._ended is not None:
            await asyncio.wait([self._ended], timeout=CLOSE_SECONDS)
