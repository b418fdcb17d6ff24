"""A lane in a process of its own, which may die without taking anything else along."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import anyio

from assistant import errors, events
from assistant.wire import LaneInfo

from .exchange import MessageLane
from .link import COMMAND, Child, Work
from .messages import FromLane, Ready, ToLane

if TYPE_CHECKING:
    from assistant.config import LaneSettings

State = Literal["down", "starting", "up", "restarting", "quarantined"]


class ProcessLane(MessageLane):
    """Runs its engines in one child process: started when something is added, restarted when it dies.

    Args:
        name: how logs and errors call it.
        settings: limits and intervals.
        publish: takes ``LaneStarted``, ``LaneCrashed``, ``LaneQuarantined``, ``EngineLoaded`` and ``EngineUnloaded``.
        command: what starts the process; the number of its socket is added.
    """

    def __init__(
        self,
        name: str,
        settings: LaneSettings,
        publish: Callable[[events.Event], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        super().__init__(name, publish)
        self._settings = settings
        self._command = command
        self._state: State = "down"
        self._changed = anyio.Event()
        self._closing = anyio.Event()
        self._child: Child | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._deaths: deque[float] = deque()
        self._cause = ""
        self._restarts = 0
        self._waiting = 0

    @property
    def info(self) -> LaneInfo:
        """The lane as it is now."""
        child = self._child
        return LaneInfo(
            name=self.name,
            state=self._state,
            pid=child.pid if child else 0,
            engines=tuple(self._loaded),
            jobs=len(self._pending),
            restarts=self._restarts,
            rss=child.rss if child else 0,
        )

    async def close(self) -> None:
        """Fail all jobs, close all engines on their thread and end the process for good."""
        self._closing.set()
        self._wanted.clear()
        self._lose(self._closed)
        if self._child is not None:
            self._child.finish()
        self._set(self._state)
        if self._supervisor is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._supervisor])

    def _closed(self, key: str) -> errors.LaneError:
        return errors.LaneError(f"lane {self.name!r} is closed", hint="the daemon is going down")

    def _set(self, state: State) -> None:
        self._state = state
        self._changed.set()
        self._changed = anyio.Event()

    async def _up(self) -> None:
        self._waiting += 1
        ready = False
        try:
            while not ready:
                if self._closing.is_set():
                    raise self._closed("")
                if self._state == "quarantined":
                    raise self._quarantined()
                if self._child is not None and self._child.ready and not self._child.closing:
                    ready = True
                    continue
                if self._supervisor is None or self._supervisor.done():
                    self._supervise()
                await self._changed.wait()
        finally:
            self._waiting -= 1
            if not ready:
                self._rest()

    def _quarantined(self) -> errors.LaneQuarantined:
        return errors.LaneQuarantined(
            f"lane {self.name!r} died {self._settings.restart_limit} times within "
            f"{self._settings.restart_window_seconds:g} s and stays down; the last time: {self._cause}",
            hint="fix the cause, then `assistant down && assistant up`",
        )

    def _send(self, message: ToLane) -> None:
        if self._child is not None:
            self._child.send(message)

    def _pack(self, body: Any) -> bytes:
        return pickle.dumps(body, pickle.HIGHEST_PROTOCOL)

    def _unpack(self, body: Any) -> Any:
        return pickle.loads(body)

    def _retire(self) -> None:
        if self._child is not None and self._child.ready and not self._waiting:
            self._child.finish()

    async def _retired(self) -> None:
        if self._child is not None and self._child.closing and self._supervisor is not None:
            await asyncio.wait([self._supervisor])

    def _supervise(self) -> None:
        """Watch over the processes of this lane in a task of its own, which no caller's cancellation reaches."""
        self._supervisor = asyncio.get_running_loop().create_task(self._lives(), name=f"lane {self.name}")
        self._supervisor.add_done_callback(self._unsupervised)

    def _unsupervised(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._cause = f"its supervision failed: {error!r}"
            self._child = None
            self._set("quarantined")
            self._lose(lambda key: self._quarantined())

    async def _lives(self) -> None:
        while cause := await self._life():
            delay = self._died(cause)
            if delay is None:
                return
            with anyio.move_on_after(delay):
                await self._closing.wait()
            if self._closing.is_set() or not (self._wanted or self._waiting):
                break
            self._restarts += 1
        self._set("down")

    async def _life(self) -> str:
        """One process from its start to its end; the cause of its death, empty if it was asked to go."""
        self._set("starting" if self._state == "down" else "restarting")
        child = self._child = Child(self._settings, self._receive, self._work)
        try:
            await child.start(self._command)
            return await asyncio.shield(child.ended)
        except OSError as error:
            return f"could not start: {error}"
        except asyncio.CancelledError:
            child.kill()
            await child.ended
            raise
        finally:
            self._child = None

    def _work(self) -> Work:
        if self._loading:
            return "load"
        return "step" if self._pending else ""

    def _receive(self, message: FromLane) -> None:
        if isinstance(message, Ready):
            self._publish(events.LaneStarted(lane=self.name, pid=message.pid))
            self._set("up")
            if not self._waiting:
                self._rest()
        else:
            super()._receive(message)

    def _died(self, cause: str) -> float | None:
        """Count a death, fail the jobs; the seconds until the restart, or None when there is none."""
        now = time.monotonic()
        self._cause = cause
        self._deaths.append(now)
        while self._deaths[0] < now - self._settings.restart_window_seconds:
            self._deaths.popleft()
        if len(self._deaths) >= self._settings.restart_limit:
            delay = None
            self._publish(events.LaneQuarantined(lane=self.name, cause=cause))
            self._set("quarantined")
        else:
            delay = self._settings.backoff_seconds * 2 ** (len(self._deaths) - 1)
            delay = min(delay, self._settings.backoff_limit_seconds)
            self._publish(events.LaneCrashed(lane=self.name, cause=cause, restart_seconds=delay))
            self._set("restarting")
        self._lose(self._crashed)
        return delay

    def _crashed(self, key: str) -> errors.EngineCrashed:
        memory = "a smaller model may fit; " if "memory" in self._cause else ""
        return errors.EngineCrashed(
            f"lane {self.name!r} died with work of engine {key!r}: {self._cause}",
            hint=f"{memory}the lane restarts by itself, try again",
        )
