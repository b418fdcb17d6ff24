"""Example sentences from intent templates, for recognisers that want to know what is likely to be said."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from hassil import parse_sentence
from hassil.numbers import get_rbnf_engine
from hassil.sample import sample_sentence

from .intents import Intent, Range, Slot, Wildcard, Words

MAX_WORDINGS = 100
"""How many ways to say one template are tried."""

MAX_NUMBER = 60
"""The highest number of a range that is spelled out, unless the range begins above it."""

_PLACE = re.compile(r"\{(\w+)\}")


def sample(intents: Sequence[Intent], limit: int) -> tuple[str, ...]:
    """At most ``limit`` different sentences, every template getting its turn until it has no more to say."""
    sources = [_sentences(template, intent) for intent in intents for template in intent.sentences]
    found: dict[str, None] = {}
    while sources and len(found) < limit:
        for source in list(sources):
            phrase = next(source, None)
            if phrase is None:
                sources.remove(source)
            elif len(found) < limit:
                found[phrase] = None
    return tuple(found)


def _sentences(template: str, intent: Intent) -> Iterator[str]:
    """Sentences of one template: all slot values with its first wording, then with the next."""
    sentence = parse_sentence(template)
    if any(isinstance(intent.slots[name], Wildcard) for name in sentence.list_names()):
        return
    said = {name: _said(slot, intent.language) for name, slot in intent.slots.items()}
    for wording in islice(sample_sentence(sentence, expand_lists=False), MAX_WORDINGS):
        names = _PLACE.findall(wording)
        for choice in _spread([len(said[name]) for name in names]):
            words = iter([said[name][index] for name, index in zip(names, choice, strict=True)])
            yield " ".join(_PLACE.sub(lambda _, words=words: next(words), wording).split())  # type: ignore[misc]


def _said(slot: Slot, language: str) -> list[str]:
    if isinstance(slot, Words):
        return list(slot.values)
    if isinstance(slot, Range):
        last = min(slot.last, max(MAX_NUMBER, slot.first))
        return [_spelled(number, language) for number in range(slot.first, last + 1)]
    return []


def _spelled(number: int, language: str) -> str:
    try:
        return str(get_rbnf_engine(language).format_number(number).text).replace("-", " ")
    except ValueError:
        return str(number)


def _spread(sizes: list[int]) -> Iterator[tuple[int, ...]]:
    """Every combination of indices once, in an order of which any beginning is spread over the whole."""
    total = math.prod(sizes)
    step = max(1, round(total * 0.618))
    while math.gcd(step, total) != 1:
        step += 1
    for position in range(total):
        rest = position * step % total
        choice = []
        for size in sizes:
            rest, index = divmod(rest, size)
            choice.append(index)
        yield tuple(choice)
