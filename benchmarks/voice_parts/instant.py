"""Engines that know at once what they are asked for: what remains of a turn's time is the host's.

They keep nothing, so that a day of turns leaves no memory behind, and can be pickled for a lane process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from assistant.engines import (
    STT_SAMPLE_RATE,
    AudioChunk,
    ChatRequest,
    Delta,
    LanguageModel,
    Message,
    SpeechToText,
    TextToSpeech,
    Transcript,
    Transcription,
)

QUESTION = "tell me about the old lighthouse"
ANSWER = "Right away."
RANK = 1000
CHUNK_SECONDS = 0.2
ROUNDS = 50


class Ear(SpeechToText):
    """Understands the same words, whatever is said; it writes them as it hears."""

    def __init__(self, text: str = QUESTION, lane: str = "instant-ear") -> None:
        self.name = "instant_ear"
        self.lane = lane
        self.rank = RANK
        self.text = text

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def open(self, language: str, phrases: tuple[str, ...]) -> Transcription:
        """Listen."""
        return _Heard(self.text)


class _Heard(Transcription):
    def __init__(self, text: str) -> None:
        self._text = text
        self._bytes = 0

    def feed(self, pcm: bytes) -> str | None:
        self._bytes += len(pcm)
        return None

    def draft(self) -> Transcript:
        return self.finish()

    def finish(self) -> Transcript:
        return Transcript(text=self._text, seconds=self._bytes / 2 / STT_SAMPLE_RATE)


class Model(LanguageModel):
    """Says the same words, whatever is asked."""

    def __init__(self, text: str = ANSWER, lane: str = "instant-model") -> None:
        self.name = "instant_model"
        self.lane = lane
        self.rank = RANK
        self.text = text

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def generate(self, request: ChatRequest) -> Iterator[Delta]:
        """A word a step."""
        words = self.text.split(" ")
        for place, word in enumerate(words):
            yield Delta(text=f" {word}" if place else word)
        yield Delta(output_tokens=len(words), finish_reason="stop")


class Mouth(TextToSpeech):
    """Has the sound of every sentence at hand.

    Args:
        pcm: it, 16-bit mono at 16 kHz.
    """

    def __init__(self, pcm: bytes, lane: str = "instant-mouth") -> None:
        self.name = "instant_mouth"
        self.lane = lane
        self.rank = RANK
        self.pcm = pcm

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def speak(self, text: str, voice: str) -> Iterator[AudioChunk]:
        """A chunk of 200 ms a step."""
        size = round(STT_SAMPLE_RATE * CHUNK_SECONDS) * 2
        for at in range(0, len(self.pcm), size):
            yield AudioChunk(pcm=self.pcm[at : at + size], sample_rate=STT_SAMPLE_RATE)


def own_seconds(ear: Ear, model: Model, mouth: Mouth) -> float:
    """What their methods take for a turn, up to the first chunk of sound; the median of some."""
    request = ChatRequest(messages=(Message(role="user", content=QUESTION),))
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        ear.open("en", ()).finish()
        for _delta in model.generate(request):
            pass
        next(mouth.speak(ANSWER, ""))
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
