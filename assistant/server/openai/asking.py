"""From the body of a chat completion request to what a language model needs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from assistant.config import LlmSettings
from assistant.engines import ChatRequest, Message, ToolCall, ToolSchema

from .failures import Refused
from .fields import IGNORED, INSTEAD, NEUTRAL, ChatBody, ChatMessage, Chosen, Part, ResponseFormat, ToolBody

log = logging.getLogger(__name__)

MAX_STOPS = 16
"""Stop sequences; OpenAI takes 4."""
MAX_TOKENS = 1_000_000
"""Asking for a longer answer is asking for one without a limit."""
EFFORTS: dict[str, int | None] = {
    "none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": None,
}  # fmt: skip
"""Tokens of reasoning for each effort: the table of Gemini's OpenAI-compatible API; ``xhigh`` has no limit."""
CHOICES = frozenset({"auto", "none", "required"})
"""Tool choices that are no names."""
KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(ChatBody))
PLACE = re.compile(r" - at `(?:key in )?\$\.?(?P<path>.*)`$")
"""How msgspec says where a value is wrong."""


@dataclass(frozen=True)
class Ask:
    """A request, understood."""

    request: ChatRequest
    model: str
    """As the client named it."""
    adapter: str | None
    """The name of an adapter; empty for none, None for the configured one."""
    stream: bool
    usage: bool
    """Whether the stream ends with the numbers of tokens."""
    one_call: bool
    """Whether the answer ends after its first tool call."""


def read(content: bytes, settings: LlmSettings) -> Ask:
    """Understand a request; what it leaves open is as configured.

    Raises:
        Refused: it is malformed, or asks for something that would not be done.
    """
    raw = _decode(content)
    _check_fields(raw)
    try:
        body = msgspec.convert(raw, ChatBody)
    except msgspec.ValidationError as problem:
        text = str(problem)
        place = PLACE.search(text)
        param = place["path"] if place else ""
        message = text[: place.start()] if place else text
        raise Refused(f"{param}: {message}" if param else message, param=param) from problem
    return Ask(
        request=_request(body, settings), model=body.model.strip(), adapter=body.adapter, stream=bool(body.stream),
        usage=body.stream_options is not None and body.stream_options.include_usage,
        one_call=body.parallel_tool_calls is False,
    )  # fmt: skip


def _decode(content: bytes) -> dict[str, Any]:
    try:
        raw = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise Refused(f"the body is not JSON: {problem}") from problem
    if not isinstance(raw, dict):
        raise Refused("the body is not a JSON object", hint='send {"messages": [{"role": "user", "content": "hello"}]}')
    return raw


def _check_fields(raw: dict[str, Any]) -> None:
    for name, neutral in NEUTRAL.items():
        value = raw.get(name)
        if value is not None and not any(value == harmless for harmless in neutral):
            text = msgspec.json.encode(value).decode()[:60]
            raise Refused(
                f"{name}: {text} is not supported", param=name, kind="unsupported_parameter",
                hint=INSTEAD.get(name, "leave it out"),
            )  # fmt: skip
    unknown = sorted(raw.keys() - KNOWN - IGNORED - NEUTRAL.keys())
    if unknown:
        log.info("fields of a chat completion request that mean nothing here: %s", ", ".join(unknown)[:500])


def _request(body: ChatBody, settings: LlmSettings) -> ChatRequest:
    tools = tuple(_tools(body.tools or []))
    temperature = settings.temperature if body.temperature is None else body.temperature
    top_p = settings.top_p if body.top_p is None else body.top_p
    return ChatRequest(
        messages=tuple(_messages(body.messages)),
        tools=tools,
        max_tokens=min(body.max_completion_tokens or body.max_tokens or settings.max_tokens, MAX_TOKENS),
        temperature=temperature if top_p > 0 else 0.0,
        top_p=top_p or 1.0,
        top_k=settings.top_k if body.top_k is None else body.top_k,
        min_p=settings.min_p if body.min_p is None else body.min_p,
        repetition_penalty=body.repetition_penalty or settings.repetition_penalty,
        seed=body.seed,
        stop=_stops(body.stop),
        tool_choice=_choice(body, tools),
        schema=_schema(body.response_format),
        reasoning_budget=_budget(body, settings),
    )


def _messages(messages: Iterable[ChatMessage]) -> Iterator[Message]:
    called: set[str] = set()
    index = -1
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        calls = tuple(_calls(message, place))
        called |= {call.id for call in calls}
        if message.role == "tool" and message.tool_call_id not in called:
            param = f"{place}.tool_call_id"
            raise Refused(f"{param}: no tool call before it has the id {message.tool_call_id!r}", param=param,
                          hint="a tool message answers a call of an earlier assistant message")  # fmt: skip
        role = "system" if message.role == "developer" else message.role
        yield Message(role=role, content=_text(message.content, place), tool_calls=calls,
                      tool_call_id=message.tool_call_id if role == "tool" else "")  # fmt: skip
    if index < 0:
        raise Refused("messages: there is none", param="messages", hint="send one user message at least")


def _text(content: str | list[Part] | None, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for index, part in enumerate(content):
        if part.type != "text":
            param = f"{place}.content[{index}].type"
            raise Refused(f"{param}: {part.type!r} is not supported", param=param, kind="unsupported_value",
                          hint="this server reads text only")  # fmt: skip
    return "\n".join(part.text for part in content)


def _calls(message: ChatMessage, place: str) -> Iterator[ToolCall]:
    if message.tool_calls and message.role != "assistant":
        raise Refused(f"{place}.tool_calls: only an assistant message has them", param=f"{place}.tool_calls")
    for index, call in enumerate(message.tool_calls or ()):
        try:
            arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict[str, Any])
        except msgspec.DecodeError as problem:
            param = f"{place}.tool_calls[{index}].function.arguments"
            raise Refused(f"{param}: it is not a JSON object: {problem}", param=param) from problem
        yield ToolCall(id=call.id, name=call.function.name, arguments=arguments)


def _tools(tools: Iterable[ToolBody]) -> Iterator[ToolSchema]:
    names: set[str] = set()
    for index, tool in enumerate(tools):
        place = f"tools[{index}]"
        if tool.type != "function" or tool.function is None:
            param = f"{place}.type"
            raise Refused(f"{param}: {tool.type!r} is not supported", param=param, kind="unsupported_value",
                          hint='a tool is {"type": "function", "function": {"name", "parameters"}}')  # fmt: skip
        name = tool.function.name
        if name in names or name in CHOICES:
            reason = "it is there twice" if name in names else "this name means something else in tool_choice"
            raise Refused(f"{place}.function.name: {name!r}: {reason}", param=f"{place}.function.name")
        names.add(name)
        parameters = tool.function.parameters or {"type": "object", "properties": {}}
        yield ToolSchema(name=name, description=tool.function.description or "", parameters=parameters)


def _choice(body: ChatBody, tools: tuple[ToolSchema, ...]) -> str:
    names = [tool.name for tool in tools]
    match body.tool_choice:
        case Chosen(function=function):
            if function.name not in names:
                raise Refused(f"tool_choice: no tool is named {function.name!r}", param="tool_choice",
                              hint=f"there are: {', '.join(names) or 'none'}")  # fmt: skip
            return function.name
        case "required" if not tools:
            raise Refused("tool_choice: a call is required, and there are no tools", param="tool_choice")
        case choice:
            return choice or "auto"


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS:
        raise Refused(f"stop: {len(stops)} sequences; at most {MAX_STOPS} are looked for", param="stop")
    if "" in stops:
        raise Refused("stop: an empty sequence stops nothing", param="stop", hint="leave it out")
    return stops


def _schema(format: ResponseFormat | None) -> dict[str, Any] | None:
    match format:
        case None | ResponseFormat(type="text"):
            return None
        case ResponseFormat(type="json_object"):
            return {"type": "object"}
        case ResponseFormat(type="json_schema", json_schema=named):
            if named is None or named.schema is None:
                raise Refused("response_format.json_schema.schema: it is missing",
                              param="response_format.json_schema.schema")  # fmt: skip
            return named.schema
        case _:
            raise Refused(f"response_format.type: {format.type!r} is not supported", param="response_format.type",
                          kind="unsupported_value", hint="text, json_object or json_schema")  # fmt: skip


def _budget(body: ChatBody, settings: LlmSettings) -> int | None:
    if body.reasoning_budget is not None:
        return body.reasoning_budget if body.reasoning_budget >= 0 else None
    if body.reasoning_effort is not None:
        return EFFORTS[body.reasoning_effort]
    if body.chat_template_kwargs is not None and body.chat_template_kwargs.enable_thinking is False:
        return 0
    return settings.reasoning_budget if settings.reasoning_budget >= 0 else None
