"""Prompts of a wanted length that no cache has seen, and that are answered at length."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count

from assistant.engines import Message

from .streams import Messages, Target

_TEXT = (
    "apple book bridge candle chair cloud corner desert door dust engine evening farm field finger fire flower forest "
    "garden glass gold grass hand harbor hill horse house island journey key kitchen lake lamp leaf letter light "
    "market meadow mirror moon morning mountain music night ocean orange paper path pencil piano picture plate pocket "
    "river road roof rope salt sand school season shadow ship shoe silver sky snow song spoon spring square star "
    "station stone storm story street summer sun table tea thunder ticket tower town train tree valley village voice "
    "wall watch water wheel wind window winter wolf wood wool yard year"
)
WORDS = tuple(_TEXT.split())
"""Common words: mostly one token each in large vocabularies."""

TASKS = (
    "Write a numbered list of two hundred animals, one a line. Do not stop before the end of the list.",
    "Count from one to five hundred in words, one number a line. Do not stop before the end.",
    "Tell a very long story about a fox, a river and a mountain, in at least one hundred sentences.",
)
"""What takes long to answer; a model may still stop early, so there are several."""

PROBE_WORDS = 48
"""Words of the longer probe, by which tokens per word are measured."""


@dataclass(frozen=True)
class Filler:
    """How many words make a prompt of so many tokens, with a certain model."""

    fixed: float
    """Tokens of the chat template and the task."""
    each: float
    """Tokens a word."""

    def words(self, tokens: int) -> int:
        """Words for a prompt of about ``tokens`` tokens, at least 1."""
        return max(1, round((tokens - self.fixed) / self.each))


class Prompts:
    """Conversations that differ from their first word on, so that no prompt cache can help.

    Args:
        seed: None for prompts that were never asked before.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self._number = count()

    def of(self, words: int) -> Messages:
        """A conversation of one question, with so many words before it."""
        text = " ".join(self._random.choices(WORDS, k=words))
        task = TASKS[next(self._number) % len(TASKS)]
        return (
            Message(role="system", content=f"{text}."),
            Message(role="user", content=task),
        )


async def calibrate(target: Target, prompts: Prompts) -> Filler:
    """Measure how many tokens the words and the template have, by the target's own count; this warms it up, too."""
    sizes = []
    for words in (1, 1 + PROBE_WORDS):
        found = [(await target.ask(prompts.of(words), 2)).prompt_tokens for _ in TASKS]
        sizes.append(sum(found) / len(found))
    each = max((sizes[1] - sizes[0]) / PROBE_WORDS, 0.1)
    return Filler(sizes[0] - each, each)


def following(messages: Messages, answer: str, question: str) -> Messages:
    """The conversation, continued."""
    return (*messages, Message(role="assistant", content=answer), Message(role="user", content=question))
