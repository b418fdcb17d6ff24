"""Words that must go on."""

from __future__ import annotations

import pytest

from assistant.voice.unfinished import unfinished


@pytest.mark.parametrize(
    "text",
    [
        "set a timer for", "Set a timer for...", "turn on the", "um", "Play some jazz and", "cancel my",
        "what is twelve plus", "tell me about", "I want to", "put it into", "what's the", "wake me up at, um,",
    ],
)  # fmt: skip
def test_more_must_come(text: str) -> None:
    assert unfinished(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "...", "set a timer for ten minutes", "turn the light on", "switch it off", "what is it for", "call her",
        "who are you talking to", "where are you from", "is that the?", "stop that", "thunder", "What\u2019s it about",
    ],
)  # fmt: skip
def test_it_may_be_all(text: str) -> None:
    assert not unfinished(text)


@pytest.mark.parametrize(
    ("language", "known"), [("en", True), ("en-GB", True), ("EN-us", True), ("de", False), ("enm", False)]
)
def test_only_english_is_known(language: str, known: bool) -> None:
    assert unfinished("turn on the", language) is known
