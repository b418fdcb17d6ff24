"""From a model's deltas to OpenAI's answer: whole, or piece by piece."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET

from assistant import __version__
from assistant.engines import Delta, ToolCall

from .shapes import (
    AnswerDelta,
    AnswerMessage,
    BadToolCall,
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    DeltaToolCall,
    FinishReason,
    FunctionCall,
    MessageToolCall,
    PromptDetails,
    Usage,
)

FINGERPRINT = f"assistant-{__version__}"


@dataclass
class Answer:
    """An answer as far as it has come.

    Args:
        model: how the answer names it.
        one_call: it is complete after its first tool call.
    """

    model: str
    one_call: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    bad_calls: list[BadToolCall] = field(default_factory=list)
    prompt_done: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    end: str = ""
    """Why it ended; empty while it goes on."""

    def take(self, delta: Delta) -> AnswerDelta | None:
        """Add a delta; what of it the client is to see."""
        seen = bool(delta.text or delta.reasoning or delta.tool_call)
        self.prompt_done = max(self.prompt_done, delta.prompt_done)
        self.prompt_tokens = delta.prompt_tokens or self.prompt_tokens
        self.output_tokens = delta.output_tokens or self.output_tokens + seen
        self.cached_tokens = delta.cached_tokens or self.cached_tokens
        self.end = delta.finish_reason
        if delta.tool_call is not None:
            return self._call(delta.tool_call, delta.text)
        if delta.text:
            self.text.append(delta.text)
        if delta.reasoning:
            self.reasoning.append(delta.reasoning)
        if not seen:
            return None
        reasoning = delta.reasoning or UNSET
        return AnswerDelta(content=delta.text or UNSET, reasoning=reasoning, reasoning_content=reasoning)

    @property
    def finish_reason(self) -> FinishReason:
        """As OpenAI says it: there are calls to run, or there are none."""
        if self.end == "length":
            return "length"
        return "tool_calls" if self.calls else "stop"

    def usage(self) -> Usage:
        """Tokens so far; of an answer that was ended early, those of which something was seen."""
        return Usage(
            prompt_tokens=self.prompt_tokens, completion_tokens=self.output_tokens,
            total_tokens=self.prompt_tokens + self.output_tokens,
            prompt_tokens_details=PromptDetails(cached_tokens=self.cached_tokens),
        )  # fmt: skip

    def completion(self) -> Completion:
        """The whole answer."""
        reasoning = "".join(self.reasoning) or UNSET
        content = "".join(self.text)
        calls = [MessageToolCall(id=call.id, function=_function(call)) for call in self.calls]
        message = AnswerMessage(
            content=content if content or not calls else None, reasoning=reasoning, reasoning_content=reasoning,
            tool_calls=calls or UNSET, tool_call_errors=self.bad_calls or UNSET,
        )  # fmt: skip
        return Completion(
            id=self.id, created=self.created, model=self.model, usage=self.usage(), system_fingerprint=FINGERPRINT,
            choices=[Choice(message=message, finish_reason=self.finish_reason)],
        )  # fmt: skip

    def chunk(self, delta: AnswerDelta, *, last: bool = False, counted: bool = False) -> Chunk:
        """A piece of the answer as a message of the stream.

        Args:
            counted: the stream will end with the usage, so that this message has none.
        """
        choice = ChunkChoice(delta=delta, finish_reason=self.finish_reason if last else None)
        return self._chunk([choice], None if counted else UNSET)

    def usage_chunk(self) -> Chunk:
        """The message with the usage."""
        return self._chunk([], self.usage())

    def _chunk(self, choices: list[ChunkChoice], usage: Usage | msgspec.UnsetType | None) -> Chunk:
        return Chunk(id=self.id, created=self.created, model=self.model, choices=choices, usage=usage,
                     system_fingerprint=FINGERPRINT)  # fmt: skip

    def _call(self, call: ToolCall, text: str) -> AnswerDelta:
        if call.error:
            text += raw_text(call)
            self.text.append(text)
            self.bad_calls.append(BadToolCall(name=call.name, error=call.error))
            return AnswerDelta(content=text or UNSET, tool_call_errors=[self.bad_calls[-1]])
        if text:
            self.text.append(text)
        whole = DeltaToolCall(index=len(self.calls), id=call.id, function=_function(call))
        self.calls.append(call)
        if self.one_call:
            self.end = self.end or "tool_calls"
        return AnswerDelta(content=text or UNSET, tool_calls=[whole])


def raw_text(call: ToolCall) -> str:
    """A call that cannot be run, as the model wrote it; of an engine that does not tell, what is wrong with it."""
    return call.text or call.error


def _function(call: ToolCall) -> FunctionCall:
    return FunctionCall(call.name, msgspec.json.encode(call.arguments).decode())
