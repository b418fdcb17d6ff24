"""What the loudspeaker plays: the answer, sentence by sentence, and the sounds around it.

The answer comes from the event loop, the loudspeaker's callback pulls it. All that they share is behind one lock that
is held for microseconds; resampling and the search for the words happen outside of it.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from assistant.engines import AudioChunk

from .clips import PACE, Clip, View
from .earcons import earcon
from .mixing import Ramp, Sound, Voice

FADE_SECONDS = 0.008
"""Of every beginning and end in the middle of the sound: without it there is a click."""
DUCK_SECONDS = 0.04
DUCK_DB = -12.0
SENTENCE_PAUSE_SECONDS = 0.15
"""Least silence between two sentences, the voice's own included; many voices end with their last sound."""
VOICES = 16
"""Most earcons and fading ends that sound at once."""


class Playback:
    """The answer that is being played, and earcons and a ring mixed into it; for any thread."""

    def __init__(self, rate: int, volume: float = 1.0) -> None:
        """``rate`` is the loudspeaker's, in samples per second; ``volume`` is of everything, 0 to 1."""
        self.rate = rate
        self._lock = threading.Lock()
        self._adding = threading.Lock()
        self._fading = round(FADE_SECONDS * rate)
        self._fall = np.linspace(1, 0, self._fading, dtype=np.float32)
        self._volume = Ramp(volume, volume, 1)
        self._duck = Ramp(1.0, 1.0, 1)
        self._fade = Ramp(1.0, 1.0, 1)
        self._pace = PACE
        self._clips: deque[Clip] = deque()
        self._open: Clip | None = None
        self._played: list[str] = []
        self._at = self._reached = self._counted = self._pause = 0
        self._paused = self._stopped = self._finished = self._begun = False
        self._voices: list[Voice] = []
        self._ringing: int | None = None
        self._answer = 0

    def pull(self, count: int) -> bytes:
        """The next ``count`` samples, 16-bit mono; never waits for anything but the lock."""
        with self._lock:
            if not self._clips and not self._voices and self._ringing is None:
                self._duck, self._volume = self._duck.settled(), self._volume.settled()
                self._pause = max(0, self._pause - count)
                return bytes(2 * count)
            out = np.zeros(count, np.float32)
            self._speak(out)
            self._duck.apply(out)
            self._voices = [voice for voice in self._voices if voice.mix(out)]
            if self._ringing is not None:
                self._ring(out, self._ringing)
            self._volume.apply(out)
        return np.clip(np.rint(out), -32768, 32767).astype("<i2").tobytes()

    def begin(self) -> None:
        """A new answer: what is left of the last one is dropped, and forgotten."""
        with self._lock:
            self._drop()
            self._played.clear()
            self._fade = Ramp(1.0, 1.0, 1)
            self._answer += 1
            self._paused = self._stopped = self._finished = False
            self._begun = True

    def add(self, sentence: str, chunk: AudioChunk) -> None:
        """The next chunk of a sentence; another sentence, or ``end_sentence``, ends the one before.

        After ``stop`` or ``finish`` it is ignored until the next answer begins.
        """
        with self._adding:
            with self._lock:
                before, answer, self._begun = self._open, self._answer, True
                if self._stopped or self._finished:
                    return
                if clip := before if before is not None and before.text == sentence else None:
                    before = None
            if before is not None:
                self._close(before)
            if clip is None:
                clip = Clip(sentence, self.rate, self._pace)
            clip.add(chunk)
            with self._lock:
                if clip is not self._open and not self._stopped and answer == self._answer:
                    self._clips.append(clip)
                    self._open = clip

    def end_sentence(self) -> None:
        """The sentence that was added last is complete."""
        with self._adding:
            with self._lock:
                clip, self._open = self._open, None
            if clip is not None:
                self._close(clip)

    def finish(self) -> None:
        """The answer is complete: nothing more will be added."""
        self.end_sentence()
        with self._lock:
            self._finished = self._begun = True

    def pause(self) -> None:
        """Silent within ``FADE_SECONDS``; goes back to the beginning of the word that was being played."""
        with self._lock:
            if self._paused or self._stopped:
                return
            self._paused = True
            self._fall_silent()
            if self._clips:
                self._at = self._clips[0].view.back(self._at)

    def resume(self) -> None:
        """Go on with the word at which it was paused."""
        with self._lock:
            self._paused = False

    def stop(self) -> str:
        """Silent within ``FADE_SECONDS``, and the rest of the answer is dropped; returns ``heard()``."""
        with self._lock:
            self._played = self._heard()
            self._drop()
            self._stopped, self._paused = True, False
            return " ".join(self._played)

    def heard(self) -> str:
        """What was played of the answer: whole sentences, and of the last one the words played to at least half."""
        with self._lock:
            return " ".join(self._heard())

    @property
    def sentence(self) -> str:
        """The one being played, also while it is paused; empty if there is none."""
        with self._lock:
            self._skip_played()
            return self._clips[0].text if self._clips else ""

    @property
    def buffered(self) -> float:
        """Seconds of the answer that can be played now; the last 8 ms of a sentence only count once it is complete."""
        with self._lock:
            return max(0, sum(self._playable(clip.view) for clip in self._clips) - self._at) / self.rate

    @property
    def paused(self) -> bool:
        """Between ``pause`` and ``resume``."""
        with self._lock:
            return self._paused

    @property
    def done(self) -> bool:
        """The answer was finished or stopped, and all of it was played; True before the first one."""
        with self._lock:
            self._skip_played()
            return not self._clips and (self._finished or self._stopped or not self._begun)

    @property
    def sounding(self) -> bool:
        """There is something to play now: an answer, an earcon, a ring."""
        with self._lock:
            answering = bool(self._clips) and not self._paused
            return answering or bool(self._voices) or self._ringing is not None

    @property
    def volume(self) -> float:
        """Of everything that is played, 0 to 1."""
        with self._lock:
            return self._volume.target

    @volume.setter
    def volume(self, volume: float) -> None:
        with self._lock:
            self._volume = self._volume.toward(volume, round(DUCK_SECONDS * self.rate))

    def duck(self, on: bool) -> None:
        """The answer 12 dB lower, or as it was; earcons and the ring stay."""
        with self._lock:
            self._duck = self._duck.toward(10 ** (DUCK_DB / 20) if on else 1.0, round(DUCK_SECONDS * self.rate))

    def effect(self, name: str) -> None:
        """Mix an earcon in, now.

        Raises:
            KeyError: there is none of this name.
        """
        sound = earcon(name, self.rate)
        with self._lock:
            self._voices = [*self._voices[1 - VOICES :], Voice(sound)]

    def ring(self, on: bool) -> None:
        """Ring until it is switched off; mixed with whatever else is played."""
        pattern = earcon("ring", self.rate)
        with self._lock:
            if on and self._ringing is None:
                self._ringing = 0
            elif not on and self._ringing is not None:
                at, self._ringing = self._ringing, None
                end = pattern[at : at + self._fading]
                self._voices.append(Voice(end * self._fall[: len(end)]))

    def _close(self, clip: Clip) -> None:
        clip.close()
        if clip.pace:
            self._pace = clip.pace

    def _speak(self, out: Sound) -> None:
        """Write the next part of the answer, as far as there is one."""
        filled = 0
        while filled < len(out) and not self._paused:
            self._skip_played()
            if self._pause:
                silent = min(self._pause, len(out) - filled)
                self._pause -= silent
                filled += silent
                continue
            if not self._clips:
                return
            view = self._clips[0].view
            ready = self._playable(view) - self._at
            if ready <= 0:
                self._fall_silent(filled)
                return
            part = out[filled : filled + ready]
            part[:] = view.samples[self._at : self._at + len(part)]
            self._fade.apply(part)
            self._at += len(part)
            self._reached = max(self._reached, self._at)
            filled += len(part)
        self._skip_played()

    def _playable(self, view: View) -> int:
        """Of a sentence that grows, the end is held back: should nothing more come in time, it fades out."""
        return view.length if view.closed else max(0, view.length - self._fading)

    def _skip_played(self) -> None:
        """Take complete sentences that were played to their end off the list."""
        while self._clips and (view := self._clips[0].view).closed and self._at >= view.length:
            self._played.append(self._clips.popleft().text)
            self._at = self._reached = self._counted = 0
            self._pause = max(0, round(SENTENCE_PAUSE_SECONDS * self.rate) - view.quiet)

    def _fall_silent(self, wait: int = 0) -> None:
        """Fade the answer out from where it is, ``wait`` samples from now; it will fade in again from there."""
        if not self._clips or not self._at or not self._fade.value:
            return
        view = self._clips[0].view
        end = view.samples[self._at : min(view.length, self._at + self._fading)].astype(np.float32)
        end *= self._fall[: len(end)] * np.float32(self._fade.value * self._duck.value)
        self._voices.append(Voice(end, wait))
        self._fade = Ramp(0.0, 1.0, self._fading)

    def _drop(self) -> None:
        if not self._paused:
            self._fall_silent()
        self._clips.clear()
        self._open = None
        self._at = self._reached = self._counted = self._pause = 0

    def _heard(self) -> list[str]:
        if not self._clips or not self._reached:
            return list(self._played)
        clip = self._clips[0]
        self._counted = max(self._counted, clip.view.played(self._reached))
        if not self._counted:
            return list(self._played)
        whole = self._counted == len(clip.words)
        return [*self._played, clip.text if whole else clip.text[: clip.words[self._counted - 1][1]]]

    def _ring(self, out: Sound, at: int) -> None:
        pattern = earcon("ring", self.rate)
        filled = 0
        while filled < len(out):
            part = pattern[at : at + len(out) - filled]
            out[filled : filled + len(part)] += part
            filled += len(part)
            at = (at + len(part)) % len(pattern)
        self._ringing = at
