"""The engine ``mlx``: chat with any model that mlx-lm loads."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant import (
    ChatRequest,
    ContextOverflow,
    Delta,
    EngineFailed,
    FinetuneJob,
    FinetuneStep,
    LanguageModel,
    MemoryUse,
    ModelError,
)

from .chat.answer import Answer
from .chat.prompt import render
from .chat.toolcalls import dialect
from .decoding.sampling import penalties, sampler
from .decoding.sequence import Sequence, Token
from .grammar.grammars import Grammars

if TYPE_CHECKING:
    from . import Settings
    from .cache.prefix import PrefixCache
    from .decoding.decoder import Decoder
    from .loading import Loaded

GPU_PREFILL_STEPS = (512, 128)
"""Tokens; a step of about 2 s for an 8B model on a base M4 (225 tokens/s, llama.cpp), less on anything larger; while
speech is live, of half a second."""

CPU_PREFILL_STEPS = (128, 32)
"""Tokens; at most 0.9 s a step with the starter model on two cores, 0.3 s while speech is live. Steps of 32, 64 and 512
gave 117, 137 and 166 tokens/s there, and a short question is read in one."""

class MlxLanguageModel(LanguageModel):
    """Language models on MLX, all answers of one model in one batch."""

    name = "mlx"
    lane = "gpu"
    default_model = "starter"

    def __init__(self, settings: Settings, data_dir: Path | None = None) -> None:
        self._settings = settings
        self._data_dir = data_dir
        self._loaded: Loaded | None = None
        self._decoder: Decoder | None = None
        self._grammars: Grammars | None = None

    def available(self) -> str:
        """Why MLX cannot run here; empty if it can."""
        if importlib.util.find_spec("mlx_lm") is None:
            return "mlx-lm is not installed: pip install mlx-lm (on Linux also 'mlx[cpu]')"
        return ""

    def load(self, model: Path | None) -> None:
        """Load the model folder.

        Raises:
            ModelError: there is none, or it is broken.
            ModelTooLarge: it does not fit the memory; nothing was loaded.
            EngineFailed: MLX cannot be imported.
        """
        from . import fit, loading

        if model is None:
            raise ModelError("the engine mlx needs a model", hint='set `[llm] model = "starter"`')
        unpack = self._settings.dequantize
        fits = fit.check(model, self._settings, self.draft_model)
        loaded = replace(loading.load(model, unpack), context=fits.context, prompt_cache=fits.prompt_cache)
        draft = loading.load_draft(self.draft_model, unpack, loaded.vocabulary) if self.draft_model else None
        self.adopt(loaded, model, draft)

    def adopt(self, loaded: Loaded, folder: Path, draft: Any = None) -> None:
        """Answer with a model that is already loaded, on the calling thread."""
        from .decoding.decoder import Decoder
        from .decoding.speculative import Draft

        settings = self._settings
        whole, short = (GPU_PREFILL_STEPS if loaded.on_gpu else CPU_PREFILL_STEPS)
        whole = settings.prefill_step or whole
        self._loaded = loaded
        self._grammars = Grammars(loaded.tokenizer, loaded.vocabulary)
        self._decoder = Decoder(
            loaded.model,
            frozenset(loaded.tokenizer.eos_token_ids),
            (whole, min(whole, short)),
            self._prefix_cache(folder, loaded),
            settings.kv_bits,
            Draft(draft, settings.draft_tokens) if draft is not None else None,
        )

    def close(self) -> None:
        """Free the model and MLX's buffers. The thread's streams stay: another engine of the lane may be using them."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder.cache.save()
        was_loaded, self._loaded, self._decoder, self._grammars = self._loaded is not None, None, None, None
        if not was_loaded:
            return
        import mlx.core as mx

        gc.collect()
        mx.clear_cache()

    def idle(self) -> None:
        """Write the prompts that were read to the disk."""
        if self._decoder is not None:
            self._decoder.cache.save()

    def speech_live(self, live: bool) -> None:
        """Read prompts in shorter steps while a spoken turn is live."""
        if self._decoder is not None:
            self._decoder.speech_live = live

    def memory(self) -> MemoryUse:
        """What MLX holds in this process."""
        import mlx.core as mx

        if self._decoder is None:
            return MemoryUse()
        return MemoryUse(
            active=mx.get_active_memory(),
            peak=mx.get_peak_memory(),
            prompt_cache=self._decoder.cache.nbytes,
            limit=int(mx.device_info().get("max_recommended_working_set_size", 0)),
        )

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""
        own = self._ready()[0].context
        return min(own, self._settings.context or own)

    def finetune(self, job: FinetuneJob) -> Iterator[FinetuneStep]:
        """Train a LoRA adapter; see ``training``."""
        from .training.finetuning import finetune

        return finetune(job, self._settings)

    def generate(self, request: ChatRequest) -> Generator[Delta, None, None]:
        """Answer: a ``next()`` is one step of the batch that all live answers share, or none if it already brought
        something for this one. A step without visible text gives an empty delta.

        Raises:
            ContextOverflow: no token would fit after the prompt.
            ModelError: the chat template refuses the conversation.
            EngineFailed: a step failed, and the batch was thrown away.
        """
        loaded, decoder = self._ready()
        grammars = self._grammars
        assert grammars is not None
        style = dialect(loaded.tokenizer, self._settings.tools, request)
        prompt, boundaries = render(loaded.tokenizer, request, style)
        room = self.context - len(prompt)
        if room < 1:
            raise ContextOverflow(
                f"the prompt has {len(prompt)} tokens, and the model's context is {self.context}",
                hint="begin a new conversation, shorten the text, or choose a model with a longer context",
            )
        limit = max(1, min(request.max_tokens, room))
        sequence = Sequence(
            prompt=prompt,
            boundaries=tuple(boundaries),
            max_tokens=limit,
            sampler=sampler(request),
            processors=[*penalties(request, prompt), *grammars.processors(request, style, prompt, limit)],
            adapter=request.adapter,
            urgent=request.urgent,
        )
        decoder.insert(sequence)
        try:
            yield from _told(Answer(loaded.tokenizer, request, prompt, style), decoder, sequence)
        finally:
            decoder.remove(sequence)

    def _prefix_cache(self, folder: Path, loaded: Loaded) -> PrefixCache:
        from .cache.disk import CacheDisk, fingerprint
        from .cache.prefix import PrefixCache

        settings, disk = self._settings, None
        if self._data_dir is not None and settings.prompt_cache_disk_mb:
            mark = fingerprint(folder, str(loaded.dtype))
            disk = CacheDisk(self._data_dir / "prompts", settings.prompt_cache_disk_mb << 20, mark)
        return PrefixCache(loaded.prompt_cache, disk)

    def _ready(self) -> tuple[Loaded, Decoder]:
        if self._loaded is None or self._decoder is None:
            raise EngineFailed("the engine mlx is not loaded", hint="ask again; the host loads it first")
        return self._loaded, self._decoder


def _told(answer: Answer, decoder: Decoder, sequence: Sequence) -> Iterator[Delta]:
    """The answer's deltas, one step of the decoder a ``next()`` at most."""
    end, drafted = "", 0
    while not end:
        step = decoder.take(sequence)
        if isinstance(step, Token):
            drafted += step.drafted
            deltas = answer.feed(step.id, step.end)
            end = "stop" if answer.stopped else step.end
            yield from deltas
        else:
            yield Delta(prompt_done=step.done if step else 0, prompt_tokens=len(sequence.prompt))
    if any(getattr(processor, "shortened", False) for processor in sequence.processors):
        end = "length"
    yield answer.last(end, sequence.cached, drafted)
