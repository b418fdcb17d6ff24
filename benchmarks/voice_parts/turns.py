"""False cut-offs against latency at the end of a turn: silence alone, and ours.

As in eot-bench: every pause within a turn is a chance to cut it off, its end costs the latency, and a sweep over the
settings gives a curve. A pause counts from 0.2 s. Who is cut off goes on in a new turn, whose end is timed as well.
The words come from a recogniser without errors, at once; the curve "sound only" does without them.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import assistant_calculator
from assistant_clock.sentences import intents as clock_intents
from llm_parts.world import Row, at_most, say, told

from assistant.hookspecs import PluginContext, PluginSettings
from assistant.intents import IntentMatcher
from assistant.testing.audio import frames_of
from assistant.voice.activity import VoiceActivity
from assistant.voice.endpoint import LONGEST_PAUSE, ON, PACES, PAUSE, Endpointer, Pace
from assistant.voice.frames import FRAME_BYTES, FRAME_SECONDS, frames
from assistant.voice.smart_turn import SAMPLES, SmartTurn
from assistant.voice.unfinished import unfinished

from .turn_audio import Utterance, commands, recorded, synthesised

HOLD = frames(0.2)
"""Shorter pauses count for nothing (eot-bench's ``--min-hold-span-duration``)."""
THINKING = frames(0.06)
"""Time that the turn model takes."""
SILENCES = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.6, 2.0, 2.4)
"""Seconds of silence that end a turn, for silence alone."""
SCALES = (0.6, 0.8, 1.25, 1.6)
"""What the seconds of ``balanced`` are multiplied with, beside the three settings as they are."""
REACH = 0.5
"""Cut-offs of ours ÷ those of silence alone at the same mean latency."""


@dataclass(frozen=True)
class Taken:
    """An utterance as the endpointer gets it."""

    name: str
    speech: list[float]
    """The probability of each frame."""
    judged: dict[int, float]
    """The turn model's probability, by the frame of the pause."""
    end: int
    """The frame of the last word's end."""
    pauses: int
    """Within the turn."""
    finished: bool
    commands: list[int]
    """The frames of pauses where the words were a whole command."""
    open: list[int]
    """The frames of pauses where they must go on."""


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
    """Turns sound into what the endpointer gets.

    Args:
        is_command: whether words are a whole command.
    """

    def __init__(self, silero: Path, smart_turn: Path, is_command: Callable[[str], bool]) -> None:
        self._activity = VoiceActivity(silero)
        self._smart_turn = SmartTurn(smart_turn)
        self._is_command = is_command

    def take(self, utterance: Utterance) -> Taken:
        """The utterance as the endpointer gets it."""
        self._activity.reset()
        speech = [self._activity.process(frame) for frame in frames_of(utterance.pcm)]
        heard = max((clock for clock, one in enumerate(speech, 1) if one >= ON), default=0)
        end = heard if utterance.end is None else frames(utterance.end)
        stops = _stops(speech, end)
        judged = {clock: self._smart_turn.probability(_until(utterance.pcm, clock)) for clock in stops}
        pauses = sum(1 for length in _gaps(speech, end) if length >= HOLD)
        words = {clock: _words(utterance, clock) for clock in stops}
        return Taken(
            name=utterance.name, speech=speech, judged=judged, end=end, pauses=pauses, finished=utterance.finished,
            commands=[clock for clock, said in words.items() if said and self._is_command(said)],
            open=[clock for clock, said in words.items() if unfinished(said)],
        )  # fmt: skip


def score(taken: Iterable[Taken], pace: Pace, *, model: bool = False, words: bool = False) -> Score:
    """Every utterance through an endpointer of that pace."""
    latencies: list[float] = []
    cuts = spoiled = pauses = utterances = 0
    for one in taken:
        ended = _ends(one, pace, model=model, words=words)
        early = sum(1 for clock in ended if clock < one.end)
        cuts, pauses = cuts + early, pauses + one.pauses
        spoiled, utterances = spoiled + bool(early), utterances + bool(one.pauses)
        if one.finished and ended and ended[-1] >= one.end:
            latencies.append((ended[-1] - one.end) * FRAME_SECONDS)
    return Score(tuple(latencies), cuts, pauses, spoiled, utterances)


def _ends(taken: Taken, pace: Pace, *, model: bool, words: bool) -> list[int]:
    """The frames in which turns ended."""
    endpointer = Endpointer(pace, judged=model)
    endpointer.begin(0, wait_seconds=60.0)
    ended, asked = [], 0
    for clock, speech in enumerate(taken.speech, 1):
        changes = [endpointer.process(clock, speech)]
        if changes[0] is not None and changes[0].kind == "paused":
            asked = clock
            if words:
                changes.append(endpointer.hear(clock in taken.commands, unfinished=clock in taken.open))
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
    return [after - before - 1 for before, after in pairwise(loud) if after - before > 1]


def _words(utterance: Utterance, clock: int) -> str:
    """What a recogniser without errors would have understood so far."""
    return " ".join(word for second, word in utterance.said if second < (clock - PAUSE) * FRAME_SECONDS)


def _until(pcm: bytes, clock: int) -> bytes:
    return pcm[: clock * FRAME_BYTES][-2 * SAMPLES :]


def scaled(pace: Pace, scale: float) -> Pace:
    """All its seconds times ``scale``."""
    longest = LONGEST_PAUSE * FRAME_SECONDS
    judged = tuple((probability, min(seconds * scale, longest)) for probability, seconds in pace.judged)
    return replace(pace, alone=pace.alone * scale, intent=pace.intent * scale, judged=judged)


def silence_alone(taken: Sequence[Taken]) -> list[Score]:
    """The curve of a fixed silence."""
    return [score(taken, Pace(seconds, seconds, ((0.0, seconds),))) for seconds in SILENCES]


def at_latency(curve: Sequence[Score], latency: float) -> float:
    """Cut-offs per pause of silence alone at a mean latency, on the line between two of its settings."""
    points = sorted((one.latency, one.rate) for one in curve)
    if latency <= points[0][0]:
        return points[0][1]
    for (sooner, more), (later, fewer) in pairwise(points):
        if latency <= later:
            return more + (fewer - more) * (latency - sooner) / (later - sooner)
    return points[-1][1]


def turns(
    silero: Path, smart_turn: Path, recordings: Path | None = None, whole_commands: Path | None = None
) -> list[Row]:
    """The curves of the test set; the settings were chosen on the other one, of other texts, voices and speakers.

    Args:
        silero: the folder of the model ``silero-vad``.
        smart_turn: the folder of the model ``smart-turn``.
        recordings: a folder with some of ``turn_audio.RECORDINGS``.
        whole_commands: a folder of recordings each of which is one command as people say it.
    """
    context = PluginContext("calculator", PluginSettings(), Path(), logging.getLogger(__name__), lambda _event: None)
    matcher = IntentMatcher([*clock_intents(), *assistant_calculator.register_intents(context)])
    ears = Ears(silero, smart_turn, lambda text: matcher.match(text) is not None)
    say("synthesised commands")
    spoken = [ears.take(one) for one in synthesised("test")]
    say("recordings")
    real = [ears.take(one) for one in recorded("test", recordings)] if recordings else []
    taken = [*spoken, *real]
    alone = zip(SILENCES, silence_alone(taken), strict=True)
    rows = [_told(f"silence of {seconds:g} s", one) for seconds, one in alone]
    rows += _rows("", taken, words=True)
    rows += _rows("sound only, ", taken, words=False)
    if whole_commands is not None:
        say("whole commands")
        rows += _rows("whole commands, ", [ears.take(one) for one in commands(whole_commands)], words=False)
    return rows


def _rows(name: str, taken: Sequence[Taken], *, words: bool) -> Iterator[Row]:
    curve = silence_alone(taken)
    ratios = []
    settings: list[tuple[str, Pace]] = [(patience, pace) for patience, pace in PACES.items()]
    settings += [(f"balanced x {scale:g}", scaled(PACES["balanced"], scale)) for scale in SCALES]
    for patience, pace in settings:
        ours = score(taken, pace, model=True, words=words)
        theirs = at_latency(curve, ours.latency)
        ratios.append(ours.rate / theirs if theirs else 1.0)
        yield _told(f"{name}{patience}", ours, f"; silence alone {theirs:.3f} at that latency")
    what = f"{name}cut-offs ÷ those of silence alone"
    note = f"at the same mean latency; {curve[0].pauses} pauses, {len(curve[0].latencies)} ends"
    yield at_most(what, ratios, REACH, note) if words else told(what, ratios, "", note)


def _told(what: str, one: Score, more: str = "") -> Row:
    ends = f"latency mean {one.latency:.3f} s, p95 {one.p95:.2f} s"
    return told(f"{what}: cut-offs per pause", [one.rate], "", f"{ends}; {one.spoiled} of {one.utterances} turns{more}")
