"""Where an answer of a model that finds no end is closed."""

from __future__ import annotations

import pytest
from assistant_mlx.grammar.limits import Limits


class Bytes:
    """A tokenizer of single bytes."""

    def decode_bytes(self, tokens: list[int]) -> bytes:
        """What the tokens stand for."""
        return bytes(tokens)


class Open:
    """The matcher of a call that is not complete yet."""

    def is_accepting(self) -> bool:
        """Never."""
        return False


def landed(text: str) -> int:
    """How much was written when it was told to close; 0 if never."""
    limits = Limits(Bytes(), 10_000, whole=False, calls=True)
    for count, token in enumerate(text.encode()):
        limits.over(Open(), token, count)
        if limits.landing:
            return count
    return 0


@pytest.mark.parametrize("numbers", [range(1, 100), range(900, 0, -3), [0] * 200])
def test_a_model_that_counts_on_and_on_is_caught(numbers: list[int]) -> None:
    text = '{"numbers": [' + ", ".join(map(str, numbers))
    assert 40 < landed(text) < 120


@pytest.mark.parametrize(
    "text",
    [
        '{"numbers": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], "unit": "km"}',
        '{"numbers": [' + ", ".join(str(number * number % 97) for number in range(100)) + "]}",
        '{"rows": [' + ", ".join(f"[{row}, {row % 7 * row}]" for row in range(40)) + "]}",
        '{"numbers": [' + ", ".join(["0"] * 20) + "]}",
        '{"text": "from 1, 2, 3 and so on to a hundred"}',
    ],
)
def test_an_honest_list_is_left_alone(text: str) -> None:
    assert landed(text) == 0
