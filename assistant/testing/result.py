"""What came of a run: the events with their place on the sample clock, what was played, and how to ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from assistant.events import (
    Base,
    Event,
    PromptProgressed,
    ReasoningDelta,
    SpeechPlayed,
    SpeechSynthesized,
    TextDelta,
)

from .timeline import Utterance
from .tones import words_in

E = TypeVar("E", bound=Base)

HIDDEN = frozenset({"at", "clock", "session_id", "turn_id", "timings"})
"""Fields that a failure message leaves out."""
COUNTS = frozenset({"prompt_tokens", "output_tokens", "cached_tokens"})
"""Fields that depend on how far a model came before it was interrupted."""
WRITING = (PromptProgressed, ReasoningDelta, TextDelta)
"""Events that come when the model writes, which is as fast as the machine."""
LONGEST_VALUE = 100
"""Characters of a value in a failure message."""
Wanted = type[Base] | tuple[type[Base], dict[str, Any]]
"""A type of event, or that and the fields it has."""


@dataclass(frozen=True)
class Noted:
    """An event, and when it was published."""

    clock: float
    """Seconds of audio since the run began."""
    event: Event


@dataclass(frozen=True)
class HarnessResult:
    """What came of a run."""

    noted: tuple[Noted, ...] = field(repr=False)
    """Every event in order; synthesised audio is left out, see ``output``."""
    utterances: tuple[Utterance, ...] = field(repr=False)
    """What was said into the microphone, and when it really was."""
    output: bytes = field(repr=False)
    """Everything that was played: 16 kHz, 16-bit mono PCM."""
    microphone: bytes = field(repr=False)
    """Everything that the microphone heard; as ``output``."""
    tones: bool = True
    """The voice was a ``ToneTextToSpeech``."""
    missed: str = ""
    """What the timeline waited for in vain."""

    def checked(self) -> HarnessResult:
        """The same.

        Raises:
            AssertionError: the timeline waited in vain; shows what there was.
        """
        if self.missed:
            raise AssertionError(f"{self.missed}\n{self.story()}")
        return self

    @property
    def events(self) -> tuple[Event, ...]:
        """Every event in order."""
        return tuple(noted.event for noted in self.noted)

    @property
    def spoken(self) -> str:
        """What was really played: read back from the tones, without capitals and punctuation, or with another voice
        what the assistant says it played."""
        if self.tones:
            return " ".join(words_in(self.output))
        last: dict[str, str] = {}
        for event in self.events:
            if isinstance(event, SpeechPlayed):
                last[event.turn_id] = event.text
        return " ".join(last.values())

    def find(self, kind: type[E], **fields: Any) -> list[E]:
        """All events of a type that have these fields; a field may be a function that says whether it is right."""
        return [event for event in self.events if isinstance(event, kind) and _has(event, fields)]

    def clock_of(self, kind: type[Base], **fields: Any) -> float:
        """When the first such event was published, in seconds of audio.

        Raises:
            AssertionError: there is none; shows what there was.
        """
        found = (one.clock for one in self.noted if isinstance(one.event, kind) and _has(one.event, fields))
        clock = next(found, None)
        if clock is None:
            raise AssertionError(f"there was no {_named(kind, fields)}\n{self.story()}")
        return clock

    def expect(self, kind: type[E], **fields: Any) -> E:
        """The first event of a type that has these fields.

        Raises:
            AssertionError: there is none; shows what there was.
        """
        found = self.find(kind, **fields)
        if not found:
            raise AssertionError(f"there was no {_named(kind, fields)}\n{self.story()}")
        return found[0]

    def expect_in_order(self, *wanted: Wanted) -> list[Event]:
        """Events that came one after another, others between them or not: a type each, or a type and its fields.

        Raises:
            AssertionError: one is missing after the one before; shows what there was.
        """
        found: list[Event] = []
        rest = list(self.events)
        for want in wanted:
            kind, fields = want if isinstance(want, tuple) else (want, {})
            at = next((at for at, one in enumerate(rest) if isinstance(one, kind) and _has(one, fields)), None)
            if at is None:
                after = f" after {type(found[-1]).__name__}" if found else ""
                raise AssertionError(f"there was no {_named(kind, fields)}{after}\n{self.story()}")
            found.append(rest[at])
            rest = rest[at + 1 :]
        return found

    def absent(self, kind: type[Base], **fields: Any) -> None:
        """Check that there was no such event.

        Raises:
            AssertionError: there was; shows what there was.
        """
        if found := self.find(kind, **fields):
            raise AssertionError(f"there was {_named(kind, fields)}: {_line(found[0])}\n{self.story()}")

    def story(self) -> str:
        """What was said and what happened, each with its second, for people."""
        said = [(one.start, 0, f'  «{one.text or one.kind}» to {one.end:.2f}') for one in self.utterances]
        happened = [(one.clock, 1, _line(one.event)) for one in self.noted if not isinstance(one.event, WRITING)]
        lines = [f"{clock:7.2f} s  {text}" for clock, _, text in sorted(said + happened, key=lambda line: line[:2])]
        return "\n".join([*lines, f"   played  {self.spoken!r}"])

    def comparable(self) -> list[tuple[float, str, dict[str, Any]]]:
        """The events without what differs from run to run: ids, times of day, and how far the model had come."""
        shown = [one for one in self.noted if not isinstance(one.event, WRITING)]
        fields = [{name: value for name, value in _fields(one.event).items() if name not in COUNTS} for one in shown]
        return [(one.clock, type(one.event).__name__, found) for one, found in zip(shown, fields, strict=True)]


def is_noted(event: Event) -> bool:
    """Whether an event belongs into a result."""
    return not isinstance(event, SpeechSynthesized)


def _has(event: Base, fields: dict[str, Any]) -> bool:
    for name, wanted in fields.items():
        value = getattr(event, name)
        if not (wanted(value) if isinstance(wanted, Callable) else value == wanted):  # type: ignore[arg-type]
            return False
    return True


def _named(kind: type[Base], fields: dict[str, Any]) -> str:
    return f"{kind.__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


def _fields(event: Base) -> dict[str, Any]:
    names = (name for name in event.__struct_fields__ if name not in HIDDEN)
    return {name: msgspec.to_builtins(getattr(event, name)) for name in names}


def _line(event: Base) -> str:
    shown = []
    for name, value in _fields(event).items():
        text = repr(value)
        shown.append(f"{name}={text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + '…'}")
    return f"{type(event).__name__}({', '.join(shown)})"
