"""A request that is answered by itself, not in a batch: plain caches, one token ahead."""

from __future__ import annotations

import importlib
from typing import Any

from .sequence import Sequence


class Solo:
    """Writes one answer, computing the next token while the last one is read.

    What mlx-lm's ``generate_step`` does, but it can stop after any token with caches that a batch goes on from. It
    takes any kind of cache, also those that cannot be batched.
    """

    def __init__(self, model: Any, sequence: Sequence, end_tokens: frozenset[int]) -> None:
        import mlx.core as mx

        self._model = model
        self._sequence = sequence
        self._end_tokens = end_tokens
        self._token = self._following(mx.array(sequence.tokens[-1:]))

    def step(self) -> None:
        """Write one token."""
        sequence = self._sequence
        following = None
        if len(sequence.written) + 1 < sequence.max_tokens:
            following = self._following(self._token)
        sequence.write(self._token.item(), self._end_tokens)
        self._token = following
        sequence.check()

    def settle(self) -> None:
        """Write the token that is already computed and compute no other: the caches then hold all but that one."""
        if self._token is not None and not self._sequence.ended:
            self._sequence.write(self._token.item(), self._end_tokens)
            self._sequence.check()
        self._token = None

    def close(self) -> None:
        """Nothing more is asked of it."""
        self._token = None

    def _following(self, token: Any) -> Any:
        """The token after ``token``, not yet computed; the caches then hold ``token`` too."""
        mx: Any = importlib.import_module("mlx.core")
        sequence = self._sequence
        logits = self._model(token[None], cache=sequence.caches)[:, -1, :]
        sequence.held += 1
        if sequence.processors:
            for processor in sequence.processors:
                logits = processor(token, logits)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        following = sequence.sampler(logprobs) if sequence.sampler else mx.argmax(logprobs, axis=-1)
        mx.async_eval(following)
        return following
