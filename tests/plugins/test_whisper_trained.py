"""Whisper, trained by ``train_whisper.py`` on spoken commands, hears voices and speeds that it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from assistant_whisper.engine import Whisper
from homes import Home
from whisper_speech import HELD_OUT_SPEEDS, HELD_OUT_VARIANTS, Wave, noise, recorded, saying, speak

pytestmark = pytest.mark.model

MODEL = Path(__file__).parent.parent / "data" / "whisper-tiny-commands"
SAID = (
    ("what time | is it?", "en-us+m3", 152), ("set a timer | for | ten minutes", "en-gb+f2", 168),
    ("what is | seventeen percent | of | three hundred forty?", "en-us+Mike", 152), ("stop", "en-us+f5", 137),
    ("cancel | the timer", "en-us+m6", 183), ("how much time | is left?", "en-gb+robert", 168),
    ("tell me | a joke", "en-us+Alicia", 152), ("what day | is it?", "en-gb-x-rp+m3", 168),
)  # fmt: skip


@pytest.fixture(scope="module")
def whisper() -> Iterator[Whisper]:
    engine = Whisper()
    engine.load(MODEL)
    yield engine
    engine.close()


def pcm(sound: Wave) -> bytes:
    return (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()


def said(template: str, voice: str, speed: int, seed: int = 0) -> bytes:
    """A command in a room of its own, with some noise."""
    words = " ".join(template.rstrip("?").replace("|", " ").split())
    return pcm(recorded(speak(words, voice, speed), np.random.default_rng(seed), 0.4, 0.5))


def heard(engine: Whisper, sound: bytes) -> str:
    utterance = engine.open("en", ())
    utterance.feed(sound)
    return utterance.finish().text


@pytest.mark.parametrize(("template", "voice", "speed"), SAID)
def test_a_command_is_heard_word_for_word(whisper: Whisper, template: str, voice: str, speed: int) -> None:
    assert voice.partition("+")[2] in HELD_OUT_VARIANTS
    assert speed in HELD_OUT_SPEEDS
    assert heard(whisper, said(template, voice, speed)) == saying(template).text


def test_a_command_after_the_wake_word(whisper: Whisper) -> None:
    template = "what time | is it?"
    sound = said(f"hey jarvis {template}", "en-us+m3", 152)
    assert heard(whisper, sound) == saying(template, addressed=True).text == "Hey Jarvis, what time is it?"


def test_segments_lie_where_it_was_said(whisper: Whisper) -> None:
    utterance = whisper.open("", ())
    utterance.feed(bytes(16_000) + pcm(speak("set a timer for ten minutes", "en-us+m3", 152)) + bytes(16_000))
    transcript = utterance.finish()
    assert transcript.language == "en"
    (segment,) = transcript.segments
    assert 0.0 <= segment.start <= 0.8
    assert segment.start < segment.end <= transcript.seconds


@pytest.mark.parametrize("level", [0.0, 0.0003, 0.003, 0.03, 0.1])
def test_nothing_is_invented_where_nobody_speaks(whisper: Whisper, level: float) -> None:
    for seed in range(3):
        assert heard(whisper, pcm(noise(40_000, np.random.default_rng(seed)) * np.float32(level))) == ""


def test_a_draft_in_a_pause_is_the_transcript_unless_more_is_said(whisper: Whisper) -> None:
    first, second = pcm(speak("set a timer", "en-us+m3", 152)), pcm(speak("for ten minutes", "en-us+m3", 152))
    utterance = whisper.open("en", ())
    utterance.feed(bytes(8_000) + first + bytes(6_400))
    draft = utterance.draft()
    assert draft is not None
    assert draft.text == "Set a timer"
    utterance.feed(bytes(6_400) + second + bytes(6_400))
    draft = utterance.draft()
    assert draft is not None
    utterance.feed(bytes(9_600))
    assert utterance.finish().text == draft.text == "Set a timer for ten minutes."


def test_the_daemon_hears_it(bare_home: Home, tmp_path: Path) -> None:
    bare_home.config(f'[assistant]\nlanguage = "en"\n[stt]\nengine = "whisper"\nmodel = "{MODEL}"\n')
    wav = tmp_path / "command.wav"
    soundfile.write(wav, np.frombuffer(said("what time | is it?", "en-us+m3", 152), "<i2"), 16_000, subtype="PCM_16")
    done = bare_home.run("transcribe", "--json", str(wav))
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["text"] == "What time is it?"
    assert found["segments"][0]["end"] <= found["seconds"]
