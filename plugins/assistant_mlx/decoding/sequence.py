"""One answer on its way through the decoder, and what its steps bring."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

End = Literal["", "stop", "length"]


class Prefilled(NamedTuple):
    """So much of the prompt has been read."""

    done: int


class Token(NamedTuple):
    """One token of the answer; ``end`` says why it is the last one, or nothing."""

    id: int
    end: End
    drafted: bool = False
    """A draft model had guessed it."""


class Processor(Protocol):
    """Changes the logits of one request before a token is chosen; called once a token, in order, and never raises."""

    failed: str
    """Why the request cannot go on; empty while it can."""

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """New logits [1, vocabulary]; ``tokens`` ends with the token chosen last, at first with the prompt's last."""


@dataclass(eq=False, kw_only=True)
class Sequence:
    """One request: its prompt, the key-value caches of what was read, and the tokens written so far."""

    prompt: list[int]
    boundaries: tuple[int, ...] = ()
    """Lengths at which the prompt of the next turn will still be the same."""
    max_tokens: int
    sampler: Callable[[Any], Any] | None = None
    """From log-probabilities [n, vocabulary] to n tokens; None is greedy."""
    processors: list[Processor] = field(default_factory=list)
    adapter: str = ""
    """The folder of the adapter it is answered with."""
    urgent: bool = False
    """It begins at once, however many others are live."""
    caches: list[Any] | None = None
    """One per layer, holding ``tokens[:held]``; None before it has begun and while a batch holds them."""
    held: int = 0
    cached: int = 0
    """Prompt tokens that an earlier request had read."""
    written: list[int] = field(default_factory=list)
    steps: deque[Prefilled | Token] = field(default_factory=deque)
    """What has been computed and nobody has fetched yet."""
    lost: str = ""
    """Why it cannot go on, if so."""
    ended: bool = False

    @property
    def tokens(self) -> list[int]:
        """Prompt and answer."""
        return self.prompt + self.written

    @property
    def read(self) -> bool:
        """Whether all of the prompt but its last token, which begins the answer, has been read."""
        return self.held >= len(self.prompt) - 1

    @property
    def progress(self) -> Prefilled:
        """How much of the prompt has been read; the last token is taken for read with the one before it."""
        return Prefilled(len(self.prompt) if self.read else self.held)

    def write(self, token: int, end_tokens: frozenset[int], *, drafted: bool = False) -> Token:
        """Take the next token of the answer."""
        self.written.append(token)
        end: End = "stop" if token in end_tokens else "length" if len(self.written) >= self.max_tokens else ""
        step = Token(token, end, drafted)
        self.steps.append(step)
        self.ended = bool(end)
        return step

    def check(self) -> None:
        """End it if one of its processors failed."""
        for processor in self.processors:
            if processor.failed:
                self.lost, self.ended = processor.failed, True
                self.steps.pop()
