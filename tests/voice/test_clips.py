"""Where the words of a sentence are, known or guessed; the truth is eSpeak NG's own."""

from __future__ import annotations

import numpy as np
import pytest
from assistant_espeak.engine import Espeak

from assistant import AudioChunk, WordMark
from assistant.voice.clips import Clip, weight, words

RATE = 16_000

SENTENCES = {
    "en-us": (
        "Hello there, it is three degrees.",
        "The weather in Paris is sunny today, with a high of 21 degrees.",
        "I set a timer for ten minutes.",
        "In the beginning there was nothing, and then somebody asked a question about it.",
        "Your next meeting is at 10:30 with Doctor Smith, and after that you are free until 4 o'clock.",
        "Well-known people often arrive late; that is why I would leave a little later.",
        "It costs $3.50, which is about €3.20.",
        "The capital of Australia is Canberra, not Sydney, although many people believe otherwise.",
    ),
    "de": (
        "Das Wetter in Berlin ist heute sonnig, mit bis zu 21 Grad.",
        "Ich habe einen Wecker für zehn Minuten gestellt.",
        "Die Hauptstadt von Australien ist Canberra, nicht Sydney, obwohl viele das glauben.",
    ),
}


def spoken(voice: str) -> dict[str, list[AudioChunk]]:
    engine = Espeak()
    engine.load(None)
    try:
        return {sentence: list(engine.speak(sentence, voice)) for sentence in SENTENCES[voice]}
    finally:
        engine.close()


def tone(seconds: float) -> bytes:
    return (np.sin(np.arange(round(seconds * RATE))) * 8_000).astype("<i2").tobytes()


def closed(text: str, *chunks: AudioChunk) -> Clip:
    clip = Clip(text, RATE)
    for chunk in chunks:
        clip.add(chunk)
    clip.close()
    return clip


@pytest.mark.parametrize("voice", SENTENCES)
def test_guessed_words_are_near_the_true_ones(voice: str) -> None:
    errors: list[float] = []
    for sentence, chunks in spoken(voice).items():
        true = closed(sentence, *chunks)
        guess = closed(sentence, *(AudioChunk(pcm=one.pcm, sample_rate=one.sample_rate) for one in chunks))
        errors += list(np.abs(true.view.starts - guess.view.starts) / RATE)
        assert np.all(np.diff(guess.view.starts) >= 0)
    assert float(np.mean(errors)) < 0.075
    assert float(np.percentile(errors, 95)) < 0.2


def test_words_are_guessed_while_the_sentence_still_grows() -> None:
    errors: list[float] = []
    for sentence, chunks in spoken("en-us").items():
        true, guess = closed(sentence, *chunks), Clip(sentence, RATE)
        for chunk in chunks[: len(chunks) // 2]:
            guess.add(AudioChunk(pcm=chunk.pcm, sample_rate=chunk.sample_rate))
        here = true.view.starts < guess.view.length
        errors += list(np.abs(true.view.starts - guess.view.starts)[here] / RATE)
    assert float(np.mean(errors)) < 0.15


def test_marks_are_taken_as_they_are() -> None:
    marks = (WordMark(sample=0, character=0), WordMark(sample=3_000, character=4), WordMark(sample=9_000, character=8))
    view = closed("one two six", AudioChunk(pcm=tone(0.8), sample_rate=RATE, words=marks)).view
    assert view.starts.tolist() == [0, 3_000, 9_000]
    np.testing.assert_allclose(view.halves, [1_500, 6_000, 10_900], atol=1)


def test_marks_count_from_their_chunk_in_its_own_rate() -> None:
    low = (np.sin(np.arange(4_000)) * 8_000).astype("<i2").tobytes()
    view = closed(
        "one two six",
        AudioChunk(pcm=low, sample_rate=8_000, words=(WordMark(sample=0, character=0),)),
        AudioChunk(pcm=low, sample_rate=8_000, words=(WordMark(sample=1_000, character=4),)),
        AudioChunk(pcm=tone(0.5), sample_rate=RATE, words=(WordMark(sample=1_000, character=8),)),
    ).view
    assert view.starts.tolist() == [0, 10_000, 17_000]


def test_words_without_a_mark_lie_between_the_marked_ones() -> None:
    marks = (WordMark(sample=0, character=0), WordMark(sample=8_000, character=15))
    starts = closed("same same same same", AudioChunk(pcm=tone(1), sample_rate=RATE, words=marks)).view.starts
    assert starts[0] == 0
    assert 0 < starts[1] < starts[2] < 8_000 <= starts[3] < RATE


def test_marks_that_make_no_sense_change_nothing() -> None:
    marks = [WordMark(sample=sample, character=character) for sample, character in ((0, 0), (900, 1), (50, 400))]
    back = (WordMark(sample=4_000, character=4), WordMark(sample=6_000, character=0))
    starts = closed("one two", AudioChunk(pcm=tone(0.5), sample_rate=RATE, words=(*marks, *back))).view.starts
    assert starts.tolist() == [0, 4_000]


def test_silence_belongs_to_no_word() -> None:
    text = "same, same"
    view = closed(text, AudioChunk(pcm=bytes(3_200) + tone(0.3) + bytes(16_000) + tone(0.3), sample_rate=RATE)).view
    assert view.starts.tolist()[1] == pytest.approx(1_600 + 4_800 + 8_000, abs=200)
    assert view.ends.tolist()[0] == pytest.approx(1_600 + 4_800, abs=200)
    assert view.back(1_600 + 4_800 + 1_000) == 1_600 + 4_800 + 1_000
    assert view.back(1_600 + 2_000) < 1_600


def test_the_pace_is_learnt() -> None:
    slow = closed("some words", AudioChunk(pcm=tone(2), sample_rate=RATE))
    assert slow.pace == pytest.approx(2 / (weight("some") + weight("words")), rel=0.02)
    growing = Clip("more of them to come", RATE, slow.pace)
    growing.add(AudioChunk(pcm=tone(0.3), sample_rate=RATE))
    usual = Clip("more of them to come", RATE)
    usual.add(AudioChunk(pcm=tone(0.3), sample_rate=RATE))
    assert growing.view.starts[1] > 2 * usual.view.starts[1]


def test_chinese_has_a_word_for_each_character() -> None:
    text = "你好。Hello 世界!"
    assert [text[start:end] for start, end in words(text)] == ["你", "好。", "Hello", "世", "界!"]


def test_silence_and_nothing_have_words_too() -> None:
    silent = closed("one two", AudioChunk(pcm=bytes(RATE), sample_rate=RATE)).view
    assert 0 <= silent.starts[0] < silent.starts[1] < RATE
    empty = closed("", AudioChunk(pcm=b"", sample_rate=RATE)).view
    assert (empty.length, empty.back(0), empty.played(10)) == (0, 0, 0)
