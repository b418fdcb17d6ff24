"""From the tokens of one answer to deltas: text, reasoning, tool calls."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from assistant import ChatRequest, Delta, ToolCall

from .prompt import tool_specs
from .reader import Markers, Piece, Reader

if TYPE_CHECKING:
    from .batch import Prefilled, Sequence, SharedBatch, Token

log = logging.getLogger(__name__)


class Answer:
    """One answer on its way from tokens to deltas."""

    def __init__(self, tokenizer: Any, request: ChatRequest, prompt: list[int]) -> None:
        self._tokenizer = tokenizer
        self._tools = tool_specs(request.tools)
        self._detokenizer = tokenizer.detokenizer
        thinks = tokenizer.has_thinking
        calls = bool(request.tools) and tokenizer.has_tool_calling
        self._markers = Markers(
            think_start=tokenizer.think_start if thinks else "",
            think_end=tokenizer.think_end if thinks else "",
            tool_start=tokenizer.tool_call_start if calls else "",
            tool_end=(tokenizer.tool_call_end or "") if calls else "",
        )
        # Some templates open the reasoning themselves, at the end of the prompt.
        thinking = thinks and tokenizer.rfind_think_start(prompt) > tokenizer.rfind_think_end(prompt)
        self._reader = Reader(self._markers, request.stop, reasoning=thinking)
        self._prompt_tokens = len(prompt)
        self._output_tokens = 0
        self._called = False

    def deltas(self, batch: SharedBatch, sequence: Sequence) -> Iterator[Delta]:
        """All of it, one shared step a ``next()``."""
        from .batch import Token

        end = ""
        while not end:
            step = batch.take(sequence)
            if not isinstance(step, Token):
                yield self._progress(step)
                continue
            pieces = self._read(step)
            end = "stop" if self._reader.stopped else step.end
            yield from self._told(pieces)
        yield Delta(
            prompt_done=self._prompt_tokens,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
            finish_reason="length" if end == "length" else "tool_calls" if self._called else "stop",
        )

    def _progress(self, step: Prefilled | None) -> Delta:
        return Delta(prompt_done=step.done if step else 0, prompt_tokens=self._prompt_tokens)

    def _read(self, step: Token) -> list[Piece]:
        self._output_tokens += 1
        if step.end != "stop":
            self._detokenizer.add_token(step.id)
        if not step.end:
            return self._reader.feed(self._detokenizer.last_segment)
        self._detokenizer.finalize()
        # What is left of a character that was cut off decodes to replacement characters.
        pieces = self._reader.feed(self._detokenizer.last_segment.rstrip("\ufffd"))
        return pieces + self._reader.finish()

    def _told(self, pieces: list[Piece]) -> Iterator[Delta]:
        if not pieces:
            yield Delta()
        for piece in pieces:
            if piece.kind == "reasoning":
                yield Delta(reasoning=piece.text)
            elif piece.kind == "text":
                yield Delta(text=piece.text)
            else:
                yield from self._call(piece.text)

    def _call(self, body: str) -> Iterator[Delta]:
        try:
            parsed = self._tokenizer.tool_parser(body, self._tools)
            calls = [_tool_call(call) for call in (parsed if isinstance(parsed, list) else [parsed])]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, SyntaxError) as error:
            log.warning("the model wrote a tool call that cannot be read (%s)", error)
            yield Delta(text=f"{self._markers.tool_start}{body}{self._markers.tool_end}")
            return
        self._called = True
        for call in calls:
            yield Delta(tool_call=call)


def _tool_call(parsed: dict[str, Any]) -> ToolCall:
    arguments = parsed.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(parsed["name"], str) or not isinstance(arguments, dict):
        raise ValueError("a call needs a name and an object of arguments")
    return ToolCall(id=str(parsed.get("id") or uuid.uuid4().hex), name=parsed["name"], arguments=arguments)
