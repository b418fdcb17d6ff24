"""Whisper through mlx-whisper, one 30-second window at a time."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant import (
    STT_SAMPLE_RATE,
    EngineFailed,
    ModelError,
    Segment,
    SpeechToText,
    Transcript,
    Transcription,
    load_openblas,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CACHE_BYTES = 1 << 28
"""Freed buffers that MLX keeps for reuse; by its own limit, all of the memory, a Whisper server grew to 17 GB
(agent-cli #620)."""

WINDOW_SECONDS = 28
"""As soon as so much has been heard it is transcribed; what Whisper hears at a time is 30 s."""

EARLIEST_CUT_SECONDS = 18
"""Between this and the end of the window it is cut where it is quietest."""

QUIET_SECONDS = 0.2
"""Length of the stretch that is looked for to cut in."""

SILENCE_RMS = 33
"""-60 dBFS: Whisper invents text for what is softer, so it is not asked."""

TEMPERATURES = (0.0, 0.2, 0.4)
"""Whisper's fall-back when a decoding is repetitive or improbable; a voice user does not wait for more than two."""

NO_SPEECH, IMPROBABLE, REPETITIVE = 0.6, -1.0, 2.4
"""Whisper's own thresholds (``whisper/transcribe.py``) of no-speech probability, mean log-probability, compression."""


class Whisper(SpeechToText):
    """Whisper on the GPU of a Mac, or slowly on a CPU."""

    name = "whisper"
    lane = "gpu"
    default_model = "hf:mlx-community/whisper-large-v3-turbo"
    rank = 10 if sys.platform == "darwin" else 0

    def __init__(self) -> None:
        self._model: Any = None
        self._folder = ""

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
        return result

    def close(self) -> None:
        """Give the model's memory back."""
        self._model, self._folder = None, ""
        if "mlx_whisper.transcribe" in sys.modules:
            import mlx.core as mx

            holder = sys.modules["mlx_whisper.transcribe"].ModelHolder
            holder.model = holder.model_path = None
            mx.clear_cache()


class WhisperTranscription(Transcription):
    """An utterance of any length: whole windows are transcribed while it comes, so each step is one window's work."""

    def __init__(self, engine: Whisper, language: str) -> None:
        self._engine = engine
        self._language = language
        self._heard = bytearray()
        self._done = 0
        self._segments: list[Segment] = []
        self._text = ""

    def feed(self, pcm: bytes) -> str | None:
        """See ``Transcription``; the partial text grows by a window at a time."""
        self._heard += pcm
        grown = False
        while len(self._heard) >= WINDOW_SECONDS * STT_SAMPLE_RATE * 2:
            self._transcribe(_quietest(self._heard))
            grown = True
        return self._text.strip() if grown else None

    def finish(self) -> Transcript:
        """See ``Transcription``. One call, for the last window: some dozens of decode steps without a break."""
        self._transcribe(len(self._heard) // 2)
        return Transcript(
            text=self._text.strip(),
            language=self._language,
            segments=tuple(self._segments),
            seconds=self._done / STT_SAMPLE_RATE,
        )

    def _transcribe(self, count: int) -> None:
        import numpy as np

        samples = np.frombuffer(bytes(self._heard[: count * 2]), "<i2").astype(np.float32)
        del self._heard[: count * 2]
        begin, self._done = self._done / STT_SAMPLE_RATE, self._done + count
        if not count or float(np.sqrt(np.mean(samples**2))) < SILENCE_RMS:
            return
        result = self._engine.window(samples / 32768.0, self._language)
        self._language = self._language or result["language"]
        end = self._done / STT_SAMPLE_RATE
        for one in result["segments"]:
            text = one["text"].strip()
            if text and one["compression_ratio"] <= REPETITIVE and not _unspoken(one):
                start = min(begin + max(float(one["start"]), 0.0), end)
                stop = min(max(begin + float(one["end"]), start), end)
                self._segments.append(Segment(start=start, end=stop, text=text))
                self._text += one["text"]


def _unspoken(segment: dict[str, Any]) -> bool:
    return bool(segment["no_speech_prob"] > NO_SPEECH and segment["avg_logprob"] < IMPROBABLE)


def _quietest(pcm: bytearray) -> int:
    """Samples until the middle of the quietest stretch of the window's last third."""
    import numpy as np

    size = int(QUIET_SECONDS * STT_SAMPLE_RATE)
    first, last = EARLIEST_CUT_SECONDS * STT_SAMPLE_RATE, WINDOW_SECONDS * STT_SAMPLE_RATE
    stretches = np.frombuffer(bytes(pcm[first * 2 : last * 2]), "<i2").astype(np.float32).reshape(-1, size)
    return first + int(np.argmin((stretches**2).mean(axis=1))) * size + size // 2


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
