"""The answers, field by field as OpenAI's clients expect them; what is not OpenAI's is called an extension."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

FinishReason = Literal["stop", "length", "tool_calls"]
State = Literal["ok", "loading", "unavailable"]


class FunctionCall(Struct, frozen=True):
    """What is called, with what."""

    name: str
    arguments: str
    """JSON."""


class MessageToolCall(Struct, frozen=True, kw_only=True):
    """A call that the client is to run."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class DeltaToolCall(Struct, frozen=True, kw_only=True):
    """A call in a stream; always whole."""

    index: int
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class BadToolCall(Struct, frozen=True, kw_only=True):
    """A call that the model wrote and nobody can run; its text is in the content."""

    name: str
    error: str


class AnswerMessage(Struct, frozen=True, kw_only=True):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning: str | UnsetType = UNSET
    """Extension; under both names that are in use."""
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[MessageToolCall] | UnsetType = UNSET
    tool_call_errors: list[BadToolCall] | UnsetType = UNSET
    """Extension."""


class AnswerDelta(Struct, frozen=True, kw_only=True):
    """A piece of the answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[DeltaToolCall] | UnsetType = UNSET
    tool_call_errors: list[BadToolCall] | UnsetType = UNSET


class Choice(Struct, frozen=True, kw_only=True):
    """The one answer."""

    index: int = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: FinishReason


class ChunkChoice(Struct, frozen=True, kw_only=True):
    """A piece of the one answer."""

    index: int = 0
    delta: AnswerDelta
    logprobs: None = None
    finish_reason: FinishReason | None = None


class PromptDetails(Struct, frozen=True, kw_only=True):
    """Of the prompt's tokens: how many were still known from an earlier one."""

    cached_tokens: int = 0


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Completion(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str


class Chunk(Struct, frozen=True, kw_only=True):
    """A message of a stream; the one with ``usage`` has no choices."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    system_fingerprint: str


class Model(Struct, frozen=True, kw_only=True):
    """A model that may be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """Unix time in seconds."""
    owned_by: str = "assistant"


class ModelList(Struct, frozen=True, kw_only=True):
    """All of them; the configured one first."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(Struct, frozen=True, kw_only=True):
    """Whether an answer can be had."""

    status: State
    model: str
    """The configured one."""
    lane: str
    """The state of the lane that it runs on; ``down`` is idle."""
    requests: int
    """Running now."""
    detail: str = ""
    """Why there is none."""
