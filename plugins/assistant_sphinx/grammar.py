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

NUMBER = "<number>"
"""In a phrase: a whole number from 1 to 999, in words."""

ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

Transition = tuple[int, int, float] | tuple[int, int, float, str]


class Grammar:
    """Hears nothing but the given sentences."""

    def __init__(self, phrases: tuple[str, ...]) -> None:
        self.phrases = phrases
        self.decoder = Decoder(lm=None)
        self.sentences = _known(phrases, lambda word: self.decoder.sphinx.lookup_word(word) is not None)
        self._exits: dict[int, list[tuple[int, str]]] = {}
        if self.sentences:
            self._start, transitions = graph(self.sentences)
            for source, target, _, *word in transitions:
                self._exits.setdefault(source, []).append((target, "".join(word)))
            self.decoder.sphinx.add_fsg(NAME, self.decoder.sphinx.create_fsg(NAME, self._start, 0, transitions))
            self.decoder.sphinx.activate_search(NAME)

    def says(self, words: Iterable[str]) -> bool:
        """Whether the words are a whole sentence of it."""
        here = self._open({self._start}) if self.sentences else set()
        for word in words:
            here = self._open({target for state in here for target, said in self._exits.get(state, ()) if said == word})
        return 0 in here

    def _open(self, states: set[int]) -> set[int]:
        """The states, and those that are reached from them without a word."""
        found, left = set(states), list(states)
        while left:
            for target, said in self._exits.get(left.pop(), ()):
                if not said and target not in found:
                    found.add(target)
                    left.append(target)
        return found

    def accepts(self, sentence: Heard, dictation: Heard) -> bool:
        """Whether the sentence was said, rather than something else that was forced into the grammar.

        It must be whole, sound like what the free dictation wrote, whatever words that found for it, and explain the
        sound at least about as well. Both ran over the same audio.
        """
        if not sentence.words or not self.says(word.text for word in sentence.words):
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
        return numbered(exits)

    def numbered(exits: tuple[tuple[str, int], ...]) -> int:
        if exits not in states:
            number = states[exits] = len(states) + 1
            for word, target in exits:
                if word == NUMBER:
                    transitions.append((number, numbered(_below_thousand(target, numbered)), 1.0))
                else:
                    transitions.append((number, target, 1.0, word) if word else (number, target, 1.0))
        return states[exits]

    return state(tree), transitions


def _below_thousand(target: int, numbered: Callable[[tuple[tuple[str, int], ...]], int]) -> tuple[tuple[str, int], ...]:
    """The exits of a state from which every number from 1 to 999 leads to the target."""
    last = numbered((("", target), *((word, target) for word in ONES)))
    hundred = (*((word, target) for word in (*ONES, *TEENS)), *((word, last) for word in TENS))
    rest = numbered((("", target), ("and", numbered(hundred)), *hundred))
    hundreds = numbered((("hundred", rest),))
    return (*hundred, *((word, hundreds) for word in (*ONES, "a")))


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
    words: dict[str, bool] = {NUMBER: True}
    known: dict[tuple[str, ...], None] = {}
    for phrase in phrases:
        split = tuple(re.sub(rf"(?!{NUMBER})[^\w' -](?<!{NUMBER})", " ", phrase.lower()).split())
        for word in split:
            if word not in words:
                words[word] = has(word)
        if split and all(words[word] for word in split):
            known[split] = None
    return list(known)
