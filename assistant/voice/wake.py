"""Listening for wake words: several detectors on the same frames, and when a score counts."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from assistant.hookspecs import WakeWord

from .frames import FRAME, RATE, WakeHit, frames
from .wake_log import WakeLog

__all__ = ["WakeLog", "WakeSpotter"]

WINDOW_SECONDS = 0.12
"""The mean of a detector's scores over so long, two frames at least, must reach its threshold. Twice as long misses
no more of microWakeWord's phrases; a quarter more of openWakeWord's in noise (espeak-ng's voices, tuning set)."""
REFRACTORY = frames(2.0)
"""After a wake word no other counts for so long; Home Assistant's figure."""
NEAR = 0.6
"""The part of the threshold from which a run of scores is a near miss."""
GAP = frames(0.5)
"""So long below that, and a run is over."""
SPEECH = 0.3
"""The speech probability that starts the costly detectors; low, since they only cost time."""
HANGOVER = frames(1.0)
"""They go on for so long after the last speech."""
PRE_ROLL = frames(1.5)
"""What they hear of the time before: the beginning of the phrase and what their networks settle on."""
CATCH_UP = 4
"""How many times faster than real time they work that off, if their frames are short enough."""
OWN_TAIL = frames(1.5)
"""How long after its last word a sentence of the assistant's may still come back as an echo and be scored."""


class WakeSpotter:
    """All detectors that are listened to; used from one thread at a time, but for ``strength``.

    Args:
        detectors: not loaded yet.
        thresholds: the scores that count, by the detector's name; without one, or with 0, its own.
    """

    def __init__(self, detectors: Sequence[WakeWord], thresholds: Mapping[str, float] = {}) -> None:
        self._tracks = [_Track(one, thresholds.get(one.name) or one.threshold) for one in detectors]
        self._clock = 0
        self._silent_until = 0
        self._own_text = ""
        self._past: deque[bytes] | None = deque(maxlen=PRE_ROLL) if any(one.costly for one in detectors) else None
        self._last_speech = -HANGOVER

    @property
    def thresholds(self) -> dict[str, float]:
        """The score that counts for each detector."""
        return {track.word.name: track.threshold for track in self._tracks}

    def strength(self, name: str) -> float:
        """The highest score so far of the last run that woke; from any thread."""
        return next(track.strength for track in self._tracks if track.word.name == name)

    def load(self) -> None:
        """Load every detector.

        Raises:
            AssistantError: one of them cannot be loaded; those before it stay loaded until ``close``.
        """
        for track in self._tracks:
            track.word.load()

    def close(self) -> None:
        """Close every detector."""
        for track in self._tracks:
            track.word.close()

    def reset(self) -> None:
        """Forget the past audio: what comes next does not follow on it."""
        self._last_speech = self._clock - HANGOVER
        if self._past is not None:
            self._past.clear()
        for track in self._tracks:
            track.reset()

    def process(self, pcm: bytes, *, speech: float, own_text: str = "") -> tuple[WakeHit, ...]:
        """The next frame.

        Args:
            pcm: ``FRAME_BYTES``.
            speech: the probability that somebody speaks in it.
            own_text: the sentence that the assistant is saying, to whose words no detector is believed.

        Returns:
            The wake word that was heard, at most one that is accepted, and the near misses that ended here.
        """
        self._clock += 1
        self._note(own_text)
        if speech >= SPEECH:
            self._last_speech = self._clock
        awake = self._clock - self._last_speech < HANGOVER
        hits: list[WakeHit] = []
        woken: list[tuple[_Track, WakeHit]] = []
        for track in self._tracks:
            for hit in track.hear(pcm, self._before(track, awake), self._clock):
                if hit.accepted:
                    woken.append((track, hit))
                elif self._clock >= self._silent_until:
                    hits.append(hit)
        if self._past is not None:
            self._past.append(pcm)
        if woken and self._clock >= self._silent_until:
            hits.insert(0, self._wake(woken))
        return tuple(hits)

    def _wake(self, woken: list[tuple[_Track, WakeHit]]) -> WakeHit:
        """The clearest of those that woke in this frame; what the others made of the same words is forgotten."""
        track, hit = max(woken, key=lambda one: one[1].score / one[0].threshold)
        self._silent_until = self._clock + REFRACTORY
        for other in self._tracks:
            if other is not track:
                other.void()
        return hit

    def _before(self, track: _Track, awake: bool) -> Sequence[bytes] | None:
        """What a detector should hear before this frame, mostly nothing; None: it should not hear the frame."""
        if not track.word.costly or (awake and track.running):
            return ()
        if not awake:
            track.running = False
            return None
        track.word.reset()
        track.running = True
        return self._past or ()

    def _note(self, own_text: str) -> None:
        if not own_text:
            return
        if own_text != self._own_text:
            self._own_text = own_text
            said = _words(own_text)
            for track in self._tracks:
                track.own_now = f" {track.phrase} " in f" {said} "
        for track in self._tracks:
            if track.own_now:
                track.own_until = self._clock + OWN_TAIL


@dataclass(slots=True)
class _Run:
    """Scores that stay near the threshold or above it."""

    best: float = 0.0
    low: int = 0
    """Samples since it was near last."""
    done: bool = False
    """It woke, or belongs to words that woke another."""
    own: bool = False
    """It began while the assistant said the phrase itself."""


class _Track:
    """One detector, the frames that wait for it, and its scores."""

    def __init__(self, word: WakeWord, threshold: float) -> None:
        self.word = word
        self.threshold = threshold
        self.phrase = _words(word.phrase)
        self.running = False
        """Of a costly detector: it hears what is said now."""
        self.own_now = False
        self.own_until = 0
        self.strength = 0.0
        window = max(2, round(WINDOW_SECONDS * RATE / word.frame_samples))
        self._scores: deque[float] = deque([0.0] * window, maxlen=window)
        self._run: _Run | None = None
        self._waiting = bytearray()
        self._size = word.frame_samples * 2
        self._at_once = max(1, CATCH_UP * FRAME // word.frame_samples)

    def reset(self) -> None:
        """Forget the past audio."""
        self.word.reset()
        self.running = False
        self._run = None
        self._waiting.clear()
        self._scores.extend([0.0] * len(self._scores))

    def void(self) -> None:
        """Count nothing more of the present run, nor of one that begins at the end of the same words."""
        if self._run is not None:
            self._run.done = True

    def hear(self, pcm: bytes, before: Sequence[bytes] | None, clock: int) -> Iterator[WakeHit]:
        """Take a frame and what came before it, and score what is due."""
        if before is None:
            if self._waiting or self._run is not None:
                self._waiting.clear()
                self._scores.extend([0.0] * len(self._scores))
                yield from self._end()
            return
        self._waiting += b"".join(before)
        self._waiting += pcm
        for _ in range(self._at_once):
            if len(self._waiting) < self._size:
                return
            score = self.word.score(bytes(self._waiting[: self._size]))
            del self._waiting[: self._size]
            yield from self._judge(score, clock)

    def _judge(self, score: float, clock: int) -> Iterator[WakeHit]:
        self._scores.append(score)
        mean = sum(self._scores) / len(self._scores)
        run = self._run
        if mean < NEAR * self.threshold:
            if run is not None:
                run.low += self.word.frame_samples
                if run.low >= GAP * FRAME:
                    yield from self._end()
            return
        if run is None:
            run = self._run = _Run()
        run.low = 0
        run.own = run.own or clock <= self.own_until
        run.best = max(run.best, mean)
        if run.own:
            return
        if not run.done and mean >= self.threshold:
            run.done = True
            self.strength = 0.0
            yield WakeHit(name=self.word.name, score=run.best, accepted=True)
        if run.done:
            self.strength = max(self.strength, mean)

    def _end(self) -> Iterator[WakeHit]:
        run, self._run = self._run, None
        if run is not None and not run.done:
            yield WakeHit(name=self.word.name, score=run.best, accepted=False, own=run.own)


def _words(text: str) -> str:
    """The words of a text, in small letters, with single spaces between them."""
    return " ".join(re.findall(r"[^\W_]+", re.sub("['\u2019]", "", text).lower()))

