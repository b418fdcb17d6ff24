"""A recogniser that knows the recordings: it understands their words where they really are in the audio it is fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant.engines import STT_SAMPLE_RATE, SpeechToText, Transcript, Transcription

from .audio import Samples, Speech, Word, seconds_of, timed_words, to_samples
from .engines import RANK

COARSE = 4_000
"""Samples per second at which audio is compared; the energy of speech lies below half of it."""
ALIKE, ALIKE_BRIEFLY = 0.45, 0.7
"""The least correlation with a recording, over half a second or more, and over less."""
BRIEF = 0.5
LEAST = 0.12
"""Seconds of a recording below which nothing is understood."""
WORD_ALIKE, WORD_SHARE = 0.35, 0.6
"""A word is understood if that share of it is there, and so much like the recording."""
STEP_BYTES = STT_SAMPLE_RATE // 10 * 2
"""A partial transcript is looked for at every 100 ms."""


class KnownSpeechToText(SpeechToText):
    """Understands exactly the words of recordings it was told of that are in the audio, also under noise; a word whose
    beginning was lost on the way is lost in the transcript too.
    """

    def __init__(self, known: Sequence[Speech] = (), name: str = "known_ear", lane: str = "thread:ear") -> None:
        self.name = name
        self.lane = lane
        self.rank = RANK
        self.known = list(known)
        self.phrases: tuple[str, ...] = ()
        """What it was last told to be likely."""
        self.opened = 0
        """How many utterances it was given so far."""

    def learn(self, speech: Speech) -> None:
        """Know one more recording; its text must be set."""
        if speech.text and speech.pcm and speech not in self.known:
            self.known.append(speech)

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def open(self, language: str, phrases: tuple[str, ...]) -> Transcription:
        """Listen."""
        self.phrases = phrases
        self.opened += 1
        return _Known([_Recording(speech) for speech in self.known])


@dataclass(frozen=True)
class _Place:
    """Where a recording was found."""

    at: int
    """Coarse samples from the beginning of the audio; may be negative."""
    strength: float
    recording: _Recording


class _Recording:
    def __init__(self, speech: Speech) -> None:
        self.speech = speech
        self.words: tuple[Word, ...] = speech.words or timed_words(speech.text, speech.seconds)
        self.samples = _coarse(speech.pcm)
        self.energy = np.concatenate([[0.0], np.cumsum(self.samples**2)])

    def find(self, heard: Samples, energy: Samples) -> _Place | None:
        """Where it fits best."""
        own, size = len(self.samples), len(heard)
        length = 1 << (own + size - 1).bit_length()
        spectrum = np.fft.rfft(heard, length) * np.fft.rfft(self.samples, length).conj()
        ring = np.fft.irfft(spectrum, length)
        shifts = np.arange(1 - own, size)
        first, last = np.maximum(0, -shifts), np.minimum(own, size - shifts)
        mine = self.energy[last] - self.energy[first]
        theirs = energy[last + shifts] - energy[first + shifts]
        overlap = (last - first) / COARSE
        alike = ring[shifts] / np.sqrt(np.maximum(mine * theirs, 1e-12))
        wanted = np.where(overlap < min(BRIEF, 0.9 * own / COARSE), ALIKE_BRIEFLY, ALIKE)
        strength = np.where((overlap >= LEAST) & (alike >= wanted), alike * np.sqrt(np.maximum(theirs, 0)), 0.0)
        best = int(strength.argmax())
        return _Place(int(shifts[best]), float(strength[best]), self) if strength[best] > 0 else None

    def understood(self, heard: Samples, at: int) -> list[str]:
        """Its words that are there."""
        found = []
        for word in self.words:
            begin, end = round(word.start * COARSE), min(round(word.end * COARSE), len(self.samples))
            first, last = max(begin, -at), min(end, len(heard) - at)
            if last - first < WORD_SHARE * (end - begin) or last <= first:
                continue
            mine, theirs = self.samples[first:last], heard[first + at : last + at]
            power = float(np.sqrt((mine**2).sum() * (theirs**2).sum()))
            if power > 0 and float(mine @ theirs) / power >= WORD_ALIKE:
                found.append(word.text)
        return found


class _Known(Transcription):
    def __init__(self, recordings: list[_Recording]) -> None:
        self._recordings = recordings
        self._pcm = bytearray()
        self._looked = 0
        self._text = ""

    def feed(self, pcm: bytes) -> str | None:
        self._pcm += pcm
        if len(self._pcm) - self._looked < STEP_BYTES:
            return None
        before, now = self._text, self._look()
        return now if now != before else None

    def draft(self) -> Transcript:
        return self.finish()

    def finish(self) -> Transcript:
        return Transcript(text=self._look(), seconds=seconds_of(bytes(self._pcm)))

    def _look(self) -> str:
        """The text so far; looks for the recordings if there is new audio."""
        if len(self._pcm) == self._looked:
            return self._text
        self._looked = len(self._pcm)
        heard = _coarse(bytes(self._pcm))
        rest, places = heard.copy(), []
        for _ in range(16):
            energy = np.concatenate([[0.0], np.cumsum(rest**2)])
            found = [place for one in self._recordings if (place := one.find(rest, energy))]
            if not found:
                break
            place = max(found, key=lambda place: place.strength)
            places.append(place)
            rest[max(place.at, 0) : place.at + len(place.recording.samples)] = 0.0
        self._text = " ".join(filter(None, (self._said(heard, place) for place in sorted(places, key=_when))))
        return self._text

    def _said(self, heard: Samples, place: _Place) -> str:
        words = place.recording.understood(heard, place.at)
        return place.recording.speech.text if len(words) == len(place.recording.words) else " ".join(words)


def _when(place: _Place) -> int:
    return place.at


def _coarse(pcm: bytes) -> NDArray[np.float64]:
    """Audio at ``COARSE``, high frequencies raised, which makes voices of one pitch less alike."""
    import soxr

    samples: NDArray[np.float64] = np.diff(soxr.resample(to_samples(pcm), STT_SAMPLE_RATE, COARSE), prepend=0.0)
    return samples
