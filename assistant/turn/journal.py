"""What a turn writes to the store, in order, while the answer goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVarTuple

import anyio

from assistant.store import STORE

if TYPE_CHECKING:
    from assistant.lanes import Lane

Ts = TypeVarTuple("Ts")


class Journal:
    """Writes beside everything else, so that nobody who waits for an answer waits for the disk.

    Leaving ``async with`` waits until all of it is written, also when the turn is cancelled or fails.

    Raises:
        AssistantError: it could not be written; what runs in the block is cancelled.
    """

    def __init__(self, db: Lane) -> None:
        self._db = db
        self._items: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._news = anyio.Event()
        self._closed = False
        self._tasks = anyio.create_task_group()

    def write(self, method: Callable[[Any, *Ts], object], *args: *Ts) -> None:
        """Call a method of ``Store`` after all that was asked for before."""
        self._items.append((method, args))
        self._news.set()

    async def __aenter__(self) -> Journal:
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._work)
        return self

    async def __aexit__(self, *problem: Any) -> bool | None:
        self._closed = True
        self._news.set()
        return await self._tasks.__aexit__(*problem)

    async def _work(self) -> None:
        with anyio.CancelScope(shield=True):
            while self._items or not self._closed:
                while self._items:
                    method, args = self._items.popleft()
                    await self._db.call(STORE, method, *args)
                if not self._closed:
                    await self._news.wait()
                    self._news = anyio.Event()
