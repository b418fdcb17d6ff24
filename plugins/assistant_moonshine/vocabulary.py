"""Moonshine's tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

BEGIN, END = 1, 2
"""The tokens that a transcript begins and ends with."""
FIRST_WORD = 259
"""What comes before are the begin, the end and single bytes."""
SPACE = "\u2581"
"""What stands for a space in a token."""


@dataclass
class Branch:
    """Tokens by their letters: lower case, a space or a hyphen as a space."""

    tokens: list[int] = field(default_factory=list)
    """Those that are complete here."""
    further: dict[str, Branch] = field(default_factory=dict)


class Vocabulary:
    """All tokens, by their numbers.

    Args:
        data: a file of them: of each its length (one byte, or two from 128 on) and its bytes.

    Raises:
        IndexError, ValueError: it is no such file.
    """

    def __init__(self, data: bytes) -> None:
        self._tokens: list[bytes] = []
        at = 0
        while at < len(data):
            size, at = data[at], at + 1
            if size >= 128:
                size, at = size - 128 + data[at] * 128, at + 1
            self._tokens.append(data[at : at + size])
            at += size
        if at > len(data):
            raise ValueError("the last token is cut off")
        if len(self._tokens) <= FIRST_WORD:
            raise ValueError(f"there are only {len(self._tokens)} tokens")
        self._root: Branch | None = None

    def __len__(self) -> int:
        return len(self._tokens)

    def text(self, tokens: Iterable[int]) -> str:
        """What they say."""
        whole = b"".join(self._tokens[token] for token in tokens)
        return whole.decode(errors="replace").replace(SPACE, " ").strip()

    def number(self, token: str) -> int:
        """Of a token.

        Raises:
            ValueError: there is none.
        """
        return self._tokens.index(token.encode(), FIRST_WORD)

    @property
    def by_letters(self) -> Branch:
        """All tokens but single bytes and the special ones."""
        if self._root is None:
            self._root = Branch()
            for token, raw in enumerate(self._tokens[FIRST_WORD:], FIRST_WORD):
                branch = self._root
                for letter in raw.decode(errors="replace").replace(SPACE, " ").replace("-", " ").lower():
                    branch = branch.further.setdefault(letter, Branch())
                if branch is not self._root:
                    branch.tokens.append(token)
        return self._root
