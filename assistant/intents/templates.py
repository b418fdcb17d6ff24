"""Intents: sentence templates that call a tool without a model, as plugins write them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from assistant.errors import PluginError

if TYPE_CHECKING:
    from hassil import Sentence

Value = str | int | float


class Words(msgspec.Struct, frozen=True):
    """A slot that takes one of these words or phrases; the key is said, the value is passed."""

    values: dict[str, Value]


class Range(msgspec.Struct, frozen=True):
    """A slot that takes a whole number, in digits or, the first thousand of them, in words."""

    first: int
    last: int


class Wildcard(msgspec.Struct, frozen=True):
    """A slot that takes any words."""

    pattern: str = ""
    """A regular expression that the words must match as a whole, case ignored; empty accepts all. Without one, a
    template needs a literal word of its own, or it would take every sentence."""
    examples: tuple[str, ...] = ()
    """What is likely to be said here, for recognisers."""


Slot = Words | Range | Wildcard


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """Sentences that mean one tool call.

    ``sentences`` are hassil templates: ``set a timer for {minutes} minute[s]``, with ``(a|b)`` for a choice and
    ``[x]`` for something optional. Each slot of a template is an argument of the tool; ``{slot:argument}`` passes it
    under another name. Case, politeness around the sentence and punctuation at its end need no template.
    """

    tool: str
    sentences: tuple[str, ...]
    slots: dict[str, Slot] = {}
    arguments: dict[str, Value] = {}
    """Arguments that are the same for all these sentences."""
    language: str = "en"


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A whole sentence understood."""

    tool: str
    arguments: dict[str, Value]


def check_intent(intent: Intent) -> None:
    """See that every template can be parsed, uses only slots that exist, and cannot swallow every sentence.

    Raises:
        PluginError: naming the tool, the template and what is wrong with it.
    """
    if not intent.sentences:
        raise PluginError(f"the intent for tool {intent.tool!r} has no sentences")
    for name, slot in intent.slots.items():
        if problem := _slot_problem(slot):
            raise PluginError(f"the intent for tool {intent.tool!r}: slot {name!r} {problem}")
    for template in intent.sentences:
        if problem := _template_problem(template, intent.slots):
            raise PluginError(
                f"the intent for tool {intent.tool!r}: template {template!r} {problem}",
                hint="templates are literal words, {slot}, [optional] and (one|of|these)",
            )


def guard(slot: Slot) -> str:
    """The pattern of a wildcard; empty if there is none."""
    return slot.pattern if isinstance(slot, Wildcard) else ""


@lru_cache(maxsize=4096)
def parse(template: str) -> Sentence:
    """The template as hassil reads it."""
    from hassil import parse_sentence

    return parse_sentence(template)


def _slot_problem(slot: Slot) -> str:
    if not isinstance(slot, Words | Range | Wildcard):
        return f"is {type(slot).__name__}, expected Words, Range or Wildcard"  # type: ignore[unreachable]
    if isinstance(slot, Words) and not any(said.strip() for said in slot.values):
        return "has no words"
    if isinstance(slot, Range) and slot.first > slot.last:
        return f"runs from {slot.first} down to {slot.last}"
    if isinstance(slot, Wildcard):
        try:
            re.compile(slot.pattern)
        except re.error as error:
            return f"has the pattern {slot.pattern!r}, which is no regular expression: {error}"
    return ""


def _template_problem(template: str, slots: dict[str, Slot]) -> str:
    from hassil.parser import ParseError

    try:
        sentence = parse(template)
    except (ParseError, TypeError, AttributeError, AssertionError, ValueError, RecursionError) as error:
        return f"cannot be parsed: {error}"
    references = list(sentence.expression.list_references())
    names = [reference.list_name for reference in references]
    if unknown := [name for name in names if name not in slots]:
        return f"uses {{{unknown[0]}}}, which is not one of its slots"
    if any(isinstance(slots[it.list_name], Wildcard) and it.slot_name != it.list_name for it in references):
        return "passes a wildcard under another name"
    if any(reference.is_capture for reference in references):
        return "has a capture, {@…}, which is of no use here"
    if "<" in template:
        return "uses <rules>, which there are none of"
    free = [name for name in names if isinstance(slots[name], Wildcard) and not guard(slots[name])]
    if free and not sentence.get_required_clauses({}):
        return f"could be {{{free[0]}}} alone and would take every sentence: give it a word or the slot a pattern"
    return ""
