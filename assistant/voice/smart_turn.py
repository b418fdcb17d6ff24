"""Whether a turn is complete: the Smart Turn classifier on the last seconds of speech.

The network sees what Whisper's encoder sees, a log-mel spectrogram, which numpy alone computes here.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.errors import ModelNotFound

from .frames import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLES = 8 * RATE
"""What the network looks at (pipecat 1.14, local_smart_turn_v3.py); shorter speech is padded with zeros before it."""
WINDOW, HOP, BINS = 400, 160, 80
"""Samples of an analysis window, samples from one to the next, and mel bands (WhisperFeatureExtractor's defaults)."""


class SmartTurn:
    """Blocks for as long as the network takes: some tens of milliseconds on one core. Usable from several threads.

    Args:
        model: the folder of the model ``smart-turn``; it is loaded at first use.
    """

    def __init__(self, model: Path) -> None:
        self._model = model / "model.onnx"
        self._session: Any = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load it now, so that the first turn need not wait for it.

        Raises:
            ModelNotFound: the folder holds no network.
        """
        with self._lock:
            if self._session is None:
                self._session = self._loaded()

    def probability(self, pcm: bytes) -> float:
        """How likely it is that the speaker has finished.

        Args:
            pcm: 16-bit mono at 16 kHz that ends in the pause; its last 8 s count.

        Raises:
            ModelNotFound: the folder holds no network.
        """
        self.load()
        (probabilities,) = self._session.run(None, {"input_features": features(pcm)[None]})
        return float(probabilities.reshape(-1)[0])

    def _loaded(self) -> Any:
        import onnxruntime

        if not self._model.is_file():
            raise ModelNotFound(
                f"the folder {self._model.parent} holds no turn model: {self._model.name} is missing",
                hint="assistant models pull smart-turn",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(str(self._model), options, providers=["CPUExecutionProvider"])


def features(pcm: bytes) -> NDArray[np.float32]:
    """The network's input: Whisper's log-mel spectrogram of 8 s, normalised to zero mean and unit variance.

    Returns:
        ``BINS`` rows of 800 frames; equal to those of ``transformers.WhisperFeatureExtractor(chunk_length=8)`` with
        ``do_normalize``, for sound padded to 8 s.
    """
    import numpy as np

    spoken = np.frombuffer(pcm, "<i2")[-SAMPLES:]
    sound = np.zeros(SAMPLES, np.float32)
    if len(spoken):
        sound[-len(spoken) :] = spoken / np.float32(32768)
    sound = (sound - sound.mean()) / np.sqrt(sound.var() + np.float32(1e-7))
    padded = np.pad(sound.astype(np.float64), WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:-1]
    spectrum = np.fft.rfft(windows * np.hanning(WINDOW + 1)[:-1], axis=-1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    decades = np.log10(np.maximum(power @ _mel_filters(), 1e-10)).T
    found: NDArray[np.float32] = ((np.maximum(decades, decades.max() - 8.0) + 4.0) / 4.0).astype(np.float32)
    return found


@cache
def _mel_filters() -> NDArray[np.float64]:
    """Slaney's triangles of equal area: frequency bins by mel bands (librosa's default, which Whisper took over)."""
    import numpy as np

    corners = _hertz(np.linspace(0.0, _mel(RATE / 2), BINS + 2))
    bins = np.linspace(0.0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rising = (bins - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - bins) / np.diff(corners)[1:]
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (corners[2:] - corners[:-2])
    return triangles


_LINEAR_HERTZ, _LINEAR_MEL, _LOG_MEL = 1000.0, 15.0, 27.0
"""Slaney's scale: 15 mel up to 1 kHz, linear; then 27 mel for every factor of 6.4."""


def _mel(hertz: float) -> float:
    """Of a frequency above 1 kHz."""
    import math

    return _LINEAR_MEL + _LOG_MEL * math.log(hertz / _LINEAR_HERTZ) / math.log(6.4)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    above = _LINEAR_HERTZ * np.exp(np.log(6.4) / _LOG_MEL * (mel - _LINEAR_MEL))
    found: NDArray[np.float64] = np.where(mel < _LINEAR_MEL, mel * _LINEAR_HERTZ / _LINEAR_MEL, above)
    return found
