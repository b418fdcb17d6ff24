"""English number words as digits."""

from __future__ import annotations

import re
from decimal import Decimal

_BELOW_TWENTY = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_UNITS = {word: value for value, word in enumerate(_BELOW_TWENTY)}
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_VALUES = {"half": "0.5", "pi": "3.14159265358979323846", "dozen": "12"}

NUMBER_WORDS = (*_UNITS, *_TENS, "hundred", *_SCALES, *_VALUES)
"""Every word that is a number by itself."""

_DIGITS = re.compile(r"\d*\.?\d+", re.ASCII)


def is_number(token: str) -> bool:
    """Whether it is a number in digits, without a sign."""
    return _DIGITS.fullmatch(token) is not None


def with_digits(words: list[str]) -> list[str]:
    """The same words with each run of number words, such as ``two hundred and five point one``, as one number."""
    out: list[str] = []
    while words:
        taken, number = _leading(words)
        out.append(number if taken else words[0])
        words = words[max(1, taken) :]
    return out


def _leading(words: list[str]) -> tuple[int, str]:
    """How many words at the beginning are one number, and that number; 0 if there is none."""
    start = 1 if len(words) > 1 and words[0] in {"a", "an"} and _counted(words[1]) else 0
    if words[start] in _VALUES:
        return start + 1, _VALUES[words[start]]
    taken, value = _whole(words[start:], 1 if start else None)
    taken += start
    if taken == start and not (words[start] == "point" and _digit(words[start + 1 : start + 2])):
        return 0, ""
    decimals = ""
    if words[taken : taken + 1] == ["point"]:
        while digit := _digit(words[taken + 1 + len(decimals) : taken + 2 + len(decimals)]):
            decimals += digit
    if decimals:
        taken += 1 + len(decimals)
        value = value + Decimal(f"0.{decimals}")
    elif words[taken : taken + 3] == ["and", "a", "half"]:
        taken, value = taken + 3, value + Decimal("0.5")
    return taken, f"{value:f}"


def _counted(word: str) -> bool:
    return word in {"hundred", "half", "dozen"} or word in _SCALES


def _digit(words: list[str]) -> str:
    if not words:
        return ""
    if words[0].isdecimal() and len(words[0]) == 1:
        return words[0]
    value = _UNITS.get(words[0], 10)
    return str(value) if value < 10 else ""


def _whole(words: list[str], current: int | None) -> tuple[int, Decimal]:
    """A number without a spoken point: how many words it takes, and its value."""
    total, group, taken = Decimal(0), Decimal(current or 0), 0
    may_add = 10**15
    for position, word in enumerate(words):
        if is_number(word) and position == 0:
            group, may_add = Decimal(word), 0
        elif word in _UNITS and (may_add >= 100 or (may_add == 10 and 0 < _UNITS[word] < 10)):
            group, may_add = group + _UNITS[word], 0
        elif word in _TENS and may_add >= 100:
            group, may_add = group + _TENS[word], 10
        elif word == "hundred" and (taken or current) and group < 100:
            group, may_add = group * 100, 100
        elif word in _SCALES and (taken or current) and group:
            total, group, may_add = total + group * _SCALES[word], Decimal(0), 1000
        elif word == "and" and taken and may_add >= 100 and _adds(words[position + 1 :]):
            continue
        else:
            break
        taken = position + 1
    return taken, total + group


def _adds(words: list[str]) -> bool:
    return bool(words) and (words[0] in _UNITS or words[0] in _TENS)
