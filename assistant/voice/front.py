"""What happens to every frame: the echo is taken out, speech is looked for, and the wake words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .frames import SILENCE, Heard
from .levels import QUIETEST
from .wake_mix import WakeMix

if TYPE_CHECKING:
    from .activity import VoiceActivity
    from .echo import EchoCanceller
    from .wake import WakeSpotter


MOSTLY_OWN_DB = 24.0
"""A frame that got so much softer was the own sound: what is left is nobody's speech, even if it sounds like some. In a
room with 1 s of reverberation leaks of 0.1 s are followed by as much of this."""


class FrontEnd:
    """Runs in the audio thread, once every 10 ms; used from one thread at a time.

    In half duplex nothing is heard while the assistant speaks and what it said may still arrive; its earcons and rings
    are no speech, and words may well begin with them.

    Args:
        own_words: the sentence that the assistant is saying, to which no wake word is believed.
    """

    def __init__(
        self, echo: EchoCanceller, activity: VoiceActivity, spotter: WakeSpotter, own_words: Callable[[], str]
    ) -> None:
        self.echo = echo
        self.activity = activity
        self.spotter = spotter
        self._own_words = own_words
        self._clock = 0
        self._own = ""
        self._mix = WakeMix()

    def process(self, near: bytes, far: bytes) -> Heard:
        """One frame of the microphone, and what the loudspeaker played in it.

        Args:
            near: ``FRAME_BYTES`` of 16-bit mono at 16 kHz.
            far: likewise; ``SILENCE`` if nothing was played.
        """
        self._clock += 1
        clean = for_wake = self.echo.process(near, far)
        playing = self.echo.audible
        self._own = (self._own_words() or self._own) if playing else ""
        if self._own and self.echo.duplex == "half":
            clean = for_wake = SILENCE
        elif playing and self.echo.mode != "off":
            for_wake = self._mix.process(clean, near)
        speech = self.activity.process(clean)
        hits = self.spotter.process(for_wake, speech=speech, own_text=self._own)
        level = self.activity.level if self.echo.removed_db < MOSTLY_OWN_DB else QUIETEST
        return Heard(clock=self._clock, pcm=clean, speech=speech, level=level, playing=playing, hits=hits)
