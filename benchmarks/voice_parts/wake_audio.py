"""What the wake words are tried on: many voices saying the phrase or anything else, rooms, noises, real recordings.

Everything is made from a seed. The tuning set and the test set share no voice and no sentence.
"""

from __future__ import annotations

import ast
import pydoc_data.topics
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soxr
from assistant_espeak.engine import Espeak
from numpy.typing import NDArray

from assistant.voice import audio_files
from assistant.voice.frames import RATE

Sound = NDArray[np.float32]

ACCENTS = ("en-us", "en-gb", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
SPEEDS = (150, 160, 170, 180)
"""Words a minute: openWakeWord's networks do not hear espeak's slower voices."""

ASKED = {
    "tuning": ("what day is it", "stop", "how warm is it", "set a timer for two minutes", "who was Ada Lovelace"),
    "test": ("what time is it", "turn off the light", "play some music", "is it going to rain", "call my mother"),
}
NEAR = (
    "hey Charlie", "hey Travis", "hey Jarred", "the service", "okay Nathan", "okay now but", "hey Minecraft",
    "a Lexus", "Alex said", "I elect her", "hey microphone", "hey Marvin", "the jar is", "carve this", "okay Nancy",
)  # fmt: skip
"""What sounds like a phrase without being one."""

SUBJECTS = ("my sister", "the old teacher", "nobody here", "our neighbour", "the driver", "a young doctor", "the cat",
            "the whole team", "somebody upstairs", "the woman next door", "your brother", "the mayor")  # fmt: skip
VERBS = ("forgot", "bought", "was looking for", "never liked", "painted", "wants to sell", "dropped", "talks about",
         "repaired", "has to carry", "dreamt of", "cannot find", "left behind", "borrowed")  # fmt: skip
THINGS = ("the green bicycle", "a bag of apples", "the kitchen table", "her grandfather's watch", "two tickets",
          "the letter from Vienna", "an empty jar", "the weather report", "his favourite song", "the last train",
          "that alarm clock", "a box of nails", "the garden hose", "some okay coffee")  # fmt: skip
ENDINGS = ("last Thursday", "because it was raining", "before breakfast", "in the middle of the night", "again",
           "and everybody laughed", "for no reason at all", "when the shop had closed", "hey, did you know that",
           "although it was late", "and then went home", "at half past nine")  # fmt: skip


@dataclass(frozen=True)
class Half:
    """One of the two sets."""

    name: str
    variants: tuple[str, ...]
    """Of espeak's voices."""
    part: int
    """Of the sentences: those whose number is even or odd."""


TUNING = Half("tuning", ("m1", "m2", "m3", "f1", "f2", "klatt"), 0)
TEST = Half("test", ("m4", "m5", "m6", "m7", "m8", "f3", "f4", "f5", "Andy", "Annie", "linda", "Mike"), 1)


class Voices:
    """Espeak's voices at several speeds, at 16 kHz."""

    def __init__(self) -> None:
        self._engines: dict[int, Espeak] = {}
        self._speed = 0

    def say(self, text: str, voice: str, speed: int) -> Sound:
        """The text as samples from -1 to 1."""
        if speed != self._speed:
            engine = self._engines.setdefault(speed, Espeak(speed=speed))
            engine.load(None)
            self._speed = speed
        chunks = list(self._engines[speed].speak(text, voice))
        pcm = np.frombuffer(b"".join(chunk.pcm for chunk in chunks), "<i2").astype(np.float32) / 32768
        return np.asarray(soxr.resample(pcm, chunks[0].sample_rate, RATE), np.float32)

    def close(self) -> None:
        """Give the library back."""
        for engine in self._engines.values():
            engine.close()


def voices_of(half: Half) -> list[tuple[str, int]]:
    """Every voice of a set at every speed."""
    return [(f"{accent}+{variant}", speed) for speed in SPEEDS for accent in ACCENTS for variant in half.variants]


@cache
def sentences(half: Half) -> tuple[str, ...]:
    """English prose of the Python documentation and of the standard library's docstrings, and everyday sentences."""
    texts = [*pydoc_data.topics.topics.values(), *_docstrings()]
    found = dict.fromkeys(part for text in texts for part in _prose(text))
    rng = random.Random(7)
    everyday = [
        f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(THINGS)} {rng.choice(ENDINGS)}." for _ in range(6000)
    ]
    both = [*found, *dict.fromkeys(everyday)]
    rng.shuffle(both)
    return tuple(both[half.part :: 2])


def _docstrings() -> Iterator[str]:
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield text


def _prose(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text):
        line = " ".join(block.split())
        letters = sum(one.isalpha() or one in " ,.'" for one in line)
        if len(line) > 60 and line[0].isupper() and letters > 0.96 * len(line) and "_" not in line:
            yield line[:600]


def level(sound: Sound) -> float:
    """Root mean square over what is louder than a hundredth of the peak: the voice without its pauses."""
    loud = sound[np.abs(sound) > np.abs(sound).max(initial=0) / 100]
    return float(np.sqrt(np.mean(loud.astype(np.float64) ** 2))) if len(loud) else 0.0


def at_level(sound: Sound, dbfs: float) -> Sound:
    """The sound so loud."""
    return np.asarray(sound * (10 ** (dbfs / 20) / (level(sound) or 1.0)), np.float32)


def mixed(sound: Sound, noise: Sound, snr_db: float) -> Sound:
    """A voice in noise, the noise repeated as needed."""
    quiet = np.resize(noise, len(sound))
    return np.asarray(sound + quiet * (level(sound) / (level(quiet) or 1.0) / 10 ** (snr_db / 20)), np.float32)


def pink(rng: np.random.Generator, seconds: float) -> Sound:
    """Noise of equal power an octave."""
    count = int(seconds * RATE)
    spectrum = np.fft.rfft(rng.normal(size=count))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return at_level(np.asarray(np.fft.irfft(spectrum, count), np.float32), -30)


def hum(rng: np.random.Generator, seconds: float) -> Sound:
    """A household machine: mains hum with overtones, hiss, and knocks."""
    count = int(seconds * RATE)
    at = np.arange(count) / RATE
    sound = sum(np.sin(2 * np.pi * 50 * k * at + k) / k for k in range(1, 8)) + rng.normal(0, 0.3, count)
    for start in rng.integers(0, max(count - RATE, 1), int(seconds)):
        sound[start : start + 800] += rng.normal(0, 8, 800) * np.exp(-np.arange(800) / 100)
    return at_level(np.asarray(sound, np.float32), -30)


def babble(voices: Voices, half: Half, rng: random.Random, seconds: float, talkers: int = 6) -> Sound:
    """Several people talking at once."""
    total = np.zeros(int(seconds * RATE), np.float32)
    for _ in range(talkers):
        voice, speed = rng.choice(voices_of(half))
        said = np.concatenate([voices.say(rng.choice(sentences(half)), voice, speed) for _ in range(4)])
        total += np.resize(at_level(said, -30), len(total))
    return total


def room(rng: np.random.Generator, delay_ms: float = 40.0, decay_ms: float = 60.0) -> Sound:
    """The path from a loudspeaker to the microphone beside it: a direct sound and a tail."""
    count = int((delay_ms + 4 * decay_ms) * RATE / 1000)
    start = int(delay_ms * RATE / 1000)
    path: Sound = np.zeros(count, np.float32)
    tail = count - start
    path[start:] = rng.normal(0, 0.15, tail) * np.exp(-np.arange(tail) / (decay_ms * RATE / 1000))
    path[start] = 1.0
    return path


def pcm(sound: Sound) -> bytes:
    """As 16-bit samples."""
    return bytes(np.clip(np.rint(sound * 32767), -32768, 32767).astype("<i2").tobytes())


def recording(file: Path) -> Sound:
    """A file's samples at 16 kHz."""
    return np.asarray(np.frombuffer(audio_files.read(file).pcm, "<i2") / 32768, np.float32)


def quiet(seconds: float) -> Sound:
    """A quiet room: hiss at -70 dBFS."""
    return np.asarray(np.random.default_rng(0).normal(0, 10 ** (-70 / 20), int(seconds * RATE)), np.float32)


def padded(sound: Sound, before: float = 1.5, after: float = 1.0) -> Sound:
    """With a quiet room before and after it."""
    return np.concatenate([quiet(before), sound, quiet(after)])


def faster(sound: Sound, factor: float) -> Sound:
    """The same voice faster and higher, or slower and deeper."""
    return np.asarray(soxr.resample(sound, RATE * factor, RATE), np.float32)


def talk(voices: Voices, half: Half, rng: random.Random, seconds: float) -> Iterator[Sound]:
    """Sentences of one voice after another, with pauses, until so much was said."""
    said, pool, everyone = 0.0, list(sentences(half)), voices_of(half)
    rng.shuffle(pool)
    at = 0
    while said < seconds:
        voice, speed = rng.choice(everyone)
        for _ in range(6):
            sound = at_level(voices.say(pool[at % len(pool)], voice, speed), rng.uniform(-36, -16))
            piece = np.concatenate([sound, quiet(rng.uniform(0.2, 1.5))])
            said, at = said + len(piece) / RATE, at + 1
            yield piece


def chosen(items: Sequence[tuple[str, int]], count: int, rng: random.Random) -> list[tuple[str, int]]:
    """So many voices, spread over all of them."""
    return rng.sample(list(items), min(count, len(items)))
