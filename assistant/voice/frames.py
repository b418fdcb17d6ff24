"""The unit of the listening loop: frames of 10 ms, counted from its start.

Whatever listens decides by this count, never by the wall clock, so that a file run through the loop as fast as the
machine can gives the events that the microphone would.
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant.engines import STT_SAMPLE_RATE

RATE = STT_SAMPLE_RATE
"""Samples per second of everything that is listened to."""
FRAME = RATE // 100
"""Samples of one frame: 10 ms, which the echo cancellers need."""
FRAME_BYTES = FRAME * 2
"""16-bit little-endian mono."""
FRAME_SECONDS = FRAME / RATE
"""Seconds of one frame."""
SILENCE = bytes(FRAME_BYTES)


def frames(seconds: float) -> int:
    """How many whole frames make up a time, rounded."""
    return round(seconds / FRAME_SECONDS)


@dataclass(frozen=True, slots=True)
class WakeHit:
    """A wake word was heard, or nearly."""

    name: str
    """The detector's name, for example ``hey_jarvis``."""
    score: float
    """The highest score of the run that decided it, 0 to 1."""
    accepted: bool
    """False: a near miss, which wakes nobody."""
    own: bool = False
    """The assistant said the phrase itself; such a hit is never accepted, and no miss either."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the front end made of one frame."""

    clock: int
    """Frames since the loop began, this one included; the sample clock."""
    pcm: bytes
    """The frame without the echo, ``FRAME_BYTES`` long."""
    speech: float
    """Probability that somebody speaks, 0 to 1; the newest one, since the detector takes more than a frame."""
    level: float
    """dBFS of the frame, -120 to 0; -120 for what is left of a frame that was mostly the assistant's own sound."""
    playing: bool
    """The assistant's own sound was audible in this frame."""
    hits: tuple[WakeHit, ...] = ()
