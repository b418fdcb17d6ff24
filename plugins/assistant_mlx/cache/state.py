"""What a prompt leaves in a model's caches: its length and size, and copies that share nothing that changes.

A list of caches has one per layer, of mlx-lm's classes. Copies are lazy until ``settle()``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any


def trimmable(caches: list[Any]) -> bool:
    """Whether tokens can be taken off the end.

    A rotating cache that is full has overwritten what would then be missing, a chunked one has dropped it, and a
    recurrent state cannot be run backwards.
    """
    return all(cache.is_trimmable() and not getattr(cache, "start_position", 0) for cache in _leaves(caches))


def length(caches: list[Any]) -> int | None:
    """Tokens that were read into the caches; None where they do not count them, as recurrent states do."""
    return max((cache.offset for cache in _leaves(caches) if hasattr(cache, "offset")), default=None)


def size(caches: list[Any]) -> int:
    """Bytes of all arrays, whether they have been computed or not."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    states = [leaf for _, leaf in tree_flatten([cache.state for cache in _leaves(caches)])]
    return sum(leaf.nbytes for leaf in states if isinstance(leaf, mx.array))


def lean(caches: list[Any], drop: int = 0) -> list[Any]:
    """Copies without the last ``drop`` tokens and without the room to grow that mlx-lm allocates ahead.

    The arrays are new objects: mlx-lm assigns into them, which would show in every cache that holds the same object.
    An array that fills its buffer shares it until one of the two is written to; any other gets a buffer of its own,
    so that no slice keeps a whole batch or a longer conversation in memory.
    """
    return [_lean(cache, drop) for cache in caches]


def settle(caches: list[Any]) -> None:
    """Compute the arrays layer by layer, so that the copies' sources can be freed one by one.

    Raises:
        RuntimeError: the device has no memory left.
    """
    import mlx.core as mx

    for cache in caches:
        mx.eval(cache.state)


def _leaves(caches: list[Any]) -> Iterator[Any]:
    from mlx_lm.models.cache import CacheList

    for cache in caches:
        if isinstance(cache, CacheList):
            yield from _leaves(list(cache.caches))
        else:
            yield cache


def _lean(cache: Any, drop: int) -> Any:
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.models.cache import CacheList

    if isinstance(cache, CacheList):
        return CacheList(*(_lean(part, drop) for part in cache.caches))
    twin = copy.copy(cache)
    if drop and twin.trim(drop) != drop:
        raise ValueError(f"{drop} tokens cannot be taken off a {type(cache).__name__}")
    _cut(twin)
    twin.state = tree_map(lambda leaf: mx.contiguous(leaf) if isinstance(leaf, mx.array) else leaf, twin.state)
    return twin


def _cut(cache: Any) -> None:
    """Leave only the rows in use: keys and values are [batch, heads, rows, dimension]."""
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.models.cache import RotatingKVCache

    if getattr(cache, "keys", None) is None:
        return
    pair = (cache.keys, cache.values)
    if isinstance(cache, RotatingKVCache) and cache.offset >= cache.max_size:
        surplus, keep = cache.keys.shape[2] - cache.max_size, cache.keep
        if surplus > 0:
            # Longer than the window means in order of time: what the next update drops first stands after ``keep``.
            parts = tree_map(lambda a: mx.concatenate([a[..., :keep, :], a[..., keep + surplus :, :]], axis=2), pair)
            (cache.keys, cache.values), cache._idx = parts, cache.max_size
        return
    rows = cache.offset - getattr(cache, "start_position", 0)
    cache.keys, cache.values = tree_map(lambda a: a[..., :rows, :], pair)
