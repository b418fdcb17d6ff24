"""The fields of a chat completion request: those that count, those that cannot be honoured, those that do not matter.

Names and meanings: OpenAI's API reference, "Create chat completion"; what is not there is called an extension.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class Part(Struct, frozen=True):
    """A piece of a message's content; only text can be read."""

    type: str
    text: str = ""


class Function(Struct, frozen=True):
    """A call as it was answered earlier."""

    name: str
    arguments: str = ""
    """A JSON object."""


class Call(Struct, frozen=True):
    """A call of an earlier assistant message."""

    id: str
    function: Function
    type: Literal["function"] = "function"


class ChatMessage(Struct, frozen=True):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str = ""


class FunctionTool(Struct, frozen=True):
    """What a tool is called and takes."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolBody(Struct, frozen=True):
    """A tool that the client offers and will run."""

    type: str
    function: FunctionTool | None = None


class ChosenFunction(Struct, frozen=True):
    """The name of the tool that must be called."""

    name: str


class Chosen(Struct, frozen=True):
    """A tool choice that names one."""

    type: Literal["function"]
    function: ChosenFunction


class NamedSchema(Struct, frozen=True):
    """A JSON schema that the answer must satisfy."""

    schema: dict[str, Any] | None = None


class ResponseFormat(Struct, frozen=True):
    """The form that the answer must have."""

    type: str
    json_schema: NamedSchema | None = None


class StreamOptions(Struct, frozen=True):
    """What a stream carries besides the answer."""

    include_usage: bool = False


class TemplateOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the chat template, as vLLM and llama.cpp take them."""

    enable_thinking: bool | None = None


class ChatBody(Struct, frozen=True, kw_only=True):
    """The request."""

    model: str = ""
    messages: list[ChatMessage]
    tools: list[ToolBody] | None = None
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    """Extension; 0 for all."""
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Extension."""
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    """Extension; 1 is off."""
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    reasoning_effort: Effort | None = None
    reasoning_budget: Annotated[int, Meta(ge=-1)] | None = None
    """Extension: most tokens of reasoning; -1 for no limit."""
    chat_template_kwargs: TemplateOptions | None = None
    """Extension: ``{"enable_thinking": false}`` is ``reasoning_effort: "none"``."""
    adapter: str | None = None
    """Extension: the name of a LoRA adapter; empty for the model as it is."""


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
    "images": ([],),
    "functions": ([],),
    "function_call": ("none",),
    "web_search_options": (),
    "grammar": ("",),
    "json_schema": ({},),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    "adapters": (),
    "draft_model": (),
}
"""Fields that cannot be honoured, and the values (besides null) that ask for nothing; any other is refused."""

INSTEAD = {
    "functions": "use tools", "function_call": "use tool_choice", "grammar": "use response_format",
    "json_schema": "use response_format", "guided_json": "use response_format", "guided_regex": "use response_format",
    "guided_choice": "use response_format with an enum", "guided_grammar": "use response_format",
    "structured_outputs": "use response_format", "adapters": "use adapter with the name of one",
    "draft_model": "it is set in config.toml, [llm] draft_model", "n": "send the request n times: they run together",
    "frequency_penalty": "use repetition_penalty", "presence_penalty": "use repetition_penalty",
}  # fmt: skip
"""What does nearly the same as a refused field."""

IGNORED = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prompt_cache_options", "prediction", "verbosity", "moderation", "extra_body", "keep_alive", "ttl", "cache_prompt",
    "id_slot", "num_ctx", "add_generation_prompt", "continue_final_message", "return_progress", "timings_per_token",
})  # fmt: skip
"""Fields that change nothing about the answer here: bookkeeping, hints about speed, habits of other servers."""
