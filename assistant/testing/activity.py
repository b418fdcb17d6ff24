"""Stand-ins for the parts of the front end that need a model: cheap, and the same on every machine."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from assistant.voice.frames import FRAME, frames

from .audio import QUIETEST, level, to_samples

LOUD_DB = 6.0
"""So much above the background counts as speech."""
SOFTEST_DBFS = -65.0
"""Nothing below it does."""
LEARN = frames(0.1)
"""What is heard first is the background."""
BAND = slice(3, 31)
"""Of a frame's spectrum in steps of 100 Hz: 300 to 3000 Hz, where speech is strong and rooms are quiet."""
WINDOW = np.hanning(FRAME)
RISE_DB = 0.02
"""How fast the background may rise, in a frame: 2 dB a second."""
SMOOTHING = 0.35
"""Weight of the newest frame: about 25 ms. The mean power of a noise is steady; the mean of its decibels is not, but
falls at once when a loud sound ends."""
HANG = frames(0.04)
"""Frames that speech lasts on, so that a stop consonant is no pause."""


class Activity(Protocol):
    """Finds speech: ``LoudnessActivity``, or ``voice.activity.VoiceActivity``."""

    level: float

    def process(self, pcm: bytes) -> float:
        """Probability of speech in a frame of 10 ms."""


class Canceller(Protocol):
    """Takes the own sound out of the microphone: ``NoEchoCanceller``, or ``voice.echo.EchoCanceller``."""

    mode: Any
    attenuation_db: float | None
    duplex: Any
    audible: bool
    removed_db: float

    def process(self, near: bytes, far: bytes) -> bytes:
        """The microphone without what is played."""


class LoudnessActivity:
    """Takes for speech what is clearly louder than the background, in place of a trained voice activity detector.

    It listens to 300 to 3000 Hz, and takes what it hears first for the background.
    """

    def __init__(self) -> None:
        self.level = QUIETEST
        """dBFS of the last frame."""
        self._power = self._loudness = self._floor = 0.0
        self._frames = self._hang = 0

    def process(self, pcm: bytes) -> float:
        """Probability of speech in a frame of 10 ms: 0.02 or 0.98."""
        self.level = level(pcm)
        spectrum = np.abs(np.fft.rfft(to_samples(pcm) * WINDOW)) ** 2
        power = max(float(spectrum[BAND].sum()) / FRAME**2, 1e-9)
        self._power = power if not self._frames else self._power + SMOOTHING * (power - self._power)
        steady, now = 10 * float(np.log10(self._power)), 10 * float(np.log10(power))
        self._loudness = now if not self._frames else self._loudness + SMOOTHING * (now - self._loudness)
        self._frames += 1
        self._floor = min(steady, self._floor + (RISE_DB if self._frames > LEARN else np.inf))
        if min(steady, self._loudness) > max(self._floor + LOUD_DB, SOFTEST_DBFS):
            self._hang = HANG + 1
        self._hang = max(0, self._hang - 1)
        return 0.98 if self._hang else 0.02

    def reset(self) -> None:
        """Forget what was heard."""
        self._power = self._loudness = self._floor = 0.0
        self._frames = self._hang = 0


class NoEchoCanceller:
    """Lets everything through, for a room without echo; it says that the own sound is audible while it is played."""

    mode = "off"
    attenuation_db: float | None = None
    duplex = "full"
    removed_db = 0.0

    def __init__(self) -> None:
        self.audible = False

    def process(self, near: bytes, far: bytes) -> bytes:
        """The microphone as it is."""
        self.audible = any(far)
        return near
