"""What turns are tried on: real recordings, and commands with pauses put into them; every pause and end is known."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from assistant.testing import audio
from assistant.voice.frames import FRAME, RATE

BEFORE, AFTER = 0.5, 3.5
"""Seconds of room around every utterance."""
ROOM_DBFS = -65.0

SURVIVAL = ((0.2, 1.0), (0.3, 0.556), (0.6, 0.217), (1.0, 0.1), (1.6, 0.05), (2.2, 0.0))
"""How many of the pauses within turns last longer than so many seconds: the cut-offs of silence alone in eot-bench
(real turns in English, pauses from 0.2 s; its row "VAD baseline"), and an end to it."""

VOICES = {
    "tuning": (("en-us+m1", 150), ("en-us+f2", 175), ("en-gb+m3", 165), ("en-gb-x-rp+f4", 155)),
    "test": (("en-us+m7", 170), ("en-us+f3", 150), ("en-gb+m5", 160), ("en-gb-scotland+f5", 175)),
}
"""espeak's, with words a minute."""

TEXTS = {
    "tuning": (
        "set a timer for|ten minutes", "set an alarm for|half past six tomorrow", "what time is it?",
        "what time is it|in Tokyo?", "how much time is left?", "cancel the|pasta timer", "yes", "no thanks",
        "set a timer for five minutes|and thirty seconds", "what is twelve|times eight?", "what day is it tomorrow?",
        "put milk,|eggs,|flour|and two lemons on the shopping list", "who wrote|the Count of Monte Cristo?",
        "tell me a story about|a dragon who|was afraid of fire", "play some|jazz in the living room",
        "what's the weather going to be like?", "can you explain|how a heat pump works?",
        "remind me to call|my brother|on Saturday morning", "I think we should|maybe|go there by train",
        "turn the lights in the kitchen|down to thirty percent", "how far is it from|Berlin to Prague?",
        "my number is five five five,|two three one,|four four nine", "start a timer for|a quarter of an hour",
        "write an email to Anna|and tell her that|I will be late",
    ),
    "test": (
        "start a timer for|twenty five minutes", "wake me up at|a quarter to seven", "what's the date today?",
        "what's the time|in Buenos Aires?", "which timers are running?", "stop the|egg timer", "yeah", "hello?",
        "set a timer for one hour|and twenty minutes", "how much is ninety|divided by six?", "what time is it now?",
        "we need bread,|butter,|some cheese|and a bottle of wine", "when was|the Eiffel Tower built?",
        "give me a recipe for|pancakes|without any eggs", "switch off|the lamp next to the sofa",
        "is it going to rain this afternoon?", "what is the difference between|a virus and a bacterium?",
        "tell Martin that|the meeting|is moved to Friday", "well|I would rather|stay at home tonight",
        "set the heating in the bedroom|to nineteen degrees", "how do I get from|the airport to the station?",
        "the code is seven seven,|three oh two,|nine one four", "set a ten minute|timer",
        "read me the news|but only|what is about football",
    ),
}  # fmt: skip
"""Each bar is where the speaker hesitates."""

KINDS = ("bare", "drawn out", "filled")
"""How: the voice just stops, or the last word is drawn out, or there is an "um"; one as often as the other."""
DRAWN_OUT = 2.2
"""How many times longer that word gets."""
FILLER = ("um", 120)
"""What is said, with words a minute."""

RECORDINGS: dict[str, dict[str, tuple[float, ...]]] = {
    "tuning": {"two_cities.wav": ()},
    "test": {
        "jfk.wav": (), "beckett.wav": (1.55, 3.2, 4.55, 6.1, 7.8), "LJ001-0004.wav": (), "LJ001-0006.wav": (),
    },
}  # fmt: skip
"""Files of the folder of recordings, with the seconds between two sentences where they are cut into utterances."""
UNFINISHED = ("LJ001-0004.wav", "LJ001-0006.wav")
"""They end within a sentence: their inner pauses count, their end does not."""


@dataclass(frozen=True)
class Utterance:
    """A turn, with room before and after it."""

    name: str
    pcm: bytes
    said: tuple[tuple[float, str], ...] = ()
    """The words, each with the second at which it begins; none if nobody wrote them down."""
    end: float | None = None
    """Second at which the last word ends; None: where speech is heard last."""
    finished: bool = True


def synthesised(half: str, seed: int = 4) -> Iterator[Utterance]:
    """All texts of one half, each by all its voices."""
    chance = random.Random(f"{half} {seed}")
    for text in TEXTS[half]:
        for voice, speed in VOICES[half]:
            yield _hesitant(text, voice, speed, chance)


def recorded(half: str, folder: Path) -> Iterator[Utterance]:
    """The recordings of one half that the folder has."""
    for name, cuts in RECORDINGS[half].items():
        if not (folder / name).exists():
            continue
        pcm = audio.read(folder / name)
        bounds = [0, *(2 * round(second * RATE) for second in cuts), len(pcm)]
        for number, (start, stop) in enumerate(pairwise(bounds), 1):
            yield Utterance(f"{name} {number}", _in_its_room(pcm[start:stop]), finished=name not in UNFINISHED)


def commands(folder: Path, every: int = 1) -> Iterator[Utterance]:
    """Recordings each of which is one whole command; only every so manyth of them."""
    for path in sorted(folder.glob("*.wav"))[::every]:
        yield Utterance(path.stem, _in_its_room(audio.read(path)))


def pause(chance: random.Random) -> float:
    """How long somebody pauses within a turn, in seconds; as ``SURVIVAL`` has it."""
    share = chance.random()
    for (shorter, more), (longer, fewer) in pairwise(SURVIVAL):
        if share >= fewer:
            return shorter + (longer - shorter) * (more - share) / (more - fewer)
    return SURVIVAL[-1][0]


def _hesitant(text: str, voice: str, speed: int, chance: random.Random) -> Utterance:
    """The text in one breath, taken apart at its bars."""
    speech = audio.synthesise(" ".join(text.replace("|", " ").split()), voice, speed)
    words = speech.words
    bars = _bars(text, [word.text for word in words])
    pcm, said, kind = bytearray(audio.silence(BEFORE)), [], ""
    for index, word in enumerate(words):
        piece = speech.pcm[2 * round(word.start * RATE) : 2 * round(word.end * RATE)]
        said.append((_seconds(pcm), word.text))
        before, kind = kind, chance.choice(KINDS) if index + 1 in bars else ""
        piece = _faded(piece, start=bool(before), stop=bool(kind))
        pcm += drawn_out(piece) if kind == "drawn out" else piece
        if kind == "filled":
            pcm += audio.silence(0.05)
            said.append((_seconds(pcm), FILLER[0]))
            pcm += audio.synthesise(FILLER[0], voice, FILLER[1]).pcm
        if kind:
            pcm += audio.silence(pause(chance))
    end = _seconds(pcm)
    pcm += audio.silence(AFTER)
    room = audio.noise("pink", _seconds(pcm), ROOM_DBFS, seed=chance.randrange(1000))
    return Utterance(f"{text} ({voice})", audio.mix(bytes(pcm), room), tuple(said), end)


def drawn_out(pcm: bytes) -> bytes:
    """``DRAWN_OUT`` times as long at the same pitch: windows of 30 ms are laid over each other where they fit best."""
    wave = audio.to_samples(pcm)
    size, hop, reach = 480, 240, 200
    if len(wave) < 2 * size:
        return pcm
    out, at = np.zeros(round(len(wave) * DRAWN_OUT) + size), 0
    for start in range(0, len(out) - size, hop):
        wanted = min(round(start / DRAWN_OUT), len(wave) - size)
        if start:
            goes_on = wave[at + hop : at + hop + size]
            low, high = max(0, wanted - reach), min(len(wave) - size, wanted + reach)
            fits = np.correlate(wave[low : high + len(goes_on)], goes_on, "valid")
            at = low + int(fits.argmax())
        out[start : start + size] += wave[at : at + size] * np.hanning(size)
    return _faded(audio.to_pcm(out))


def _seconds(pcm: bytes | bytearray) -> float:
    return len(pcm) / 2 / RATE


def _bars(text: str, words: Sequence[str]) -> set[int]:
    """The words that follow a bar; the voice may take two words of the text for one."""
    found, passed = set(), [0]
    for word in words:
        passed.append(passed[-1] + len(word.replace(" ", "")))
    letters = 0
    for part in text.split("|")[:-1]:
        letters += len(part.replace(" ", ""))
        found.add(min(range(len(words)), key=lambda index: abs(passed[index] - letters)))
    return found


def _faded(pcm: bytes, *, start: bool = True, stop: bool = True) -> bytes:
    """With soft edges of 10 ms, that no cut is heard."""
    samples = audio.to_samples(pcm)
    edge = min(FRAME, len(samples) // 2)
    ramp = np.arange(edge) / max(edge, 1)
    if start:
        samples[:edge] *= ramp
    if stop:
        samples[len(samples) - edge :] *= ramp[::-1]
    return audio.to_pcm(samples)


def _in_its_room(pcm: bytes) -> bytes:
    """With noise before and after it, as loud as where the recording is quietest."""
    frames = [level for frame in audio.frames_of(pcm) if (level := audio.level(frame)) > audio.QUIETEST]
    quiet = sorted(frames)[len(frames) // 50] if frames else ROOM_DBFS
    room = audio.noise("pink", audio.seconds_of(pcm) + BEFORE + AFTER, quiet)
    before, after = 2 * round(BEFORE * RATE), 2 * round(AFTER * RATE)
    return room[:before] + pcm + room[-after:]
