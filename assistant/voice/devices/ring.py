"""Bytes from one thread to another, in memory that is there already."""

from __future__ import annotations

from typing import Any


class Ring:
    """One thread writes and one reads; neither waits for the other, and writing locks and allocates nothing.

    Args:
        size: the bytes that it holds at most.
    """

    def __init__(self, size: int) -> None:
        self._memory = memoryview(bytearray(size))
        self._size = size
        self._written = 0
        self._read = 0

    def __len__(self) -> int:
        return self._written - self._read

    def write(self, data: Any) -> bool:
        """Append a buffer of bytes; False, and nothing is written, if it does not fit."""
        view = memoryview(data)
        count = len(view)
        if count > self._size - len(self):
            return False
        start = self._written % self._size
        first = min(count, self._size - start)
        self._memory[start : start + first] = view[:first]
        self._memory[: count - first] = view[first:]
        self._written += count
        return True

    def read(self, limit: int) -> bytes:
        """Take out the oldest bytes, ``limit`` at most."""
        count = min(limit, len(self))
        start = self._read % self._size
        first = min(count, self._size - start)
        data = bytes(self._memory[start : start + first])
        if first < count:
            data += self._memory[: count - first]
        self._read += count
        return data
