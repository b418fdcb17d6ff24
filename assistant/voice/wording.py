"""The words of an utterance without the wake phrase that may stand before them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

ALIKE = 0.75
"""How similar two phrases must be, 0 to 1; recognisers spell names as they like ("Hey Jarvis", "hey, Travis")."""


def without_wake(text: str, phrases: Iterable[str]) -> str:
    """``text`` without a wake phrase, or the end of one, at its beginning."""
    words = text.split()
    for phrase in phrases:
        parts = _plain(phrase).split()
        for first in range(len(parts)):
            tail = parts[first:]
            if len(tail) == 1 and len(tail[0]) < 4:
                continue
            said = _plain(" ".join(words[: len(tail)]))
            if said and SequenceMatcher(None, said, " ".join(tail)).ratio() >= ALIKE:
                return " ".join(words[len(tail) :]).lstrip(",.!?;: ")
    return text.strip()


def holds_wake(text: str, phrase: str) -> bool:
    """Whether a wake phrase is somewhere in a transcript."""
    words, wanted = _plain(text).split(), _plain(phrase)
    size = len(wanted.split())
    return any(
        SequenceMatcher(None, " ".join(words[start : start + size]), wanted).ratio() >= ALIKE
        for start in range(max(1, len(words) - size + 1))
    )


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
