"""The fast path: sentences that call a tool without a model."""

from .matcher import IntentMatcher
from .templates import Intent, Match, Range, Slot, Value, Wildcard, Words, check_intent

__all__ = ["Intent", "IntentMatcher", "Match", "Range", "Slot", "Value", "Wildcard", "Words", "check_intent"]
