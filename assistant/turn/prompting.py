"""What the model reads, in a form that grows only at its end.

An engine remembers the prompts that it has read, and reads on where the next one differs. So the prompt of a turn
begins with the whole prompt of the turn before, answers and tool calls included, and where old messages must go, many
go at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from assistant.engines import Message, ToolCall
from assistant.wire import StoredMessage, StoredToolCall

INTERRUPTED_NOTE = "[interrupted]"
"""Ends an answer that was cut off, when the model reads the history."""
SEPARATOR = "\n"
"""Stands in the user's answer between what the model wrote before a tool call and after it."""
REPEATED = 500
"""Characters; a longer result of an intent is not read twice, once as the result and once as the answer."""
REPEATED_NOTE = "(the answer that follows)"


class History:
    """The stored messages that a prompt begins with; the last of them is the open question."""

    def __init__(self, rows: Sequence[StoredMessage], first: int = 0) -> None:
        """
        Args:
            first: the id of the oldest message that is read.
        """
        self._rows = [row for row in rows[:-1] if row.id >= first] + list(rows[-1:])
        self.shortened = False
        """Whether ``shorten`` left something out."""

    @property
    def first(self) -> int:
        """The id of the oldest message that is read; 0 if there is none."""
        return self._rows[0].id if self._rows else 0

    def messages(self) -> list[Message]:
        """The conversation as the model reads it."""
        return as_prompt(self._rows)

    def shorten(self) -> bool:
        """Leave out the oldest: the largest power of two that leaves at least half. False: only the question is left.

        Whoever keeps ``first`` for the next turn finds the beginning unchanged for as long as the rest fits.
        """
        earlier = len(self._rows) - 1
        if earlier < 1:
            return False
        self.shortened = True
        del self._rows[: 1 << max(0, (earlier // 2).bit_length() - 1)]
        return True


def as_prompt(rows: Iterable[StoredMessage]) -> list[Message]:
    """Each turn's question, its tool calls with their results, and its answer; failed turns are left out."""
    messages: list[Message] = []
    for _, turn in groupby(rows, key=lambda row: row.turn_id):
        messages += _turn(list(turn))
    return messages


def _turn(rows: list[StoredMessage]) -> Iterator[Message]:
    question, last = rows[0], rows[-1]
    if question.role != "user" or question.state in ("failed", "interrupted"):
        return
    yield Message(role="user", content=question.text)
    if question.state == "running":
        return
    answer = last.text if last.role == "assistant" else ""
    begin = 0
    for _, calls in groupby(last.tool_calls, key=lambda call: call.round):
        asked = list(calls)
        yield from reply(_piece(answer, begin, asked[0].text_before), [_told_once(call, answer) for call in asked])
        begin = asked[0].text_before
    ending = _piece(answer, begin, len(answer))
    if question.state == "cancelled":
        ending = f"{ending} {INTERRUPTED_NOTE}" if ending else INTERRUPTED_NOTE
    yield Message(role="assistant", content=ending)


def reply(text: str, calls: Sequence[StoredToolCall]) -> list[Message]:
    """A reply of the model that asked for tools, and their results."""
    asked = tuple(ToolCall(id=call.id, name=call.tool, arguments=call.arguments) for call in calls)
    results = [Message(role="tool", content=call.result, tool_call_id=call.id) for call in calls]
    return [Message(role="assistant", content=text, tool_calls=asked), *results]


def _piece(answer: str, begin: int, end: int) -> str:
    """What the model wrote in one reply, without the separator that only the user sees."""
    text = answer[begin:end]
    return text.removeprefix(SEPARATOR) if answer[:begin].strip() else text


def _told_once(call: StoredToolCall, answer: str) -> StoredToolCall:
    if call.origin == "model" or call.result != answer or len(answer) <= REPEATED:
        return call
    return StoredToolCall(
        id=call.id, tool=call.tool, arguments=call.arguments, result=REPEATED_NOTE, ok=call.ok, seconds=call.seconds
    )
