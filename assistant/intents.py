"""Intents: sentence templates that call a tool without a model."""

from __future__ import annotations

import msgspec


class Words(msgspec.Struct, frozen=True):
    """A slot that takes one of these words or phrases; the key is said, the value is passed."""

    values: dict[str, str | int | float]


class Range(msgspec.Struct, frozen=True):
    """A slot that takes a number, in digits or words."""

    first: int
    last: int


class Wildcard(msgspec.Struct, frozen=True):
    """A slot that takes any words."""


Slot = Words | Range | Wildcard


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """Sentences that mean one tool call.

    ``sentences`` are hassil templates: ``set a timer for {minutes} minute[s]``, with ``(a|b)`` for a choice and
    ``[x]`` for something optional. Each slot of a template is an argument of the tool.
    """

    tool: str
    sentences: tuple[str, ...]
    slots: dict[str, Slot] = {}
    arguments: dict[str, str | int | float] = {}
    """Arguments that are the same for all these sentences."""
    language: str = "en"


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A whole sentence understood."""

    tool: str
    arguments: dict[str, str | int | float]
