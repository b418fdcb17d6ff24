"""Detectors of openWakeWord's networks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant import PluginError, WakeWord

if TYPE_CHECKING:
    from pyopen_wakeword import OpenWakeWord, OpenWakeWordFeatures

NAMES = ("hey_jarvis", "okay_nabu", "hey_mycroft", "alexa", "hey_rhasspy")
"""The networks of the wheel."""

FRAME_SAMPLES = 1280
"""80 ms, the networks' step."""

SETTLING_FRAMES = 40
"""Frames of silence, 3.2 s, that fill every buffer: 0.8 s for the first embedding and 16 of those for a score."""

STATE = (("audio", "new_audio_samples", "mels", "new_mels"), ("embeddings", "new_embeddings"))
"""What the features and the network remember of the past, by their public names."""


class OpenWake(WakeWord):
    """One phrase.

    A detector of the library scores nothing in its first 2 s, and stalls 0.9 s on the first frame while it works off
    8 s of zeros. Here both lie in ``load``, and ``reset`` goes back to what was remembered then: silence.

    Args:
        model: the network's name in the wheel.
    """

    frame_samples = FRAME_SAMPLES
    threshold = 0.5
    costly = True

    def __init__(self, model: str) -> None:
        self.name = f"open_{model}"
        self.phrase = model.replace("_", " ")
        self._model = model
        self._features: OpenWakeWordFeatures | None = None
        self._network: OpenWakeWord | None = None
        self._quiet: list[tuple[Any, str, Any]] = []

    def available(self) -> str:
        """The package is not installed, or has no library for this machine."""
        spec = importlib.util.find_spec("pyopen_wakeword")
        if spec is None or spec.origin is None:
            return "pyopen-wakeword is not installed: `pip install 'assistant[openwakeword]'` (non-commercial licence)"
        if not any((Path(spec.origin).parent / "lib").glob("*tensorflowlite_c.*")):
            return "pyopen-wakeword has no TensorFlow Lite for this kind of machine"
        return ""

    def load(self) -> None:
        """Read the networks and let them hear silence: some tenths of a second.

        Raises:
            PluginError: the package, the library or a network cannot be loaded.
        """
        try:
            from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures

            self._features = OpenWakeWordFeatures.from_builtin()
            self._network = OpenWakeWord.from_builtin(Model(self._model))
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            raise PluginError(f"the wake word {self.name} cannot be loaded: {error}", hint=self.available()) from error
        self._features.new_audio_samples = 0
        for _ in range(SETTLING_FRAMES):
            self.score(bytes(FRAME_SAMPLES * 2))
        owners = zip((self._features, self._network), STATE, strict=True)
        self._quiet = [(owner, name, _copy(getattr(owner, name))) for owner, names in owners for name in names]

    def score(self, frame: bytes) -> float:
        """See ``WakeWord``."""
        assert self._network is not None
        assert self._features is not None
        best = 0.0
        for embeddings in self._features.process_streaming(frame):
            best = max([best, *self._network.process_streaming(embeddings)])
        return best

    def reset(self) -> None:
        """Remember silence only."""
        for owner, name, value in self._quiet:
            setattr(owner, name, _copy(value))

    def close(self) -> None:
        """Give the networks' memory back."""
        for part in (self._features, self._network):
            if part is not None:
                part.close()
        self._features = self._network = None
        self._quiet = []


def _copy(value: Any) -> Any:
    return value if isinstance(value, int) else value.copy()
