"""What has been measured so far: values are added as they come, and make a report at any time."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from assistant import __version__

from .bandwidth import machine
from .cost import ModelCost
from .report import (
    Bandwidth,
    BatchFigures,
    Cost,
    Figure,
    FirstTokenFigures,
    MemoryFigures,
    PromptFigures,
    Report,
    TargetFigures,
)
from .streams import Stream, Target, steady

STATES = ("cold", "warm", "restored")


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    prompts: tuple[int, ...] = (128, 512, 1024)
    """Lengths in tokens."""
    batches: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of streams."""
    tokens: int = 64
    """Of each answer, at most."""
    rounds: int = 3


@dataclass
class _Figures:
    """The values of one target."""

    first: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    prefill: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    decode: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    lengths: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    total: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    overall: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    states: dict[str, list[Stream]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """Collects values; ``engine``, ``model`` and what follows are filled in when they are known."""

    plan: Plan
    at: float = field(default_factory=time.time)
    engine: str = ""
    model: str = ""
    bandwidth: Bandwidth | None = None
    cost: ModelCost | None = None
    memory: MemoryFigures = field(default_factory=MemoryFigures)
    loads: list[float] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    """The engine first."""
    notes: list[str] = field(default_factory=list)
    _figures: dict[int, _Figures] = field(default_factory=lambda: defaultdict(_Figures))

    def prompt(self, target: Target, length: int, stream: Stream) -> None:
        """A prompt that no cache knew."""
        figures = self._of(target)
        read = (stream.prompt_tokens or length) - stream.cached_tokens
        figures.first[length].append(stream.first)
        figures.prefill[length].append(read / stream.first)
        figures.lengths[length].append(stream.prompt_tokens)
        if speed := steady([stream]):
            figures.decode[length].append(speed)

    def batch(self, target: Target, count: int, speed: float, whole: float) -> None:
        """Tokens per second of so many streams together, while they were being written and from first to last."""
        self._of(target).total[count].append(speed)
        self._of(target).overall[count].append(whole)

    def first_token(self, target: Target, state: str, stream: Stream) -> None:
        """An answer in one state of the prompt cache."""
        self._of(target).states[state].append(stream)

    def failed(self, target: Target, what: str) -> None:
        """Something that the target refused or broke off."""
        self._of(target).errors.append(what)

    def note(self, text: str) -> None:
        """Something that the reader must know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def report(self, *, complete: bool) -> Report:
        """Everything so far."""
        return Report(
            complete=complete, at=self.at, assistant=__version__, machine=machine(), engine=self.engine,
            model=self.model, tokens=self.plan.tokens, rounds=self.plan.rounds, load=Figure.of(self.loads),
            memory=self.memory, bandwidth=self.bandwidth, cost=self._cost(),
            targets=tuple(self._target(target) for target in self.targets),
            notes=tuple(self.notes),
        )  # fmt: skip

    def _of(self, target: Target) -> _Figures:
        return self._figures[id(target)]

    def _cost(self) -> Cost | None:
        if self.cost is None:
            return None
        shortest = min(self.plan.prompts)
        return Cost(
            weights=self.cost.weights, read=round(self.cost.read(1)), note=self.cost.note,
            context=round(self.cost.keys_and_values(shortest) / shortest),
        )  # fmt: skip

    def _target(self, target: Target) -> TargetFigures:
        figures, is_engine = self._of(target), target.kind == "engine"
        cold = [stream.first for stream in figures.states["cold"]]
        return TargetFigures(
            title=target.title,
            kind=target.kind,
            counting=target.counting,
            prompts=tuple(self._prompt(figures, length, is_engine) for length in sorted(figures.first)),
            batches=tuple(self._batch(figures, count, is_engine) for count in sorted(figures.total)),
            first_token=tuple(_state(state, figures.states[state], cold) for state in STATES if figures.states[state]),
            errors=tuple(figures.errors),
        )

    def _prompt(self, figures: _Figures, length: int, is_engine: bool) -> PromptFigures:
        tokens = round(statistics.median(figures.lengths[length]))
        decode = Figure.of(figures.decode[length])
        return PromptFigures(
            length=length, tokens=tokens, first_token=Figure.of(figures.first[length]),
            prefill=Figure.of(figures.prefill[length]), decode=decode,
            **self._bound(decode, 1, tokens, is_engine),
        )  # fmt: skip

    def _batch(self, figures: _Figures, count: int, is_engine: bool) -> BatchFigures:
        shortest = min(self.plan.prompts)
        context = round(statistics.median(figures.lengths.get(shortest) or [shortest]))
        total = Figure.of(figures.total[count])
        return BatchFigures(
            streams=count, context=context, total=total, overall=Figure.of(figures.overall[count]),
            each=total.median / count if total else None,
            **self._bound(total, count, context, is_engine),
        )  # fmt: skip

    def _bound(self, speed: Figure | None, streams: int, prompt: int, is_engine: bool) -> dict[str, Any]:
        if self.bandwidth is None or self.cost is None or not is_engine:
            return {}
        bound = self.cost.bound(self.bandwidth, streams, prompt + self.plan.tokens / 2)
        return {"bound": bound, "share": speed.median / bound if speed else None}


def _state(state: str, streams: list[Stream], cold: list[float]) -> FirstTokenFigures:
    seconds = Figure.of(stream.first for stream in streams)
    of_cold = seconds.median / statistics.median(cold) if seconds and cold and state != "cold" else None
    return FirstTokenFigures(
        state=state, seconds=seconds, of_cold=of_cold,
        prompt_tokens=round(statistics.median(stream.prompt_tokens for stream in streams)),
        cached_tokens=round(statistics.median(stream.cached_tokens for stream in streams)),
    )  # fmt: skip
