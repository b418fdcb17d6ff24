"""What people say around and within a command that the templates need not know."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NAME = r"(?:jarvis|mycroft|nabu|computer|assistant)"
_LEAD = re.compile(
    rf"(?:(?:hey|hi|hello|okay|ok|yo)(?:[\s,]+{_NAME})?|{_NAME}|please|u[hm]+|so|and|now|then"
    r"|(?:can|could|would|will) you|i(?: want| need|(?: would|'d) like)(?: you)? to)\b[\s,.!]*",
    re.IGNORECASE,
)
_TRAIL = re.compile(
    rf"[\s,]+(?:please|thanks|thank you|for me|(?:will|would|could|can) you|okay|ok|{_NAME})[\s.!?]*$", re.IGNORECASE
)
_INNER = re.compile(r"[\s,]+please\b,?(?=\s)", re.IGNORECASE)
_HUNDRED_AND = re.compile(r"\b(hundred|thousand) and\b", re.IGNORECASE)
_HYPHEN = re.compile(r"(?<=\w)-(?=[^\W\d])")
_UNITS = {"min": "minute", "mins": "minutes", "sec": "second", "secs": "seconds", "hr": "hour", "hrs": "hours"}
_UNIT = re.compile(rf"(?<=[\d\s])({'|'.join(_UNITS)})\b", re.IGNORECASE)
_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_BARE_POINT = re.compile(r"(?<![\w.])\.(?=\d)")


def candidates(text: str, language: str) -> Iterator[str]:
    """What to look for, best first: without the politeness, with number words as the grammar spells them, as said."""
    said = " ".join(_BARE_POINT.sub("0.", text).replace(_APOSTROPHE, "'").split())
    if not said:
        return
    if language.startswith("en"):
        bare = _without_politeness(said)
        yield bare
        respelled = _HUNDRED_AND.sub(r"\1", _HYPHEN.sub(" ", bare))
        respelled = _UNIT.sub(lambda found: _UNITS[found[1].lower()], respelled)
        if respelled != bare:
            yield respelled
        if bare == said:
            return
    yield said


def _without_politeness(text: str) -> str:
    while (lead := _LEAD.match(text)) and lead.end() < len(text):
        text = text[lead.end() :]
    while trail := _TRAIL.search(text):
        text = text[: trail.start()]
    return _INNER.sub("", text)
