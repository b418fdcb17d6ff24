"""The request that a language model gets in a turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anyio import to_thread

from assistant.engines import ChatRequest, Message, ToolSchema
from assistant.finetune import resolve_adapter
from assistant.store import STORE, Store
from assistant.wire import StoredMessage

from .prompting import History

if TYPE_CHECKING:
    from assistant.pool import Ready

    from .state import Parts, Turn


class Asking:
    """Puts together what the model reads in one turn."""

    def __init__(self, parts: Parts, turn: Turn) -> None:
        self._parts = parts
        self._turn = turn
        self._adapter = ""
        self._system = self._told()
        self.offered = self._offers()
        """The tools that it may call."""

    async def prepare(self, ready: Ready) -> None:
        """Find the adapter; the configured one goes with the configured model only.

        Raises:
            ModelError: there is none of that name.
        """
        parts, turn = self._parts, self._turn
        own = parts.settings.llm.model or ready.engine.default_model or ready.engine.name
        model = turn.model or own
        if name := turn.adapter or (parts.settings.llm.adapter if model == own else ""):
            self._adapter = str(await to_thread.run_sync(resolve_adapter, parts.paths, name, model))

    async def history(self) -> History:
        """The conversation so far, which ends with the open question, stored or not."""
        turn, parts = self._turn, self._parts
        limit = parts.settings.llm.history_messages
        rows: list[StoredMessage] = []
        if turn.session.id:
            rows = await parts.db.call(STORE, Store.window, turn.session.id, limit, turn.id)
        newest = rows[-1].id if rows else 0
        rows.append(StoredMessage(
            id=newest + 1, turn_id=turn.id, role="user", text=turn.text, at=time.time(), state="running"
        ))  # fmt: skip
        return History(rows, parts.windows.get((turn.session.id, turn.model), 0))

    def request(self, conversation: Sequence[Message], tool_choice: str) -> ChatRequest:
        """All that the model needs for its next reply."""
        settings, turn = self._parts.settings.llm, self._turn
        budget = None if settings.reasoning_budget < 0 else settings.reasoning_budget
        return ChatRequest(
            messages=(Message(role="system", content=self._system), *conversation),
            tools=self.offered,
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

    def first(self, history: History) -> ChatRequest:
        """The request that a turn begins with."""
        return self.request(history.messages(), "auto" if self._parts.settings.tools.max_rounds else "none")

    def _offers(self) -> tuple[ToolSchema, ...]:
        turn, parts = self._turn, self._parts
        wanted = turn.tools if turn.tools is not None else turn.schema is None
        if not wanted or not parts.settings.tools.max_rounds:
            return ()
        return tuple(tool.schema() for _, tool in sorted(parts.plugins.tools.items()))

    def _told(self) -> str:
        own = self._turn.persona or self._parts.settings.assistant.system_prompt
        return "\n".join(part for part in (own, *self._parts.plugins.prompt_parts(self._turn.session)) if part)
