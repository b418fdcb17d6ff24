"""One sentence of an answer, as the loudspeaker will play it, and where in it each of its words is."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from assistant.engines import AudioChunk

Samples = NDArray[np.int16]
Places = NDArray[np.int64]

BLOCK_SECONDS = 0.01
"""How finely sound and silence are told apart."""
QUIET = 33.0
"""Root mean square of 16-bit samples below which a block is silence: -60 dBFS."""
QUIET_SHARE = 0.02
"""So is one below this share of the sentence's loudest block (-34 dB)."""
PACE = 0.054
"""Seconds of sound for each letter, until a sentence has shown the voice's own: eSpeak NG's at 170 words a minute."""
LEAD_SECONDS = 0.008
"""A word is taken up so much before its beginning: the time of the fade."""
GUESS_SECONDS = 0.06
"""The same for words whose place is a guess: about its mean error, since half a word is worse than one twice."""
BREATH_SECONDS = 0.08
"""Least silence that is a pause and not the beginning of a "t" or a "k"."""
BREATH_WITHIN = 0.4
"""How far off a pause may be from where it is due, as a share of the time since the one before."""

_ASIAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CHARACTER = re.compile(rf"[{_ASIAN}]")
_WORD = re.compile(rf"[{_ASIAN}][^\w\s]*|[^\s{_ASIAN}]+")
_SPELLED = re.compile(r"\W*[A-Z]{2,5}\W*")
_DRAWN = re.compile(r"[.,;:!?…)]$")
_SYMBOL = re.compile(r"[%&+=@#$€£¥°§]")


def words(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end; a character of Chinese or Japanese is a word of its own."""
    return [found.span() for found in _WORD.finditer(text)]


def weight(word: str) -> float:
    """How long a word takes to say, in letters; fitted to eSpeak NG's own word times.

    A digit and a symbol are words of their own, capitals are spelled, and a word before a pause is drawn out.
    """
    if _CHARACTER.match(word):
        return 4.0
    spelled = 1.8 if _SPELLED.fullmatch(word) else 1.0
    letters = sum(one.isalpha() for one in word) * spelled
    drawn = 1.8 if _DRAWN.search(word) else 0.0
    return 0.3 + letters + 5.0 * sum(one.isdigit() for one in word) + 8.0 * len(_SYMBOL.findall(word)) + drawn


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a clip at one moment; replaced as a whole, so that reading it needs no lock."""

    samples: Samples
    """``length`` of them count."""
    length: int
    closed: bool
    starts: Places
    """The first sample of each word."""
    halves: Places
    """The sample with which half of it was played."""
    ends: Places
    """The sample at which its sound is over."""
    lead: int
    """How many samples before its beginning a word is taken up."""
    quiet: int
    """Samples of silence at the end."""

    def back(self, at: int) -> int:
        """Where to go on after a pause at ``at``: the beginning of the word, or right there if none is being said."""
        word = int(np.searchsorted(self.starts - self.lead, at, "right")) - 1
        if word < 0:
            return 0
        return at if at >= self.ends[word] else max(0, int(self.starts[word]) - self.lead)

    def played(self, upto: int) -> int:
        """How many words were played to at least their half."""
        return int(np.searchsorted(self.halves, upto, "right"))


class Clip:
    """A sentence that grows chunk by chunk. One thread adds to it; ``view`` may be read by any."""

    def __init__(self, text: str, rate: int, pace: float = PACE) -> None:
        """``rate`` is the loudspeaker's; ``pace`` is the seconds of sound for a letter of this voice."""
        self.text = text
        self.rate = rate
        self.words = words(text)
        self._upto = np.cumsum([0.0, *(weight(text[start:end]) for start, end in self.words)])
        self._pace = pace * rate
        self._marks: dict[int, int] = {}
        self._loudness: list[float] = []
        self._block = max(1, round(rate * BLOCK_SECONDS))
        self._resampler: soxr.ResampleStream | None = None
        self._resampled_from = 0
        self._stream_start = 0
        self._stream_taken = 0
        self._samples: Samples = np.zeros(rate * 2, np.int16)
        self._length = 0
        self.view = self._view(closed=False)

    @property
    def pace(self) -> float:
        """Seconds of sound for each letter of this sentence, once it is closed; 0 where there is none."""
        return self._sound()[-1] / self.rate / float(self._upto[-1]) if self.words and self.view.closed else 0.0

    def add(self, chunk: AudioChunk) -> None:
        """The next piece of sound, at any sample rate."""
        if chunk.sample_rate != self._resampled_from:
            self._flush()
            self._begin_stream(chunk.sample_rate)
        ratio = self.rate / chunk.sample_rate
        for mark in chunk.words:
            self._mark(mark.character, self._stream_start + round((self._stream_taken + mark.sample) * ratio))
        pcm = np.frombuffer(chunk.pcm, "<i2", len(chunk.pcm) // 2)
        self._stream_taken += len(pcm)
        self._append(pcm if self._resampler is None else self._resampled(pcm, last=False))
        self.view = self._view(closed=False)

    def close(self) -> None:
        """Nothing more will be added."""
        self._flush()
        self._measure(last=True)
        self.view = self._view(closed=True)

    def _begin_stream(self, rate: int) -> None:
        self._resampled_from, self._stream_start, self._stream_taken = rate, self._length, 0
        self._resampler = None if rate == self.rate else soxr.ResampleStream(rate, self.rate, 1, dtype="float32")

    def _flush(self) -> None:
        if self._resampler is not None:
            self._append(self._resampled(np.zeros(0, np.int16), last=True))
        self._resampler, self._resampled_from = None, 0

    def _resampled(self, pcm: Samples, *, last: bool) -> Samples:
        assert self._resampler is not None
        sound: NDArray[np.float32] = self._resampler.resample_chunk(pcm.astype(np.float32), last=last)
        return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)

    def _append(self, samples: Samples) -> None:
        """Write behind what is published; a full buffer is replaced, so that a reader's stays as it is."""
        end = self._length + len(samples)
        if end > len(self._samples):
            larger = np.zeros(max(end, 2 * len(self._samples)), np.int16)
            larger[: self._length] = self._samples[: self._length]
            self._samples = larger
        self._samples[self._length : end] = samples
        self._length = end
        self._measure(last=False)

    def _measure(self, *, last: bool) -> None:
        done = len(self._loudness) * self._block
        whole = (self._length - done) // self._block
        blocks = self._samples[done : done + whole * self._block].astype(np.float32).reshape(whole, self._block)
        self._loudness += np.sqrt((blocks**2).mean(axis=1)).tolist() if whole else []
        rest = self._samples[done + whole * self._block : self._length].astype(np.float32)
        if last and len(rest):
            self._loudness.append(float(np.sqrt((rest**2).mean())))

    def _mark(self, character: int, sample: int) -> None:
        """Note where a word begins; only the first mark of a word counts, and only those that come in order."""
        word = next((at for at, (_, end) in enumerate(self.words) if character < end), None)
        if word is not None and word > max(self._marks, default=-1):
            self._marks[word] = sample

    def _sound(self) -> NDArray[np.int64]:
        """How many samples of sound, silence left out, there are up to each block's beginning."""
        loudness = np.asarray(self._loudness)
        sound = loudness > max(QUIET, QUIET_SHARE * loudness.max(initial=0.0))
        if not sound.any():
            sound[:] = True
        return np.concatenate(([0], np.cumsum(sound * self._block))).astype(np.int64)

    def _breaths(self, heard: Places, pace: float) -> list[tuple[float, float]]:
        """Where a pause in the sound must be the one after a punctuation mark: letters and samples of sound before."""
        silent = np.flatnonzero(np.diff(heard) == 0)
        runs = np.split(silent, np.flatnonzero(np.diff(silent) > 1) + 1) if len(silent) else []
        least = BREATH_SECONDS / BLOCK_SECONDS
        pauses = [float(heard[run[0]]) for run in runs if len(run) >= least and 0 < heard[run[0]] < heard[-1]]
        found: list[tuple[float, float]] = []
        for at, (start, end) in enumerate(self.words[:-1]):
            if not pauses or not _DRAWN.search(self.text[start:end]):
                continue
            letters, sound = found[-1] if found else (0.0, 0.0)
            due = sound + (self._upto[at + 1] - letters) * pace
            nearest = min(pauses, key=lambda one: abs(one - due))
            if abs(nearest - due) <= BREATH_WITHIN * (due - sound) + BREATH_SECONDS * self.rate:
                found.append((float(self._upto[at + 1]), nearest))
                pauses = [one for one in pauses if one > nearest]
        return found

    def _view(self, *, closed: bool) -> View:
        """The words, spread over the sound: known ones where they are, others between them by their length."""
        heard = self._sound()
        total = int(heard[-1])
        edges = np.arange(len(heard)) * self._block
        known = [(self._upto[word], float(np.interp(at, edges, heard))) for word, at in self._marks.items()]
        pace = total / max(1.0, float(self._upto[-1])) if closed else self._pace
        known = known or self._breaths(heard, pace)
        if not known or known[0][0] > 0:
            known.insert(0, (0.0, 0.0))
        letters, at = known[-1]
        end = total if closed else max(total, at + pace * (self._upto[-1] - letters))
        known.append((self._upto[-1], max(end, at)))
        spread = np.interp(self._upto, [one for one, _ in known], [one for _, one in known])
        starts = _place(spread[:-1], heard, edges, "right")
        for word, sample in self._marks.items():
            starts[word] = sample
        starts = np.maximum.accumulate(starts)
        halves = np.maximum.accumulate(_place((spread[:-1] + spread[1:]) / 2, heard, edges, "left"))
        ends = _place(spread[1:], heard, edges, "left")
        lead = LEAD_SECONDS if self._marks else GUESS_SECONDS
        quiet = self._length - int(edges[int(np.searchsorted(heard, total))])
        return View(
            samples=self._samples, length=self._length, closed=closed, starts=starts, halves=np.maximum(halves, starts),
            ends=np.maximum(ends, starts), lead=round(lead * self.rate), quiet=max(0, quiet),
        )


def _place(sound: NDArray[np.float64], heard: Places, edges: Places, side: str) -> Places:
    """The sample at which so much sound was played: the last such one (``right``), or the first (``left``)."""
    block = np.searchsorted(heard, sound, "right") - 1
    places = edges[block] + (sound - heard[block])
    if side == "left":
        on_edge = sound == heard[block]
        places[on_edge] = edges[np.searchsorted(heard, sound[on_edge])]
    return np.rint(places).astype(np.int64)
