"""Find the intent that a whole sentence means, with hassil."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from .templates import Intent, Match, Range, Slot, Value, Wildcard, Words, check_intent, guard
from .utterance import candidates

if TYPE_CHECKING:
    from hassil import Intents, RecognizeResult, SlotList

MAX_TEXT = 300
"""Characters; what is longer is no command."""

MAX_WORDS = 40
"""Likewise: the time that wildcards take grows with a power of the number of words."""

MAX_PHRASES = 5000
"""How many example sentences a recogniser is given at most."""

MAX_SPELLED = 1000
"""Numbers of a range that are understood in words as well as in digits, counted from its first."""

_MAX_READINGS = 200

class IntentMatcher:
    """Finds the intent that a whole sentence means; made once, then asked at every turn."""

    def __init__(self, intents: Iterable[Intent]) -> None:
        """Parse the templates and pay the warm-up, so that the first ``match`` is as quick as the next.

        Raises:
            PluginError: a template or a slot is invalid.
        """
        self._intents = tuple(intents)
        for intent in self._intents:
            check_intent(intent)
        self._patterns = [
            {name: re.compile(want, re.IGNORECASE) for name, slot in intent.slots.items() if (want := guard(slot))}
            for intent in self._intents
        ]
        self._grammars = {
            language: (_grammar(language, self._intents, wild=False), _grammar(language, self._intents, wild=True))
            for language in sorted({intent.language for intent in self._intents})
        }
        from .phrases import sample

        self._phrases = sample(self._intents, MAX_PHRASES)
        for phrase in self._phrases[: len(self._intents)]:
            self.match(phrase)

    def match(self, text: str) -> Match | None:
        """The tool call that the whole of ``text`` means, or None.

        Of several readings the one with the fewest and shortest wildcards wins, then that with the most literal text.
        """
        if len(text) > MAX_TEXT or text.count(" ") >= MAX_WORDS:
            return None
        for language, grammars in self._grammars.items():
            for candidate in candidates(text, language):
                for grammar in grammars:
                    if found := min(self._readings(candidate, grammar), default=None, key=_rank):
                        intent = self._intents[found.index]
                        return Match(tool=intent.tool, arguments={**intent.arguments, **found.slots})
        return None

    def phrases(self) -> tuple[str, ...]:
        """Example sentences in plain words, for a recogniser's grammar; those with wildcards only as far as these have
        examples."""
        return self._phrases

    def _readings(self, text: str, grammar: Intents) -> Iterator[_Reading]:
        from hassil import recognize_all

        for result in islice(recognize_all(text, grammar), _MAX_READINGS):
            index = int(result.intent.name)
            reading = _read(result, index, text)
            patterns = self._patterns[index]
            if all(name not in patterns or patterns[name].fullmatch(said) for name, said in reading.wild.items()):
                yield reading


@dataclass(frozen=True)
class _Reading:
    index: int
    slots: dict[str, Value]
    wild: dict[str, str]
    literal: int


def _rank(reading: _Reading) -> tuple[int, int, int, int]:
    return len(reading.wild), sum(map(len, reading.wild.values())), -reading.literal, reading.index


_LISTED = {"value": "as it is listed"}
_DIGITS = " in digits"


def _read(result: RecognizeResult, index: int, text: str) -> _Reading:
    slots: dict[str, Value] = {}
    wild: dict[str, str] = {}
    for entity in result.entities_list:
        if entity.is_wildcard:
            wild[entity.name] = slots[entity.name] = _original(entity.text, text)
        elif not entity.name.endswith(_DIGITS):
            slots[entity.name] = entity.value if entity.metadata == _LISTED else int(entity.value)
    return _Reading(index, slots, wild, result.text_chunks_matched)


def _original(words: str, text: str) -> str:
    """The words with the punctuation that hassil took out and that may mean something, as in ``5! + 3``."""
    found = re.search(r"\W*?".join(map(re.escape, words.split())), text)
    return found[0] if found else words


def _grammar(language: str, intents: tuple[Intent, ...], *, wild: bool) -> Intents:
    """The templates of one language that have wildcards, or those that have none: these are tried first."""
    from hassil.intents import Intent as Sentences
    from hassil.intents import IntentData, Intents

    grammar: dict[str, Sentences] = {}
    for index, intent in enumerate(intents):
        free = {name for name, slot in intent.slots.items() if isinstance(slot, Wildcard)}
        texts = [text for text in intent.sentences if any(f"{{{name}}}" in text for name in free) == wild]
        if intent.language == language and texts:
            lists = _slot_lists(intent.slots, language)
            data = IntentData(sentence_texts=texts, slot_lists=lists, wildcard_list_names=free)
            grammar[str(index)] = Sentences(name=str(index), data=[data])
            data.sentences  # noqa: B018  (parsed now, not at the first question)
    return Intents(language=language, intents=grammar)


def _slot_lists(slots: dict[str, Slot], language: str) -> dict[str, SlotList]:
    from hassil import RangeSlotList, TextSlotList, WildcardSlotList

    lists: dict[str, SlotList] = {}
    for name, slot in slots.items():
        if isinstance(slot, Words):
            lists[name] = TextSlotList.from_tuples(_listed(slot.values), allow_template=False, name=name)
        elif isinstance(slot, Range) and slot.last - slot.first > MAX_SPELLED:
            digits = f"{name}{_DIGITS}"
            lists[digits] = RangeSlotList(digits, start=slot.first, stop=slot.last, words=False)
            lists[name] = _numbers(slot.first, slot.first + MAX_SPELLED, language, digits)
        elif isinstance(slot, Range):
            lists[name] = _numbers(slot.first, slot.last, language)
        else:
            lists[name] = WildcardSlotList(name=name)
    return lists


@lru_cache(maxsize=64)
def _numbers(first: int, last: int, language: str, digits: str = "") -> SlotList:
    """The numbers as words of a list, which hassil finds ten times faster than it does those of a range.

    Args:
        digits: the name of a range of more numbers, which are understood in digits only.
    """
    from hassil import TextSlotList, TextSlotValue
    from hassil.expression import ListReference

    from .phrases import spelled

    said: dict[str, Value] = {}
    for number in range(first, last + 1):
        words = spelled(number, language)
        said |= {words: number, words.replace("-", " "): number} | ({} if digits else {str(number): number})
    numbers = TextSlotList.from_tuples(_listed(said), allow_template=False, name="numbers")
    if digits:
        numbers.values.append(TextSlotValue(text_in=ListReference(list_name=digits), value_out=None))
    return numbers


def _listed(said: dict[str, Value]) -> list[tuple[str, Value, dict[str, str], dict[str, str]]]:
    return [(words, value, {}, _LISTED) for words, value in said.items()]
