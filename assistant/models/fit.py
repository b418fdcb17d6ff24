"""Whether a language model fits: its memory, computed before anything is loaded, against what the machine gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from .shape import ModelShape

KV_STEP = 256
"""Tokens by which mlx-lm's ``KVCache`` grows (mlx_lm/models/cache.py)."""

LEAST_CONTEXT = 4096
"""Tokens, below which a context is not cut by itself (mlx-engine's context_fit.py has the same minimum)."""

RESERVE = 2 << 30
"""Bytes left to everything else; an eighth of the memory where that is less."""


class MemoryNeed(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes with one conversation of full length, in bytes."""

    weights: int
    kv: int
    """The context: keys and values, and recurrent state."""
    prefill: int
    """Work space while a prompt is read."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.prefill

    def __add__(self, other: MemoryNeed) -> MemoryNeed:
        return MemoryNeed(
            weights=self.weights + other.weights, kv=self.kv + other.kv, prefill=self.prefill + other.prefill
        )


def memory_need(
    shape: ModelShape, context: int, *, kv_bits: int = 0, prefill_step: int = 512, dtype_bytes: int = 0
) -> MemoryNeed:
    """What a model takes with ``context`` tokens, after mlx-engine's context_fit.py (its #345 and #367):
    state + sliding windows + context x bytes a token, and the scores of a prefill step, heads x bytes x step x context.

    Args:
        kv_bits: 4 or 8 if the context is quantized.
        prefill_step: prompt tokens read in one step.
        dtype_bytes: of a number of the context; 0: the model's own.
    """
    item = dtype_bytes or shape.dtype_bytes
    kept = -(-context // KV_STEP) * KV_STEP
    held = min(kept, shape.window + prefill_step)
    kv = shape.kv_bytes_per_token(kv_bits, item) * kept + shape.sliding_layers * shape.token_width * item * held
    return MemoryNeed(
        weights=shape.weights,
        kv=math.ceil(kv) + shape.state,
        prefill=shape.heads * item * min(prefill_step, context) * context,
    )


def largest_context(need: Callable[[int], MemoryNeed], room: int, most: int) -> int:
    """The most tokens, a multiple of 256 or ``most`` itself, for which ``need`` stays within ``room``; 0 for none."""
    if need(most).total <= room:
        return most
    low, high = 0, most // KV_STEP
    while low < high:
        middle = (low + high + 1) // 2
        if need(middle * KV_STEP).total <= room:
            low = middle
        else:
            high = middle - 1
    return low * KV_STEP


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What a device gives to one process, in bytes."""

    limit: int
    used: int = 0
    """Of ``limit``: what is taken already."""
    reserve: int = 0
    """Of ``limit``: what must stay free."""

    @property
    def free(self) -> int:
        """What a model may take."""
        return max(0, self.limit - self.used - self.reserve)


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A model that fits."""

    context: int
    """Most tokens of prompt and answer together."""
    need: MemoryNeed
    """What it takes with that context."""
    room: Room
    asked: int
    """The context that was asked for; more than ``context`` if it had to be cut."""
    prompt_cache: int = 0
    """Bytes, of those that stay free, for prompts that are kept for the next turn."""

    @property
    def limit(self) -> int:
        """What the device gives, in bytes."""
        return self.room.limit

    @property
    def spare(self) -> int:
        """Bytes that stay free beside it and the reserve."""
        return max(0, self.room.free - self.need.total)


def reserve_for(memory: int) -> int:
    """What is left to everything else on a machine with so many bytes: 2 GiB, or an eighth if that is less."""
    return min(RESERVE, memory // 8)


def best_fit(
    shapes: Sequence[ModelShape], room: Room, *, context: int = 0, kv_bits: int = 0, prefill_step: int = 512
) -> Fit | None:
    """The longest context, up to the one asked for, with which a model fits; None if the least does not.

    Args:
        shapes: the model, and what is loaded with it, such as its draft model.
        context: what was configured, which is not cut; 0: the model's own, cut to 4096 tokens at the least.
    """
    asked, least = wanted_context(shapes[0], context)
    need = need_of(shapes, kv_bits, prefill_step)
    most = largest_context(need, room.free, asked)
    return Fit(context=most, need=need(most), room=room, asked=asked) if most >= least else None


def wanted_context(shape: ModelShape, context: int) -> tuple[int, int]:
    """The context that is asked for, and the least that will do."""
    asked = min(context or shape.context, shape.context)
    return asked, asked if context else min(LEAST_CONTEXT, asked)


def need_of(shapes: Sequence[ModelShape], kv_bits: int, prefill_step: int) -> Callable[[int], MemoryNeed]:
    """From tokens of context to what all of these take together, each with no more than it was made for."""

    def need(tokens: int) -> MemoryNeed:
        parts = [
            memory_need(shape, min(tokens, shape.context), kv_bits=kv_bits, prefill_step=prefill_step)
            for shape in shapes
        ]
        return sum(parts[1:], parts[0])

    return need


def gigabytes(count: int) -> str:
    """Bytes in units of 10⁹, one decimal, two below 1."""
    value = count / 1e9
    return f"{value:.1f}" if value >= 0.95 or not count else f"{value:.2f}"
