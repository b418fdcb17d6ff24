"""The engine ``mlx``: chat with any model that mlx-lm loads."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant import ChatRequest, ContextOverflow, Delta, EngineFailed, LanguageModel, ModelError

from .answer import Answer
from .prompt import render

if TYPE_CHECKING:
    from . import Settings
    from .batch import SharedBatch
    from .loading import Loaded

GPU_PREFILL_STEP = 512
"""Tokens; a step of about 2 s for an 8B model on a base M4 (225 tokens/s, llama.cpp), less on anything larger."""

CPU_PREFILL_STEP = 128
"""Tokens; at most 0.9 s a step with the starter model on two cores. Steps of 32, 64 and 512 gave 117, 137 and 166
tokens/s there, and a short question is read in one."""


class MlxLanguageModel(LanguageModel):
    """Language models on MLX, all answers of one model in one batch."""

    name = "mlx"
    lane = "gpu"
    default_model = "starter"

    def __init__(self, settings: Settings, data_dir: Path | None = None) -> None:
        self._settings = settings
        self._data_dir = data_dir
        self._loaded: Loaded | None = None
        self._batch: SharedBatch | None = None

    def available(self) -> str:
        """Why MLX cannot run here; empty if it can."""
        if importlib.util.find_spec("mlx_lm") is None:
            return "mlx-lm is not installed: pip install mlx-lm (on Linux also 'mlx[cpu]')"
        return ""

    def load(self, model: Path | None) -> None:
        """Load the model folder.

        Raises:
            ModelError: there is none, or it is broken.
            EngineFailed: MLX cannot be imported.
        """
        from . import loading
        from .batch import SharedBatch

        if model is None:
            raise ModelError("the engine mlx needs a model", hint='set `[llm] model = "starter"`')
        loaded = self._loaded = loading.load(model, self._settings.dequantize)
        step = self._settings.prefill_step or (GPU_PREFILL_STEP if loaded.on_gpu else CPU_PREFILL_STEP)
        self._batch = SharedBatch(loaded.model, frozenset(loaded.tokenizer.eos_token_ids), step)

    def close(self) -> None:
        """Free the model and MLX's buffers. The thread's streams stay: another engine of the lane may be using them."""
        if self._batch is not None:
            self._batch.close()
        was_loaded, self._loaded, self._batch = self._loaded is not None, None, None
        if not was_loaded:
            return
        import mlx.core as mx

        gc.collect()
        mx.clear_cache()

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""
        own = self._ready()[0].context
        return min(own, self._settings.context or own)

    def generate(self, request: ChatRequest) -> Generator[Delta, None, None]:
        """Answer: a ``next()`` is one step of the batch that all live answers share, or none if it already brought
        something for this one. A step without visible text gives an empty delta.

        Raises:
            ContextOverflow: no token would fit after the prompt.
            ModelError: the chat template refuses the conversation.
            EngineFailed: a step failed, and the batch was thrown away.
        """
        loaded, batch = self._ready()
        prompt = render(loaded.tokenizer, request)
        room = self.context - len(prompt)
        if room < 1:
            raise ContextOverflow(
                f"the prompt has {len(prompt)} tokens, and the model's context is {self.context}",
                hint="begin a new conversation, shorten the text, or choose a model with a longer context",
            )
        sequence = batch.insert(prompt, max(1, min(request.max_tokens, room)), _sampler(request))
        try:
            yield from Answer(loaded.tokenizer, request, prompt).deltas(batch, sequence)
        finally:
            batch.remove(sequence)

    def _ready(self) -> tuple[Loaded, SharedBatch]:
        if self._loaded is None or self._batch is None:
            raise EngineFailed("the engine mlx is not loaded", hint="ask again; the host loads it first")
        return self._loaded, self._batch


def _sampler(request: ChatRequest) -> Any:
    from .batch import Sampler

    return Sampler(request.temperature, request.top_p, request.seed) if request.temperature > 0 else None
