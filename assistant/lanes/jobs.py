"""The host's side of jobs: what waits on the event loop for the answers of a lane."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from assistant.errors import AssistantError, LaneError

WINDOW = 64
"""Items that a stream may run ahead of its consumer."""


class Pending(Protocol):
    """A job that has not ended."""

    key: str
    """The engine that works on it."""

    def item(self, body: Any) -> None:
        """One item came."""

    def done(self, body: Any) -> None:
        """The result came."""

    def end(self, error: AssistantError | None) -> None:
        """It is over without a result."""


class Reply:
    """Waits for one answer."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def item(self, body: Any) -> None:
        """Streams only."""

    def done(self, body: Any) -> None:
        """The answer came."""
        if not self.future.done():
            self.future.set_result(body)

    def end(self, error: AssistantError | None) -> None:
        """The job failed, or was dropped."""
        if not self.future.done():
            self.future.set_exception(error or LaneError("the work was dropped"))
            self.future.exception()


class Chore(Reply):
    """A load or unload: its outcome counts whether or not somebody still waits for it."""

    def __init__(self, key: str, settle: Callable[[AssistantError | None], None]) -> None:
        super().__init__(key)
        self._settle = settle

    def done(self, body: Any) -> None:
        """It worked."""
        self._settle(None)
        super().done(body)

    def end(self, error: AssistantError | None) -> None:
        """It did not."""
        self._settle(error)
        super().end(error)


class Items(AsyncIterator[Any]):
    """Waits for many answers; one consumer.

    Args:
        key: the engine.
        read: unpacks a body.
        grant: tells the lane that so many more items may come.
    """

    def __init__(self, key: str, read: Callable[[Any], Any], grant: Callable[[int], None]) -> None:
        self.key = key
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the iterator in the lane is closed."""
        self._error: AssistantError | None = None
        self._read = read
        self._grant = grant
        self._buffer: deque[Any] = deque()
        self._taken = 0
        self._waiter: asyncio.Future[None] | None = None

    def item(self, body: Any) -> None:
        """One item came."""
        self._buffer.append(body)
        self._wake()

    def done(self, body: Any) -> None:
        """Calls only."""

    def end(self, error: AssistantError | None) -> None:
        """No more items; what came before is still handed out."""
        self._error = error
        if not self.over.done():
            self.over.set_result(None)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __anext__(self) -> Any:
        """The next item.

        Raises:
            AssistantError: the job failed.
        """
        while not self._buffer:
            if self.over.done():
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        body = self._buffer.popleft()
        self._taken += 1
        if self._taken == WINDOW // 2:
            self._grant(self._taken)
            self._taken = 0
        return self._read(body)
