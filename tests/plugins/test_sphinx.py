"""PocketSphinx with its own model, on real recordings and on eSpeak's voice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import assistant_sphinx
import numpy as np
import pytest
import soxr
from assistant_espeak.engine import Espeak
from assistant_sphinx.engine import Sphinx
from assistant_sphinx.grammar import NUMBER, ONES, TEENS, TENS, Grammar, distance, graph

from assistant import EngineFailed, Transcript

pytestmark = pytest.mark.model

DATA = Path(__file__).parent.parent / "data"
JFK = (DATA / "jfk.wav").read_bytes()[44:]
PHRASES = (
    *(f"set a timer for {number} minutes" for number in ("two", "five", "seven", "ten", "twenty", "thirty five")),
    "what time is it", "what day is it", "cancel the timer", "stop", "what's the weather in Xqzzyqu?", "set 5 timers",
    "How long is left on the timer?",
)


@pytest.fixture(scope="module")
def sphinx() -> Iterator[Sphinx]:
    engine = Sphinx()
    assert engine.available() == ""
    engine.load(None)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def voice() -> Iterator[Espeak]:
    engine = Espeak(speed=150)
    engine.load(None)
    yield engine
    engine.close()


def spoken(voice: Espeak, text: str) -> bytes:
    """``text`` at 16 kHz, between half seconds of silence."""
    pcm = b"".join(chunk.pcm for chunk in voice.speak(text, ""))
    wave = soxr.resample(np.frombuffer(pcm, "<i2").astype(np.float32), 22_050, 16_000)
    return bytes(16_000) + bytes(np.clip(wave, -32768, 32767).astype("<i2").tobytes()) + bytes(16_000)


def heard(engine: Sphinx, pcm: bytes, phrases: tuple[str, ...] = (), size: int = 32_000) -> Transcript:
    utterance = engine.open("en", phrases)
    for at in range(0, len(pcm), size):
        utterance.feed(pcm[at : at + size])
    return utterance.finish()


@pytest.mark.parametrize("command", ["set a timer for ten minutes", "what time is it", "how long is left on the timer"])
def test_a_command_is_heard_word_for_word(sphinx: Sphinx, voice: Espeak, command: str) -> None:
    transcript = heard(sphinx, spoken(voice, command), PHRASES)
    assert transcript.text == command
    assert 0.3 < transcript.segments[0].start < 1.0
    assert transcript.segments[-1].end <= transcript.seconds


@pytest.mark.parametrize("sentence", ["please write a poem about the sea", "how many people live in tokyo"])
def test_another_sentence_is_no_command(sphinx: Sphinx, voice: Espeak, sentence: str) -> None:
    text = heard(sphinx, spoken(voice, sentence), PHRASES).text
    assert text
    assert text not in {phrase.lower().rstrip("?") for phrase in PHRASES}


def test_real_speech_is_no_command(sphinx: Sphinx) -> None:
    for second in (0, 3, 8):
        text = heard(sphinx, JFK[second * 32_000 : (second + 3) * 32_000], PHRASES).text
        assert text not in {phrase.lower().rstrip("?") for phrase in PHRASES}


def test_dictation_of_real_speech_has_some_of_its_words(sphinx: Sphinx) -> None:
    transcript = heard(sphinx, JFK)
    assert {"and", "my", "not", "you"} <= set(transcript.text.split())
    assert transcript.seconds == 11.0
    assert transcript.language == "en"
    assert " ".join(segment.text for segment in transcript.segments) == transcript.text


def test_segments_are_short_and_in_order(sphinx: Sphinx) -> None:
    segments = heard(sphinx, (DATA / "beckett.wav").read_bytes()[44:]).segments
    assert len(segments) >= 4
    assert all(len(segment.text.split()) <= 8 for segment in segments)
    assert all(0 <= one.start < one.end <= two.start for one, two in pairwise(segments))


def test_the_same_audio_gives_the_same_transcript_in_any_pieces(sphinx: Sphinx) -> None:
    assert len({heard(sphinx, JFK[:80_000], PHRASES, size).text for size in (801, 3_200, 10**6)}) == 1


def test_utterances_may_overlap(sphinx: Sphinx, voice: Espeak) -> None:
    commands = ("cancel the timer", "what day is it")
    sounds = [spoken(voice, command) for command in commands]
    utterances = [sphinx.open("en", PHRASES) for _ in commands]
    for at in range(0, max(map(len, sounds)), 6_400):
        for utterance, sound in zip(utterances, sounds, strict=True):
            utterance.feed(sound[at : at + 6_400])
    assert tuple(utterance.finish().text for utterance in utterances) == commands


def test_an_utterance_that_was_given_up_does_not_disturb_the_next(sphinx: Sphinx, voice: Espeak) -> None:
    utterance = sphinx.open("en", PHRASES)
    utterance.feed(JFK[:64_000])
    del utterance
    assert heard(sphinx, spoken(voice, "what time is it"), PHRASES).text == "what time is it"


def test_a_command_among_thousands(sphinx: Sphinx, voice: Espeak) -> None:
    numbers = [" ".join(words(one)) for one in range(1, 61)]
    starts = ("set a timer for", "start a timer for", "timer", "cancel the timer for", "set timer")
    units = [f"{start} {one} {unit}s" for one in numbers for unit in ("second", "minute", "hour") for start in starts]
    pairs = [f"timer for {one} minutes {two} seconds" for one in numbers for two in numbers[::4]]
    command = "set a timer for ten minutes"
    assert heard(sphinx, spoken(voice, command), (*PHRASES, *units, *pairs)).text == command


def test_a_draft_is_the_command_so_far(sphinx: Sphinx, voice: Espeak) -> None:
    pcm = spoken(voice, "what time is it")
    utterance = sphinx.open("en", PHRASES)
    utterance.feed(pcm[:8_000])
    assert utterance.draft() is None
    utterance.feed(pcm[8_000:-9_600])
    draft = utterance.draft()
    assert draft is not None
    assert draft.text == "what time is it"
    utterance.feed(pcm[-9_600:])
    final = utterance.finish()
    assert (final.text, final.segments) == (draft.text, draft.segments)
    assert final.seconds > draft.seconds


def test_after_a_draft_more_may_be_said(sphinx: Sphinx, voice: Espeak) -> None:
    pause = bytes(16_000)
    utterance = sphinx.open("en", ("set a timer", "set a timer for ten minutes", "what time is it"))
    utterance.feed(spoken(voice, "set a timer")[:-8_000])
    first = utterance.draft()
    assert first is None or first.text == "set a timer"
    utterance.feed(pause + spoken(voice, "for ten minutes"))
    assert utterance.finish().text == "set a timer for ten minutes"


def test_what_is_no_command_has_no_draft(sphinx: Sphinx) -> None:
    utterance = sphinx.open("en", PHRASES)
    utterance.feed(JFK[:96_000])
    assert utterance.draft() is None
    text = utterance.finish().text
    assert text
    assert text == heard(sphinx, JFK[:96_000], PHRASES).text
    dictation = sphinx.open("en", ())
    dictation.feed(JFK[:96_000])
    assert dictation.draft() is None


def words(value: int) -> list[str]:
    """A number up to 60 as it is said."""
    ones = ["", *ONES, *TEENS]
    return [ones[value]] if value < 20 else [one for one in (TENS[value // 10 - 2], ones[value % 10]) if one]


def test_partial_transcripts_come_on_the_way(sphinx: Sphinx) -> None:
    utterance = sphinx.open("en", ())
    partial = [utterance.feed(JFK[at : at + 3_200]) for at in range(0, 160_000, 3_200)]
    shown = [text for text in partial if text]
    assert 2 <= len(shown) <= 12
    assert shown[-1].split()[0] == shown[-2].split()[0]
    assert utterance.finish().text


def test_long_audio_is_cut_into_stretches(sphinx: Sphinx, voice: Espeak) -> None:
    command = spoken(voice, "what time is it")
    transcript = heard(sphinx, JFK[: 9 * 32_000] + bytes(32_000) + command, PHRASES)
    assert transcript.text != "what time is it"
    assert 10.0 < transcript.segments[-1].start < transcript.segments[-1].end <= transcript.seconds
    assert transcript.seconds == pytest.approx(10 + len(command) / 32_000)


@pytest.mark.parametrize("phrases", [(), PHRASES])
@pytest.mark.parametrize("level", [0, 50])
def test_silence_says_nothing(sphinx: Sphinx, phrases: tuple[str, ...], level: int) -> None:
    noise = np.random.default_rng(0).normal(0, 1, 16_000 * 40) * level
    transcript = heard(sphinx, noise.astype("<i2").tobytes(), phrases)
    assert (transcript.text, transcript.segments, transcript.seconds) == ("", (), 40.0)


@pytest.mark.parametrize("pcm", [b"", b"\1", b"\1\2", b"\0\x40" * 500])
def test_next_to_no_audio(sphinx: Sphinx, pcm: bytes) -> None:
    assert heard(sphinx, pcm, PHRASES).text == ""


def test_another_language(sphinx: Sphinx) -> None:
    with pytest.raises(EngineFailed, match="English only, not 'de'") as caught:
        sphinx.open("de", ())
    assert caught.value.hint
    assert sphinx.open("en-GB", ()).finish().text == sphinx.open("", ()).finish().text == ""


def test_not_loaded() -> None:
    engine = Sphinx()
    with pytest.raises(EngineFailed, match="not loaded"):
        engine.open("en", ())


def test_phrases_with_unknown_words_are_left_out() -> None:
    grammar = Grammar(PHRASES)
    assert len(grammar.sentences) == len(PHRASES) - 2
    assert grammar.says(["how", "long", "is", "left", "on", "the", "timer"])
    assert not grammar.says(["how", "long", "is", "left", "on", "the"])
    assert not grammar.says(["set", "5", "timers"])
    assert not Grammar(("xqzzyqu",)).sentences


def test_phrases_of_unknown_words_only_leave_dictation(sphinx: Sphinx, voice: Espeak) -> None:
    assert heard(sphinx, spoken(voice, "good morning"), ("xqzzyqu",)).text


def test_the_graph_says_the_sentences_and_no_others() -> None:
    said = ("set one hour", "set two hours", "set two days", "stop", "stop it", "it")
    sentences = {tuple(sentence.split()) for sentence in said}
    start, transitions = graph(sentences)

    def walk(state: int) -> Iterator[tuple[str, ...]]:
        if state == 0:
            yield ()
        for edge in transitions:
            if edge[0] == state:
                yield from ((*edge[3:], *rest) for rest in walk(edge[1]))

    found = list(walk(start))
    assert len(found) == len(sentences)
    assert set(found) == sentences


def test_the_graph_shares_beginnings_and_ends() -> None:
    numbers = [f"n{one}" for one in range(50)]
    _, transitions = graph([("set", "a", one, unit, "timer") for one in numbers for unit in ("second", "minute")])
    assert len(transitions) <= 2 + 50 + 2 + 1 + 1


def number(words: str) -> int | None:
    """The number below a thousand that is said so, or None."""
    ones = ["", *ONES, *TEENS]
    for value in range(1, 1000):
        tens = ones[value % 100] if value % 100 < 20 else f"{TENS[value % 100 // 10 - 2]} {ones[value % 10]}".strip()
        hundreds = {f"{ones[value // 100]} hundred", *(["a hundred"] if value < 200 else [])} if value > 99 else {""}
        joints = ("", "and ") if value > 99 and tens else ("",)
        if words in {f"{one} {joint}{tens}".strip() for one in hundreds for joint in joints}:
            return value
    return None


def test_a_number_in_a_phrase_is_every_number_from_1_to_999() -> None:
    grammar = Grammar((f"what is {NUMBER} percent of {NUMBER}", "stop"))
    for said in ("one", "seventeen", "forty", "forty two", "nine hundred ninety nine", "a hundred and one"):
        assert number(said)
        assert grammar.says(f"what is {said} percent of three hundred and forty".split())
    for said in ("", "zero", "forty ten", "hundred", "forty hundred", "two three", "one hundred and", "thousand"):
        assert number(said) is None
        assert not grammar.says(f"what is {said} percent of forty".split())
    assert grammar.says(["stop"])


def test_the_graph_of_a_number_says_each_number_once() -> None:
    start, transitions = graph([(NUMBER,)])

    def walk(state: int) -> Iterator[tuple[str, ...]]:
        if state == 0:
            yield ()
        for edge in transitions:
            if edge[0] == state:
                yield from ((*edge[3:], *rest) for rest in walk(edge[1]))

    found = [" ".join(words) for words in walk(start)]
    assert len(set(found)) == len(found)
    assert {number(words) for words in found} == set(range(1, 1000))


@pytest.mark.parametrize(
    ("one", "other", "share"), [("", "", 0.0), ("abc", "abc", 0.0), ("abc", "", 1.0), ("kitten", "sitting", 3 / 7)]
)
def test_distance(one: str, other: str, share: float) -> None:
    assert distance(one, other) == distance(other, one) == share


def test_the_plugin_offers_the_engine() -> None:
    (engine,) = assistant_sphinx.register_stt()
    assert isinstance(engine, Sphinx)
    assert (engine.name, engine.lane, engine.rank, engine.default_model) == ("sphinx", "cpu", 1, "")
