"""Prompts that a loaded model has read, kept for the next turn.

Everything here runs on the one thread that loaded the model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .state import lean, length, settle, size, trimmable

if TYPE_CHECKING:
    from .disk import CacheDisk, Stored

log = logging.getLogger(__name__)

DISK_GAIN = 32
"""Tokens; a file is read only if it saves the model so many more than the memory does."""

DISK_SHARE = 8
"""A file is read only if at least an eighth of its tokens are of use. A token's keys and values (128 KiB for an 8B
model) come from an SSD in 0.1 ms at 1.3 GB/s, and take 0.6 to 4 ms to compute at 225 to 1,600 tokens/s."""


class Found(NamedTuple):
    """Caches that the caller now owns, and how many tokens of the prompt they hold."""

    caches: list[Any]
    covered: int


@dataclass(eq=False)
class _Entry:
    """A prompt in memory."""

    key: str
    tokens: Any
    caches: list[Any]
    snapshot: bool
    stored: Stored | None = None
    used: int = field(default_factory=time.time_ns)

    def __post_init__(self) -> None:
        self.trimmable = trimmable(self.caches)
        self.nbytes = size(self.caches) + self.tokens.nbytes


class PrefixCache:
    """Finds the longest beginning of a prompt that is already known, in memory or on the disk.

    Where all layers can be trimmed, any common beginning is of use; where not (sliding windows, recurrent states),
    only what was kept at exactly such a point. The least recently used goes first when the budget is spent.

    Args:
        budget: bytes of memory; 0 keeps nothing.
        disk: where to keep them beyond the process, if at all.
    """

    def __init__(self, budget: int, disk: CacheDisk | None) -> None:
        self._budget = budget
        self._disk = disk
        self._entries: list[_Entry] = []  # The least recently used first.

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the kept prompts take."""
        return sum(entry.nbytes for entry in self._entries)

    def find(self, key: str, tokens: Sequence[int]) -> Found | None:
        """The caches of the longest known beginning of a prompt; at least its last token is left to be read.

        Args:
            key: adapter and format of the caches.
            tokens: the prompt.

        Returns:
            Caches that belong to the caller, or None if nothing of use is known.
        """
        query = _array(tokens)
        # Of equals, one that can be moved comes before one that must be copied.
        uses = [
            (use, use == len(entry.tokens) and not entry.snapshot, place)
            for place, entry in enumerate(self._entries)
            if entry.key == key and (use := _use(entry.tokens, query, entry.trimmable))
        ]
        covered, _, place = max(uses, default=(0, False, 0))
        if found := self._from_disk(key, query, covered):
            return found
        return self._hand_out(self._entries[place], covered) if covered else None

    def put(self, key: str, tokens: Sequence[int], caches: list[Any]) -> None:
        """Keep caches that hold exactly ``tokens``. They belong to the cache from now on; the list is emptied."""
        self._keep(key, tokens, caches, snapshot=False)
        caches.clear()

    def snapshot(self, key: str, tokens: Sequence[int], caches: list[Any]) -> None:
        """Keep a copy of caches that hold exactly ``tokens`` and go on being used.

        What is kept so is handed out as a copy and stays, for any conversation that begins with it.
        """
        self._keep(key, tokens, caches, snapshot=True)

    def save(self) -> int:
        """Write what is not yet on the disk, the most recently used first.

        Returns:
            How many were written.
        """
        written = 0
        if self._disk is None:
            return written
        for entry in reversed(self._entries):
            if entry.stored is not None and self._disk.touch(entry.stored, entry.used):
                continue
            entry.stored = self._disk.write(entry.key, entry.tokens, entry.caches, entry.snapshot, entry.used)
            written += entry.stored is not None
            if self._disk.failed:
                break
        return written

    def clear(self) -> None:
        """Free the memory; what is on the disk stays there."""
        self._entries.clear()

    def _hand_out(self, entry: _Entry, covered: int) -> Found | None:
        if covered == len(entry.tokens) and not entry.snapshot:
            self._entries.remove(entry)
            self._touch(entry)
            return Found(entry.caches, covered)
        self._refresh(entry)
        return _copied(entry.caches, len(entry.tokens) - covered, covered)

    def _from_disk(self, key: str, query: Any, covered: int) -> Found | None:
        """The better of what the disk has, if it is so much better than the memory that reading it pays."""
        while self._disk is not None:
            uses = [
                (use, stored)
                for stored in self._disk.entries(key)
                if (use := _use(stored.tokens, query, stored.trimmable)) >= covered + DISK_GAIN
                and use * DISK_SHARE >= len(stored.tokens)
            ]
            if not uses:
                return None
            use, stored = max(uses, key=lambda pair: (pair[0], -len(pair[1].tokens)))
            if (caches := self._disk.load(stored)) is None:
                continue
            self._disk.touch(stored, time.time_ns())
            if use < len(stored.tokens):
                return _copied(caches, len(stored.tokens) - use, use)
            entry = _Entry(key, stored.tokens, caches, stored.snapshot, stored)
            if not stored.snapshot or not self._add(entry):
                return Found(caches, use)
            return self._hand_out(entry, use)
        return None

    def _keep(self, key: str, tokens: Sequence[int], caches: list[Any], *, snapshot: bool) -> None:
        names = _array(tokens)
        if not len(names) or not caches or self._budget <= 0:
            return
        held = length(caches)
        if held is not None and held != len(names):
            log.warning("a prompt of %d tokens is not kept: its caches hold %d", len(names), held)
            return
        if known := self._known(key, names, snapshot):
            if snapshot and not known.snapshot:
                known.snapshot, known.stored = True, None
            self._refresh(known)
            return
        entry = _Entry(key, names, lean(caches), snapshot)
        if not snapshot:
            caches.clear()
        try:
            self._add(entry)
        except (RuntimeError, MemoryError) as error:
            log.warning("a prompt is not kept: %s", error)

    def _known(self, key: str, names: Any, snapshot: bool) -> _Entry | None:
        """An entry with the same tokens, or (unless a snapshot is asked for) one that they can be trimmed from."""
        for entry in self._entries:
            enough = len(entry.tokens) == len(names) or (entry.trimmable and not snapshot)
            if entry.key == key and enough and _common(entry.tokens, names) == len(names):
                return entry
        return None

    def _add(self, entry: _Entry) -> bool:
        """Compute an entry and make room for it; False if it is larger than the budget."""
        if entry.nbytes > self._budget:
            return False
        if entry.trimmable and not entry.snapshot:
            self._entries = [other for other in self._entries if not _redundant(other, entry)]
        while self.nbytes + entry.nbytes > self._budget:
            del self._entries[0]
        settle(entry.caches)
        self._entries.append(entry)
        return True

    def _refresh(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self._entries.append(entry)
        self._touch(entry)

    def _touch(self, entry: _Entry) -> None:
        entry.used = time.time_ns()
        if self._disk is not None and entry.stored is not None:
            self._disk.touch(entry.stored, entry.used)


def _array(tokens: Sequence[int]) -> Any:
    import numpy as np

    return np.asarray(tokens, dtype=np.int32)


def _common(ours: Any, theirs: Any) -> int:
    """Tokens that both begin with."""
    shorter = min(len(ours), len(theirs))
    if not shorter or ours[0] != theirs[0]:
        return 0
    differs = ours[:shorter] != theirs[:shorter]
    first = int(differs.argmax())
    return first if differs[first] else shorter


def _use(known: Any, query: Any, trims: bool) -> int:
    """Tokens of the query that an entry spares the model; one at least must be read for the answer to begin."""
    common = min(_common(known, query), len(query) - 1)
    return max(0, common) if trims or common == len(known) else 0


def _redundant(older: _Entry, newer: _Entry) -> bool:
    """Whether everything that one is of use for can be had from the other."""
    return (
        older.key == newer.key
        and not older.snapshot
        and older.trimmable
        and len(older.tokens) < len(newer.tokens)
        and _common(older.tokens, newer.tokens) == len(older.tokens)
    )


def _copied(caches: list[Any], drop: int, covered: int) -> Found | None:
    twins = lean(caches, drop)
    settle(twins)
    return Found(twins, covered)
