"""An answer that is begun while it is not yet certain that the question is over."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from assistant.engines import ChatRequest, Delta, LanguageModel
from assistant.errors import AssistantError
from assistant.lanes import Priority

from .asking import Asking

if TYPE_CHECKING:
    from .state import Parts, Turn


class Speculation:
    """The first reply of the model to a question that may still go on.

    Nothing of it is seen, stored, spoken or run until a turn adopts it, which it does only if its own request is the
    very same. Whoever makes one runs it in a task, and cancels it if the words go on.
    """

    def __init__(self, parts: Parts, turn: Turn) -> None:
        """
        Args:
            turn: as the turn that may come will be; it is not started.
        """
        self.text = turn.text
        """The question."""
        self._parts = parts
        self._turn = turn
        self._request: ChatRequest | None = None
        self._deltas: deque[Delta] = deque()
        self._error: AssistantError | None = None
        self._ended = False
        self._news = anyio.Event()
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Ask the model; an error waits for the turn."""
        try:
            with self._scope:
                await self._run()
        except AssistantError as error:
            self._error = error
        finally:
            self._ended = True
            self._news.set()

    def cancel(self) -> None:
        """The words went on, or the turn is over."""
        self._scope.cancel()

    async def began_with(self, request: ChatRequest) -> bool:
        """Whether this is the reply to that very request; waits until it has been asked."""
        while self._request is None and not self._ended:
            await self._next()
        same = self._request == request and not self._scope.cancel_called
        if not same:
            self.cancel()
        return same

    @asynccontextmanager
    async def adopted(self) -> AsyncIterator[AsyncIterator[Delta]]:
        """The reply from its beginning on; leaving the block ends it. Can be had once.

        Raises:
            AssistantError: the model failed.
        """
        self._request = None
        try:
            yield self._all()
        finally:
            self.cancel()

    async def _all(self) -> AsyncIterator[Delta]:
        while True:
            while self._deltas:
                yield self._deltas.popleft()
            if self._ended:
                break
            await self._next()
        if self._error is not None:
            raise self._error

    async def _next(self) -> None:
        await self._news.wait()
        if not self._ended:
            self._news = anyio.Event()

    async def _run(self) -> None:
        turn = self._turn
        async with self._parts.pool.using("llm", model=turn.model) as ready:
            asking = Asking(self._parts, turn)
            await asking.prepare(ready)
            self._request = asking.first(await asking.history(turn.text))
            self._news.set()
            stream = ready.lane.stream(ready.key, LanguageModel.generate, self._request, priority=Priority.SPEECH)
            async with stream as deltas:
                async for delta in deltas:
                    self._deltas.append(delta)
                    self._news.set()
