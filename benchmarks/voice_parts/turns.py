"""False cut-offs against latency at the end of a turn: silence alone, and ours.

As in eot-bench: every pause within a turn is a chance to cut it off, its end costs the latency, and a sweep over the
settings gives a curve. A pause counts from 0.2 s. Who is cut off goes on in a new turn, whose end is timed as well.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from assistant.intents import IntentMatcher
from assistant.testing.audio import frames_of
from assistant.voice.activity import VoiceActivity
from assistant.voice.endpoint import LONGEST_PAUSE, ON, PACES, PAUSE, Endpointer, Pace
from assistant.voice.frames import FRAME_BYTES, FRAME_SECONDS, frames
from assistant.voice.smart_turn import SAMPLES, SmartTurn

from llm_parts.world import Row, say

from .turn_audio import Utterance, commands, recorded, synthesised

HOLD = frames(0.2)
"""Shorter pauses count for nothing (eot-bench's ``--min-hold-span-duration``)."""
THINKING = frames(0.06)
"""Time that the turn model takes."""
SILENCES = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.6, 2.0, 2.4)
"""Seconds of silence that end a turn, for silence alone."""
SCALES = (0.6, 0.8, 1.0, 1.25, 1.6)
"""What the seconds of ``balanced`` are multiplied with."""
REACH = 0.5
"""Cut-offs of ours ÷ those of silence alone at the same mean latency."""


class Taken(msgspec.Struct):
    """An utterance as the endpointer gets it."""

    name: str
    speech: list[float]
    """The probability of each frame."""
    judged: dict[int, float]
    """The turn model's probability, by the frame of the pause."""
    commands: list[int]
    """The frames of pauses where the words were a whole command."""
    end: int
    """The frame of the last word's end."""
    pauses: int
    """Within the turn."""
    finished: bool


@dataclass(frozen=True)
class Score:
    """What came of many utterances."""

    latencies: tuple[float, ...]
    """Seconds from the end of each turn to the decision."""
    cuts: int
    pauses: int
    spoiled: int
    """Utterances with a cut."""
    utterances: int
    """Those with a pause in them."""

    @property
    def latency(self) -> float:
        """Their mean."""
        return statistics.fmean(self.latencies)

    @property
    def rate(self) -> float:
        """Cut-offs per pause."""
        return self.cuts / max(self.pauses, 1)

    @property
    def p95(self) -> float:
        """Of the latencies."""
        return sorted(self.latencies)[max(0, round(0.95 * len(self.latencies)) - 1)]


class Ears:
    """Turns sound into what the endpointer gets; results are kept in a folder.

    Args:
        is_command: whether words are a whole command.
        kept: a folder for results, which cost a second each.
    """

    def __init__(self, silero: Path, smart_turn: Path, is_command: Callable[[str], bool], kept: Path) -> None:
        self._activity = VoiceActivity(silero)
        self._smart_turn = SmartTurn(smart_turn)
        self._is_command = is_command
        self._kept = kept
        kept.mkdir(parents=True, exist_ok=True)

    def take(self, utterance: Utterance) -> Taken:
        """The utterance as the endpointer gets it."""
        sums = [zlib.crc32(part) for part in (utterance.pcm, repr(utterance).encode())]
        file = self._kept / "-".join(f"{one:08x}" for one in sums)
        if file.exists():
            return msgspec.json.decode(file.read_bytes(), type=Taken)
        taken = self._taken(utterance)
        file.write_bytes(msgspec.json.encode(taken))
        return taken

    def _taken(self, utterance: Utterance) -> Taken:
        self._activity.reset()
        speech = [self._activity.process(frame) for frame in frames_of(utterance.pcm)]
        heard = max((clock for clock, one in enumerate(speech, 1) if one >= ON), default=0)
        end = heard if utterance.end is None else frames(utterance.end)
        stops = _stops(speech, end)
        judged = {clock: self._smart_turn.probability(_until(utterance.pcm, clock)) for clock in stops}
        whole = [clock for clock in stops if self._is_whole(utterance, clock)]
        pauses = sum(1 for length in _gaps(speech, end) if length >= HOLD)
        return Taken(utterance.name, speech, judged, whole, end, pauses, utterance.finished)

    def _is_whole(self, utterance: Utterance, clock: int) -> bool:
        """As a recogniser without errors would have it."""
        words = [word for second, word in utterance.said if second < (clock - PAUSE) * FRAME_SECONDS]
        return bool(words) and self._is_command(" ".join(words))


def score(taken: Iterable[Taken], pace: Pace, *, model: bool = False, intents: bool = False) -> Score:
    """Every utterance through an endpointer of that pace."""
    latencies: list[float] = []
    cuts = spoiled = pauses = utterances = 0
    for one in taken:
        ended = _ends(one, pace, model=model, intents=intents)
        early = sum(1 for clock in ended if clock < one.end)
        cuts, pauses = cuts + early, pauses + one.pauses
        spoiled, utterances = spoiled + bool(early), utterances + bool(one.pauses)
        if one.finished and ended and ended[-1] >= one.end:
            latencies.append((ended[-1] - one.end) * FRAME_SECONDS)
    return Score(tuple(latencies), cuts, pauses, spoiled, utterances)


def _ends(taken: Taken, pace: Pace, *, model: bool, intents: bool) -> list[int]:
    """The frames in which turns ended."""
    endpointer = Endpointer(pace, judged=model)
    endpointer.begin(0, wait_seconds=60.0)
    ended, asked = [], 0
    for clock, speech in enumerate(taken.speech, 1):
        changes = [endpointer.process(clock, speech)]
        if changes[0] is not None and changes[0].kind == "paused":
            asked = clock
            if intents:
                changes.append(endpointer.hear(clock in taken.commands))
        if model and asked and clock == asked + THINKING and asked in taken.judged:
            changes.append(endpointer.judge(taken.judged[asked]))
        if any(change is not None and change.kind == "ended" for change in changes):
            ended.append(clock)
            endpointer.begin(clock, wait_seconds=60.0)
    return ended


def _stops(speech: Sequence[float], end: int) -> list[int]:
    """The frames in which an endpointer that never ends a turn announces pauses, up to the one after the end."""
    patient = Endpointer(Pace(9.0, 9.0, ((0.0, 9.0),)), judged=False)
    patient.begin(0, wait_seconds=60.0)
    found = []
    for clock, one in enumerate(speech, 1):
        change = patient.process(clock, one)
        if change is not None and change.kind == "paused":
            found.append(clock)
            if clock >= end:
                break
        elif change is not None and change.kind == "ended":
            patient.begin(clock, wait_seconds=60.0)
    return found


def _gaps(speech: Sequence[float], end: int) -> list[int]:
    """How many frames each silence within the turn lasts."""
    loud = [clock for clock, one in enumerate(speech[:end], 1) if one >= ON]
    return [after - before - 1 for before, after in zip(loud, loud[1:], strict=False) if after - before > 1]


def _until(pcm: bytes, clock: int) -> bytes:
    return pcm[: clock * FRAME_BYTES][-2 * SAMPLES :]


def scaled(pace: Pace, scale: float) -> Pace:
    """All its seconds times ``scale``."""
    longest = LONGEST_PAUSE * FRAME_SECONDS
    judged = tuple((probability, min(seconds * scale, longest)) for probability, seconds in pace.judged)
    return replace(pace, alone=pace.alone * scale, intent=pace.intent * scale, judged=judged)


def at_latency(curve: Sequence[Score], latency: float) -> float:
    """Cut-offs per pause of silence alone at a mean latency, on the line between two of its settings."""
    points = sorted((one.latency, one.rate) for one in curve)
    if latency <= points[0][0]:
        return points[0][1]
    for (sooner, more), (later, fewer) in zip(points, points[1:], strict=False):
        if latency <= later:
            return more + (fewer - more) * (latency - sooner) / (later - sooner)
    return points[-1][1]
