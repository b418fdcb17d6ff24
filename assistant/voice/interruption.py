"""Speech over the assistant's own voice: when to fall silent, when it was nothing, and what it meant."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal

from . import phrases
from .frames import frames

SPEECH = 0.5
"""Probability from which a frame counts as speech: Silero's own, for an echo canceller thins speech out."""
SILENCE = 0.35
"""Probability below which it counts as silence; in between it counts as neither."""
QUIETEST_DBFS = -60.0
"""Nobody who means the assistant is quieter than this; what is left of the echo may be."""
PAUSE_SECONDS = 0.16
"""So much speech stops the sound: mlx-audio takes 0.18 s, LiveKit 0.5 s. Of 21 ways to say "stop" (eSpeak NG, 7 voices
at 3 speeds) all are noticed; with 0.22 s and a probability of 0.6 it was 12."""
LEAK = 1
"""A silent frame takes as much as so many frames of speech gave."""
RESUME_SECONDS = 0.6
"""So much silence and it was nothing: longer than a breath between words, shorter than an awkward pause."""

ECHO_SHARE = 0.7
"""Share of the words of a text that must come from the assistant's own for it to be an echo."""
ECHO_WORDS = 60
"""How many of the assistant's last words can still come back: about 20 s of speech."""
ECHO_WORDS_SHORT = 15
"""The same for a text of one or two words, which could be anybody's."""
ECHO_OF_QUESTION = 5
"""Where the assistant has just asked, a shorter text is an answer in the question's words."""
ALIKE = 0.75
"""How similar a word and its echo are at least, 0 to 1."""
INVENTED_WORDS = 10
"""Longest text that can be an invention of the recogniser."""

Verdict = Literal["stop", "backchannel", "turn", "nothing"]

_MARKER = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>|\*[^*]*\*|♪[^♪]*♪?|♫")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_HUM = re.compile(r"[hm]*m[hm]*|u+h+|u+m+|a+h+|o+h+|e+r+m*|e+h+m*|a+h*a+|ha(?:ha)+h?|hu+h+|ä+h+m*|ö+h+m*|eu+h+")
_SILENCED = re.compile(r"p?sh+|p?s+t|p?sch+t?")


class Interruption:
    """Watches the microphone while the assistant speaks, frame by frame.

    A cough, a click or a cup on the table is over before it counts; the gaps between syllables do not matter.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nobody has interrupted; also once words have decided what it was."""
        self._paused = False
        self._speech = 0
        self._silence = 0

    def process(self, clock: int, speech: float, level: float) -> Literal["", "pause", "resume"]:
        """One frame: the probability of speech, and its level in dBFS. ``clock`` counts the frames.

        Returns:
            ``pause`` once when somebody speaks, and after it ``resume`` once when that was all; else nothing.
        """
        spoken = speech >= SPEECH and level >= QUIETEST_DBFS
        silent = speech < SILENCE or level < QUIETEST_DBFS
        if self._paused:
            return self._wait(spoken=spoken, silent=silent)
        self._speech = self._speech + 1 if spoken else max(0, self._speech - LEAK) if silent else self._speech
        if self._speech < frames(PAUSE_SECONDS):
            return ""
        self._paused, self._silence = True, 0
        return "pause"

    def _wait(self, *, spoken: bool, silent: bool) -> Literal["", "resume"]:
        self._silence = self._silence + 1 if silent else max(0, self._silence - 4 * LEAK) if spoken else self._silence
        if self._silence < frames(RESUME_SECONDS):
            return ""
        self.reset()
        return "resume"


def judge(text: str, spoken: str = "") -> Verdict:
    """What a transcript of speech over the answer means.

    Args:
        text: what the recogniser wrote.
        spoken: what the assistant has said last; its own words coming back are nothing.
    """
    tokens = _tokens(_MARKER.sub(" ", text))
    if not tokens:
        return "nothing"
    if _made_of(tokens, _STOP, _BESIDE):
        return "stop"
    asked = spoken.rstrip(" \"'*_)").endswith(("?", "？"))  # noqa: RUF001
    if asked and _made_of(tokens, _ANSWER, _BACKCHANNEL):
        return "turn"
    if len(tokens) <= INVENTED_WORDS and _made_of(tokens, _INVENTED, _INVENTED):
        return "nothing"
    if _made_of(tokens, _BACKCHANNEL, _BACKCHANNEL):
        return "backchannel"
    recent = _tokens(spoken)[-(ECHO_WORDS if len(tokens) > 2 else ECHO_WORDS_SHORT) :]
    answers = asked and len(tokens) < ECHO_OF_QUESTION
    return "nothing" if not answers and _echoes(tokens, recent) else "turn"


def _tokens(text: str) -> tuple[str, ...]:
    """The words in small letters, hums and hisses all written alike."""
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").lower()  # noqa: RUF001
    return tuple(_spelling(word) for word in _WORD.findall(plain))


@lru_cache(2048)
def _spelling(word: str) -> str:
    if _HUM.fullmatch(word):
        return "mhm"
    if _SILENCED.fullmatch(word):
        return "shh"
    return re.sub(r"(.)\1{2,}", r"\1", word)


def _made_of(tokens: Sequence[str], needed: frozenset[tuple[str, ...]], allowed: frozenset[tuple[str, ...]]) -> bool:
    """Whether the words are phrases of ``allowed`` one after the other, at least one of them of ``needed``."""
    reached: list[int] = [1] + [0] * len(tokens)
    for end in range(1, len(tokens) + 1):
        for start in range(max(0, end - _LONGEST), end):
            phrase = tuple(tokens[start:end])
            if reached[start] and phrase in allowed:
                reached[end] = max(reached[end], 2 if phrase in needed else reached[start])
    return reached[-1] == 2


def _echoes(tokens: Sequence[str], spoken: Sequence[str]) -> bool:
    """Whether most words were said by the assistant, in this order, and about as close together."""
    least = math.ceil(ECHO_SHARE * len(tokens))
    if len(spoken) < least:
        return False
    span = len(tokens) + max(2, len(tokens) // 2)
    windows = range(max(1, len(spoken) - span + 1))
    return any(_common(tokens, spoken[start : start + span]) >= least for start in windows)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence of words."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for at, candidate in enumerate(other, 1):
            before, row[at] = row[at], before + 1 if _alike(word, candidate) else max(row[at], row[at - 1])
    return row[-1]


@lru_cache(8192)
def _alike(word: str, other: str) -> bool:
    if word == other:
        return True
    if min(len(word), len(other)) < 4 or abs(len(word) - len(other)) > 3:
        return False
    return SequenceMatcher(None, word, other, autojunk=False).ratio() >= ALIKE


def _phrases(*tables: Mapping[str, Sequence[str]]) -> frozenset[tuple[str, ...]]:
    return frozenset(_tokens(phrase) for table in tables for several in table.values() for phrase in several)


_STOP, _BESIDE = _phrases(phrases.STOP), _phrases(phrases.STOP, phrases.BESIDE)
_BACKCHANNEL, _ANSWER = _phrases(phrases.BACKCHANNEL), _phrases(phrases.ANSWER)
_INVENTED = _phrases(phrases.INVENTED)
_LONGEST = max(len(phrase) for phrase in _BESIDE | _BACKCHANNEL | _INVENTED)
