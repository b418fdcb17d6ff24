"""A grammar of whole sentences, and whether one of them was really said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from .decoding import Decoder, Heard

NAME = "phrases"

MOST_DISTANCE = 0.75
"""Largest share of differing phones between the sentence of the grammar and the free dictation."""

LEAST_EVIDENCE = 0.5
"""Least logarithm, per 10 ms, of how much better the sentence explains the sound than the free dictation does.

With both limits 121 of 170 synthetic commands pass as they were said and 13 as another one, and of 158 other stretches
(94 synthetic sentences, 64 pieces of real speech) 2 pass, both synthetic, where the bare grammar accepts 58.
"""

Transition = tuple[int, int, float] | tuple[int, int, float, str]


class Grammar:
    """Hears nothing but the given sentences."""

    def __init__(self, phrases: tuple[str, ...]) -> None:
        self.phrases = phrases
        self.decoder = Decoder(lm=None)
        known = _known(phrases, lambda word: self.decoder.sphinx.lookup_word(word) is not None)
        self.sentences = frozenset(" ".join(words) for words in known)
        if self.sentences:
            start, transitions = graph(known)
            self.decoder.sphinx.add_fsg(NAME, self.decoder.sphinx.create_fsg(NAME, start, 0, transitions))
            self.decoder.sphinx.activate_search(NAME)

    def accepts(self, sentence: Heard, dictation: Heard) -> bool:
        """Whether the sentence was said, rather than something else that was forced into the grammar.

        It must be whole, sound like what the free dictation wrote, whatever words that found for it, and explain the
        sound at least about as well. Both ran over the same audio.
        """
        if sentence.text not in self.sentences:
            return False
        evidence = (sentence.likelihood - dictation.likelihood) / max(sentence.frames, 1)
        phones = self.decoder.phones(sentence.words), self.decoder.phones(dictation.words)
        return evidence >= LEAST_EVIDENCE and distance(*phones) <= MOST_DISTANCE


def graph(sentences: Iterable[Sequence[str]]) -> tuple[int, list[Transition]]:
    """The smallest acyclic graph of the sentences: its start state, and its transitions; its final state is 0.

    Common beginnings and common ends are shared, which makes some hundred states of some thousand sentences. All have
    the same weight: one over the number of exits, which favours short lists, heard 125 of 170 commands and not 131.
    """
    tree: dict[str, dict] = {}  # type: ignore[type-arg]
    for words in sentences:
        branch = tree
        for word in words:
            branch = branch.setdefault(word, {})
        branch[""] = {}
    states: dict[tuple[tuple[str, int], ...], int] = {}
    transitions: list[Transition] = []

    def state(branch: dict[str, dict]) -> int:  # type: ignore[type-arg]
        exits = tuple(sorted((word, state(rest) if word else 0) for word, rest in branch.items()))
        if exits not in states:
            number = states[exits] = len(states) + 1
            for word, target in exits:
                transitions.append((number, target, 1.0, word) if word else (number, 0, 1.0))
        return states[exits]

    return state(tree), transitions


def distance(one: Sequence[str], other: Sequence[str]) -> float:
    """Levenshtein's edit distance, as a share of the longer one; 0 for two empty ones."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        above, row = row, [i]
        for j, right in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
    return row[-1] / max(len(one), len(other), 1)


def _known(phrases: Iterable[str], has: Callable[[str], bool]) -> list[tuple[str, ...]]:
    """The phrases as words, without those that have one that nobody told PocketSphinx how to say."""
    words: dict[str, bool] = {}
    known: dict[tuple[str, ...], None] = {}
    for phrase in phrases:
        split = tuple(re.sub(r"[^\w' -]", " ", phrase.lower()).split())
        for word in split:
            if word not in words:
                words[word] = has(word)
        if split and all(words[word] for word in split):
            known[split] = None
    return list(known)
