"""The model's part of a turn: replies and tool calls by turns, until there is an answer."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assistant import events
from assistant.engines import ChatRequest, Delta, LanguageModel, Message, ToolCall
from assistant.errors import ContextOverflow, EngineFailed

from .asking import Asking
from .prompting import SEPARATOR, History, reply

if TYPE_CHECKING:
    from assistant.pool import Ready

    from .calling import ToolCalls
    from .state import Parts, Turn

MAX_WINDOWS = 1000
"""How many conversations' beginnings are remembered."""


@dataclass
class Reply:
    """What the model said at once."""

    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str = ""


class Conversing:
    """Asks the model until it answers.

    Args:
        say: takes a piece of the answer.
    """

    def __init__(
        self,
        parts: Parts,
        turn: Turn,
        tools: ToolCalls,
        publish: Callable[[events.Event], None],
        say: Callable[[str], Awaitable[None]],
    ) -> None:
        self._parts = parts
        self._turn = turn
        self._tools = tools
        self._publish = publish
        self._say = say
        self._asking = Asking(parts, turn)
        self._history = History(())
        self._holds = turn.schema is not None and bool(self._asking.offered)
        """Text may turn out to come before a tool call, and is no JSON then."""

    async def recall(self) -> None:
        """Read what was said before, unless an answer begun ahead has done so."""
        ahead = self._turn.voice.ahead if self._turn.voice is not None else None
        known = await ahead.recalled() if ahead is not None else None
        self._history = known or await self._asking.history()

    async def run(self) -> None:
        """The whole answer, spoken through ``say``; ``recall`` comes first.

        Raises:
            ContextOverflow: the question alone is too long for the model.
            ModelError: the model or the adapter cannot be had.
            EngineFailed: what came is not the JSON that was asked for, or the model never answers.
        """
        async with self._parts.pool.using("llm", model=self._turn.model) as ready:
            await self._asking.prepare(ready)
            await self._converse(ready)

    async def _converse(self, ready: Ready) -> None:
        parts, history = self._parts, self._history
        replies: list[Message] = []
        for number in itertools.count():
            last = number >= parts.settings.tools.max_rounds
            got = await self._generate(ready, history, replies, last)
            if last or not got.calls:
                await self._end(got, ready)
                return
            told = "" if self._holds else got.text
            replies += reply(told, await self._tools.run_all(got.calls, number))

    async def _generate(self, ready: Ready, history: History, replies: list[Message], last: bool) -> Reply:
        """One reply of the model; the oldest messages are left out until the prompt fits its context."""
        while True:
            request = self._asking.request([*history.messages(), *replies], "none" if last else "auto")
            try:
                got = await self._stream(ready, request)
            except ContextOverflow:
                if not history.shorten():
                    raise
                continue
            if history.shortened:
                self._remember(history)
            return got

    def _remember(self, history: History) -> None:
        windows, key = self._parts.windows, (self._turn.session.id, self._turn.model)
        windows.pop(key, None)
        windows[key] = history.first
        if len(windows) > MAX_WINDOWS:
            del windows[next(iter(windows))]

    async def _stream(self, ready: Ready, request: ChatRequest) -> Reply:
        turn, got = self._turn, Reply()
        ahead = turn.voice.ahead if turn.voice is not None else None
        stream: AbstractAsyncContextManager[AsyncIterator[Delta]]
        if ahead is not None and await ahead.began_with(request):
            stream = ahead.adopted()
        else:
            stream = ready.lane.stream(ready.key, LanguageModel.generate, request, priority=turn.priority)
        async with stream as deltas:
            async for delta in deltas:
                await self._on_delta(delta, got)
        turn.mark("model")
        return got

    async def _on_delta(self, delta: Delta, got: Reply) -> None:
        turn = self._turn
        if delta.tool_call is not None:
            got.calls.append(delta.tool_call)
        if delta.text:
            await self._on_text(delta.text, got)
        if delta.reasoning:
            self._publish(events.ReasoningDelta(text=delta.reasoning))
        if delta.finish_reason:
            got.finish_reason = delta.finish_reason
            turn.prompt_tokens += delta.prompt_tokens
            turn.output_tokens += delta.output_tokens
            turn.cached_tokens += delta.cached_tokens
        elif delta.prompt_tokens:
            done = max(delta.prompt_done, delta.cached_tokens)
            self._publish(events.PromptProgressed(done=done, total=delta.prompt_tokens))

    async def _on_text(self, text: str, got: Reply) -> None:
        self._turn.mark("first_token")
        if not self._holds:
            if not got.text and self._turn.answer.strip():
                await self._say(SEPARATOR)
            await self._say(text)
        got.text += text

    async def _end(self, got: Reply, ready: Ready) -> None:
        """See that the last reply is an answer."""
        name, turn = ready.engine.name, self._turn
        if turn.schema is None:
            if got.calls and not got.text:
                raise EngineFailed(
                    f"the model asked for tools {self._parts.settings.tools.max_rounds} times and never answered",
                    hint="allow it more with `[tools] max_rounds`, or ask with --no-tools",
                )
            return
        if got.finish_reason == "length":
            raise EngineFailed(
                "the answer was cut off before its JSON was whole",
                hint="allow more with `[llm] max_tokens`, ask with --new, or limit the schema's strings and arrays",
            )
        try:
            json.loads(got.text, parse_constant=_refuse)
        except (ValueError, RecursionError) as problem:
            raise EngineFailed(
                f"the engine {name} was asked for JSON and wrote something else ({problem})",
                hint="choose an engine that enforces schemas, such as mlx",
            ) from None
        if self._holds:
            await self._say(got.text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
