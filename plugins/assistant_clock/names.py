"""Names that users give, and changes that the disk may refuse."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import TypeVar

from assistant import ToolError

MAX_NAME = 60
"""Characters of a name."""

T = TypeVar("T")


def clean(name: str, kind: str) -> str:
    """The name as it is kept: on one line, without an article, and without the word for what it names.

    Args:
        kind: ``timer`` or ``alarm``.
    """
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    return re.sub(rf"^(?:the|a|an) (?=\S)|(?<=\S) {kind}$", "", words, flags=re.IGNORECASE)[:MAX_NAME].strip()


def with_article(name: str) -> str:
    """``the pasta``, but ``my pasta``."""
    return name if re.match(r"(?:my|our|your|his|her|their)\b", name, re.IGNORECASE) else f"the {name}"


async def stored(change: Awaitable[T], plural: str) -> T:
    """What a change gives.

    Raises:
        ToolError: it could not be written.
    """
    try:
        return await change
    except OSError as error:
        raise ToolError(f"The {plural} cannot be stored: {error.strerror}.") from error
