"""From a chat request to the tokens of the model's own chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from assistant import ChatRequest, Message, ModelError, ToolSchema


def tool_specs(tools: Iterable[ToolSchema]) -> list[dict[str, Any]]:
    """The tools in the shape that chat templates and mlx-lm's parsers expect, which is OpenAI's."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]


def render(tokenizer: Any, request: ChatRequest) -> list[int]:
    """The prompt in tokens, ending where the answer begins.

    A template that refuses the conversation (no system role, or roles that must alternate: Gemma, Mistral) gets it
    once more in the form that every template takes. Without a system message a template may bring its own.

    Raises:
        ModelError: the template refuses that too, or there is nothing to answer.
    """
    from jinja2 import TemplateError

    if not request.messages:
        raise ModelError("there is no message to answer", hint="send at least one user message")
    options: dict[str, Any] = {"add_generation_prompt": True}
    if request.tools and tokenizer.has_tool_calling:
        options["tools"] = tool_specs(request.tools)
    structured = _structured(request.messages) if tokenizer.has_tool_calling else plain(request.messages)
    try:
        return list(tokenizer.apply_chat_template(structured, **options))
    except TemplateError:
        pass
    try:
        return list(tokenizer.apply_chat_template(alternating(request.messages), **options))
    except TemplateError as error:
        raise ModelError(
            f"the model's chat template refuses the conversation: {error}",
            hint="its tokenizer_config.json or chat_template.jinja is at fault; try another conversion of the model",
        ) from error


def _structured(messages: Iterable[Message]) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    rendered: list[dict[str, Any]] = []
    for message in _one_system(messages):
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            names |= {call.id: call.name for call in message.tool_calls}
            entry["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
        if message.role == "tool":
            entry |= {"tool_call_id": message.tool_call_id, "name": names.get(message.tool_call_id, "")}
        rendered.append(entry)
    return rendered


def plain(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The conversation for a template without tools: calls and results become words."""
    rendered: list[dict[str, Any]] = []
    for message in _one_system(messages):
        if message.role == "tool":
            rendered.append({"role": "user", "content": f"The tool answered: {message.content}"})
            continue
        calls = [f"I call {call.name} with {json.dumps(call.arguments)}." for call in message.tool_calls]
        content = "\n".join([message.content, *calls] if message.content else calls)
        if content or message.role == "user":
            rendered.append({"role": message.role, "content": content})
    return rendered


def alternating(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """User and assistant by turns, beginning with the user: the system message joins the first user message."""
    turns: list[dict[str, Any]] = []
    for entry in plain(messages):
        role = "user" if entry["role"] == "system" else entry["role"]
        if not turns and role == "assistant":
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n\n" + entry["content"]
        else:
            turns.append({"role": role, "content": entry["content"]})
    return turns


def _one_system(messages: Iterable[Message]) -> list[Message]:
    messages = list(messages)
    system = "\n\n".join(message.content for message in messages if message.role == "system" and message.content)
    others = [message for message in messages if message.role != "system"]
    return [Message(role="system", content=system), *others] if system else others
