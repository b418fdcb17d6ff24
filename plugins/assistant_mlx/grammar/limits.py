"""Where an answer that is kept to a grammar is brought to its end."""

from __future__ import annotations

import itertools
import re
from typing import Any

LANDING = 32
"""Tokens kept to close what is open in JSON."""

REPEATED = 64
"""Tokens that repeat with a period of ``PERIOD`` at most are a model that is caught; lists of thirty zeros are not."""

PERIOD = 16

COUNTED = 16
"""Numbers in a row with one and the same step between them (and not none) are a model that counts and finds no end."""

ROOM = REPEATED + 2 * LANDING
"""Tokens that another call must have: enough for one that is caught repeating itself."""

_LIST = re.compile(rb"(?:-?\d+,\s*){%d,}-?\d*\Z" % COUNTED)


class Limits:
    """Brings a ruled answer to its end where a weak model would go on and on.

    A model that repeats itself or counts on and on within JSON has its strings and brackets closed. An answer that must
    be JSON is closed when the tokens run out, too, since a piece of it would be worth nothing; a call is not, since it
    would be run. No call follows one that was the same as an earlier one, or where another that is twice as long might
    be cut off, or one that must be caught first.

    Args:
        tokenizer: llguidance's.
        tokens: the most that the answer may have.
        whole: it is JSON that was asked for.
        calls: it is calls only, once ``marker`` has been written.
        closes: its values are JSON, which quotes and brackets close.
    """

    def __init__(
        self, tokenizer: Any, tokens: int, *, whole: bool, calls: bool, marker: bytes = b"", closes: bool = True
    ) -> None:
        self.tokenizer = tokenizer
        self.landing = False
        """Close what is open."""
        self.shortened = False
        """Because the tokens ran out."""
        self._tokens = tokens
        self._whole = whole
        self._calls = calls
        self._closes = closes
        self._marker = marker
        self._tail = b""
        self._span: list[int] = []
        self._longest = 0
        self._earlier: set[tuple[int, ...]] = set()

    def restart(self) -> None:
        """Another call or answer begins."""
        self._span, self.landing = [], False

    def over(self, matcher: Any, token: int, count: int) -> bool:
        """Whether the answer should end with this token, its ``count``-th."""
        if self._marker:
            self._tail = self._tail[-len(self._marker) :] + self.tokenizer.decode_bytes([token])
            if self._marker in self._tail:
                self._marker = b""
            return False
        self._span.append(token)
        if self._calls and matcher.is_accepting():
            span, self._span, self.landing = tuple(self._span), [], False
            again = span in self._earlier
            self._earlier.add(span)
            self._longest = max(self._longest, len(span))
            return again or self._tokens - count < max(2 * self._longest, ROOM)
        reserve = max(self._tokens // 8, min(LANDING, self._tokens // 2))
        if self._whole and self._tokens - count <= reserve and not self.landing:
            self.landing = self.shortened = True
        self.landing = self.landing or (self._closes and (_repeats(self._span) or self._counts(token)))
        return False

    def _counts(self, token: int) -> bool:
        if b"," not in self.tokenizer.decode_bytes([token]):
            return False
        found = _LIST.search(self.tokenizer.decode_bytes(self._span[-16 * COUNTED :]))
        numbers = [int(number) for number in re.findall(rb"-?\d+", found.group())[-COUNTED:]] if found else []
        steps = {after - before for before, after in itertools.pairwise(numbers)}
        return len(steps) == 1 and steps != {0}


def _repeats(tokens: list[int]) -> bool:
    last = tokens[-REPEATED:]
    return len(last) == REPEATED and any(last[period:] == last[:-period] for period in range(1, PERIOD + 1))
