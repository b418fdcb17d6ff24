"""Conversations as token sequences to learn from: the prompt as it is when the model answers, then the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from assistant import Message, ModelError
from assistant_mlx.chat.prompt import alternating, plain


@dataclass(frozen=True)
class Example:
    """A conversation that ends with an answer."""

    tokens: list[int]
    prompt_tokens: int
    """Of ``tokens``; what follows them is learnt."""

    @property
    def answer_tokens(self) -> int:
        """How many are learnt."""
        return len(self.tokens) - self.prompt_tokens


class _Line(msgspec.Struct):
    messages: list[Message]


def read(tokenizer: Any, file: Path, max_tokens: int) -> list[Example]:
    """The examples of a file of ``{"messages": […]}`` lines, the last message of each being the answer.

    One that is too long loses its oldest messages first, then the end of its answer; one whose last question leaves no
    room is left out. No file: none.

    Raises:
        ModelError: a line is not understood, or the chat template refuses it.
    """
    if not file.exists():
        return []
    found = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            messages = msgspec.json.decode(line, type=_Line).messages
        except msgspec.DecodeError as error:
            raise ModelError(f"{file}, line {number}: {error}", hint="build the data set again") from error
        if len(messages) < 2 or messages[-1].role != "assistant":
            raise ModelError(f"{file}, line {number}: it does not end with an answer", hint="build it again")
        if example := _fitting(tokenizer, messages, max_tokens):
            found.append(example)
    return found


def _fitting(tokenizer: Any, messages: list[Message], max_tokens: int) -> Example | None:
    while True:
        example = encode(tokenizer, messages)
        if len(example.tokens) <= max_tokens:
            return example
        shorter = _without_oldest(messages)
        if shorter is None:
            break
        messages = shorter
    if example.prompt_tokens >= max_tokens:
        return None
    return Example(example.tokens[:max_tokens], example.prompt_tokens)


def _without_oldest(messages: list[Message]) -> list[Message] | None:
    """The conversation from its second question on; None if it has only one."""
    system = [message for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    questions = [index for index, message in enumerate(others) if message.role == "user" and index]
    return [*system, *others[questions[0] :]] if questions else None


def encode(tokenizer: Any, messages: Sequence[Message]) -> Example:
    """One conversation.

    Raises:
        ModelError: the chat template refuses it.
    """
    from jinja2 import TemplateError

    problem: Exception | None = None
    for shape in (plain, alternating):
        try:
            prompt = list(tokenizer.apply_chat_template(shape(messages[:-1]), add_generation_prompt=True))
            whole = list(tokenizer.apply_chat_template(shape(messages)))
        except TemplateError as error:
            problem = error
            continue
        if whole[: len(prompt)] == prompt and len(whole) > len(prompt):
            return Example(whole, len(prompt))
        # The template begins an answer with more than it keeps of one, such as an open <think>.
        answer = list(tokenizer.encode(messages[-1].content, add_special_tokens=False))
        return Example([*prompt, *answer, tokenizer.eos_token_id], len(prompt))
    raise ModelError(
        f"the model's chat template refuses the conversation: {problem}",
        hint="leave it out, or choose a model whose template takes it",
    )
