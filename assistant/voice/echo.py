"""The assistant's own sound, taken out of the microphone by WebRTC's canceller (AEC3), and how well that goes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

from .convergence import Convergence
from .frames import FRAME, RATE, SILENCE, frames
from .levels import decibels, power

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AUDIBLE_POWER = 1e-6
"""Mean square from which the loudspeaker counts as playing: -60 dBFS, which arrives softer than a quiet room."""
TAIL = frames(0.4)
"""How long what was played last may still arrive: 0.25 s through the buffers of a Bluetooth device; the rest fades."""
RUN_ON = frames(2.0)
"""How long the canceller goes on after the last sound: between two sentences it is not stopped."""
WARM_UP = frames(3.0)
"""Sound that the canceller needs before its result is trusted. LiveKit's agents wait as long; a simulated room
with 0.8 s of reverberation and a loud echo leaked speech for 2.5 s, then no more (tests/voice/test_echo.py)."""
DELAY = 128
"""Samples by which the canceller delays what it lets through at 16 kHz (pywebrtc-audio 0.2.0, measured)."""
SETTLE = frames(0.1)
"""What is replayed to a filter that stood still, so that it starts without a click: its high-pass, 100 Hz, forgets by
then."""

Duplex = Literal["full", "half"]


class EchoCanceller:
    """Takes what the loudspeaker plays out of what the microphone hears; frames of 10 ms, from one thread at a time.

    What was played must be given no later than 2 ms before its sound is heard, which any device makes sure of. As long
    as nothing is played it only takes out what is below 100 Hz, with the same delay of 8 ms, and costs a tenth.

    Args:
        mode: ``auto``; ``half``: never listen while playing, nothing is computed; ``off``: frames pass untouched.
    """

    def __init__(self, mode: Literal["auto", "half", "off"] = "auto") -> None:
        import numpy as np
        from pywebrtc_audio import AudioProcessor

        self.mode = mode
        self._canceller = AudioProcessor(sample_rate=RATE, echo_cancellation=True)
        self._filter = AudioProcessor(sample_rate=RATE, high_pass_filter=True)
        self._convergence = Convergence()
        self.removed_db = 0.0
        """By how many dB the last frame got softer; 0 while nothing of the own sound can be heard."""
        self._zeros: NDArray[np.int16] = np.zeros(FRAME, np.int16)
        self._held: NDArray[np.int16] = np.zeros(DELAY, np.int16)
        self._recent: deque[NDArray[np.int16]] = deque(maxlen=SETTLE)
        self._cancelling = False
        self._played = 0
        self._since_sound = RUN_ON
        self._since_audible = TAIL

    @property
    def attenuation_db(self) -> float | None:
        """By how many dB the echo gets softer, smoothed over seconds with nobody else speaking; None: not measured."""
        return self._convergence.attenuation_db

    @property
    def audible(self) -> bool:
        """The own sound is playing, or what was played last may still arrive."""
        return self._since_audible < TAIL

    @property
    def duplex(self) -> Duplex:
        """``half`` if what is heard while playing is not to be trusted."""
        if self.mode != "auto":
            return "half" if self.mode == "half" else "full"
        if self._convergence.failed:
            return "half"
        unsure = self._played < WARM_UP or self._convergence.doubtful
        return "half" if self.audible and unsure else "full"

    def process(self, near: bytes, far: bytes) -> bytes:
        """One frame of the microphone without the echo.

        Args:
            near: ``FRAME_BYTES`` of 16-bit mono at 16 kHz.
            far: what the loudspeaker played in this frame; ``SILENCE`` if nothing.
        """
        import numpy as np

        silent = far == SILENCE
        far_samples = self._zeros if silent else np.frombuffer(far, "<i2")
        loudness = 0.0 if silent else power(far_samples.astype(np.float32))
        self._since_sound = 0 if not silent else self._since_sound + 1
        self._since_audible = 0 if loudness > AUDIBLE_POWER else self._since_audible + 1
        if self.mode == "off":
            return near
        near_samples = np.frombuffer(near, "<i2")
        if self.mode == "half" or self._since_sound >= RUN_ON:
            clean = self._pass(near_samples)
        else:
            clean = self._cancel(near_samples, far_samples)
        if self.mode == "auto":
            self._measure(near_samples, clean, loudness)
        self._recent.append(near_samples)
        return clean.tobytes()

    def _pass(self, near: NDArray[np.int16]) -> NDArray[np.int16]:
        """What the canceller gives when nothing is played: the same without the lowest frequencies, a little later."""
        import numpy as np

        if self._cancelling:
            self._cancelling = False
            for old in self._recent:
                self._held = self._filter.process(old)[-DELAY:]
        filtered = self._filter.process(near)
        passed = np.concatenate((self._held, filtered[:-DELAY]))
        self._held = filtered[-DELAY:]
        return passed

    def _cancel(self, near: NDArray[np.int16], far: NDArray[np.int16]) -> NDArray[np.int16]:
        if not self._cancelling:
            self._cancelling = True
            for old in self._recent:
                self._canceller.process(old, self._zeros)
        return self._canceller.process(near, far)

    def _measure(self, near: NDArray[np.int16], clean: NDArray[np.int16], played: float) -> None:
        import numpy as np

        heard = power(near.astype(np.float32))
        if self.audible:
            left = power(clean.astype(np.float32))
            self.removed_db = decibels(heard) - decibels(left)
            self._played += played > AUDIBLE_POWER
            self._convergence.hear(heard, left, played)
        else:
            self.removed_db = 0.0
            self._convergence.rest(heard)
