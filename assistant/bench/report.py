"""What was measured, as it is written to JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import msgspec

FORMAT = 1
"""Of the JSON document; raised when a field changes its meaning."""


class Entry(msgspec.Struct, frozen=True):
    """What the parts of a report share: nothing but being one."""


class Figure(Entry, frozen=True, kw_only=True):
    """One thing measured several times."""

    median: float
    lowest: float
    highest: float
    values: tuple[float, ...]
    """In the order they were taken."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure | None:
        """The figure of some values; None if there are none."""
        taken = tuple(values)
        if not taken:
            return None
        return cls(median=statistics.median(taken), lowest=min(taken), highest=max(taken), values=taken)


class PromptFigures(Entry, frozen=True, kw_only=True):
    """One length of prompt, one stream."""

    length: int
    """Tokens that were asked for."""
    tokens: int
    """Tokens that the prompts really had (median); 0 if the server does not tell."""
    first_token: Figure | None
    """Seconds to the first token of a prompt that was never seen before."""
    prefill: Figure | None
    """Prompt tokens per second: those that had to be read ÷ the time to the first token."""
    decode: Figure | None
    """Tokens per second after the first."""
    bound: float | None = None
    """Tokens per second that the memory's bandwidth allows at most."""
    share: float | None = None
    """Of the bound, reached (median)."""


class BatchFigures(Entry, frozen=True, kw_only=True):
    """So many streams at the same time."""

    streams: int
    context: int
    """Tokens of the prompt of each."""
    total: Figure | None
    """Tokens per second of all together, while all of them were being written."""
    overall: Figure | None = None
    """Tokens per second of all together, from the first request to the last token, prompts included."""
    each: float | None
    """Tokens per second of one of them (median)."""
    bound: float | None = None
    """Tokens per second that the memory's bandwidth allows at most, all together."""
    share: float | None = None


class FirstTokenFigures(Entry, frozen=True, kw_only=True):
    """The time to the first token in one state of the prompt cache."""

    state: str
    """``cold``: never seen; ``warm``: the conversation goes on; ``restored``: it goes on after the model was loaded
    anew."""
    seconds: Figure | None
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt, those that the source still knew; 0 also where it does not tell."""
    of_cold: float | None = None
    """Median ÷ that of ``cold``."""


class TargetFigures(Entry, frozen=True, kw_only=True):
    """Everything that was measured of one source of answers."""

    title: str
    kind: str
    """``engine`` or ``server``."""
    counting: str
    """How tokens were counted."""
    prompts: tuple[PromptFigures, ...] = ()
    batches: tuple[BatchFigures, ...] = ()
    first_token: tuple[FirstTokenFigures, ...] = ()
    errors: tuple[str, ...] = ()
    """What failed, once for each time."""


class MemoryFigures(Entry, frozen=True, kw_only=True):
    """Bytes that the engine held; 0 where it cannot be told."""

    loaded: int = 0
    """On the device, just after loading."""
    active: int = 0
    """On the device, at the end."""
    peak: int = 0
    prompt_cache: int = 0
    """Of ``active``."""
    limit: int = 0
    """What the device lets one process use."""
    rss: int = 0
    """Most resident memory of the lane's process that was seen."""


class Bandwidth(Entry, frozen=True, kw_only=True):
    """How fast the memory can be read."""

    gb_per_second: float
    """10⁹ bytes per second."""
    source: str
    """Where the number comes from."""


class Cost(Entry, frozen=True, kw_only=True):
    """What has to be read from memory for one token."""

    weights: int
    """Bytes of the weights as they are held."""
    read: int
    """Of those, the bytes that a single stream reads for one token."""
    context: int
    """Bytes of keys and values for each token of context; where layers see a window only, at the shortest prompt."""
    note: str = ""
    """What the numbers rest on."""


class Report(Entry, frozen=True, kw_only=True):
    """A whole run."""

    format: int = FORMAT
    complete: bool
    """False: it was interrupted or broke off."""
    at: float
    """When it began, as Unix time."""
    assistant: str
    """Version."""
    machine: str
    engine: str
    model: str
    tokens: int
    """Tokens of each answer at most."""
    rounds: int
    load: Figure | None
    """Seconds to load the model, in each of the lane's processes."""
    memory: MemoryFigures
    bandwidth: Bandwidth | None
    cost: Cost | None
    targets: tuple[TargetFigures, ...]
    """The engine first."""
    notes: tuple[str, ...] = ()
