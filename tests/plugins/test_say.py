"""The macOS voice against a program that behaves like ``say``: it checks its arguments and writes a WAV file."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import assistant_say
import msgspec
import pytest
from assistant_say import SaySettings
from assistant_say.engine import Say

from assistant import EngineFailed, PluginContext

FAKE = """#!{python}
import getopt, json, sys, wave
options, rest = getopt.getopt(sys.argv[1:], "o:v:r:f:", ["file-format=", "data-format=", "voice=", "rate="])
options = dict(options)
assert not rest, rest
text = open(options["-f"], encoding="utf-8").read()
with open({log!r}, "a") as log:
    log.write(json.dumps([text, options.get("--voice", ""), options.get("--rate", "")]) + "\\n")
if options.get("--voice") == "Nobody":
    sys.exit("Voice `Nobody' not found.")
if "silent" in text:
    sys.exit(0)
assert options["--file-format"] == "WAVE"
width, rate = options["--data-format"].split("@")
assert width == "LEI16"
with wave.open(options["-o"], "wb") as file:
    file.setnchannels(2 if "stereo" in text else 1)
    file.setsampwidth(2)
    file.setframerate(int(rate))
    file.writeframes(b"\\x01\\x02" * int(rate) * len(text.split()))
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@pytest.fixture
def program(tmp_path: Path, log: Path) -> str:
    path = tmp_path / "say"
    path.write_text(FAKE.format(python=sys.executable, log=str(log)))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def say(program: str) -> Iterator[Say]:
    engine = Say(SaySettings(program=program, voice="Samantha", speed=190))
    assert engine.available() == ""
    engine.load(None)
    yield engine
    engine.close()


def said(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_a_sentence_in_chunks(say: Say, log: Path) -> None:
    chunks = list(say.speak("Hello there", ""))
    assert b"".join(chunk.pcm for chunk in chunks) == b"\x01\x02" * 22_050 * 2
    assert all(len(chunk.pcm) <= 22_050 * 2 // 5 and chunk.sample_rate == 22_050 for chunk in chunks)
    assert said(log) == [["Hello there", "Samantha", "190"]]


@pytest.mark.parametrize("text", ["-v Evil", "--output-file=/tmp/x", "$(touch x) `x`", "naïve — 你好", "[[rate 9]]"])
def test_text_is_never_an_option(say: Say, log: Path, text: str) -> None:
    assert list(say.speak(text, "Alex"))
    assert said(log) == [[text, "Alex", "190"]]


def test_closing_saves_the_rest(say: Say, log: Path) -> None:
    speech = say.speak("A sentence of some length, that goes on. " * 20, "")
    next(speech)
    speech.close()  # type: ignore[attr-defined]
    assert len(said(log)) == 1


def test_long_text_in_pieces(say: Say, log: Path) -> None:
    text = "A sentence of some length, that goes on. " * 20
    assert sum(len(chunk.pcm) for chunk in say.speak(text, "")) == 22_050 * 2 * len(text.split())
    assert all(len(piece) <= 200 and piece.endswith(".") for piece, _, _ in said(log))


def test_nothing_to_say(say: Say, log: Path) -> None:
    for text in ("", " \n", "😀", "..."):
        assert list(say.speak(text, "")) == []
    assert said(log) == []


def test_an_unknown_voice_is_what_the_program_says_of_it(say: Say) -> None:
    with pytest.raises(EngineFailed, match="Voice `Nobody' not found") as caught:
        next(say.speak("Hello", "Nobody"))
    assert "say -v ?" in caught.value.hint


def test_no_audio_and_wrong_audio(say: Say) -> None:
    list(say.speak("A file that must not be taken for the next one", ""))
    with pytest.raises(EngineFailed, match="no audio"):
        next(say.speak("silent", ""))
    with pytest.raises(EngineFailed, match="another kind"):
        next(say.speak("stereo", ""))


def test_a_program_that_is_missing_or_no_program(tmp_path: Path) -> None:
    missing = Say(SaySettings(program=str(tmp_path / "none")))
    assert "there is no program" in missing.available()
    missing.load(None)
    with pytest.raises(EngineFailed, match="cannot be run"):
        next(missing.speak("Hello", ""))
    missing.close()


def test_only_on_a_mac() -> None:
    reason = Say(SaySettings()).available()
    assert reason == ("" if sys.platform == "darwin" else "it exists on macOS only")


def test_its_files_go_when_it_closes(say: Say, program: str) -> None:
    engine = Say(SaySettings(program=program))
    engine.load(None)
    assert engine._folder is not None
    folder = Path(engine._folder.name)
    list(engine.speak("Hello", ""))
    assert list(folder.iterdir())
    engine.close()
    assert not folder.exists()
    with pytest.raises(EngineFailed, match="not loaded"):
        next(engine.speak("Hello", ""))


def test_the_plugin_offers_the_configured_engine(tmp_path: Path) -> None:
    settings = msgspec.convert({"voice": "Alex"}, assistant_say.plugin_settings())
    context = PluginContext("say", settings, tmp_path, logging.getLogger("t"), lambda event: None)
    (engine,) = assistant_say.register_tts(context)
    assert isinstance(engine, Say)
    assert (engine.name, engine.lane, engine.rank, engine.settings.voice) == ("say", "cpu", 10, "Alex")
