"""Wake phrases before the words, and in a transcript."""

from __future__ import annotations

import pytest

from assistant.voice.wording import holds_wake, without_wake

PHRASES = ("hey jarvis", "okay nabu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("what time is it", "what time is it"),
        ("Hey Jarvis, what time is it?", "what time is it?"),
        ("hey, travis what time is it", "what time is it"),
        ("Jarvis. What time is it?", "What time is it?"),
        ("okay nabu stop", "stop"),
        ("Okay Nabu", ""),
        ("", ""),
        ("hey what is jarvis", "hey what is jarvis"),
        ("it is", "it is"),
    ],
)
def test_the_wake_phrase_is_no_part_of_the_words(text: str, words: str) -> None:
    assert without_wake(text, PHRASES) == words


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("so then hey jarvis what", True),
        ("Hey, Jarvis!", True),
        ("hay jervis", True),
        ("hey there", False),
        ("", False),
        ("the weather in travertine", False),
    ],
)
def test_a_transcript_holds_the_wake_phrase(text: str, holds: bool) -> None:
    assert holds_wake(text, "hey jarvis") is holds
