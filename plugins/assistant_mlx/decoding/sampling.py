"""Choosing the next token."""

from __future__ import annotations

import os
from typing import Any

from assistant import ChatRequest

from .sequence import Processor

PENALISED_TOKENS = 64
"""The stretch of recent text in which a repetition is penalised."""


class Sampler:
    """Draws tokens with random numbers of its own, so that a seed gives the same answer whoever shares the batch.

    (mlx-lm's ``make_sampler`` draws from the state of the thread.) Batched arithmetic rounds differently, so the same
    seed may still diverge where two tokens are almost equally likely.
    """

    def __init__(self, request: ChatRequest) -> None:
        import mlx.core as mx

        number = int.from_bytes(os.urandom(8)) if request.seed is None else request.seed % 2**64
        self._key = mx.random.key(number)
        self._request = request

    def __call__(self, logprobs: Any) -> Any:
        """One token for each row of log-probabilities."""
        import mlx.core as mx
        from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

        request = self._request
        if 0 < request.top_p < 1:
            logprobs = apply_top_p(logprobs, request.top_p)
        if request.min_p > 0:
            logprobs = apply_min_p(logprobs, request.min_p)
        if 0 < request.top_k < logprobs.shape[-1]:
            logprobs = apply_top_k(logprobs, request.top_k)
        self._key, now = mx.random.split(self._key)
        return mx.random.categorical(logprobs / request.temperature, key=now)


class RepetitionPenalty:
    """Divides positive and multiplies negative logits of the tokens written lately (Keskar et al. 2019, CTRL)."""

    failed = ""

    def __init__(self, penalty: float, prompt: list[int]) -> None:
        self._penalty = penalty
        self._recent = prompt[:-1][-PENALISED_TOKENS:]

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """The logits with what was just written made less likely."""
        import mlx.core as mx

        self._recent = [*self._recent, int(tokens[-1].item())][-PENALISED_TOKENS:]
        chosen = mx.array(sorted(set(self._recent)))
        values = logits[:, chosen]
        logits[:, chosen] = mx.where(values < 0, values * self._penalty, values / self._penalty)
        return logits


def sampler(request: ChatRequest) -> Sampler | None:
    """How the request's tokens are chosen; None is greedy."""
    return Sampler(request) if request.temperature > 0 else None


def penalties(request: ChatRequest, prompt: list[int]) -> list[Processor]:
    """What the request wants changed of its logits, apart from a grammar."""
    return [RepetitionPenalty(request.repetition_penalty, prompt)] if request.repetition_penalty != 1 else []
