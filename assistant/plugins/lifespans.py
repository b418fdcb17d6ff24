"""A plugin's background work, in a task of its own: what goes wrong in it ends that plugin and nothing else."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
from anyio.abc import TaskStatus

SECONDS = 10.0
"""The longest that entering or leaving one plugin's lifespan may take."""


class Lifespan:
    """Holds the context manager of one plugin open."""

    def __init__(
        self,
        manager: AbstractAsyncContextManager[None],
        log: logging.Logger,
        failed: Callable[[str], None],
        seconds: float = SECONDS,
    ) -> None:
        self._manager = manager
        self._log = log
        self._failed = failed
        self._seconds = seconds
        self._leaving = anyio.Event()
        self._left = anyio.Event()
        self._scope = anyio.CancelScope()
        self._loop = asyncio.get_running_loop()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Enter, report that it is entered (or never will be), and leave when told."""
        entered = False
        try:
            self._scope.deadline = anyio.current_time() + self._seconds
            with self._scope:
                async with self._manager:
                    self._scope.deadline = math.inf
                    entered = True
                    task_status.started()
                    await self._leaving.wait()
            if self._scope.cancelled_caught and not entered:
                self._failed(f"lifespan did not start within {self._seconds:g} s")
            elif self._scope.cancelled_caught and self._leaving.is_set():
                self._log.error("lifespan did not end within %g s and was cancelled", self._seconds)
        except (Exception, SystemExit) as error:
            self._report(error, entered)
        finally:
            if not entered:
                task_status.started()
            self._left.set()

    def _report(self, error: BaseException, entered: bool) -> None:
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        what = f"{type(error).__name__}: {error}"
        if self._leaving.is_set():
            self._log.error("lifespan raised when it ended: %s", what, exc_info=error)
        else:
            self._failed(f"lifespan {'ended with' if entered else 'raised'} {what}")

    def cancel(self) -> None:
        """End it now; from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._scope.cancel)

    async def leave(self) -> None:
        """End it in good order, or by cancelling it after the time limit."""
        self._leaving.set()
        self._scope.deadline = anyio.current_time() + self._seconds
        await self._left.wait()
