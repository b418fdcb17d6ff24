"""Stand-ins for the parts of the front end that need a model: cheap, and the same on every machine."""

from __future__ import annotations

from typing import Any, Protocol

from assistant.voice.frames import frames

from .audio import QUIETEST, level

LOUD_DB = 9.0
"""So much above the background counts as speech."""
SOFTEST_DBFS = -55.0
"""Nothing below it does."""
ROOM_DBFS = -50.0
"""The loudest background that is believed at the beginning."""
RISE_DB = 0.02
"""How fast the background may rise, in a frame: 2 dB a second."""
HANG = frames(0.06)
"""Frames that speech lasts on, so that a stop consonant is no pause."""


class Activity(Protocol):
    """Finds speech: ``LoudnessActivity``, or ``voice.activity.VoiceActivity``."""

    level: float

    def process(self, pcm: bytes) -> float:
        """Probability of speech in a frame of 10 ms."""


class Canceller(Protocol):
    """Takes the own sound out of the microphone: ``NoEchoCanceller``, or ``voice.echo.EchoCanceller``."""

    attenuation_db: float | None
    duplex: Any
    audible: bool

    def process(self, near: bytes, far: bytes) -> bytes:
        """The microphone without what is played."""


class LoudnessActivity:
    """Takes for speech what is clearly louder than the background, in place of a trained voice activity detector."""

    def __init__(self) -> None:
        self.level = QUIETEST
        """dBFS of the last frame."""
        self._floor = ROOM_DBFS
        self._hang = 0

    def process(self, pcm: bytes) -> float:
        """Probability of speech in a frame of 10 ms: 0.02 or 0.98."""
        self.level = level(pcm)
        self._floor = min(max(self.level, -90.0), self._floor + RISE_DB)
        if self.level > max(self._floor + LOUD_DB, SOFTEST_DBFS):
            self._hang = HANG + 1
        self._hang = max(0, self._hang - 1)
        return 0.98 if self._hang else 0.02

    def reset(self) -> None:
        """Forget what was heard."""
        self._floor, self._hang = ROOM_DBFS, 0


class NoEchoCanceller:
    """Lets everything through, for a room without echo; it says that the own sound is audible while it is played."""

    attenuation_db: float | None = None
    duplex = "full"

    def __init__(self) -> None:
        self.audible = False

    def process(self, near: bytes, far: bytes) -> bytes:
        """The microphone as it is."""
        self.audible = any(far)
        return near
