"""The eSpeak NG voice, with the real library."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise, zip_longest
from pathlib import Path

import assistant_espeak
import msgspec
import numpy as np
import pytest
from assistant_espeak.engine import PIECE_CHARACTERS, Espeak, pieces

from assistant import EngineFailed, PluginContext


@pytest.fixture
def espeak() -> Iterator[Espeak]:
    engine = Espeak()
    engine.load(None)
    yield engine
    engine.close()


def sound(engine: Espeak, text: str, voice: str = "") -> bytes:
    return b"".join(chunk.pcm for chunk in engine.speak(text, voice))


def same_length(one: bytes, other: bytes) -> bool:
    """To 3 %: the library's synthesis is not the same twice."""
    return abs(len(one) - len(other)) < 0.03 * len(other)


def test_speech_is_audible_and_long_enough(espeak: Espeak) -> None:
    pcm = np.frombuffer(sound(espeak, "Hello, this is a test of the voice."), "<i2").astype(float)
    assert 1.5 < len(pcm) / 22_050 < 4.0
    assert float(np.sqrt((pcm**2).mean())) > 500


def test_chunks_are_short(espeak: Espeak) -> None:
    chunks = list(espeak.speak("One two three four five six seven eight nine ten.", ""))
    assert len(chunks) > 5
    assert {chunk.sample_rate for chunk in chunks} == {22_050}
    assert all(0 < len(chunk.pcm) <= 22_050 * 2 // 5 and len(chunk.pcm) % 2 == 0 for chunk in chunks)


def test_closing_stops_and_the_next_sentence_is_whole(espeak: Espeak) -> None:
    alone = sound(espeak, "Yes, please.")
    stopped = espeak.speak("This is a long sentence that nobody wants to hear. " * 50, "")
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    assert same_length(sound(espeak, "Yes, please."), alone)


def test_two_voices_in_turns_do_not_mix(espeak: Espeak) -> None:
    text = "A sentence of some length, in one voice or the other. " * 12
    alone = [sound(espeak, text, "en-us"), sound(espeak, text, "fr-fr")]
    assert not same_length(*alone)
    heard = [b"", b""]
    for american, french in zip_longest(espeak.speak(text, "en-us"), espeak.speak(text, "fr-fr")):
        heard[0] += american.pcm if american else b""
        heard[1] += french.pcm if french else b""
    assert same_length(heard[0], alone[0])
    assert same_length(heard[1], alone[1])


@pytest.mark.parametrize("voice", ["en-gb", "EN-US", "English (America)", "gmw/en-US", "en-us+f3", "de", "fr-fr"])
def test_voices_by_any_name(espeak: Espeak, voice: str) -> None:
    assert len(sound(espeak, "Hello", voice)) > 5_000


def test_voices_differ(espeak: Espeak) -> None:
    assert len({sound(espeak, "Hello", voice) for voice in ("en-us", "en-us+f3", "de", "fr-fr")}) == 4


@pytest.mark.parametrize("voice", ["nope", "en-us+nope", "../../etc/passwd", "+f3", "mb-de2"])
def test_an_unknown_voice_is_named_with_others(espeak: Espeak, voice: str) -> None:
    with pytest.raises(EngineFailed) as caught:
        sound(espeak, "Hello", voice)
    assert "no v" in caught.value.message
    assert caught.value.hint.startswith("for example")
    assert sound(espeak, "Hello")


@pytest.mark.parametrize("text", ["", "  \n\t ", "😀🎉", "...", "\0"])
def test_nothing_to_say(espeak: Espeak, text: str) -> None:
    assert list(espeak.speak(text, "")) == []


@pytest.mark.parametrize("text", ["a\0b", "\ud800 lone", "<speak>x</speak>", "[[h@l'oU]]", "你好", "9" * 199])
def test_odd_text_is_survived(espeak: Espeak, text: str) -> None:
    assert sound(espeak, text)


def test_a_very_long_text(espeak: Espeak) -> None:
    assert len(sound(espeak, "word " * 2_000)) > 22_050 * 2 * 300


def test_speed_counts() -> None:
    lengths = []
    for speed in (90, 300):
        engine = Espeak(speed=speed)
        engine.load(None)
        lengths.append(len(sound(engine, "The same sentence, slower and faster.")))
        engine.close()
    assert lengths[0] > 1.8 * lengths[1]


def test_it_loads_again_after_closing(espeak: Espeak) -> None:
    before = sound(espeak, "Hello")
    espeak.close()
    espeak.load(None)
    assert same_length(sound(espeak, "Hello"), before)


def test_pieces_end_where_one_would_breathe() -> None:
    text = "First sentence here. " * 9 + "Then " + "clause, " * 40 + "x" * 450
    parts = [part for part, _ in pieces(text)]
    assert all(len(part) <= PIECE_CHARACTERS for part in parts)
    assert parts[0].endswith("here.")
    assert parts[1].endswith(",")
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")


def marked(engine: Espeak, text: str) -> list[tuple[int, str]]:
    """The first sample of each word of the text that the library tells apart, and what stands there."""
    found, before = [], 0
    for chunk in engine.speak(text, ""):
        for mark in chunk.words:
            assert 0 <= mark.sample <= len(chunk.pcm) // 2
            found.append((before + mark.sample, text[mark.character :].partition(" ")[0].rstrip("\u200b\0")))
        before += len(chunk.pcm) // 2
    return found


def test_words_are_marked(espeak: Espeak) -> None:
    marks = marked(espeak, "Hello there, this is a naïve test.")
    assert [word for _, word in marks] == ["Hello", "there,", "this", "is", "a", "naïve", "test."]
    samples = [sample for sample, _ in marks]
    assert samples[0] == 0
    assert all(0.03 * 22_050 < later - sooner < 22_050 for sooner, later in pairwise(samples))


def test_a_word_begins_after_the_pause_before_it(espeak: Espeak) -> None:
    text = "Hello, world"
    pcm = np.abs(np.frombuffer(sound(espeak, text), "<i2").astype(int))
    (_, (world, _)) = marked(espeak, text)
    before, after = pcm[world - 1_000 : world], pcm[world : world + 4_000]
    assert before.max() < 0.1 * after.max()


@pytest.mark.parametrize("gap", [" ", "  \n\t", "\u200b\0 "])
def test_marks_are_places_in_the_text_as_it_was_given(espeak: Espeak, gap: str) -> None:
    text = gap + gap.join(["alpha", "bravo", "charlie", "delta", "echo."] * 30) + gap
    words = [word for _, word in marked(espeak, text)]
    assert words == ["alpha", "bravo", "charlie", "delta", "echo."] * 30


def test_marks_of_several_pieces_go_on(espeak: Espeak) -> None:
    text = "First sentence here. " * 30
    marks = marked(espeak, text)
    assert [word for _, word in marks] == ["First", "sentence", "here."] * 30
    samples = [sample for sample, _ in marks]
    assert samples == sorted(set(samples))


@pytest.mark.parametrize("text", ["3.5 degrees, 1,234 and $5 at 10:30 p.m.", "\ud800 a 你好 b", "AT&T [x] (yes)"])
def test_marks_of_odd_text_are_places_in_it(espeak: Espeak, text: str) -> None:
    assert len(marked(espeak, text)) >= 3


def test_the_plugin_offers_the_configured_engine(tmp_path: Path) -> None:
    settings = msgspec.convert({"speed": 120, "voice": "de"}, assistant_espeak.plugin_settings())
    context = PluginContext("espeak", settings, tmp_path, logging.getLogger("t"), lambda event: None)
    (engine,) = assistant_espeak.register_tts(context)
    assert isinstance(engine, Espeak)
    assert (engine.name, engine.lane, engine.rank, engine.speed, engine.voice) == ("espeak", "cpu", 1, 120, "de")
    assert engine.available() == ""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"speed": 20}, assistant_espeak.plugin_settings())


def test_engines_of_one_process_share_the_library_in_peace() -> None:
    slow, fast = Espeak(speed=120), Espeak(speed=220)
    for number in range(40):
        slow.load(None)
        fast.load(None)
        lengths = [sum(len(one.pcm) for one in each.speak("good morning to you", "en-gb")) for each in (slow, fast)]
        assert lengths[0] > 1.3 * lengths[1]
        (slow, fast)[number % 2].close()
