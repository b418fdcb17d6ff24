"""A request that is answered alone with the help of a draft model, which guesses tokens ahead (mlx-lm's own loop)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from .sequence import Sequence


class Draft:
    """A small model of the same vocabulary, with the caches of what it read last."""

    def __init__(self, model: Any, guesses: int) -> None:
        self._model = model
        self.guesses = guesses
        """Tokens guessed at a time."""
        self._caches: list[Any] = []
        self._tokens: list[int] = []

    @property
    def model(self) -> Any:
        """The draft model itself."""
        return self._model

    @property
    def caches(self) -> list[Any]:
        """Its key-value caches; whoever runs it changes them."""
        return self._caches

    def read(self, tokens: list[int], step: int) -> bool:
        """Read at most ``step`` more of ``tokens``; whether it has read all of them."""
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

        common = _common(self._tokens, tokens)
        if not self._caches or common == 0:
            self._caches, self._tokens = make_prompt_cache(self._model), []
        elif len(self._tokens) > common:
            trim_prompt_cache(self._caches, len(self._tokens) - common)
            self._tokens = self._tokens[:common]
        piece = tokens[len(self._tokens) : len(self._tokens) + step]
        if piece:
            self._model(mx.array([piece]), cache=self._caches)
            mx.eval([cache.state for cache in self._caches])
            self._tokens = self._tokens + piece
        return len(self._tokens) == len(tokens)

    def sync(self, tokens: list[int]) -> None:
        """Note that its caches begin with ``tokens``, as far as they reach, and drop what lies beyond."""
        from mlx_lm.models.cache import trim_prompt_cache

        offset = self._caches[0].offset
        if offset > len(tokens):
            trim_prompt_cache(self._caches, offset - len(tokens))
            offset = len(tokens)
        self._tokens = tokens[:offset]


class Speculative:
    """Writes one answer; a step checks the draft's guesses in one pass of the model."""

    def __init__(self, model: Any, draft: Draft, sequence: Sequence, end_tokens: frozenset[int], step: int) -> None:
        self._model = model
        self._draft = draft
        self._sequence = sequence
        self._end_tokens = end_tokens
        self._step = step
        self._start = len(sequence.written)
        self._generator: Generator[tuple[int, Any, bool], None, None] | None = None
        self._read = False

    def step(self) -> None:
        """Write one token, or let the draft model read a piece of the prompt."""
        sequence = self._sequence
        if not self._read:
            self._read = self._draft.read(sequence.tokens[:-1], self._step)
            if not self._read:
                sequence.steps.append(sequence.progress)
                return
        if self._generator is None:
            self._generator = self._begin()
        token, _, drafted = next(self._generator)
        sequence.write(token, self._end_tokens, drafted=drafted)

    def settle(self) -> None:
        """Bring the caches to hold all tokens but the last."""
        from mlx_lm.models.cache import trim_prompt_cache

        self.close()
        sequence = self._sequence
        assert sequence.caches is not None
        offset = sequence.caches[0].offset
        if (surplus := offset - (len(sequence.tokens) - 1)) > 0:
            trim_prompt_cache(sequence.caches, surplus)
            offset -= surplus
        sequence.held = offset

    def close(self) -> None:
        """End mlx-lm's loop on this thread, which takes refused guesses out of the caches."""
        generator, self._generator = self._generator, None
        if generator is None:
            return
        generator.close()
        sequence = self._sequence
        self._draft.sync(sequence.tokens)
        if sequence.caches is not None:
            sequence.held = min(sequence.caches[0].offset, len(sequence.tokens))

    def _begin(self) -> Generator[tuple[int, Any, bool], None, None]:
        import mlx.core as mx
        from mlx_lm.generate import speculative_generate_step

        sequence = self._sequence
        assert sequence.caches is not None
        steps: Generator[tuple[int, Any, bool], None, None] = speculative_generate_step(
            mx.array(sequence.tokens[-1:]),
            self._model,
            self._draft.model,
            num_draft_tokens=self._draft.guesses,
            max_tokens=sequence.max_tokens - self._start,
            sampler=sequence.sampler,
            prompt_cache=[*sequence.caches, *self._draft.caches],
        )
        return steps


def _common(one: list[int], other: list[int]) -> int:
    for index, (first, second) in enumerate(zip(one, other, strict=False)):
        if first != second:
            return index
    return min(len(one), len(other))
