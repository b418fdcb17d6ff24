"""Spoken commands for a tiny Whisper: what is said, by which synthetic voices, through which rooms and noises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import soxr
from assistant_espeak.engine import Espeak
from numpy.typing import NDArray

Wave = NDArray[np.float32]

RATE = 16_000
LANGUAGES = ("en-us", "en-gb", "en-gb-x-rp")
VARIANTS = (
    "", "m1", "m2", "m4", "m5", "m7", "f1", "f3", "f4", "Alex", "Andy", "Annie", "Gene", "Jacky", "Lee",
    "Mario", "Michael", "adam", "anika", "belinda", "benjamin", "caleb", "david", "ed", "edward", "grandma",
    "ian", "john", "linda", "max", "paul", "rob", "shelby", "steph", "travis", "zac",
)  # fmt: skip
HELD_OUT_VARIANTS = ("m3", "m6", "f2", "f5", "Alicia", "Mike", "robert", "quincy", "victor", "aunty")
"""Voices that are not trained on."""
SPEEDS = (130, 145, 160, 175, 190, 205)
HELD_OUT_SPEEDS = (137, 152, 168, 183)
"""Words a minute; neither are these."""

TEMPLATES = (
    (5, "what time | is it?"), (2, "what's the time?"), (3, "what day | is it?"), (2, "what's the date?"),
    (14, "set a timer | for | {n} {unit}"), (6, "set a | {n} {single} timer"), (4, "cancel | the timer"),
    (2, "cancel | all timers"), (4, "stop"), (3, "how much time | is left?"), (2, "what timers | are running?"),
    (3, "what is | seventeen percent | of | three hundred forty?"), (2, "what is | twelve | times | thirty?"),
    (2, "yes"), (2, "no"), (2, "thank you"), (2, "never mind"), (2, "go on"), (2, "hello"), (2, "tell me | a joke"),
    (2, "tell me | a story | about the sea"), (2, "who are you?"), (2, "what's the weather | like today?"),
    (2, "turn on | the light"), (2, "play some music"),
)  # fmt: skip
"""How often, and what; ``|`` is where somebody may pause or break off."""
NUMBERS = ("one", "two", "three", "five", "ten", "twelve", "fifteen", "twenty", "thirty", "forty", "fifty")
NAMES = {"jarvis": "Jarvis,"}


@dataclass(frozen=True)
class Saying:
    """What somebody says, in the pieces between which they may pause."""

    pieces: tuple[str, ...]
    text: str
    """As Whisper writes it: a capital, a full stop or a question mark, which an unfinished sentence lacks."""


def saying(template: str, *, addressed: bool = False, pieces: int = 0) -> Saying:
    """A template's words, after "hey jarvis" if ``addressed``; only the first ``pieces`` of it if that is not 0."""
    mark = "?" if template.endswith("?") else "."
    every = [piece.strip() for piece in template.rstrip("?").split("|")]
    said = every[: pieces or None]
    whole = len(said) == len(every)
    if addressed:
        said[0] = f"hey jarvis {said[0]}"
    written = " ".join(NAMES.get(word, word) for word in " ".join(said).split()).rstrip(",")
    return Saying(tuple(said), written[0].upper() + written[1:] + (mark if whole else ""))


def sayings(rng: np.random.Generator) -> Iterator[Saying]:
    """Commands and remarks without end, some addressed, some broken off."""
    weights = np.array([weight for weight, _ in TEMPLATES], float)
    while True:
        template = TEMPLATES[rng.choice(len(TEMPLATES), p=weights / weights.sum())][1]
        one = str(rng.choice(NUMBERS))
        single = str(rng.choice(["second", "minute", "hour"], p=[0.25, 0.55, 0.2]))
        filled = template.format(n=one, unit=single if one == "one" else f"{single}s", single=single)
        parts = filled.count("|") + 1
        cut = int(rng.integers(1, parts)) if parts > 1 and rng.random() < 0.15 else 0
        yield saying(filled, addressed="jarvis" not in filled and rng.random() < 0.15, pieces=cut)


@cache
def voice(speed: int) -> Espeak:
    """eSpeak at a speed in words a minute."""
    return Espeak(speed=speed)


def speak(text: str, name: str, speed: int, pitch: float = 1.0) -> Wave:
    """``text`` at 16 kHz, ±1, without silence around it; ``pitch`` raises the whole voice, and shortens it."""
    engine = voice(speed)
    engine.load(None)
    pcm = b"".join(chunk.pcm for chunk in engine.speak(text, name))
    engine.close()
    sound = soxr.resample(np.frombuffer(pcm, "<i2").astype(np.float32) / 32768, 22_050, RATE / pitch)
    loud = np.flatnonzero(np.abs(sound) > 0.01)
    return np.asarray(sound[loud[0] : loud[-1] + 1] if len(loud) else sound, np.float32)


def say(what: Saying, name: str, speed: int, rng: np.random.Generator, pitch: float = 1.0) -> Wave:
    """The saying in one breath or, now and then, with a pause between two of its pieces."""
    at = int(rng.integers(1, len(what.pieces))) if len(what.pieces) > 1 and rng.random() < 0.25 else 0
    if not at:
        return speak(" ".join(what.pieces), name, speed, pitch)
    pause = np.zeros(int(rng.uniform(0.15, 1.2) * RATE), np.float32)
    parts = " ".join(what.pieces[:at]), " ".join(what.pieces[at:])
    return np.concatenate([speak(parts[0], name, speed, pitch), pause, speak(parts[1], name, speed, pitch)])


def noise(count: int, rng: np.random.Generator) -> Wave:
    """Noise of RMS 1: white to brown, hum, or clicks."""
    kind = rng.random()
    if kind < 0.7:
        spectrum = np.fft.rfft(rng.normal(size=_quick(count)))
        found = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** rng.uniform(0, 1))[:count]
    elif kind < 0.85:
        time, base = np.arange(count) / RATE, rng.uniform(40, 1200)
        found = sum(np.sin(2 * np.pi * base * k * time) / k for k in range(1, 5)) + 0.1 * rng.normal(size=count)
    else:
        found = 0.02 * rng.normal(size=count)
        for at in rng.integers(0, max(count - 400, 1), max(1, count // 8000)):
            click = rng.normal(size=len(found[at : at + 400]))
            found[at : at + 400] += click * np.exp(-np.arange(len(click)) / 80)
    return np.asarray(found / max(float(np.sqrt(np.mean(found**2))), 1e-9), np.float32)


def _quick(count: int) -> int:
    """The next size that a Fourier transform is quick for."""
    return 1 << (count - 1).bit_length()


def room(sound: Wave, rng: np.random.Generator) -> Wave:
    """With the reverberation of a small to a large room."""
    length = int(rng.uniform(0.1, 0.5) * RATE)
    echo = rng.normal(size=length) * np.exp(-6.9 * np.arange(length) / length) * rng.uniform(0.02, 0.12)
    echo[0] = 1.0
    size = _quick(len(sound) + length)
    return np.asarray(np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(echo, size), size)[: len(sound)], np.float32)


def recorded(sound: Wave, rng: np.random.Generator, lead: float, tail: float) -> Wave:
    """As a microphone takes it up: seconds of silence around it, a room, a level, noise, 16 bits."""
    wave = np.concatenate([np.zeros(int(lead * RATE)), sound, np.zeros(int(tail * RATE))]).astype(np.float32)
    if rng.random() < 0.4:
        wave = room(wave, rng)
    wave *= 10 ** (rng.uniform(-30, -3) / 20) / max(float(np.abs(wave).max()), 1e-6)
    if rng.random() < 0.75:
        level = float(np.sqrt(np.mean(sound**2))) * float(np.abs(wave).max()) / max(float(np.abs(sound).max()), 1e-6)
        wave = wave + noise(len(wave), rng) * level * np.float32(10 ** (-rng.uniform(8, 45) / 20))
    return np.asarray(np.round(np.clip(wave, -1, 1) * 32767) / 32768, np.float32)
