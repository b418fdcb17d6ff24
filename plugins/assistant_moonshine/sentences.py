"""Sentences that are likely, as a tree of what may come next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .vocabulary import END, Branch, Vocabulary

ENDINGS = (".", "?", "!")
_OTHER = re.compile(r"[^\w' ]+")


@dataclass(eq=False, slots=True)
class Place:
    """Somewhere in a sentence."""

    further: dict[str, Place] = field(default_factory=dict)
    whole: bool = False
    """A sentence may end here."""
    tokens: dict[int, Place] | None = None
    """What has been found out about the tokens that may come."""


class Sentences:
    """Some sentences, however they are cut into tokens, in whatever case, with a hyphen for a space or not.

    Args:
        phrases: in plain words; those with anything in angle brackets are left out.
    """

    def __init__(self, phrases: Iterable[str], vocabulary: Vocabulary) -> None:
        self._letters = vocabulary.by_letters
        self._over = Place()
        self._over.tokens = {END: Place()}
        self._endings = {vocabulary.number(ending): self._over for ending in ENDINGS}
        self.start = Place()
        for phrase in phrases:
            if "<" not in phrase:
                self._add(" ".join(_OTHER.sub(" ", phrase.lower().replace("\u2019", "'")).split()))

    def next(self, place: Place) -> Mapping[int, Place]:
        """The tokens that may come at a place, and where each leads."""
        if place.tokens is None:
            place.tokens = {}
            self._walk(place, self._letters, place.tokens)
            if place.whole:
                place.tokens |= self._endings | {END: self._over}
        return place.tokens

    def _add(self, words: str) -> None:
        if not words:
            return
        place = self.start
        for letter in f" {words}":
            place = place.further.setdefault(letter, Place())
        place.whole = True

    def _walk(self, place: Place, branch: Branch, found: dict[int, Place]) -> None:
        for token in branch.tokens:
            found[token] = place
        for letter, further in place.further.items():
            if letter in branch.further:
                self._walk(further, branch.further[letter], found)
