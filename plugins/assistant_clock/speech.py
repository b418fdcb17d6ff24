"""Times, dates and durations as they are said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, time

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def clock_time(moment: time) -> str:
    """``3:07 PM``."""
    return f"{moment.hour % 12 or 12}:{moment.minute:02} {'AM' if moment.hour < 12 else 'PM'}"


def calendar_date(day: date) -> str:
    """``Saturday, November 22, 2025``."""
    return f"{day:%A}, {day:%B} {day.day}, {day.year}"


def duration(seconds: float) -> str:
    """``1 hour, 2 minutes and 5 seconds``; rounded up to the second, and to the minute from an hour on."""
    return joined([f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in _parts(seconds)], "and")


def adjective(seconds: float) -> str:
    """``1 hour 30 minute``, as in ``the 1 hour 30 minute timer``."""
    return " ".join(f"{count} {unit}" for count, unit in _parts(seconds))


def joined(parts: Sequence[str], last: str) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def _parts(seconds: float) -> list[tuple[int, str]]:
    rest = max(0, math.ceil(seconds))
    if seconds > 3_600:
        rest = math.ceil(seconds / 60) * 60
    parts = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append((count, unit))
    return parts or [(0, "second")]
