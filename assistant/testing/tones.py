"""A voice of tones that can be read back from what was played, and a wake word that is a tone.

Every word lasts ``WORD_SECONDS``: an opening tone, a tone of 20 ms for each letter or digit, a filling tone to the end
of the sound, and a short silence.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant.engines import STT_SAMPLE_RATE, AudioChunk, TextToSpeech, WordMark
from assistant.hookspecs import WakeWord

from .audio import Samples, to_pcm, to_samples, tone
from .engines import RANK

WORD_SECONDS = 0.4
"""How long a word of up to 13 letters takes; longer ones take a ``LETTER_SECONDS`` more for each further letter."""
LETTER_SECONDS = 0.02
GAP_SECONDS = 0.08
"""Silence at the end of a word."""
TONE_DBFS = -20.0

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'"
FIRST_HERTZ, STEP_HERTZ = 4400.0, 50.0
"""Tones of 20 ms that lie 50 Hz apart do not disturb each other; there is little speech so high, and no earcon."""
OPEN, FILL = len(LETTERS), len(LETTERS) + 1
"""The opening and the filling tone, counted as if they were letters: 6250 and 6300 Hz."""

WAKE_HERTZ = 3100.0
WAKE_SECONDS = 0.2
WAKE_FRAMES = 10
"""The tone must last so many frames of 10 ms."""
SCORED_FRAMES = 15
"""The score is held for so many: some detectors give one every 80 ms, so the spotter wants it for that long."""

PURE, PURE_OPENING = 0.4, 0.8
"""A tone's share of all these tones; of two that fill half of the time each, each has a quarter of the whole."""
SOFTEST = 1e-6
"""Power below which nothing is read: -60 dBFS."""

_WORD = re.compile(r"\S+")


def spelled(word: str) -> str:
    """A word as it can be played: lower-case letters, digits and apostrophes; empty if there are none."""
    plain = unicodedata.normalize("NFKD", word.replace("\u2019", "'")).lower()
    return "".join(letter for letter in plain if letter in LETTERS).strip("'")


def word_seconds(word: str) -> float:
    """How long a word takes."""
    return max(WORD_SECONDS, (len(spelled(word)) + 2) * LETTER_SECONDS + GAP_SECONDS)


class ToneTextToSpeech(TextToSpeech):
    """Each word is a tone of its own; ``words_in`` reads back what was played, to the part of a word.

    Args:
        wake: a phrase that, where it is to be spoken, sounds as a wake word's tone does, ``wake_sound()``.
    """

    def __init__(
        self, name: str = "tones", lane: str = "thread:voice", rate: int = STT_SAMPLE_RATE, wake: str = ""
    ) -> None:
        self.name = name
        self.lane = lane
        self.rank = RANK
        self.rate = rate
        self.wake = wake
        self.spoken: list[str] = []
        """The texts that it was given so far."""

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def speak(self, text: str, voice: str) -> Iterator[AudioChunk]:
        """A chunk of 200 ms a step, each word marked where it begins."""
        self.spoken.append(text)
        pcm, marks = self._render(text)
        size = round(self.rate * 0.2)
        for start in range(0, len(pcm) // 2, size):
            inside = [mark for mark in marks if start <= mark.sample < start + size]
            words = tuple(WordMark(sample=mark.sample - start, character=mark.character) for mark in inside)
            yield AudioChunk(pcm=pcm[start * 2 : (start + size) * 2], sample_rate=self.rate, words=words)

    def _render(self, text: str) -> tuple[bytes, list[WordMark]]:
        pcm, marks = bytearray(), []
        own = self.wake and re.search(re.escape(self.wake), text, re.IGNORECASE)
        first, last = own.span() if own else (-1, -1)
        for found in _WORD.finditer(text):
            word = spelled(found[0])
            if not word:
                continue
            marks.append(WordMark(sample=len(pcm) // 2, character=found.start()))
            if found.start() == first:
                pcm += tone(WAKE_HERTZ, WAKE_SECONDS, TONE_DBFS, rate=self.rate)
            elif not first < found.start() < last:
                pcm += word_sound(word, self.rate)
        return bytes(pcm), marks


@lru_cache(maxsize=512)
def word_sound(word: str, rate: int = STT_SAMPLE_RATE) -> bytes:
    """A word as tones."""
    symbols = [OPEN, *(LETTERS.index(letter) for letter in spelled(word))]
    total = round(word_seconds(word) * rate)
    size, sound = round(LETTER_SECONDS * rate), total - round(GAP_SECONDS * rate)
    time = np.arange(sound)
    places = np.minimum(time // size, len(symbols))
    hertz = np.array([_hertz(symbol) for symbol in [*symbols, FILL]])[places]
    wave = np.zeros(total)
    wave[:sound] = np.sin(2 * np.pi * hertz * time / rate) * np.sqrt(2) * 10 ** (TONE_DBFS / 20)
    return to_pcm(wave)


@dataclass(frozen=True)
class PlayedWord:
    """A word that was found in what was played."""

    text: str
    """Its letters, as far as they were played."""
    start: float
    """Seconds from the beginning of the audio."""
    share: float
    """How much of it was played, 0 to 1."""


def played_words(pcm: bytes, rate: int = STT_SAMPLE_RATE) -> list[PlayedWord]:
    """Every word of a ``ToneTextToSpeech`` in some audio, also those that were cut off; volume does not matter."""
    hop = rate // 400
    size = round(LETTER_SECONDS * rate)
    strongest, purity = _symbols(np.concatenate([np.zeros(hop * 8), to_samples(pcm)]), rate, size, hop)
    starts = _peaks(np.where(strongest == OPEN, purity, 0.0))
    found = []
    for at, begin in enumerate(starts):
        limit = starts[at + 1] if at + 1 < len(starts) else len(strongest)
        text, frame = "", begin + round(size / hop)
        while frame < limit and 0 <= strongest[frame] < OPEN:
            text += LETTERS[strongest[frame]]
            frame = begin + round(size * (len(text) + 1) / hop)
        while frame < limit and strongest[frame] == FILL:
            frame += 1
        sound = word_seconds(text) - GAP_SECONDS
        share = min(1.0, (frame - begin) * hop / rate / sound)
        found.append(PlayedWord(text, (begin - 8) * hop / rate, 1.0 if share > 0.95 else share))
    return [word for word in found if word.text]


def words_in(pcm: bytes, rate: int = STT_SAMPLE_RATE, share: float = 0.5) -> list[str]:
    """The words of a ``ToneTextToSpeech`` in some audio, of which at least that ``share`` was played.

    A word that was broken off and then said again from its beginning counts once.
    """
    words = played_words(pcm, rate)
    kept = []
    for word, following in itertools.zip_longest(words, words[1:]):
        again = following is not None and word.share < 1 and following.text.startswith(word.text)
        if word.share >= share and not again:
            kept.append(word.text)
    return kept


def _hertz(symbol: int) -> float:
    return FIRST_HERTZ + STEP_HERTZ * symbol


def _symbols(
    samples: Samples, rate: int, size: int, hop: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For every hop, the tone that fills the next ``size`` samples, -1 where none does, and its share of them all."""
    if len(samples) < size:
        return np.zeros(0, np.int64), np.zeros(0)
    times = np.arange(size) / rate
    probes = np.exp(-2j * np.pi * np.outer(times, [_hertz(symbol) for symbol in range(FILL + 1)]))
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    found, purity = np.full(len(windows), -1, np.int64), np.zeros(len(windows))
    for begin in range(0, len(windows), 4096):
        block = windows[begin : begin + 4096]
        power = np.abs(block @ probes) ** 2 * 2 / size
        energy = np.maximum(power.sum(axis=1), size * SOFTEST)
        best = power.argmax(axis=1)
        share = power[np.arange(len(block)), best] / energy
        found[begin : begin + 4096] = np.where(share >= PURE, best, -1)
        purity[begin : begin + 4096] = share
    return found, purity


def _peaks(purity: NDArray[np.float64]) -> list[int]:
    """The purest hop of every run that is pure enough."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], purity > 0, [0]])))
    peaks = [begin + int(purity[begin:end].argmax()) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return [peak for peak in peaks if purity[peak] >= PURE_OPENING]


class ScriptedWakeWord(WakeWord):
    """Hears its phrase where its tone lasted for 100 ms and has ended; its score is the tone's share of the sound.

    Args:
        hertz: its tone; several wake words need tones at least 200 Hz apart.
    """

    frame_samples = 160

    def __init__(
        self, name: str = "hey_robin", phrase: str = "hey robin", hertz: float = WAKE_HERTZ, *, costly: bool = False
    ) -> None:
        self.name = name
        self.phrase = phrase
        self.hertz = hertz
        self.costly = costly
        self._shares: list[float] = []
        self._score = 0.0
        self._lasts = 0

    def load(self) -> None:
        """Nothing to do."""

    def score(self, frame: bytes) -> float:
        """The tone's share of the sound while it lasted, for 150 ms after it has ended; else 0."""
        samples = to_samples(frame)
        energy = float((samples**2).sum())
        time = np.arange(len(samples)) / STT_SAMPLE_RATE
        heard = abs(complex(samples @ np.exp(-2j * np.pi * self.hertz * time))) ** 2 * 2 / max(len(samples), 1)
        share = heard / energy if energy > 1e-6 else 0.0
        mean = float(np.median(self._shares)) if self._shares else 0.0
        if share > max(0.1, mean / 2):
            self._shares.append(share)
        else:
            if len(self._shares) >= WAKE_FRAMES:
                self._score, self._lasts = min(1.0, mean), SCORED_FRAMES + 1
            self._shares = []
        self._lasts -= self._lasts > 0
        return self._score if self._lasts else 0.0

    def reset(self) -> None:
        """Forget what was heard."""
        self._shares, self._lasts = [], 0

    def close(self) -> None:
        """Nothing to do."""


def wake_sound(hertz: float = WAKE_HERTZ, purity: float = 1.0) -> bytes:
    """The tone that wakes a ``ScriptedWakeWord``.

    Args:
        purity: the score that it gets; less than the wake word's threshold is a near miss.
    """
    wanted = to_samples(tone(hertz, WAKE_SECONDS, TONE_DBFS)) * purity**0.5
    other = to_samples(tone(hertz / 2, WAKE_SECONDS, TONE_DBFS)) * (1 - purity) ** 0.5
    return to_pcm(wanted + other)
