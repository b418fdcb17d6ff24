"""Whisper through mlx-whisper, one 30-second window at a time."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant import EngineFailed, ModelError, SpeechToText, Transcription, load_openblas

from .utterance import IMPROBABLE, NO_SPEECH, REPETITIVE, WhisperTranscription

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CACHE_BYTES = 1 << 28
"""Freed buffers that MLX keeps for reuse; by its own limit, all of the memory, a Whisper server grew to 17 GB
(agent-cli #620)."""

TEMPERATURES = (0.0, 0.2, 0.4)
"""Whisper's fall-back when a decoding is repetitive or improbable; a voice user does not wait for more than two."""


class Whisper(SpeechToText):
    """Whisper on the GPU of a Mac, or slowly on a CPU."""

    name = "whisper"
    lane = "gpu"
    default_model = "hf:mlx-community/whisper-large-v3-turbo"
    rank = 10 if sys.platform == "darwin" else 0

    def __init__(self) -> None:
        self._model: Any = None
        self._folder = ""
        self.seconds = math.inf
        """How long the last run took; infinite before the first."""

    def available(self) -> str:
        """The package mlx-whisper is missing."""
        if importlib.util.find_spec("mlx_whisper") is None:
            return "mlx-whisper is not installed: `pip install mlx-whisper`"
        return ""

    def load(self, model: Path | None) -> None:
        """Read the folder: mlx-whisper's config.json and weights.safetensors (or weights.npz).

        Raises:
            ModelError: it is no such folder, or a damaged one.
        """
        load_openblas()
        if model is None:
            raise ModelError("whisper needs a model", hint=f'set `model = "{self.default_model}"` in [stt]')
        import mlx.core as mx

        loading = importlib.import_module("mlx_whisper.load_models")
        before = mx.set_cache_limit(CACHE_BYTES)
        if before < CACHE_BYTES:
            mx.set_cache_limit(before)
        files = [model / name for name in ("weights.safetensors", "weights.npz") if (model / name).is_file()]
        if not files or not (model / "config.json").is_file():
            raise ModelError(
                f"{model} is not a Whisper model for MLX: it lacks config.json or weights.safetensors",
                hint="models that work are named mlx-community/whisper-…",
            )
        try:
            loaded = loading.load_model(str(model), mx.float16 if mx.metal.is_available() else mx.float32)
            _check_complete(loaded, files[0])
            if not mx.metal.is_available():
                loaded.apply(_single)
                mx.eval(loaded.parameters())
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, OSError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise ModelError(f"the Whisper model in {model} is damaged: {reason}", hint="fetch it again") from error
        self._model, self._folder = loaded, str(model)

    def open(self, language: str, phrases: tuple[str, ...]) -> Transcription:
        """See ``SpeechToText``; ``phrases`` are not used: Whisper tends to write down what it is primed with.

        Raises:
            EngineFailed: the model does not know the language.
        """
        from mlx_whisper.tokenizer import LANGUAGES

        if self._model is None:
            raise EngineFailed("whisper was not loaded")
        code = language.replace("_", "-").partition("-")[0].lower()
        if code and code not in LANGUAGES:
            raise EngineFailed(f"Whisper does not know the language {language!r}", hint="use a tag like en, de or zh")
        if not self._model.is_multilingual and code not in ("", "en"):
            raise EngineFailed(f"this Whisper model knows English only, not {language!r}", hint="choose another model")
        return WhisperTranscription(self, code)

    def window(self, samples: NDArray[np.float32], language: str) -> dict[str, Any]:
        """One run of mlx-whisper on at most 30 s: its ``text``, ``segments`` and ``language``.

        Raises:
            EngineFailed: the model does not fit together, or the GPU failed.
        """
        import mlx.core as mx

        transcribing = importlib.import_module("mlx_whisper.transcribe")
        transcribing.ModelHolder.model, transcribing.ModelHolder.model_path = self._model, self._folder
        mx.random.seed(0)
        begun = time.perf_counter()
        try:
            result: dict[str, Any] = transcribing.transcribe(
                samples,
                path_or_hf_repo=self._folder,
                temperature=TEMPERATURES,
                no_speech_threshold=NO_SPEECH,
                logprob_threshold=IMPROBABLE,
                compression_ratio_threshold=REPETITIVE,
                condition_on_previous_text=False,
                language=language or None,
                fp16=mx.metal.is_available(),
            )
        except (ValueError, RuntimeError) as error:
            raise EngineFailed(f"Whisper failed: {error}", hint="is the model's folder whole?") from error
        finally:
            mx.clear_cache()
        self.seconds = time.perf_counter() - begun
        return result

    def close(self) -> None:
        """Give the model's memory back."""
        self._model, self._folder = None, ""
        if "mlx_whisper.transcribe" in sys.modules:
            import mlx.core as mx

            holder = sys.modules["mlx_whisper.transcribe"].ModelHolder
            holder.model = holder.model_path = None
            mx.clear_cache()


def _check_complete(model: Any, weights: Path) -> None:
    """mlx-whisper leaves what a file lacks at random values, and takes any shape."""
    core: Any = importlib.import_module("mlx.core")
    utils: Any = importlib.import_module("mlx.utils")
    stored = core.load(str(weights))
    dims = model.dims
    needed = dict(utils.tree_flatten(model.parameters())).keys() - {"alignment_heads"}
    if missing := sorted(needed - stored.keys()):
        raise ValueError(f"{len(missing)} weights are missing, {missing[0]} for one")
    expected = {
        "decoder.positional_embedding": (dims.n_text_ctx, dims.n_text_state),
        "encoder.conv1.weight": (dims.n_audio_state, 3, dims.n_mels),
    }
    for name, shape in expected.items():
        if tuple(stored[name].shape) != shape:
            raise ValueError(f"{name} has the shape {tuple(stored[name].shape)}, not {shape}")


def _single(weights: Any) -> Any:
    """As 32-bit floats, which a CPU would turn them into at every step: that took a third of the time."""
    mx: Any = importlib.import_module("mlx.core")
    return weights.astype(mx.float32) if weights.dtype == mx.float16 else weights
