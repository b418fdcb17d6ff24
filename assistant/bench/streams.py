"""One streamed answer as it was timed, and the rates that follow from one or several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from assistant.engines import Message
from assistant.errors import AssistantError

Messages = tuple[Message, ...]
"""A conversation."""


class BenchError(AssistantError):
    """Something that is measured, or that the measuring needs, failed."""

    code = "bench"


@dataclass(frozen=True)
class Stream:
    """One answer: when it was asked for, and when its pieces came. All moments are seconds of one monotonic clock."""

    began: float
    ticks: tuple[float, ...]
    """When each piece came; usually a token each."""
    tokens: int
    """Tokens of the answer as its source counts them; 0: it does not tell, and every piece counts as one."""
    prompt_tokens: int
    """Tokens of the prompt; 0 if its source does not tell."""
    cached_tokens: int
    """Of those, the ones that the source still knew from an earlier prompt."""
    text: str

    @property
    def first(self) -> float:
        """Seconds to the first piece."""
        return self.ticks[0] - self.began

    @property
    def produced(self) -> int:
        """Tokens of the answer."""
        return self.tokens or len(self.ticks)

    @property
    def weight(self) -> float:
        """Tokens a piece."""
        return self.produced / len(self.ticks)


TOGETHER = 0.25
"""Share of the tokens that must have been written while all streams were, for that time to count."""


def steady(streams: Sequence[Stream]) -> float | None:
    """Tokens per second of all streams together, while every one of them was being written.

    Where that was hardly ever so, because the source answers one after the other, it is from the first token of any
    to the last of any, with the pauses between them.

    Returns: None if fewer than two pieces came.
    """
    begin = max(stream.ticks[0] for stream in streams)
    end = min(stream.ticks[-1] for stream in streams)
    found = _written(streams, begin, end)
    if end > begin and found >= max(2.0, TOGETHER * sum(stream.produced for stream in streams)):
        return found / (end - begin)
    begin = min(stream.ticks[0] for stream in streams)
    end = max(stream.ticks[-1] for stream in streams)
    return _written(streams, begin, end) / (end - begin) if end > begin else None


def overall(streams: Sequence[Stream]) -> float:
    """Tokens per second of all streams together, from the first request to the last token, prompts included."""
    end = max(stream.ticks[-1] for stream in streams)
    return sum(stream.produced for stream in streams) / (end - min(stream.began for stream in streams))


def _written(streams: Sequence[Stream], begin: float, end: float) -> float:
    return sum(sum(begin < tick <= end for tick in stream.ticks) * stream.weight for stream in streams)


class Target(ABC):
    """Something that answers and can be timed."""

    kind: ClassVar[Literal["engine", "server"]]
    title: str
    """How tables call it."""
    counting: str = "the engine's own count"
    """How its tokens are counted."""

    @abstractmethod
    async def ask(self, messages: Messages, max_tokens: int) -> Stream:
        """Answer greedily, timed.

        Raises:
            BenchError: the server refused or broke off.
            ContextOverflow: the prompt does not fit.
        """

    async def restart(self) -> bool:
        """Unload the model and load it again, as a restart of the daemon would; False if that is out of reach."""
        return False
