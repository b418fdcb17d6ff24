"""From the tokens of one answer to deltas: text, reasoning, tool calls."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from assistant import ChatRequest, Delta, ToolCall

from .reader import Markers, Piece, Reader
from .toolcalls import Dialect

log = logging.getLogger(__name__)


class Answer:
    """One answer on its way from tokens to deltas: ``feed()`` every token, then ``last()``.

    Args:
        tokenizer: mlx-lm's.
        prompt: the tokens the answer follows.
        dialect: how this model writes tool calls.
    """

    def __init__(self, tokenizer: Any, request: ChatRequest, prompt: list[int], dialect: Dialect) -> None:
        self._dialect = dialect
        self._detokenizer = tokenizer.detokenizer
        thinks, calls = tokenizer.has_thinking, dialect.calls
        markers = Markers(
            think_start=tokenizer.think_start if thinks else "",
            think_end=tokenizer.think_end if thinks else "",
            tool_start=dialect.start if calls else "",
            tool_end=dialect.end if calls else "",
            others=dialect.others if calls else (),
            # With a schema, a brace begins the answer that was asked for.
            quoted=dialect.style in ("own", "json_tools", "pythonic"),
            bare=dialect.bare if calls and (request.schema is None or dialect.forced) else "",
        )
        self._reader = Reader(markers, request.stop, reasoning=thinks and opened(tokenizer, prompt))
        self._prompt_tokens = len(prompt)
        self._output_tokens = 0
        self._called = False

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended the answer."""
        return self._reader.stopped

    def feed(self, token: int, end: str) -> list[Delta]:
        """What a token brings: an empty delta if it shows nothing yet.

        Args:
            end: ``stop`` if it is the model's end token, ``length`` if there are no more, else empty.
        """
        self._output_tokens += 1
        if end != "stop":
            self._detokenizer.add_token(token)
        if end:
            self._detokenizer.finalize()
        text = self._detokenizer.last_segment
        # What is left of a character that was cut off decodes to replacement characters.
        pieces = self._reader.feed(text.rstrip("\ufffd") if end else text)
        if end:
            pieces += self._reader.finish()
        return [delta for piece in pieces for delta in self._told(piece, end)] or [Delta()]

    def last(self, end: str, cached: int = 0, drafted: int = 0) -> Delta:
        """The delta that ends the answer.

        Args:
            end: as ``feed()`` was told last; ignored after a stop string.
            cached: prompt tokens that were known.
            drafted: tokens of the answer that a draft model had guessed.
        """
        cut = end == "length" and not self.stopped
        return Delta(
            prompt_done=self._prompt_tokens,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
            cached_tokens=cached,
            drafted_tokens=drafted,
            finish_reason="tool_calls" if self._called else "length" if cut else "stop",
        )

    def _told(self, piece: Piece, end: str) -> list[Delta]:
        if piece.kind == "reasoning":
            return [Delta(reasoning=piece.text)]
        if piece.kind == "text":
            return [Delta(text=piece.text)]
        calls = self._dialect.read(piece.text, cut=end == "length", whole=piece.kind != "cut")
        if piece.kind == "bare" and all(call.error and call.name not in self._names() for call in calls):
            return [Delta(text=piece.text)]
        return [self._call(call, piece.text) for call in calls]

    def _call(self, call: ToolCall, body: str) -> Delta:
        self._called = True
        if call.error:
            log.warning("the model wrote a tool call of %s that cannot be run", call.name or "no known tool")
            call = msgspec.structs.replace(call, text=body.encode("utf-8", "replace").decode())
        return Delta(tool_call=call)

    def _names(self) -> set[str]:
        return {tool.name for tool in self._dialect.tools}


def opened(tokenizer: Any, prompt: list[int]) -> bool:
    """Whether the prompt itself opens the reasoning, as some templates do at their end."""
    return bool(tokenizer.rfind_think_start(prompt) > tokenizer.rfind_think_end(prompt))
