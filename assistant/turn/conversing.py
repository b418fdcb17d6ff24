"""The model's part of a turn: replies and tool calls by turns, until there is an answer."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio import to_thread

from assistant import events
from assistant.engines import ChatRequest, Delta, LanguageModel, Message, ToolCall, ToolSchema
from assistant.errors import ContextOverflow, EngineFailed
from assistant.finetune import resolve_adapter
from assistant.lanes import Priority
from assistant.store import STORE, Store

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
        self._offered = self._offers()
        self._adapter = ""
        self._holds = turn.schema is not None and bool(self._offered)
        """Text may turn out to come before a tool call, and is no JSON then."""

    async def run(self) -> None:
        """The whole answer, spoken through ``say``.

        Raises:
            ContextOverflow: the question alone is too long for the model.
            ModelError: the model or the adapter cannot be had.
            EngineFailed: what came is not the JSON that was asked for, or the model never answers.
        """
        async with self._parts.pool.using("llm", model=self._turn.model) as ready:
            self._adapter = await to_thread.run_sync(self._adapter_folder, ready)
            await self._converse(ready)

    async def _converse(self, ready: Ready) -> None:
        parts = self._parts
        system = Message(role="system", content=self._system())
        history = await self._history()
        replies: list[Message] = []
        for number in itertools.count():
            last = number >= parts.settings.tools.max_rounds
            got = await self._generate(ready, system, history, replies, "none" if last else "auto")
            if last or not got.calls:
                await self._end(got, ready)
                return
            told = "" if self._holds else got.text
            replies += reply(told, await self._tools.run_all(got.calls, number))

    def _adapter_folder(self, ready: Ready) -> str:
        """Where the adapter is; the configured one goes with the configured model only."""
        parts, turn = self._parts, self._turn
        own = parts.settings.llm.model or ready.engine.default_model or ready.engine.name
        model = turn.model or own
        name = turn.adapter or (parts.settings.llm.adapter if model == own else "")
        return str(resolve_adapter(parts.paths, name, model)) if name else ""

    def _offers(self) -> tuple[ToolSchema, ...]:
        turn, parts = self._turn, self._parts
        wanted = turn.tools if turn.tools is not None else turn.schema is None
        if not wanted or not parts.settings.tools.max_rounds:
            return ()
        return tuple(tool.schema() for _, tool in sorted(parts.plugins.tools.items()))

    def _system(self) -> str:
        parts = [self._parts.settings.assistant.system_prompt, *self._parts.plugins.prompt_parts(self._turn.session)]
        return "\n".join(part for part in parts if part)

    async def _history(self) -> History:
        turn, parts = self._turn, self._parts
        rows = await parts.db.call(STORE, Store.window, turn.session.id, parts.settings.llm.history_messages)
        return History(rows, parts.windows.get((turn.session.id, turn.model), 0))

    async def _generate(
        self, ready: Ready, system: Message, history: History, replies: list[Message], tool_choice: str
    ) -> Reply:
        """One reply of the model; the oldest messages are left out until the prompt fits its context."""
        while True:
            request = self._request((system, *history.messages(), *replies), tool_choice)
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

    def _request(self, messages: tuple[Message, ...], tool_choice: str) -> ChatRequest:
        settings, turn = self._parts.settings.llm, self._turn
        budget = None if settings.reasoning_budget < 0 else settings.reasoning_budget
        return ChatRequest(
            messages=messages,
            tools=self._offered,
            tool_choice=tool_choice,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            min_p=settings.min_p,
            repetition_penalty=settings.repetition_penalty,
            schema=turn.schema,
            adapter=self._adapter,
            reasoning_budget=0 if turn.spoken else budget,
            urgent=turn.source == "voice",
        )

    async def _stream(self, ready: Ready, request: ChatRequest) -> Reply:
        turn, got = self._turn, Reply()
        priority = Priority.SPEECH if turn.source == "voice" else Priority.CONVERSATION
        async with ready.lane.stream(ready.key, LanguageModel.generate, request, priority=priority) as deltas:
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
