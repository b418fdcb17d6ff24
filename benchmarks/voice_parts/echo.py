"""How much softer the echo gets, room by room, and whether the assistant's own voice would interrupt it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from llm_parts.world import Row, at_least, say, told

from assistant.testing.audio import frames_of
from assistant.voice import audio_files
from assistant.voice.activity import VoiceActivity
from assistant.voice.echo import EchoCanceller
from assistant.voice.frames import RATE, SILENCE, frames

from .wake_audio import TEST, Voices, sentences, voices_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from rooms import Room, Samples, at_dbfs, decibels, pcm, to_samples

ROOMS = {
    "2 ms": Room(delay=0.002),
    "50 ms": Room(),
    "120 ms": Room(delay=0.12),
    "250 ms": Room(delay=0.25),
    "as loud as played": Room(loss_db=0.0),
    "25 dB softer": Room(loss_db=25.0),
    "very quiet room": Room(noise_dbfs=-80.0, loss_db=3.0),
    "noise at -40 dBFS": Room(noise_dbfs=-40.0),
    "reverberation 0.5 s": Room(reverberation=0.5, loss_db=6.0),
    "reverberation 1 s": Room(reverberation=1.0, loss_db=3.0),
    "small loudspeaker": Room(drive=8.0, loss_db=3.0),
    "clocks 100 ppm apart": Room(drift_ppm=100.0),
    "changed by the system": Room(isolated=True),
}
LIMITED = {"changed by the system", "noise at -40 dBFS"}
"""Nothing can be cancelled, and half duplex is what is asked for; or noise is all that is left."""

BURST = 0.6, frames(0.25)
"""Probability of speech, and for how long, that would interrupt an answer."""
ANSWER = 20.0
"""Seconds of an answer, about."""


@dataclass
class Session:
    """What came of own speech through a room."""

    bursts: int = 0
    """In full duplex."""
    raw: int = 0
    """If the canceller were always believed."""
    half: int = 0
    """Frames with own sound in half duplex."""
    playing: int = 0


@cache
def own_speech(minutes: float, seed: int = 5) -> Samples:
    """Answers of several sentences, each in one of espeak's voices, with pauses between them."""
    rng, voices = random.Random(seed), Voices()
    texts, parts, length = list(sentences(TEST)), [np.zeros(RATE * 2)], 2.0
    rng.shuffle(texts)
    while length < minutes * 60:
        voice, speed = rng.choice(voices_of(TEST))
        spoken = 0.0
        while spoken < ANSWER and length < minutes * 60:
            sound = at_dbfs(voices.say(texts.pop(), voice, speed).astype(np.float64), -23.0)
            parts += [sound, np.zeros(round(RATE * rng.uniform(0.1, 0.5)))]
            spoken += len(sound) / RATE
            length += (len(sound) + len(parts[-1])) / RATE
        parts.append(np.zeros(round(RATE * rng.uniform(1.0, 5.0))))
        length += len(parts[-1]) / RATE
    voices.close()
    return np.concatenate(parts)


def reduction(seconds: float = 30.0, audio: Path | None = None) -> list[Row]:
    """Decibels by which the echo gets softer once the canceller has warmed up, and what it says itself.

    Args:
        audio: the folder with ``echo/reference.wav`` and ``echo/original.wav``, a recording in a real room.
    """
    far, rows = own_speech(seconds / 60), []
    for name, room in ROOMS.items():
        near = room.microphone(far)
        clean, echo = cancelled(near, far)
        begin, end = RATE * 8, len(clean)
        value = decibels(near[begin:end]) - decibels(clean[begin:end])
        shown = "-" if echo.attenuation_db is None else f"{echo.attenuation_db:.0f} dB"
        note = f"live figure {shown}, {echo.duplex} duplex"
        what = f"echo reduction: {name}"
        rows.append(told(what, [value], "dB", note) if name in LIMITED else at_least(what, [value], 10.0, note, "dB"))
    if audio is not None:
        rows.append(_recorded(audio / "echo"))
    return rows


def _recorded(folder: Path) -> Row:
    far = to_samples(audio_files.read(folder / "reference.wav").pcm)
    near = to_samples(audio_files.read(folder / "original.wav").pcm)
    clean, echo = cancelled(near, far)
    only_far = [slice(RATE * at, RATE * (at + 1)) for at in (6, 7, 11, 12)]
    values = [decibels(near[at]) - decibels(clean[at]) for at in only_far]
    return at_least("echo reduction: recording, 4 s of echo alone", values, 10.0, f"{echo.duplex} duplex", "dB")


def cancelled(near: Samples, far: Samples) -> tuple[Samples, EchoCanceller]:
    """What the canceller leaves of the microphone's sound, and the canceller."""
    echo = EchoCanceller()
    left = [echo.process(*pair) for pair in _pairs(near, far)]
    return to_samples(b"".join(left)), echo


def _pairs(near: Samples, far: Samples) -> Iterator[tuple[bytes, bytes]]:
    return zip(frames_of(pcm(near)), frames_of(pcm(far)), strict=False)


def listen(near: Samples, far: Samples, model: Path) -> Session:
    """Own speech through the canceller and the voice activity, as the audio thread runs them."""
    echo, trusted, raw = EchoCanceller(), VoiceActivity(model), VoiceActivity(model)
    found = Session()
    runs = [0, 0]
    for microphone, played in _pairs(near, far):
        clean = echo.process(microphone, played)
        half = echo.audible and echo.duplex == "half"
        found.half += half
        found.playing += echo.audible
        heard = trusted.process(SILENCE if half else clean), raw.process(clean)
        runs = [run + 1 if speech > BURST[0] else 0 for run, speech in zip(runs, heard, strict=True)]
        found.bursts += runs[0] == BURST[1]
        found.raw += runs[1] == BURST[1]
    return found


def self_interruptions(model: Path, minutes: float = 30.0, names: tuple[str, ...] = tuple(ROOMS)) -> list[Row]:
    """How often the own speech would interrupt itself in each room; every room hears the same ``minutes``."""
    far, rows = own_speech(minutes), []
    for name in names:
        say(f"self-interruptions: {name}")
        found = listen(ROOMS[name].microphone(far), far, model)
        note = f"{minutes:g} min; {found.raw} without half duplex, which was on {found.half / found.playing:.1%}"
        what = f"self-interruptions: {name}"
        rows.append(Row(what, found.bursts, "", "= 0", found.bursts == 0, note, (float(found.bursts),)))
    return rows
