"""Example sentences from intent templates, for recognisers that want to know what is likely to be said."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

from hassil.expression import Alternative, Expression, Group, ListReference, TextChunk
from hassil.numbers import get_rbnf_engine

from .templates import Intent, Slot, Wildcard, Words, parse

MAX_WORDINGS = 200
"""How many ways to say one template are looked at."""

MAX_FILLINGS = 100
"""How many combinations of values a wording with several slots gets; one with a single slot gets them all."""

MAX_NUMBER = 60
"""The highest number of a range that is spelled out, unless the range begins above it."""

_SLOT = re.compile(r"\{(\w+)\}")


def sample(intents: Sequence[Intent], limit: int) -> tuple[str, ...]:
    """At most ``limit`` different sentences, every template getting its turn until it has no more to say."""
    sources: list[Iterator[str]] = []
    for intent in intents:
        said = {name: _said(slot, intent.language) for name, slot in intent.slots.items()}
        sources.extend(_sentences(template, said) for template in intent.sentences)
    found: dict[str, None] = {}
    while sources and len(found) < limit:
        for source in list(sources):
            phrase = next(source, None)
            if phrase is None:
                sources.remove(source)
            elif len(found) < limit:
                found[phrase] = None
    return tuple(found)


def _sentences(template: str, said: dict[str, list[str]]) -> Iterator[str]:
    """Sentences of one template, the plainest wording first."""
    if any(not ways and f"{{{name}}}" in template for name, ways in said.items()):
        return
    for _, wording in sorted(_wordings(parse(template).expression), key=lambda it: it[0]):
        parts = _SLOT.split(wording)
        sizes = [len(said[name]) for name in parts[1::2]]
        for choice in islice(_spread(sizes), MAX_FILLINGS if len(sizes) > 1 else None):
            filled = list(parts)
            filled[1::2] = [said[name][index] for name, index in zip(parts[1::2], choice, strict=True)]
            yield " ".join("".join(filled).split())


def _wordings(expression: Expression) -> list[tuple[int, str]]:
    """Ways to say it with their slots left open, and how far each strays from the first of the alternatives.

    What is optional is better left out, so the plainest way strays by nothing.
    """
    if isinstance(expression, TextChunk):
        return [(0, expression.original_text)]
    if isinstance(expression, ListReference):
        return [(0, f"{{{expression.list_name}}}")]
    if isinstance(expression, Alternative):
        items = expression.items[-1:] + expression.items[:-1] if expression.is_optional else expression.items
        ways = [(far + index, text) for index, item in enumerate(items) for far, text in _wordings(item)]
        return sorted(ways, key=lambda it: it[0])[:MAX_WORDINGS]
    ways = [(0, "")]
    for item in expression.items if isinstance(expression, Group) else ():
        tails = _wordings(item)
        together = [(far + more, text + tail) for far, text in ways for more, tail in tails]
        ways = sorted(together, key=lambda it: it[0])[:MAX_WORDINGS]
    return ways


def _said(slot: Slot, language: str) -> list[str]:
    """The ways to say a slot; none for a wildcard without examples."""
    if isinstance(slot, Words):
        return list(slot.values)
    if isinstance(slot, Wildcard):
        return list(slot.examples)
    last = min(slot.last, max(MAX_NUMBER, slot.first))
    return [spelled(number, language).replace("-", " ") for number in range(slot.first, last + 1)]


@cache
def spelled(number: int, language: str) -> str:
    """A number in words, or in digits where the language has none here."""
    try:
        return str(get_rbnf_engine(language).format_number(number).text)
    except ValueError:
        return str(number)


def _spread(sizes: list[int]) -> Iterator[tuple[int, ...]]:
    """Every combination of indices once: those of one list in its order, those of several spread from the start."""
    total = math.prod(sizes)
    if len(sizes) == 1:
        yield from ((index,) for index in range(total))
        return
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
