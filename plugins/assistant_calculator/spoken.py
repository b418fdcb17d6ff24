"""From spoken or typed arithmetic to an expression in symbols."""

from __future__ import annotations

import re
from collections.abc import Iterator

from assistant import ToolError

from .numerals import NUMBER_WORDS, is_number, with_digits

ROOT = "~"
"""Stands for the square root in the symbols: a unary operator that binds more loosely than a power."""

_SYMBOLS = {"+", "-", "*", "/", "%", "**", "(", ")", ROOT, "cuberoot"}

_TIMES = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"
_SIGNS = rf"+*/^{_TIMES}÷√{_MINUS}"

_PHRASES: dict[tuple[str, ...], tuple[str, ...]] = {
    tuple(said.split()): tuple(symbols.split())
    for said, symbols in {
        _TIMES: "*",
        "plus": "+", "minus": "-", "negative": "-", "times": "*", "multiplied by": "*",
        "divided by": "/", "over": "/", "÷": "/", "modulo": "%", "mod": "%", "percent": "percent",
        "per cent": "percent", "to the power of": "**", "to the power": "**", "^": "**", "squared": "** 2",
        "cubed": "** 3", "square root of": ROOT, "root of": ROOT, "sqrt": ROOT, "√": ROOT, "cube root of": "cuberoot",
        "double": "2 *", "twice": "2 *", "of": "*", "the": "", "equals": "", "=": "", "sum of": "add",
        "product of": "multiply", "difference between": "difference", "difference of": "difference",
    }.items()
}  # fmt: skip
_LONGEST = max(map(len, _PHRASES))

_ORDINALS = ["second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_PARTS = {"third": 3, "quarter": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_PARTS |= {f"{part}s": value for part, value in _PARTS.items()}

_VERBS = {
    "add": (("and", "to", "with"), "({first}) + ({second})"),
    "subtract": (("from",), "({second}) - ({first})"),
    "difference": (("and",), "({first}) - ({second})"),
    "multiply": (("by", "and", "with"), "({first}) * ({second})"),
    "divide": (("by",), "({first}) / ({second})"),
}

_VOCABULARY = "|".join(
    sorted(
        {word for phrase in _PHRASES for word in phrase if word.isalpha()}
        | {word for separators, _ in _VERBS.values() for word in separators}
        | {*NUMBER_WORDS, *_ORDINALS, *_PARTS, *_VERBS, "point", "a", "an", "off", "sqrt"},
        key=lambda word: (-len(word), word),
    )
)
_DANGLING = r"plus|minus|times|divided by|multiplied by|over|modulo|mod|to the power of"
_DEED = (
    rf"\b(?:{_DANGLING}|to the power|to the \w+ power|squared|cubed|root of|sqrt|per ?cent (?:of|off)|half of"
    rf"|(?:{'|'.join(_PARTS)}) of|double|twice|add|subtract|multiply|divide|sum of|product of"
    rf"|difference (?:of|between))\b|\d\s*%\s*(?:off?\b|[-+*/\d])|[{_SIGNS}]|[\d)]\s*(?:-|x\s*[\d(.])"
)
PATTERN = (
    r"(?!\d+([-/])\d+\1\d+$|(?:9/11|24/7|50/50|\d{3}-\d{4})$)"
    rf"(?!(?:plus|times|over|divided|multiplied|mod|x)\b)(?!.*(?:\b(?:{_DANGLING})|[-{_SIGNS}])\s*$)"
    rf"(?=.*(?:\d|\b(?:{'|'.join(NUMBER_WORDS)})\b))(?=.*(?:{_DEED}))"
    rf"(?:(?:\d[\d,]*(?:\.\d+)?|(?:{_VOCABULARY})\b|x(?=\s*[\d(.])|[-{_SIGNS}%()=])[\s-]*)++"
)
"""What sounds like a calculation: nothing but numbers and arithmetic, something to be done with them, and no date,
phone number or saying. A filter, not a grammar: ``to_symbols`` has the last word."""

_CROSS = re.compile(r"(?<=[\d)])\s*x\s*(?=[\d(.])")
_TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|[a-z']+|\*\*|\S", re.ASCII)


def to_symbols(text: str) -> str:
    """``five plus six`` as ``5 + 6``, in numbers, brackets, ``+ - * / % **`` and ``ROOT``.

    Raises:
        ToolError: there is a word in it that is no arithmetic, or two numbers have nothing between them.
    """
    said = _CROSS.sub(" times ", text.lower().replace(_MINUS, "-"))
    said = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", said)
    said = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", said)
    return _expression(list(_rewritten(with_digits(_TOKEN.findall(said)))))


def _rewritten(words: list[str]) -> Iterator[str]:
    position = 0
    while position < len(words):
        found = _power(words[position:]) or _part(words[position:]) or _phrase(words[position:])
        yield from found[1] if found else (words[position],)
        position += found[0] if found else 1


def _power(words: list[str]) -> tuple[int, tuple[str, ...]] | None:
    """``to the fourth power``: how many words, and the symbols for them."""
    if words[:2] != ["to", "the"] or len(words) < 3 or words[2] not in _ORDINALS:
        return None
    return 3 + (words[3:4] == ["power"]), ("**", str(_ORDINALS.index(words[2]) + 2))


def _part(words: list[str]) -> tuple[int, tuple[str, ...]] | None:
    """``2 thirds of`` or ``a third of``."""
    if len(words) < 3 or words[1] not in _PARTS or words[2] != "of":
        return None
    count = "1" if words[0] == "a" else words[0]
    return (3, ("(", count, "/", str(_PARTS[words[1]]), ")", "*")) if is_number(count) else None


def _phrase(words: list[str]) -> tuple[int, tuple[str, ...]] | None:
    for length in range(min(_LONGEST, len(words)), 0, -1):
        symbols = _PHRASES.get(tuple(words[:length]))
        if symbols is not None:
            return length, symbols
    return None


def _expression(tokens: list[str]) -> str:
    if tokens and tokens[0] in _VERBS:
        separators, template = _VERBS[tokens[0]]
        for position, token in enumerate(tokens):
            if token in separators:
                first, second = _expression(tokens[1:position]), _expression(tokens[position + 1 :])
                return template.format(first=first, second=second)
    tokens = ["percent" if _is_percent(tokens, i) else token for i, token in enumerate(tokens)]
    if len(tokens) > 3 and is_number(tokens[0]) and tokens[1:3] == ["percent", "off"]:
        return f"({_expression(tokens[3:])}) * (1 - {tokens[0]} / 100)"
    if len(tokens) > 3 and is_number(tokens[-2]) and tokens[-3] in {"+", "-"} and tokens[-1] == "percent":
        return f"({_expression(tokens[:-3])}) * (1 {tokens[-3]} {tokens[-2]} / 100)"
    return _infix(tokens)


def _is_percent(tokens: list[str], position: int) -> bool:
    """``%`` is a modulo between two values and a percentage elsewhere."""
    after = tokens[position + 1 : position + 2]
    return tokens[position] == "%" and not (after and (is_number(after[0]) or after[0] in {"(", ROOT}))


def _infix(tokens: list[str]) -> str:
    out: list[str] = []
    had_value = False
    for token in tokens:
        if had_value and (is_number(token) or token in {"(", ROOT, "cuberoot"}):
            raise ToolError(f"I do not know what to do with {token} after {out[-1]}.")
        if token == "percent" and had_value and is_number(out[-1]):
            out[-1] = f"({out[-1]} / 100)"
        elif is_number(token) and out[-1:] == ["cuberoot"]:
            out[-1] = f"({token} ** (1 / 3))"
        elif is_number(token) or token in _SYMBOLS:
            out.append(re.sub(r"^0+(?=\d)", "", token))
        else:
            raise ToolError(f"I cannot calculate with {token!r}.")
        had_value = is_number(token) or token in {")", "percent"}
    return " ".join(out)
