"""A grammar of whole sentences, and whether one of them was really said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from .decoding import Decoder, Heard

NAME = "phrases"

MOST_DISTANCE, MOST_DRAFT_DISTANCE = 0.75, 0.7
"""Largest share of differing phones between the sentence of the grammar and the free dictation's first pass."""

LEAST_EVIDENCE = -0.5
"""Least logarithm, per 10 ms, of how much better the sentence explains the sound than the free dictation does."""

NUMBER = "<number>"
"""In a phrase: a whole number from 1 to 999, in words."""

ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

BEAMS = {"beam": 1e-64, "pbeam": 1e-64, "wbeam": 1e-60, "maxhmmpf": 300}
"""How improbable, against the best, a path may be that is followed; less so while more than 300 are. By PocketSphinx's
own limits (1e-48, 1e-48, 7e-29, 30000) the right sentence was lost among some thousand: 0 of 12, here 7."""

Transition = tuple[int, int, float] | tuple[int, int, float, str]


class Grammar:
    """Hears nothing but the given sentences."""

    def __init__(self, phrases: tuple[str, ...]) -> None:
        self.phrases = phrases
        self.decoder = Decoder(lm=None, **BEAMS)
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

    def accepts(self, sentence: Heard, first: Heard, dictation: Heard) -> bool:
        """Whether the sentence was said, rather than something else that was forced into the grammar.

        It must be whole, sound like what the free dictation wrote at first, whatever words that found for it, and
        explain the sound about as well. All are of the same audio.
        """
        evidence = (sentence.likelihood - dictation.likelihood) / max(sentence.frames, 1)
        return evidence >= LEAST_EVIDENCE and self._alike(sentence, first) <= MOST_DISTANCE

    def likely(self, sentence: Heard, first: Heard) -> bool:
        """Whether the sentence was probably said, by the first pass of a dictation alone."""
        return self._alike(sentence, first) <= MOST_DRAFT_DISTANCE

    def _alike(self, sentence: Heard, first: Heard) -> float:
        if not sentence.words or not self.says(word.text for word in sentence.words):
            return 1.0
        return distance(self.decoder.phones(sentence.words), self.decoder.phones(first.words))

    def _open(self, states: set[int]) -> set[int]:
        """The states, and those that are reached from them without a word."""
        found, left = set(states), list(states)
        while left:
            for target, said in self._exits.get(left.pop(), ()):
                if not said and target not in found:
                    found.add(target)
                    left.append(target)
        return found


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
