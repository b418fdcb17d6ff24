"""The tool calls of a turn: reviewed, run side by side, told and stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio

from assistant import events
from assistant.store import Store
from assistant.toolbox import ToolOutcome, call_tool
from assistant.wire import StoredToolCall

if TYPE_CHECKING:
    from assistant.engines import ToolCall
    from assistant.tools import Tool

    from .journal import Journal
    from .state import Parts, Turn


class ToolCalls:
    """Runs the tool calls of one turn; a call that cannot run is answered with the reason."""

    def __init__(
        self, parts: Parts, turn: Turn, journal: Journal, publish: Callable[[events.Event], None]
    ) -> None:
        self._parts = parts
        self._turn = turn
        self._journal = journal
        self._publish = publish

    async def run_all(self, calls: Sequence[ToolCall], round_number: int) -> list[StoredToolCall]:
        """The calls of one reply, all at once; the results in the order of the calls."""
        records: dict[int, StoredToolCall] = {}

        async def run(place: int, call: ToolCall) -> None:
            records[place] = await self.run(call, "model", round_number, place)

        async with anyio.create_task_group() as tasks:
            for place, call in enumerate(calls):
                tasks.start_soon(run, place, call)
        return [records[place] for place in range(len(calls))]

    async def run(
        self, call: ToolCall, origin: events.ToolOrigin, round_number: int = 0, place: int = 0
    ) -> StoredToolCall:
        """One call, told before and after, and stored."""
        parts, written = self._parts, len(self._turn.answer)
        tool = parts.plugins.tools.get(call.name)
        refusal = self._refusal(call, tool)
        self._publish(events.ToolCallStarted(call_id=call.id, tool=call.name, arguments=call.arguments, origin=origin))
        if tool is None or refusal:
            outcome = ToolOutcome(ok=False, result=refusal, seconds=0.0)
        else:
            outcome = await call_tool(tool, call, parts.settings.tools.timeout_seconds)
        self._publish(
            events.ToolCallFinished(
                call_id=call.id, tool=call.name, ok=outcome.ok, result=outcome.result, seconds=outcome.seconds
            )
        )
        record = StoredToolCall(
            id=call.id, tool=call.name, arguments=call.arguments, result=outcome.result, ok=outcome.ok,
            seconds=outcome.seconds, origin=origin, round=round_number, place=place, text_before=written,
        )  # fmt: skip
        self._journal.write(Store.add_tool_call, self._turn.id, record)
        return record

    def _refusal(self, call: ToolCall, tool: Tool | None) -> str:
        """Why a call does not run; empty if it may."""
        if call.error:
            return f"The call did not run: {call.error}"
        if tool is None:
            return f"There is no tool named {call.name!r}."
        verdict = self._parts.plugins.review(call, self._turn.session)
        if verdict is None or verdict.decision == "allow":
            return ""
        why = "it needs an approval that nobody can give here" if verdict.decision == "ask" else "it is denied"
        return f"The call of {call.name!r} did not run: {why}. {verdict.reason}".strip()
