"""The engine ``mlx``: chat with any model that mlx-lm loads."""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant import ChatRequest, ContextOverflow, Delta, EngineFailed, LanguageModel, ModelError, ToolCall

from .prompt import render, tool_specs
from .reader import Markers, Piece, Reader

if TYPE_CHECKING:
    from . import Settings
    from .batch import Prefilled, Sequence, SharedBatch, Token
    from .loading import Loaded

GPU_PREFILL_STEP = 512
"""Tokens; a step of about 2 s for an 8B model on a base M4 (225 tokens/s, llama.cpp), less on anything larger."""

CPU_PREFILL_STEP = 128
"""Tokens; at most 0.9 s a step with the starter model on two cores. Steps of 32, 64 and 512 gave 117, 137 and 166
tokens/s there, and a short question is read in one."""

log = logging.getLogger(__name__)


class MlxLanguageModel(LanguageModel):
    """Language models on MLX, all answers of one model in one batch."""

    name = "mlx"
    lane = "gpu"
    default_model = "starter"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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
            yield from _Answer(loaded.tokenizer, request, prompt).deltas(batch, sequence)
        finally:
            batch.remove(sequence)

    def _ready(self) -> tuple[Loaded, SharedBatch]:
        if self._loaded is None or self._batch is None:
            raise EngineFailed("the engine mlx is not loaded", hint="ask again; the host loads it first")
        return self._loaded, self._batch


def _sampler(request: ChatRequest) -> Any:
    from .batch import Sampler

    return Sampler(request.temperature, request.top_p, request.seed) if request.temperature > 0 else None


class _Answer:
    """One answer on its way from tokens to deltas."""

    def __init__(self, tokenizer: Any, request: ChatRequest, prompt: list[int]) -> None:
        self._tokenizer = tokenizer
        self._tools = tool_specs(request.tools)
        self._detokenizer = tokenizer.detokenizer
        thinks = tokenizer.has_thinking
        calls = bool(request.tools) and tokenizer.has_tool_calling
        self._markers = Markers(
            think_start=tokenizer.think_start if thinks else "",
            think_end=tokenizer.think_end if thinks else "",
            tool_start=tokenizer.tool_call_start if calls else "",
            tool_end=(tokenizer.tool_call_end or "") if calls else "",
        )
        # Some templates open the reasoning themselves, at the end of the prompt.
        thinking = thinks and tokenizer.rfind_think_start(prompt) > tokenizer.rfind_think_end(prompt)
        self._reader = Reader(self._markers, request.stop, reasoning=thinking)
        self._prompt_tokens = len(prompt)
        self._output_tokens = 0
        self._called = False

    def deltas(self, batch: SharedBatch, sequence: Sequence) -> Iterator[Delta]:
        """All of it, one shared step a ``next()``."""
        from .batch import Token

        end = ""
        while not end:
            step = batch.take(sequence)
            if not isinstance(step, Token):
                yield self._progress(step)
                continue
            pieces = self._read(step)
            end = "stop" if self._reader.stopped else step.end
            yield from self._told(pieces)
        yield Delta(
            prompt_done=self._prompt_tokens,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
            finish_reason="length" if end == "length" else "tool_calls" if self._called else "stop",
        )

    def _progress(self, step: Prefilled | None) -> Delta:
        return Delta(prompt_done=step.done if step else 0, prompt_tokens=self._prompt_tokens)

    def _read(self, step: Token) -> list[Piece]:
        self._output_tokens += 1
        if step.end != "stop":
            self._detokenizer.add_token(step.id)
        if not step.end:
            return self._reader.feed(self._detokenizer.last_segment)
        self._detokenizer.finalize()
        # What is left of a character that was cut off decodes to replacement characters.
        pieces = self._reader.feed(self._detokenizer.last_segment.rstrip("\ufffd"))
        return pieces + self._reader.finish()

    def _told(self, pieces: list[Piece]) -> Iterator[Delta]:
        if not pieces:
            yield Delta()
        for piece in pieces:
            if piece.kind == "reasoning":
                yield Delta(reasoning=piece.text)
            elif piece.kind == "text":
                yield Delta(text=piece.text)
            else:
                yield from self._call(piece.text)

    def _call(self, body: str) -> Iterator[Delta]:
        try:
            parsed = self._tokenizer.tool_parser(body, self._tools)
            calls = [_tool_call(call) for call in (parsed if isinstance(parsed, list) else [parsed])]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, SyntaxError) as error:
            log.warning("the model wrote a tool call that cannot be read (%s)", error)
            yield Delta(text=f"{self._markers.tool_start}{body}{self._markers.tool_end}")
            return
        self._called = True
        for call in calls:
            yield Delta(tool_call=call)


def _tool_call(parsed: dict[str, Any]) -> ToolCall:
    arguments = parsed.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(parsed["name"], str) or not isinstance(arguments, dict):
        raise ValueError("a call needs a name and an object of arguments")
    return ToolCall(id=str(parsed.get("id") or uuid.uuid4().hex), name=parsed["name"], arguments=arguments)
