"""An answer that is begun while it is not yet certain that the question is over."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from assistant.engines import AudioChunk, ChatRequest, Delta, LanguageModel
from assistant.errors import AssistantError, leaves
from assistant.lanes import Priority
from assistant.speech import speak_sentence
from assistant.voice.speakable import SentenceSplitter

from .asking import Asking

if TYPE_CHECKING:
    from assistant.wire import Say

    from .prompting import History
    from .state import Parts, Turn

T = TypeVar("T")


class Stock(Generic[T]):
    """What has come so far and is still to come, for one reader."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._news = anyio.Event()
        self._ended = False
        self._error: AssistantError | None = None

    def add(self, item: T) -> None:
        """The next one."""
        self._items.append(item)
        self._news.set()

    def end(self, error: AssistantError | None = None) -> None:
        """Nothing more comes; what was said first holds."""
        if not self._ended:
            self._ended, self._error = True, error
            self._news.set()

    async def all(self) -> AsyncGenerator[T]:
        """From the first one on.

        Raises:
            AssistantError: it could not be made.
        """
        while True:
            while self._items:
                yield self._items.popleft()
            if self._ended:
                break
            await self._news.wait()
            self._news = anyio.Event()
        if self._error is not None:
            raise self._error


class Speculation:
    """The model's first reply to a question that may still go on, and the sound of its first sentence.

    Nothing of it is seen, stored, played or run until a turn adopts it, which it does only if its own request is the
    very same and the conversation has not changed. Whoever makes one runs it in a task, and cancels it if the words
    go on.

    Args:
        turn: as the turn that may come will be; it is not started.
        holds: whether the conversation is still as it was when this was made.
    """

    def __init__(self, parts: Parts, turn: Turn, holds: Callable[[], bool]) -> None:
        self.text = turn.text
        """The question."""
        self.session = turn.session
        """The conversation; without an id, one that is still to be begun."""
        self._holds = holds
        self.sound: Stock[AudioChunk] = Stock()
        """The first sentence of the reply."""
        self._sentence = ""
        self._parts = parts
        self._turn = turn
        self._request: ChatRequest | None = None
        self._history: History | None = None
        self._taken = False
        self._deltas: Stock[Delta] = Stock()
        self._asked = anyio.Event()
        self._scope = anyio.CancelScope()
        self._replying = anyio.CancelScope()

    async def run(self) -> None:
        """Ask the model, and speak under one's breath; an error waits for the turn."""
        error: AssistantError | None = None
        try:
            with self._scope:
                await self._run()
        except* AssistantError as group:
            error = next(leaves(group))
        finally:
            self._asked.set()
            self._deltas.end(error)
            self.sound.end(error)

    def cancel(self) -> None:
        """The words went on, or the turn is over."""
        self._scope.cancel()

    def is_for(self, command: Say) -> bool:
        """Whether that is the question that it answers, and nothing has happened since."""
        turn = self._turn
        same = (turn.text, turn.model, turn.persona) == (command.text.strip(), command.model, command.persona)
        return same and command.session_id in ("", turn.session.id) and self._holds()

    async def recalled(self) -> History | None:
        """What was said before, and the question; waits until it is known. None: it could not be read."""
        await self._asked.wait()
        return self._history

    async def began_with(self, request: ChatRequest) -> bool:
        """Whether this is the reply to that very request; waits until it has been asked."""
        if self._taken:
            return False
        await self._asked.wait()
        same = self._request == request and not self._scope.cancel_called
        if not same:
            self.cancel()
        return same

    @asynccontextmanager
    async def adopted(self) -> AsyncIterator[AsyncIterator[Delta]]:
        """The reply from its beginning on; leaving the block ends it, but not the sound. Can be had once.

        Raises:
            AssistantError: the model failed.
        """
        self._taken = True
        try:
            async with aclosing(self._deltas.all()) as deltas:
                yield deltas
        finally:
            self._replying.cancel()

    def speaks(self, sentence: str) -> bool:
        """Whether ``sound`` is that of a sentence; it can be had once."""
        found = bool(sentence) and self._sentence == sentence and not self._scope.cancel_called
        if found:
            self._sentence = ""
        return found

    async def _run(self) -> None:
        turn = self._turn
        async with anyio.create_task_group() as tasks, self._parts.pool.using("llm", model=turn.model) as ready:
            asking = Asking(self._parts, turn)
            await asking.prepare(ready)
            self._history = await asking.history()
            self._request = asking.first(self._history)
            self._asked.set()
            splitter, sentences = SentenceSplitter(), list[str]()
            with self._replying:
                stream = ready.lane.stream(ready.key, LanguageModel.generate, self._request, priority=Priority.SPEECH)
                async with stream as deltas:
                    async for delta in deltas:
                        self._deltas.add(delta)
                        if not sentences and (sentences := splitter.feed(delta.text)):
                            self._begin(sentences[0], tasks)
            self._deltas.end()
            if not sentences and (sentences := splitter.flush()):
                self._begin(sentences[0], tasks)

    def _begin(self, sentence: str, tasks: TaskGroup) -> None:
        self._sentence = sentence
        tasks.start_soon(self._speak, sentence)

    async def _speak(self, sentence: str) -> None:
        async with self._parts.pool.using("tts") as voice:
            async for chunk in speak_sentence(voice, sentence, self._parts.settings.tts.voice):
                self.sound.add(chunk)
        self.sound.end()
