"""From a chat request to the tokens of the model's own chat template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from assistant import ChatRequest, Message, ModelError, ToolCall

from .toolcalls import OWN_MARKERS, Dialect, short_id

Entries = list[dict[str, Any]]


class Prompt(NamedTuple):
    """What the model reads."""

    tokens: list[int]
    """Ends where the answer begins."""
    boundaries: list[int]
    """Token counts up to which other prompts will be the same: those of other conversations (0 if that cannot be told),
    and that of this conversation's next turn, where it can be told."""


def render(tokenizer: Any, request: ChatRequest, dialect: Dialect) -> Prompt:
    """The prompt in tokens.

    A template that refuses the conversation (no system role, or roles that must alternate: Gemma, Mistral) gets it
    once more in the form that every template takes. Without a system message a template may bring its own.

    Raises:
        ModelError: the template refuses that too, or there is nothing to answer.
    """
    from jinja2 import TemplateError

    if not request.messages:
        raise ModelError("there is no message to answer", hint="send at least one user message")
    options: dict[str, Any] = {"add_generation_prompt": True}
    if dialect.native and dialect.tools:
        options["tools"] = dialect.specs
    if request.reasoning_budget == 0 and tokenizer.has_thinking:
        options["enable_thinking"] = False

    def preferred(messages: Iterable[Message]) -> list[int]:
        if dialect.native:
            entries = _structured(messages, dialect)
        else:
            entries = tagged(messages, dialect) if dialect.style else plain(messages)
        return list(tokenizer.apply_chat_template(entries, **options))

    def by_turns(messages: Iterable[Message]) -> list[int]:
        entries = tagged(messages, dialect) if dialect.style == "own" else plain(messages)
        return list(tokenizer.apply_chat_template(_joined(entries), **options))

    try:
        return _with_boundaries(preferred, request.messages)
    except TemplateError:
        pass
    try:
        return _with_boundaries(by_turns, request.messages)
    except TemplateError as error:
        raise ModelError(
            f"the model's chat template refuses the conversation: {error}",
            hint="its tokenizer_config.json or chat_template.jinja is at fault; try another conversion of the model",
        ) from error


def _with_boundaries(form: Callable[[Iterable[Message]], list[int]], messages: tuple[Message, ...]) -> Prompt:
    tokens = form(messages)
    system = [message for message in messages if message.role == "system"]
    first = next((message.content.lstrip() for message in messages if message.role == "user"), "")
    other = Message(role="user", content="1" if first.startswith("0") else "0")
    shared = _alike(form, tokens, [*system, other])
    further = [Message(role="assistant", content="0"), Message(role="user", content="0")]
    next_turn = _alike(form, tokens, [*messages, *further])
    return Prompt(tokens, [shared, *([next_turn] if next_turn > shared else [])])


def _alike(form: Callable[[Iterable[Message]], list[int]], tokens: list[int], messages: list[Message]) -> int:
    """How far the prompt of these messages begins with the same tokens; the last token is always left to be read."""
    from jinja2 import TemplateError

    try:
        other = form(messages)
    except TemplateError:
        return 0
    pairs = zip(tokens[:-1], other, strict=False)
    return next((at for at, (one, two) in enumerate(pairs) if one != two), min(len(tokens) - 1, len(other)))


def _structured(messages: Iterable[Message], dialect: Dialect) -> Entries:
    """As templates that know tools take it."""
    messages = _one_system(messages)
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    identity = short_id if dialect.style.startswith("mistral") else str
    rendered: Entries = []
    for message in _one_at_a_time(messages) if dialect.style == "llama3" else messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            entry["tool_calls"] = [
                {
                    "id": identity(call.id), "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.tool_calls
            ]
        if message.role == "tool":
            entry |= {"tool_call_id": identity(message.tool_call_id), "name": names.get(message.tool_call_id, "")}
        rendered.append(entry)
    return rendered


def _one_at_a_time(messages: list[Message]) -> list[Message]:
    """Every call in a message of its own, with its result after it, which is all that Llama 3's templates take."""
    results = {message.tool_call_id: message for message in messages if message.role == "tool"}
    several = {call.id for message in messages if len(message.tool_calls) > 1 for call in message.tool_calls}
    parted: list[Message] = []
    for message in messages:
        if len(message.tool_calls) < 2:
            if message.tool_call_id not in several:
                parted.append(message)
            continue
        for place, call in enumerate(message.tool_calls):
            parted.append(Message(role="assistant", content="" if place else message.content, tool_calls=(call,)))
            parted += [results[call.id]] if call.id in results else []
    return parted


def tagged(messages: Iterable[Message], dialect: Dialect) -> Entries:
    """The conversation for a template without tools: the system message tells of them, and calls and results stand
    between tags."""
    messages = _one_system(messages)
    if dialect.tools:
        system = [message.content for message in messages[:1] if message.role == "system"]
        told = "\n\n".join([*system, instructions(dialect)])
        messages = [Message(role="system", content=told), *messages[len(system) :]]
    rendered: Entries = []
    for message in messages:
        if message.role == "tool":
            content = f"<tool_response>\n{message.content}\n</tool_response>"
            if rendered and rendered[-1].get("results"):
                rendered[-1]["content"] += "\n" + content
            else:
                rendered.append({"role": "user", "content": content, "results": True})
            continue
        content = "\n".join([*([message.content] if message.content else []), *map(_tagged_call, message.tool_calls)])
        if content or message.role == "user":
            rendered.append({"role": message.role, "content": content})
    return [{"role": entry["role"], "content": entry["content"]} for entry in rendered]


def instructions(dialect: Dialect) -> str:
    """What the system prompt says of the tools."""
    start, end = OWN_MARKERS
    tools = "\n".join(json.dumps(spec["function"], ensure_ascii=False) for spec in dialect.specs)
    return (
        f"# Tools\nYou can call these tools:\n{tools}\n"
        f'To call one, write {start}{{"name": <its name>, "arguments": <an object>}}{end} and nothing after it. '
        "The result comes in the next message. If no tool is needed, just answer."
    )


def _tagged_call(call: ToolCall) -> str:
    start, end = OWN_MARKERS
    return f"{start}{json.dumps({'name': call.name, 'arguments': call.arguments}, ensure_ascii=False)}{end}"


def plain(messages: Iterable[Message]) -> Entries:
    """The conversation where there are no tools: calls and results become words."""
    rendered: Entries = []
    for message in _one_system(messages):
        if message.role == "tool":
            rendered.append({"role": "user", "content": f"The tool answered: {message.content}"})
            continue
        calls = [f"I call {call.name} with {json.dumps(call.arguments)}." for call in message.tool_calls]
        content = "\n".join([message.content, *calls] if message.content else calls)
        if content or message.role == "user":
            rendered.append({"role": message.role, "content": content})
    return rendered


def alternating(messages: Iterable[Message]) -> Entries:
    """User and assistant by turns, beginning with the user: the system message joins the first user message."""
    return _joined(plain(messages))


def _joined(entries: Entries) -> Entries:
    turns: Entries = []
    for entry in entries:
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
