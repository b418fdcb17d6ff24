"""Whether somebody speaks: Silero's network in plain onnxruntime, behind a gate that keeps it off in a quiet room."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.errors import ModelNotFound

from .frames import frames
from .levels import QUIETEST, decibels, power

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 512
"""Samples that the network judges at a time at 16 kHz: 32 ms (silero-vad 6.2.3, sequence_vad.py)."""
CONTEXT = 64
"""Samples before a window that it wants to see again (likewise)."""

SPEECH = 0.35
"""Probability from which a window keeps the gate open: Silero's own end of speech, its threshold of 0.5 less 0.15."""
OPEN_DB, OPEN_SWAY, OPEN_MOST = 2.5, 4.5, 6.0
"""A rise over the background that opens the gate: so many times more than the background sways, within these limits in
dB. Steady white noise, smoothed as here, sways by 0.4 dB; speech as loud as the noise is a rise of 3 dB, and below that
the network finds little itself."""
QUIET_DBFS = -78.0
"""The lowest background that is believed. The network itself finds next to nothing in speech below -75 dBFS (measured
on three recordings, 16 bits)."""
PREROLL = frames(0.32)
"""What is fed in when the gate opens: ten windows, so that an onset too soft to open it is heard all the same."""
CLOSE = frames(1.0)
"""Without speech for so long, the gate closes: longer than pauses between words, which keeps the network's memory."""

EMPHASIS = 0.97
"""Share of the sample before that is taken off for the second of the two levels that the gate looks at. It flattens the
spectrum of a room: consonants stand out of a rumble, while vowels stand out of a hiss in the first level."""
SMOOTHING = 0.4
"""Weight of the newest frame in the levels that the gate looks at: about 25 ms."""
FALLING, RISING = 0.1, 0.01
"""The same for the background, where it gets quieter (0.1 s) and louder (1 s)."""
LEARNING = 0.02
"""The same while the network says that this is no speech (0.5 s)."""
SETTLE = frames(0.2)
"""After speech this much is not taken for the background: the room still rings."""


class Band:
    """The background in one part of the spectrum."""

    def __init__(self) -> None:
        self.background = QUIETEST
        """dBFS, slowly smoothed."""
        self.sway = 1.0
        """How far it goes up and down, in dB (mean deviation)."""
        self.level = QUIETEST
        self._smoothed = 0.0
        self._others: float | None = None

    def hear(self, loudness: float) -> bool:
        """Take the power of the next frame; whether it stands out."""
        self._smoothed += SMOOTHING * (loudness - self._smoothed)
        self.level = decibels(self._smoothed)
        rise = min(max(OPEN_DB, OPEN_SWAY * self.sway), OPEN_MOST)
        return self.level > max(self.background, QUIET_DBFS) + rise

    def follow(self) -> None:
        """What was heard last is background, by the level."""
        away = self.level - self.background
        self.background += (FALLING if away < 0 else RISING) * away
        self.sway += RISING * (abs(away) - self.sway)

    def learn(self) -> None:
        """What was heard last is background, by what the network says."""
        if self._others is None:
            self._others = self.level
        self._others += LEARNING * (self.level - self._others)
        self.sway += LEARNING * (abs(self.level - self._others) - self.sway)

    def take(self) -> None:
        """What was learnt is the background from now on."""
        self.background, self._others = self.background if self._others is None else self._others, None

    def forget(self) -> None:
        """What was learnt was speech, or may have been."""
        self._others = None


class EnergyGate:
    """Opens when it gets louder than the background, and closes when there was no speech for a second.

    What the background is, it learns while it is closed, and from what the network calls no speech while it is open.
    """

    def __init__(self) -> None:
        self.open = True
        self.opened = 0
        """How often it has opened."""
        self.bands = (Band(), Band())
        self._quiet = 0

    def hear(self, *loudness: float) -> bool:
        """Take the power of the next frame in each band; exact silence says nothing of the room.

        Returns:
            Whether the gate is open now.
        """
        if not self.open:
            if loudness[0] > 0.0:
                self._listen(loudness)
            return self.open
        self._quiet += 1
        if loudness[0] > 0.0:
            for band, power_ in zip(self.bands, loudness, strict=True):
                band.hear(power_)
                if self._quiet > SETTLE:
                    band.learn()
        if self._quiet >= CLOSE:
            self.open = False
            for band in self.bands:
                band.take()
        return self.open

    def _listen(self, loudness: tuple[float, ...]) -> None:
        risen = [band.hear(power_) for band, power_ in zip(self.bands, loudness, strict=True)]
        if any(risen):
            self.open, self._quiet = True, 0
            self.opened += 1
        else:
            for band in self.bands:
                band.follow()

    def judged(self, probability: float) -> None:
        """What the network says of the newest window."""
        if probability >= SPEECH:
            self._quiet = 0
            for band in self.bands:
                band.forget()


class VoiceActivity:
    """The newest probability of speech, frame by frame; used from one thread at a time.

    Args:
        model: the folder of the model ``silero-vad``.

    Raises:
        ModelNotFound: it holds no network.
    """

    def __init__(self, model: Path) -> None:
        import numpy as np
        import onnxruntime

        if not (model / "model.onnx").is_file():
            raise ModelNotFound(
                f"the folder {model} holds no voice activity model: model.onnx is missing",
                hint="assistant models pull silero-vad",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            str(model / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.level = QUIETEST
        """dBFS of the last frame."""
        self.windows = 0
        """How many windows the network has judged."""
        self._zeros: NDArray[np.float32] = np.zeros((1, 1, 128), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the room and what was said in it."""
        self.gate = EnergyGate()
        self.level = QUIETEST
        self._hidden = self._cell = self._zeros
        self._pending = bytearray(2 * CONTEXT)
        self._recent: deque[bytes] = deque(maxlen=PREROLL)
        self._probability = 0.0

    def process(self, pcm: bytes) -> float:
        """Take one frame of 10 ms, 16-bit mono at 16 kHz.

        Returns:
            The probability of speech in the newest window, which ends at most 32 ms ago; 0 while the gate is closed.
        """
        import numpy as np

        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        loudness = power(samples)
        self.level = decibels(loudness)
        was_open = self.gate.open
        if not self.gate.hear(power(samples - samples.mean()), power(samples[1:] - EMPHASIS * samples[:-1])):
            if was_open:
                self._recent.clear()
                self._probability = 0.0
            self._recent.append(pcm)
            return 0.0
        if not was_open:
            self._pending = bytearray().join(self._recent) or bytearray(2 * CONTEXT)
        self._pending += pcm
        if len(self._pending) >= 2 * (CONTEXT + WINDOW):
            self._judge()
        return self._probability

    def _judge(self) -> None:
        """Run the network over all windows that are complete, in one call."""
        import numpy as np

        count = (len(self._pending) // 2 - CONTEXT) // WINDOW
        samples = np.frombuffer(bytes(self._pending), "<i2").astype(np.float32) / 32768.0
        windows = np.lib.stride_tricks.sliding_window_view(samples, CONTEXT + WINDOW)[::WINDOW][:count]
        probabilities, self._hidden, self._cell = self._session.run(
            ["speech_probs", "hn", "cn"],
            {"input": np.ascontiguousarray(windows), "h": self._hidden, "c": self._cell},
        )
        del self._pending[: 2 * WINDOW * count]
        self.windows += count
        self._probability = float(probabilities.reshape(-1)[-1])
        self.gate.judged(float(probabilities.max()))
