"""The decoder of a loaded model: reads prompts piece by piece and writes the answers side by side.

Everything here runs on the one thread that loaded the model: MLX's streams belong to their thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from assistant import EngineFailed
from assistant_mlx.cache.prefix import PrefixCache

from .adapters import Adapters
from .batch import Batch
from .sequence import Prefilled, Sequence, Token
from .solo import Solo
from .speculative import Draft, Speculative

MAX_LIVE = 8
"""Answers that are read or written at the same time; further ones wait. Eight rows still fit a Mac's memory bandwidth
(mlx-engine decodes 4, oMLX 8)."""

MAX_BATCH = 2 * MAX_LIVE
"""Rows of the batch, with room for what is urgent."""

SHARED_PART = 64
"""Tokens; a beginning shorter than that is read again rather than kept for other conversations."""


class Decoder:
    """Steps requests. A step is bounded: one piece of one prompt, or a token of each of ``MAX_LIVE`` answers.

    A request that writes alone does so without a batch, with the draft model's help if there is one; when others join
    they go on in one batch. Where the caches cannot be batched, requests take turns.

    Args:
        model: the loaded model.
        end_tokens: those that end an answer.
        prefill_steps: tokens of a prompt read in one step, in general and while speech is live.
        cache: prompts kept from earlier requests.
        kv_bits: keep contexts in so many bits; 0 as computed.
        draft: guesses tokens ahead.
    """

    def __init__(
        self,
        model: Any,
        end_tokens: frozenset[int],
        prefill_steps: tuple[int, int],
        cache: PrefixCache,
        kv_bits: int = 0,
        draft: Draft | None = None,
    ) -> None:
        self.speech_live = False
        """Speech waits for the step that is running: keep steps short."""
        self.cache = cache
        self._model = model
        self._end_tokens = end_tokens
        self._prefill_steps = prefill_steps
        self._kv_bits = kv_bits
        self._draft = draft
        self._adapters = Adapters(model)
        self._stream = _stream()
        self._batch = Batch(model, end_tokens, MAX_BATCH)
        self._alone: dict[Sequence, Solo | Speculative] = {}
        self._waiting: list[Sequence] = []
        self._live: list[Sequence] = []
        caches = self._new_caches()
        self._batchable = all(hasattr(cache, "merge") for cache in caches)
        self._trimmable = all(cache.is_trimmable() for cache in caches)

    def insert(self, sequence: Sequence) -> None:
        """Add a request; it is computed by the ``take()`` calls that follow.

        Raises:
            ModelError: its adapter is none, or does not fit the model.
        """
        self._adapters.check(sequence.adapter)
        self._waiting.append(sequence)

    def take(self, sequence: Sequence) -> Prefilled | Token | None:
        """What the request's next step brought, after at most one step of the decoder; None: it still waits.

        Raises:
            EngineFailed: the request cannot go on.
        """
        if not sequence.steps and not sequence.lost:
            self._work(sequence)
        if sequence.steps:
            return sequence.steps.popleft()
        if sequence.lost:
            raise EngineFailed(f"the answer failed: {sequence.lost}", hint="ask again")
        return None

    def remove(self, sequence: Sequence) -> None:
        """End a request, finished or not; what was read and written of it is kept for the next one."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        if sequence in self._live:
            with self._stream():
                self._retire(sequence)

    def close(self) -> None:
        """Drop every request."""
        for sequence in [*self._live]:
            sequence.lost = sequence.lost or "the model was unloaded"
            self.remove(sequence)
        self._waiting.clear()
        self._batch.close()

    def _work(self, sequence: Sequence) -> None:
        """One bounded step, for the request that asks if that is possible, else for those it waits for."""
        with self._stream():
            try:
                if sequence in self._waiting and not self._begin(sequence):
                    self._help()
                elif not sequence.read:
                    self._read(sequence)
                else:
                    self._write(sequence)
            except (RuntimeError, ValueError, MemoryError) as error:
                self._lose([sequence], error)
            for other in [other for other in self._live if other.ended or other.lost]:
                self._retire(other)

    def _help(self) -> None:
        """Work for those that are in the way: their own steps may come after the steps of the one that waits."""
        if len(self._batch):
            self._step_batch()
        elif self._alone:
            next(iter(self._alone.values())).step()
        elif self._live:
            first = self._live[0]
            (self._write if first.read else self._read)(first)

    def _retire(self, sequence: Sequence) -> None:
        """Take a request out and keep its caches."""
        self._live.remove(sequence)
        if alone := self._alone.pop(sequence, None):
            alone.close()
        if sequence in self._batch:
            self._batch.remove(sequence)
        if sequence.caches is not None and sequence.held > 0 and not sequence.lost:
            self.cache.put(self._key(sequence), sequence.tokens[: sequence.held], sequence.caches)
        sequence.caches = None

    def _begin(self, sequence: Sequence) -> bool:
        """Whether it may begin now: there is room, and the model carries its adapter or can be given it."""
        first = next((other for other in self._waiting if other.adapter != self._adapters.current), None)
        blocked = first is not None and first is not sequence and sequence.adapter == self._adapters.current
        full = len(self._live) >= MAX_LIVE and not sequence.urgent
        if full or (blocked and self._live and not sequence.urgent):
            return False
        if sequence.adapter != self._adapters.current:
            if self._live:
                return False
            self._adapters.switch(sequence.adapter)
        self._waiting.remove(sequence)
        self._live.append(sequence)
        found = self.cache.find(self._key(sequence), sequence.prompt)
        if found is not None:
            sequence.caches, sequence.held, sequence.cached = found.caches, found.covered, found.covered
            sequence.steps.append(sequence.progress)
        else:
            sequence.caches = self._new_caches()
        return True

    def _read(self, sequence: Sequence) -> None:
        """Read the next piece of the prompt, up to a point that is worth keeping."""
        import mlx.core as mx

        at, last = sequence.held, len(sequence.prompt) - 1
        stops = [stop for stop in self._stops(sequence) if at < stop < last]
        size = min([self._prefill_steps[self.speech_live], last - at, *(stop - at for stop in stops)])
        assert sequence.caches is not None
        self._model(mx.array([sequence.prompt[at : at + size]]), cache=sequence.caches)
        mx.eval([cache.state for cache in sequence.caches])
        sequence.held = at + size
        if sequence.held in stops:
            self.cache.snapshot(self._key(sequence), sequence.prompt[: sequence.held], sequence.caches)
        sequence.steps.append(sequence.progress)

    def _stops(self, sequence: Sequence) -> tuple[int, ...]:
        """Where the caches are worth keeping: after the system prompt, for other conversations; caches that cannot be
        trimmed also where the prompt of the next turn will differ."""
        first = sequence.boundaries[:1]
        shared = first if first and first[0] >= SHARED_PART else ()
        return shared if self._trimmable else (*shared, *sequence.boundaries[1:])

    def _write(self, sequence: Sequence) -> None:
        """Write a token, of the request alone or of all that share the batch."""
        if sequence not in self._alone and sequence not in self._batch:
            self._join(sequence)
        if sequence in self._alone:
            self._alone[sequence].step()
        else:
            self._step_batch()

    def _join(self, sequence: Sequence) -> None:
        if not self._batchable or not (self._alone or len(self._batch)):
            self._alone[sequence] = self._by_itself(sequence)
            return
        for other, alone in [*self._alone.items()]:
            alone.settle()
            del self._alone[other]
            if not other.ended:
                self._batch.add(other)
        self._batch.add(sequence)

    def _by_itself(self, sequence: Sequence) -> Solo | Speculative:
        helped = self._draft is not None and self._trimmable and not sequence.processors and not sequence.adapter
        if helped and not self._kv_bits and self._draft is not None:
            step = self._prefill_steps[self.speech_live]
            return Speculative(self._model, self._draft, sequence, self._end_tokens, step)
        return Solo(self._model, sequence, self._end_tokens)

    def _step_batch(self) -> None:
        try:
            self._batch.step()
        except (RuntimeError, ValueError, MemoryError) as error:
            # After a failed step every cache is wrong (a token would be fed twice): none may go on.
            self._lose([sequence for sequence in self._live if sequence.caches is None], error)

    def _lose(self, sequences: Iterable[Sequence], error: Exception) -> None:
        for sequence in sequences:
            sequence.lost, sequence.caches = str(error) or type(error).__name__, None

    def _key(self, sequence: Sequence) -> str:
        return f"{self._adapters.identity(sequence.adapter)} kv{self._kv_bits}"

    def _new_caches(self) -> list[Any]:
        from mlx_lm.models.cache import KVCache, make_prompt_cache

        caches: list[Any] = make_prompt_cache(self._model)
        if not self._kv_bits:
            return caches
        return [
            cache.to_quantized(group_size=self._group_size(), bits=self._kv_bits) if type(cache) is KVCache else cache
            for cache in caches
        ]

    def _group_size(self) -> int:
        args = getattr(self._model, "args", None)
        size = getattr(args, "head_dim", 0) or 0
        if not size and args is not None:
            size = args.hidden_size // args.num_attention_heads
        return 64 if size % 64 == 0 else 32


def _stream() -> Callable[[], Any]:
    """Enters the stream that mlx-lm works on; what is imported here stays in reach until the interpreter ends."""
    import mlx.core as mx
    from mlx_lm.generate import generation_stream

    return lambda: mx.stream(generation_stream)
