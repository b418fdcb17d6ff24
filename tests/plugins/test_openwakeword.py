"""openWakeWord's networks on recordings of people and on eSpeak's voice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import assistant_openwakeword
import numpy as np
import pytest
import soxr
from assistant_espeak.engine import Espeak
from assistant_openwakeword.detector import OpenWake

from assistant.voice import audio_files

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def jarvis() -> Iterator[OpenWake]:
    word = OpenWake("hey_jarvis")
    word.load()
    yield word
    word.close()


def scores(word: OpenWake, pcm: bytes) -> list[float]:
    size = word.frame_samples * 2
    return [word.score(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]


def padded(pcm: bytes, before: int = 16_000) -> bytes:
    return bytes(before * 2) + pcm + bytes(32_000)


def test_its_names_say_that_they_are_its_own() -> None:
    words = list(assistant_openwakeword.register_wake_words())
    assert [word.name for word in words] == [
        "open_hey_jarvis", "open_okay_nabu", "open_hey_mycroft", "open_alexa", "open_hey_rhasspy",
    ]  # fmt: skip
    assert words[0].phrase == "hey jarvis"
    assert {word.available() for word in words} == {""}
    assert all(word.costly and word.threshold == 0.5 for word in words)


def test_a_person_is_heard(jarvis: OpenWake) -> None:
    jarvis.reset()
    assert max(scores(jarvis, padded(audio_files.read(DATA / "hey_jarvis.wav").pcm))) > 0.9


def test_a_synthetic_voice_is_heard_and_other_words_of_it_are_not(jarvis: OpenWake) -> None:
    voice = Espeak(speed=170)
    voice.load(None)
    found = []
    for text in ("hey jarvis", "the weather is fine today"):
        sound = np.frombuffer(b"".join(chunk.pcm for chunk in voice.speak(text, "en-us")), "<i2").astype(np.float32)
        jarvis.reset()
        wave = np.asarray(soxr.resample(sound, 22_050, 16_000)).astype("<i2").tobytes()
        found.append(max(scores(jarvis, padded(wave))))
    voice.close()
    assert found[0] > 0.5
    assert found[1] < 0.1


def test_after_a_reset_it_is_ready_at_once_and_remembers_nothing(jarvis: OpenWake) -> None:
    person = audio_files.read(DATA / "hey_jarvis.wav").pcm
    jarvis.reset()
    first = scores(jarvis, padded(person, 0))
    assert max(first) > 0.5, "without a second of audio before it"
    jarvis.reset()
    assert scores(jarvis, padded(person, 0)) == first


def test_a_reset_leaves_no_backlog(jarvis: OpenWake) -> None:
    """The library's own reset makes the next frame work off eight seconds."""
    jarvis.reset()
    assert jarvis._features is not None
    before = jarvis._features.new_audio_samples
    jarvis.score(bytes(jarvis.frame_samples * 2))
    assert before < 2 * jarvis.frame_samples
    assert jarvis._features.new_audio_samples == before
