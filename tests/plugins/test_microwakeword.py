"""microWakeWord's networks on recordings of people."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import assistant_microwakeword
import pymicro_wakeword
import pytest
from assistant_microwakeword.detector import MicroWake, Missing, found

from assistant import PluginContext, PluginError, PluginSettings, WakeWord
from assistant.voice import audio_files

DATA = Path(__file__).parent.parent / "data"
MODELS = Path(pymicro_wakeword.__file__).parent / "models"


def offered(folder: Path) -> dict[str, WakeWord]:
    context = PluginContext("microwakeword", PluginSettings(), folder, logging.getLogger("micro"), lambda event: None)
    return {one.name: one for one in assistant_microwakeword.register_wake_words(context)}


def scores(word: WakeWord, file: str) -> list[float]:
    pcm = bytes(32_000) + audio_files.read(DATA / file).pcm + bytes(32_000)
    size = word.frame_samples * 2
    return [word.score(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]


def test_phrases_and_thresholds_are_the_model_files_own(tmp_path: Path) -> None:
    words = offered(tmp_path)
    assert {name: (word.phrase, word.threshold) for name, word in words.items()} == {
        "hey_jarvis": ("hey jarvis", 0.97), "okay_nabu": ("okay nabu", 0.85), "hey_mycroft": ("hey mycroft", 0.95),
        "alexa": ("alexa", 0.9),
    }  # fmt: skip
    assert {word.available() for word in words.values()} == {""}
    assert not any(word.costly for word in words.values())


@pytest.mark.parametrize(("name", "file"), [("hey_jarvis", "hey_jarvis.wav"), ("alexa", "alexa.wav")])
def test_people_are_heard_and_others_are_not(tmp_path: Path, name: str, file: str) -> None:
    word = offered(tmp_path)[name]
    word.load()
    assert max(scores(word, file)) > word.threshold
    word.reset()
    assert max(scores(word, "hey_peppa_pig.wav")) < 0.3
    word.close()


def test_after_a_reset_the_scores_are_the_same_again(tmp_path: Path) -> None:
    word = offered(tmp_path)["alexa"]
    word.load()
    first = scores(word, "alexa.wav")
    word.reset()
    assert scores(word, "alexa.wav") == first
    word.close()


def test_a_model_in_the_data_folder_is_one_more_wake_word(tmp_path: Path) -> None:
    description = (MODELS / "alexa.json").read_text().replace('"Alexa"', '"Computer"').replace("alexa.", "computer.")
    (tmp_path / "computer.json").write_text(description.replace("0.9,", "0.8,"))
    shutil.copy(MODELS / "alexa.tflite", tmp_path / "computer.tflite")
    word = offered(tmp_path)["computer"]
    assert (word.phrase, word.threshold) == ("computer", 0.8)
    word.load()
    assert max(scores(word, "alexa.wav")) > word.threshold
    word.close()


@pytest.mark.parametrize(("file", "text", "reason"), [
    ("mine.json", "{", "does not describe"),
    ("mine.json", "{}", "does not describe"),
    ("mine.json", '{"wake_word": "x", "model": "x.tflite", "micro": {"probability_cutoff": 0.5}}', "not beside it"),
    ("alexa.json", "{}", "the name alexa is taken"),
])
def test_a_file_that_is_no_model_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, text: str, reason: str
) -> None:
    (tmp_path / file).write_text(text)
    assert len(offered(tmp_path)) == 4
    assert reason in caplog.text


@pytest.mark.parametrize("content", [
    b"", b"text", b"\x1c\0\0\0TFL3 but no network", (MODELS / "alexa.tflite").read_bytes()[:30_000],
])
def test_a_network_that_is_none_is_refused_when_it_is_loaded(tmp_path: Path, content: bytes) -> None:
    shutil.copy(MODELS / "alexa.json", tmp_path / "mine.json")
    (tmp_path / "alexa.tflite").write_bytes(content)
    with pytest.raises(PluginError, match="the wake word mine cannot be loaded"):
        MicroWake("mine", tmp_path / "mine.json").load()


def test_without_the_wheel_the_phrases_say_what_is_missing(tmp_path: Path) -> None:
    word = Missing("hey_jarvis")
    assert "pip install pymicro-wakeword" in word.available()
    with pytest.raises(PluginError) as caught:
        word.load()
    assert "pip install" in caught.value.hint
    assert next(one.name for one in found(tmp_path, logging.getLogger())) == word.name
