"""From what a grammar allows to a mask over the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mlx.core as mx


class Masks:
    """From a matcher to a mask over the logits.

    The bitmask's bytes index a table of 256 rows of eight values, 0 or -inf: one gather, one sum, on any device.
    (llguidance's own kernel is Metal's alone.)

    Args:
        width: tokens that the bitmask covers.
    """

    def __init__(self, width: int) -> None:
        import numpy as np

        self._bits = np.zeros((1, -(-width // 32)), dtype=np.int32)
        self._bytes = self._bits.view(np.uint8)
        self._address, self._size = self._bits.ctypes.data, self._bits.nbytes
        self._tables: dict[Any, mx.array] = {}
        self._closers: Any = None

    def row(self, matcher: Any, like: mx.array, also: int = -1) -> mx.array:
        """0 for every token that may come next, -inf for the others, in the shape and type of ``like`` [1, V]."""
        matcher.unsafe_compute_mask_ptr(self._address, self._size)
        if also >= 0:
            self._bytes[0, also >> 3] |= 1 << (also & 7)
        return self._spread(like)

    def _spread(self, like: mx.array) -> mx.array:
        import mlx.core as mx

        table = self._tables.get(like.dtype)
        if table is None:
            table = self._tables[like.dtype] = self._table(like.dtype)
        mask = table[mx.array(self._bytes)].reshape(1, -1)
        missing = like.shape[-1] - mask.shape[-1]
        if missing > 0:
            mask = mx.pad(mask, [(0, 0), (0, missing)], constant_values=mx.array(-float("inf"), mask.dtype))
        return mask[:, : like.shape[-1]]

    @staticmethod
    def _table(dtype: Any) -> mx.array:
        import mlx.core as mx
        import numpy as np

        set_bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
        return mx.array(np.where(set_bits, 0.0, -np.inf).astype(np.float32)).astype(dtype)


    def closing(self, matcher: Any, like: mx.array, tokenizer: Any) -> mx.array:
        """As ``row()``, but of quotes alone, or else of closing brackets alone, wherever one of them may come."""
        import numpy as np

        if self._closers is None:
            texts = [tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size)]
            closers = [[_closes(text) and text[:1] in first for text in texts] for first in (b'"', b"}]")]
            flags = np.zeros((2, self._bytes.size * 8), dtype=np.uint8)
            flags[:, : len(texts)] = closers
            self._closers = np.packbits(flags, axis=1, bitorder="little")
        matcher.unsafe_compute_mask_ptr(self._address, self._size)
        for closers in self._closers:
            if (self._bytes[0] & closers).any():
                self._bytes[0] &= closers
                break
        return self._spread(like)


def _closes(text: bytes) -> bool:
    return bool(text) and not text.strip(b'"}]')
