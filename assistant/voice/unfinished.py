"""Words that nobody ends a turn with: what a turn model cannot tell from the sound alone, the last word often gives."""

from __future__ import annotations

import re

_OPEN = frozenset({
    "a", "an", "the", "my", "your", "our", "their", "whose", "every", "and", "or", "but", "because", "if", "than",
    "plus", "minus", "into", "onto", "between", "until", "without", "um", "umm", "uh", "uhm", "er", "erm",
})  # fmt: skip
"""English words that need another one after them, and those for thinking aloud."""
_LEADING = frozenset({"of", "for", "to", "with", "at", "about", "from", "by", "like"})
"""These end a question ("what is it for"), and hardly anything else."""
_ASKING = frozenset({"what", "what's", "who", "who's", "whom", "which", "where", "where's", "how"})


def unfinished(text: str, language: str = "en") -> bool:
    """Whether words, as far as they are understood, cannot be all of it: "set a timer for".

    Args:
        language: a tag such as ``en-GB``; English is known, the words of any other language are never unfinished.
    """
    words = re.findall(r"[\w']+", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    if not words or not re.match(r"en\b", language, re.IGNORECASE) or text.rstrip().endswith("?"):
        return False
    return words[-1] in _OPEN or (words[-1] in _LEADING and not _ASKING.intersection(words))
