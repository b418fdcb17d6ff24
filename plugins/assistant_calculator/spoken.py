"""From spoken or typed arithmetic to an expression in symbols."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
} | {"oh": 0, "nought": 0}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {
    word: value
    for value, word in enumerate("second third fourth fifth sixth seventh eighth ninth tenth".split(), start=2)
}
_FRACTIONS = {"half": "0.5", "third": "(1/3)", "quarter": "0.25", "fifth": "0.2", "tenth": "0.1"}
_NUMBER_WORDS = (*_UNITS, *_TENS, "hundred", *_SCALES, "dozen", "half", "pi")

_BINARY = r"plus|minus|times|divided by|multiplied by|over|modulo|mod|to the power of|to the power"
_WORDS = "|".join(
    sorted(
        (*_NUMBER_WORDS, *_ORDINALS, *_FRACTIONS, *"""
        plus minus times divided multiplied by over modulo mod to the power of percent off squared cubed square cube
        root double twice add sum and subtract from multiply divide product difference between negative point a an
        with x thirds quarters fifths tenths
        """.split()),
        key=len,
        reverse=True,
    )
)
_OPERATION = (
    rf"\b(?:{_BINARY}|squared|cubed|(?:square |cube )?root of|percent (?:of|off)|(?:half|third|quarter|fifth|tenth) of"
    r"|(?:thirds|quarters|fifths|tenths) of|double|twice|to the \w+ power|add|sum of|subtract|multiply|divide"
    r"|product of|difference between|square of|cube of)\b|\d\s*%\s*(?:of|off)\b|[+*/^×÷√−]|\d\s*(?:%|x)\s*\d|[\d)]\s*-"
)
PATTERN = (
    r"(?!\d+([-/])\d+\1\d+$)(?!(?:9/11|24/7|50/50|\d{3}-\d{4})$)"
    rf"(?!.*(?:\b(?:{_BINARY})|[-+*/^×÷−])\s*$)"
    rf"(?=.*(?:\d|\b(?:{'|'.join(_NUMBER_WORDS)})\b))(?=.*(?:{_OPERATION}))"
    rf"(?:(?:\d[\d,]*(?:\.\d+)?|(?:{_WORDS})\b|[-+*/^×÷√−%(),])\s*)++"
)
"""What sounds like a calculation: nothing but numbers and arithmetic, something to do, and no date, phone number or
saying. It is a filter, not a grammar."""


def to_symbols(text: str) -> str:
    """``five plus six`` as ``5 + 6``: digits, ``+ - * / % ** ( )`` and ``~``, which stands for the square root.

    What is no arithmetic is left as it is, for the caller to refuse.
    """
    said = text.lower().replace("−", "-").replace("’", "'")
    said = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", said)
    said = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", said)
    said = re.sub(r"\b(?:a|an) (?=hundred|thousand|million|billion|trillion|dozen)", "1 ", said)
    said = _numbers(said)
    for pattern, symbols in _REWRITES:
        said = re.sub(pattern, symbols, said)
    return " ".join(said.split())


_NUMBER = r"\d+(?:\.\d+)?"
_REWRITES = (
    (r"^add (.+?) (?:and|to|with|plus) (.+)$", r"(\1) + (\2)"),
    (r"^(?:the )?sum of (.+?) and (.+)$", r"(\1) + (\2)"),
    (r"^subtract (.+?) from (.+)$", r"(\2) - (\1)"),
    (r"^(?:the )?difference between (.+?) and (.+)$", r"(\1) - (\2)"),
    (r"^multiply (.+?) (?:by|and|with|times) (.+)$", r"(\1) * (\2)"),
    (r"^(?:the )?product of (.+?) and (.+)$", r"(\1) * (\2)"),
    (r"^divide (.+?) by (.+)$", r"(\1) / (\2)"),
    (r"\bper ?cent\b", "%"),
    (rf"^({_NUMBER}) ?% off (?:of )?(.+)$", r"(\2) * (1 - \1/100)"),
    (rf"^(.+?) (plus|minus|\+|-) ({_NUMBER}) ?%$", r"(\1) * (1 \2 \3/100)"),
    (rf"({_NUMBER}) ?%(?= ?(?:of\b|[-+*/)]|$|[a-z]))", r"(\1/100)"),
    (r"\b(?:the )?(?:square )?root of\b|√", " ~ "),
    (rf"\b(?:the )?cube root of ({_NUMBER})", r"(\1 ** (1/3))"),
    (rf"\b(?:the )?square of ({_NUMBER})", r"(\1 ** 2)"),
    (rf"\b(?:the )?cube of ({_NUMBER})", r"(\1 ** 3)"),
    (r"\b(?:double|twice)\b", "2 *"),
    (r"\bsquared\b", "** 2"),
    (r"\bcubed\b", "** 3"),
    (r"\bto the power(?: of)?\b|\^", "**"),
    (r"\bdivided by\b|\bover\b|÷", "/"),
    (r"\bmultiplied by\b|\btimes\b|×|(?<=[\d)]) ?x ?(?=[\d(~])", "*"),
    (r"\bplus\b", "+"),
    (r"\bminus\b|\bnegative\b", "-"),
    (r"\bmod(?:ulo)?\b", "%"),
    (r"\bof\b", "*"),
)


def _numbers(text: str) -> str:
    """The text with number words as digits."""
    for word, power in _ORDINALS.items():
        text = re.sub(rf"\bto the {word}(?: power)?$|\bto the {word} power\b", f"to the power of {power}", text)
    text = re.sub(r"\b(?:cube root of)\b", "cube root of", text)
    for word, value in _FRACTIONS.items():
        text = re.sub(rf"\b(?:a |an |one )?{word} (?:of )?(?=\S)", f"{value} of ", text)
    words = re.findall(r"[a-z']+|\d+(?:\.\d+)?|\S", text)
    out: list[str] = []
    position = 0
    while position < len(words):
        value, position = _read_number(words, position)
        if value is None:
            out.append(words[position])
            position += 1
        else:
            out.append(f"{value:f}")
    return " ".join(out)
