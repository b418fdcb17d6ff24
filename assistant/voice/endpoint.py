"""When somebody has finished: a state machine over the frames' speech probabilities.

Plain and synchronous. A pause ends the turn once it is longer than what is known of it demands: little when the turn
model takes the turn for complete or the words are a whole command, more when the model takes it for unfinished.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from .frames import frames

Patience = Literal["aggressive", "balanced", "relaxed"]
"""How long pauses may be; ``[voice] patience``."""

ON, OFF = 0.5, 0.35
"""Probabilities from which speech begins, and below which it ends: Silero's own threshold, and that less 0.15."""
WEAK = frames(0.5)
"""How long frames between ``OFF`` and ``ON`` carry speech on: a word's last sounds take less, a murmuring room more."""
START = frames(0.08)
"""Frames of speech in a row that begin a turn: more than two of Silero's windows, which a click does not fill."""
RESUME = frames(0.06)
"""The same after a pause; less, since to miss a word's beginning means to cut somebody off."""
PAUSE = frames(0.18)
"""Silence after which a pause is announced: Smart Turn is made for 0.2 s of it behind the last word."""
LONGEST_PAUSE = frames(2.5)
"""Silence after which a turn is over, whatever is thought of it."""
LONGEST_TURN = frames(60.0)
"""A turn is cut off after this long: what speaks without a pause is a television."""
SHORT = frames(0.7)
"""Speech shorter than this is an answer such as "yeah", which turn models often take for a beginning."""
LIKELY = 0.5
"""From this probability on a turn counts as complete."""


@dataclass(frozen=True)
class Pace:
    """How much silence ends a turn, in seconds.

    Attributes:
        alone: while nobody has judged the pause, and at most after speech shorter than ``SHORT``.
        intent: after the words of a whole command.
        judged: by the turn model's probability: pairs of probability, rising, and silence; straight lines in between.
    """

    alone: float
    intent: float
    judged: tuple[tuple[float, float], ...]

    def after(self, complete: float) -> float:
        """The silence that a judgement demands."""
        if complete <= self.judged[0][0]:
            return self.judged[0][1]
        for (below, longer), (above, shorter) in pairwise(self.judged):
            if complete <= above:
                return longer + (shorter - longer) * (complete - below) / (above - below)
        return self.judged[-1][1]


PACES: Mapping[Patience, Pace] = {
    "aggressive": Pace(0.25, 0.2, ((0.05, 1.0), (0.5, 0.6), (0.9, 0.35), (0.97, 0.2))),
    "balanced": Pace(0.7, 0.25, ((0.05, 1.4), (0.5, 0.9), (0.9, 0.5), (0.97, 0.3))),
    "relaxed": Pace(1.25, 0.3, ((0.05, 2.2), (0.5, 1.2), (0.9, 0.7), (0.97, 0.5))),
}
"""``alone`` is what Home Assistant waits for. The judged ones were chosen for few cut-offs at their latency: on the
tuning set of benchmarks/voice_parts/turn_audio.py, and on recordings of people's commands."""


class Change(NamedTuple):
    """What has become of the turn.

    Attributes:
        kind: ``started`` once, then ``paused`` and ``resumed`` as often as it takes, at last ``ended``; or ``nobody``.
        clock: the frame in which this was decided.
        last_speech: the last frame with speech; where there was none, the one that ``begin`` was told.
        reason: why it ended: the ``silence`` was long enough, the turn model takes it for ``complete``, the words are
            an ``intent``'s, or it came to the ``limit``.
    """

    kind: Literal["started", "paused", "resumed", "ended", "nobody"]
    clock: int
    last_speech: int
    reason: Literal["", "silence", "complete", "intent", "limit"] = ""


class Endpointer:
    """Follows one turn at a time.

    Args:
        patience: how long pauses may be, by name or in numbers.
        judged: a turn model answers every pause through ``judge()``; until it has, silence alone decides.
    """

    def __init__(self, patience: Patience | Pace, *, judged: bool) -> None:
        self._pace = patience if isinstance(patience, Pace) else PACES[patience]
        self._judged = judged
        self._state: Literal["off", "waiting", "speaking", "paused"] = "off"
        self._clock = self._last = self._deadline = self._started = 0
        self._strong = 0
        """The last frame with a probability of at least ``ON``."""
        self._run = 0
        """Frames of speech in a row that have not been taken for the beginning of words yet."""
        self._spoken = 0
        """Frames with speech."""
        self._complete: float | None = None
        self._intent = self._unfinished = False

    def begin(self, clock: int, *, wait_seconds: float) -> None:
        """Words are expected after this frame.

        Args:
            wait_seconds: after so long without speech it is ``nobody``.
        """
        self._state = "waiting"
        self._clock = self._last = clock
        self._deadline = clock + frames(wait_seconds)
        self._run = self._spoken = 0

    def process(self, clock: int, speech: float) -> Change | None:
        """Take the next frame; nothing happens before ``begin()`` or after the end."""
        self._clock = clock
        match self._state:
            case "waiting":
                return self._wait(speech)
            case "speaking" | "paused" if clock - self._started >= LONGEST_TURN:
                return self._end("limit")
            case "speaking":
                return self._speak(speech)
            case "paused":
                return self._pause(speech)
        return None

    def judge(self, complete: float) -> Change | None:
        """Take the turn model's probability for the pause that was announced last; too late, it changes nothing."""
        if self._state != "paused" or not self._judged:
            return None
        self._complete = complete
        return self._decide()

    def hear(self, whole_intent: bool, *, unfinished: bool = False) -> Change | None:
        """Take what the words up to this pause are; too late, it changes nothing.

        Args:
            whole_intent: a whole command.
            unfinished: words that must go on, whatever they sound like.
        """
        if self._state != "paused":
            return None
        self._intent, self._unfinished = whole_intent, unfinished
        return self._decide()

    def _wait(self, speech: float) -> Change | None:
        self._run = self._run + 1 if speech >= ON else 0
        if self._run >= START:
            self._started = self._clock - self._run + 1
            return self._go_on("started")
        if self._run == 0 and self._clock >= self._deadline:
            self._state = "off"
            return Change("nobody", self._clock, self._last)
        return None

    def _speak(self, speech: float) -> Change | None:
        if speech >= ON or (speech >= OFF and self._clock - self._strong <= WEAK):
            self._strong = self._clock if speech >= ON else self._strong
            self._last = self._clock
            self._spoken += 1
            return None
        if self._clock - self._last < PAUSE:
            return None
        self._state = "paused"
        self._run = 0
        self._complete, self._intent, self._unfinished = None, False, False
        return Change("paused", self._clock, self._last)

    def _pause(self, speech: float) -> Change | None:
        self._run = self._run + 1 if speech >= ON else 0
        return self._go_on("resumed") if self._run >= RESUME else self._decide()

    def _go_on(self, kind: Literal["started", "resumed"]) -> Change:
        self._state = "speaking"
        self._last = self._strong = self._clock
        self._spoken += self._run
        return Change(kind, self._clock, self._last)

    def _decide(self) -> Change | None:
        """End the turn if the pause is long enough, and nobody seems to go on just now."""
        silence = self._clock - self._last
        if silence >= LONGEST_PAUSE:
            return self._end("silence")
        if self._run:
            return None
        if self._intent and silence >= frames(self._pace.intent):
            return self._end("intent")
        if silence < self._enough():
            return None
        complete = self._complete is not None and self._complete >= LIKELY and not self._unfinished
        return self._end("complete" if complete else "silence")

    def _enough(self) -> int:
        """Frames of silence that end the turn."""
        if self._unfinished:
            return frames(self._pace.after(0.0))
        if self._complete is None:
            return frames(self._pace.alone)
        seconds = self._pace.after(self._complete)
        return frames(min(seconds, self._pace.alone) if self._spoken < SHORT else seconds)

    def _end(self, reason: Literal["silence", "complete", "intent", "limit"]) -> Change:
        self._state = "off"
        return Change("ended", self._clock, self._last, reason)
