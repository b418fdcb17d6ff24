"""Data sets: read from files and conversations, checked line by line, split, and written for the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from assistant.errors import DatasetError
from assistant.wire import Conversation, StoredMessage

from .records import ChatMessage, Example

MIN_ANSWERS = 8
"""Fewer answers teach nothing but themselves."""
VALID_SHARE = 10
"""One conversation in so many is kept aside to measure what was learnt."""

FORMATS = (
    'a line is {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]} '
    'or {"prompt": "…", "completion": "…"}'
)


class _Completion(msgspec.Struct):
    prompt: str
    completion: str


@dataclass(frozen=True)
class Dataset:
    """Every answer to learn with what came before it, in two parts that share no conversation."""

    train: list[Example]
    valid: list[Example]

    def write(self, folder: Path) -> None:
        """Write ``train.jsonl`` and ``valid.jsonl`` as mlx-lm's trainer reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, examples in (("train", self.train), ("valid", self.valid)):
            lines = b"".join(msgspec.json.encode(example) + b"\n" for example in examples)
            (folder / f"{name}.jsonl").write_bytes(lines)


def read_file(path: Path) -> list[Example]:
    """The conversations in a JSONL file, or the one that ``assistant sessions export --format json`` wrote.

    Raises:
        DatasetError: it cannot be read, or a line is wrong; names file, line and what is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}", hint="name a JSONL file") from error
    if (exported := _exported(content, path)) is not None:
        return exported
    found = []
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            found.append(_read_line(line, f"{path}, line {number}"))
    if not found:
        raise DatasetError(f"{path} is empty", hint=FORMATS)
    return found


def _exported(content: bytes, path: Path) -> list[Example] | None:
    try:
        whole = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not isinstance(whole, dict) or "session" not in whole:
        return None
    try:
        conversation = msgspec.convert(whole, Conversation)
    except msgspec.ValidationError as error:
        hint = "write it with `assistant sessions export --format json`"
        raise DatasetError(f"{path} is not an exported conversation: {error}", hint=hint) from error
    if found := from_conversation(conversation.messages):
        return [found]
    raise DatasetError(f"{path}: the conversation has no answer of a model", hint="leave the file out")


def _read_line(line: bytes, where: str) -> Example:
    try:
        entry = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{where}: not JSON: {error}", hint=f"one JSON object a line; {FORMATS}") from error
    if not isinstance(entry, dict):
        raise DatasetError(f"{where}: expected an object, got {_kind(entry)}", hint=FORMATS)
    try:
        if "messages" in entry:
            example = msgspec.convert(entry, Example)
        elif "prompt" in entry or "completion" in entry:
            pair = msgspec.convert(entry, _Completion)
            asked = ChatMessage(role="user", content=pair.prompt)
            example = Example(messages=(asked, ChatMessage(role="assistant", content=pair.completion)))
        else:
            keys = ", ".join(map(repr, entry)) or "none"
            raise DatasetError(f"{where}: neither `messages` nor `prompt` and `completion` (its keys: {keys})",
                               hint=FORMATS)
    except msgspec.ValidationError as error:
        raise DatasetError(f"{where}: {error}", hint=_hint(str(error))) from error
    check(example, where)
    return example


def _hint(problem: str) -> str:
    if "'tool'" in problem:
        return "tool calls cannot be learnt; leave such messages out"
    return FORMATS


def _kind(entry: Any) -> str:
    return {list: "an array", str: "a string", type(None): "null"}.get(type(entry), "a number")


def check(example: Example, where: str) -> None:
    """Whether there is something to learn.

    Raises:
        DatasetError: there is not.
    """
    previous = ""
    for number, message in enumerate(example.messages, start=1):
        place = f"{where}: message {number}"
        if message.role == "system" and number > 1:
            raise DatasetError(f"{place}: a system message comes first, or not at all", hint="move it to the front")
        if message.role == "assistant" and previous not in ("user", "assistant"):
            raise DatasetError(f"{place}: an answer to nothing", hint="a user message comes before an answer")
        if message.role != "system" and not message.content.strip():
            raise DatasetError(f"{place}: its content is empty", hint="fill it, or leave the conversation out")
        previous = message.role
    if not any(message.role == "assistant" and message.weight for message in example.messages):
        raise DatasetError(f"{where}: it has no answer to learn", hint="add a message of the role `assistant`")


def from_conversation(messages: Iterable[StoredMessage]) -> Example | None:
    """What a stored conversation teaches: the model's own complete answers; None if there is none.

    Answers that came of a tool are read but not learnt: the model would learn to invent what a tool says.
    """
    stored = [message for message in messages if message.text.strip()]
    with_tools = {message.turn_id for message in stored if message.tool_calls}
    chat: list[ChatMessage] = []
    for message in stored:
        if message.state in ("failed", "interrupted", "running"):
            continue
        if chat and chat[-1].role == "user" == message.role:
            chat.pop()
        learnt = message.state == "complete" and message.turn_id not in with_tools
        chat.append(ChatMessage(role=message.role, content=message.text, weight=1 if learnt else 0))
    while chat and chat[0].role == "assistant":
        chat.pop(0)
    while chat and not (chat[-1].role == "assistant" and chat[-1].weight):
        chat.pop()
    return Example(messages=tuple(chat)) if chat else None


def build(conversations: Sequence[Example], system_prompt: str) -> Dataset:
    """The data set of these conversations; which part a conversation is in depends on its words alone.

    Args:
        system_prompt: precedes conversations that have none of their own, because it will when they are had.

    Raises:
        DatasetError: there is too little to learn.
    """
    groups: dict[str, list[Example]] = {}
    for conversation in conversations:
        messages = conversation.messages
        if system_prompt and messages[0].role != "system":
            messages = (ChatMessage(role="system", content=system_prompt), *messages)
        key = hashlib.sha256(msgspec.json.encode(messages)).hexdigest()
        groups.setdefault(key, []).extend(_answers(messages))
    answers = sum(map(len, groups.values()))
    if answers < MIN_ANSWERS:
        raise DatasetError(
            f"there {'is' if answers == 1 else 'are'} {answers or 'no'} answer{'' if answers == 1 else 's'} to learn "
            f"from; at least {MIN_ANSWERS} are needed, and some dozens teach more",
            hint="add examples in a JSONL file, or have more conversations first",
        )
    keys = sorted(groups)
    aside = len(keys) // VALID_SHARE
    return Dataset(
        train=[example for key in keys[aside:] for example in groups[key]],
        valid=[example for key in keys[:aside] for example in groups[key]],
    )


def _answers(messages: tuple[ChatMessage, ...]) -> list[Example]:
    """One example for each answer, ending with it."""
    plain = tuple(ChatMessage(role=message.role, content=message.content) for message in messages)
    return [
        Example(messages=plain[: index + 1])
        for index, message in enumerate(messages)
        if message.role == "assistant" and message.weight
    ]
