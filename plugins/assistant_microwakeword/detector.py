"""Detectors from model files in microWakeWord's own format."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from assistant import PluginError, WakeWord

if TYPE_CHECKING:
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

PACKAGE = "pymicro_wakeword"

BUNDLED = ("hey_jarvis", "okay_nabu", "hey_mycroft", "alexa")
"""The models of the wheel, Apache-2.0."""

FRAME_SAMPLES = 480
"""30 ms: the networks take three feature vectors of 10 ms at a time."""


class _Micro(msgspec.Struct):
    probability_cutoff: float


class _Description(msgspec.Struct):
    """What the host needs of a model's JSON file."""

    wake_word: str
    model: str
    micro: _Micro


class MicroWake(WakeWord):
    """One phrase; the score is the network's mean over its last 5 answers, 150 ms.

    Args:
        description: the model's JSON file, beside which its network lies.

    Raises:
        PluginError: it is not a model's description, or the network is not there.
    """

    frame_samples = FRAME_SAMPLES

    def __init__(self, name: str, description: Path) -> None:
        try:
            read = msgspec.json.decode(description.read_bytes(), type=_Description)
        except (OSError, msgspec.DecodeError) as error:
            raise PluginError(f"{description} does not describe a microWakeWord model: {error}") from error
        if not (description.parent / read.model).is_file():
            raise PluginError(f"{description} names the network {read.model}, which is not beside it")
        self.name = name
        self.phrase = read.wake_word.lower()
        self.threshold = read.micro.probability_cutoff
        self._description = description
        self._file = description.parent / read.model
        self._network: MicroWakeWord | None = None
        self._features: MicroWakeWordFeatures | None = None

    def available(self) -> str:
        """The wheel has no library for this machine."""
        return "" if _library() is not None else "pymicro-wakeword has no TensorFlow Lite for this kind of machine"

    def load(self) -> None:
        """Read the network: some milliseconds.

        Raises:
            PluginError: the library or the network cannot be loaded.
        """
        from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

        try:
            _check(self._file)
            self._network = MicroWakeWord.from_config(self._description)
        except (OSError, RuntimeError, ValueError) as error:
            raise PluginError(f"the wake word {self.name} cannot be loaded: {error}") from error
        self._features = MicroWakeWordFeatures()

    def score(self, frame: bytes) -> float:
        """See ``WakeWord``."""
        assert self._network is not None
        assert self._features is not None
        best = 0.0
        for features in self._features.process_streaming(frame):
            best = max(best, self._network.process_streaming_prob(features) or 0.0)
        return best

    def reset(self) -> None:
        """Forget the past audio; reads the network again, since that is the only way to clear its state."""
        if self._network is not None and self._features is not None:
            self._network.reset()
            self._features.reset()

    def close(self) -> None:
        """Give the network's memory back."""
        if self._network is not None:
            self._network.close()
        self._network = self._features = None


class Missing(WakeWord):
    """A phrase of the wheel where the wheel is not installed."""

    frame_samples = FRAME_SAMPLES

    def __init__(self, name: str) -> None:
        self.name = name
        self.phrase = name.replace("_", " ")

    def available(self) -> str:
        """It never is."""
        return "pymicro-wakeword is not installed: `pip install pymicro-wakeword`"

    def load(self) -> None:
        """Raises PluginError."""
        raise PluginError(f"the wake word {self.name} cannot be loaded", hint=self.available())

    def score(self, frame: bytes) -> float:
        """Nothing is ever heard."""
        return 0.0

    def reset(self) -> None:
        """There is nothing to forget."""

    def close(self) -> None:
        """There is nothing to give back."""


def found(folder: Path, log: logging.Logger) -> Iterator[WakeWord]:
    """The wheel's detectors and those of the models in ``folder``; a file that is no model is logged and left out."""
    package = _package()
    for name in BUNDLED:
        yield MicroWake(name, package / "models" / f"{name}.json") if package else Missing(name)
    for file in sorted(folder.glob("*.json")) if package else ():
        if file.stem in BUNDLED:
            log.warning("%s is left out: the name %s is taken", file, file.stem)
            continue
        try:
            yield MicroWake(file.stem, file)
        except PluginError as error:
            log.warning("%s", error)


def _package() -> Path | None:
    """The folder of the wheel, found without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.origin).parent if spec and spec.origin else None


def _library() -> Path | None:
    package = _package()
    return next((package / "lib").glob("*tensorflowlite_c.*"), None) if package else None


def _check(network: Path) -> None:
    """Raises ValueError if TensorFlow Lite cannot read a file: the wheel would not look, and crash the process."""
    library = ctypes.CDLL(str(_library()))
    library.TfLiteModelCreateFromFile.argtypes = [ctypes.c_char_p]
    library.TfLiteModelCreateFromFile.restype = ctypes.c_void_p
    library.TfLiteModelDelete.argtypes = [ctypes.c_void_p]
    model = library.TfLiteModelCreateFromFile(str(network).encode())
    if not model:
        raise ValueError(f"{network} is no TensorFlow Lite model")
    library.TfLiteModelDelete(model)
