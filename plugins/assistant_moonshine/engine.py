"""English on the CPU, in a fiftieth of the time that it takes to say it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from assistant import EngineFailed, ModelError, SpeechToText, Transcription

from .network import Network, damaged
from .sentences import Sentences
from .utterance import MoonshineTranscription
from .vocabulary import Vocabulary

FILES = ("encoder.ort", "decoder.ort", "tokenizer.bin")


class Moonshine(SpeechToText):
    """Moonshine tiny: 27 million parameters, 44 MB, for English only."""

    name = "moonshine"
    lane = "cpu"
    default_model = "moonshine-tiny"
    rank = 5

    def __init__(self) -> None:
        self._network: Network | None = None
        self._vocabulary: Vocabulary | None = None
        self._likely: tuple[tuple[str, ...], Sentences] | None = None

    def available(self) -> str:
        """The package onnxruntime is missing."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed: `pip install onnxruntime`"
        return ""

    def load(self, model: Path | None) -> None:
        """Read the folder: encoder.ort, decoder.ort and tokenizer.bin, in half a second.

        Raises:
            ModelError: it is no such folder, or a damaged one.
        """
        if model is None:
            raise ModelError("moonshine needs a model", hint=f'set `model = "{self.default_model}"` in [stt]')
        if missing := [name for name in FILES if not (model / name).is_file()]:
            raise ModelError(
                f"{model} is not a Moonshine model: it has no {missing[0]}",
                hint=f'`model = "{self.default_model}"` in [stt] is one',
            )
        try:
            vocabulary = Vocabulary((model / "tokenizer.bin").read_bytes())
        except (OSError, ValueError, IndexError) as error:
            raise damaged(model, f"tokenizer.bin: {error}") from error
        network = Network(model)
        if len(vocabulary) != network.tokens:
            raise damaged(model, f"tokenizer.bin has {len(vocabulary)} tokens, and not {network.tokens}")
        self._network, self._vocabulary, self._likely = network, vocabulary, None

    def open(self, language: str, phrases: tuple[str, ...]) -> Transcription:
        """See ``SpeechToText``. Where one of the phrases sounds nearly as much like it as what was understood freely,
        the phrase is taken.

        Raises:
            EngineFailed: another language than English.
        """
        if self._network is None or self._vocabulary is None:
            raise EngineFailed("moonshine was not loaded")
        if language and language.replace("_", "-").partition("-")[0].lower() != "en":
            raise EngineFailed(
                f"moonshine understands English only, not {language!r}", hint="choose another engine in [stt]"
            )
        return MoonshineTranscription(self._network, self._vocabulary, self._sentences(phrases))

    def close(self) -> None:
        """Give the model's memory back."""
        self._network, self._vocabulary, self._likely = None, None, None

    def _sentences(self, phrases: tuple[str, ...]) -> Sentences | None:
        if not phrases or self._vocabulary is None:
            return None
        if self._likely is None or self._likely[0] != phrases:
            self._likely = phrases, Sentences(phrases, self._vocabulary)
        return self._likely[1]
