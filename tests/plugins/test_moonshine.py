"""Moonshine with its own model, on real recordings and on eSpeak's voices; its vocabulary and sentences by hand."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

import assistant_moonshine
import numpy as np
import pytest
from assistant_moonshine.engine import FILES, Moonshine
from assistant_moonshine.sentences import Place, Sentences
from assistant_moonshine.vocabulary import END, FIRST_WORD, SPACE, Vocabulary

from assistant import EngineFailed, ModelError, Transcript
from assistant.testing import audio, synthesise

DATA = Path(__file__).parents[1] / "data"
PHRASES = (
    *(f"set a timer for {number} minutes" for number in ("two", "five", "seven", "ten", "twenty", "thirty five")),
    "what time is it", "what day is it", "cancel the timer", "stop", "how long is left on the timer",
    "turn on the kitchen light", "pause the music",
)
VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-us+f3", "en-us+m3")
JFK = (
    "and so my fellow americans ask not what your country can do for you "
    "ask what you can do for your country"
)


@pytest.fixture(scope="module")
def moonshine(moonshine_model: Path) -> Iterator[Moonshine]:
    engine = Moonshine()
    assert engine.available() == ""
    engine.load(moonshine_model)
    yield engine
    engine.close()


def plain(text: str) -> str:
    """Words only."""
    return " ".join(re.sub(r"[^\w' ]+", " ", text.lower()).split())


def spoken(text: str, voice: str = "en-us") -> bytes:
    """``text`` between half seconds of silence."""
    return audio.silence(0.5) + synthesise(text, voice).pcm + audio.silence(0.5)


def recording(name: str) -> bytes:
    return audio.read(DATA / name)


def heard(engine: Moonshine, pcm: bytes, phrases: tuple[str, ...] = (), size: int = 32_000) -> Transcript:
    utterance = engine.open("en", phrases)
    for at in range(0, len(pcm), size):
        utterance.feed(pcm[at : at + size])
    return utterance.finish()


@pytest.mark.model
@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize(
    "command", ["set a timer for ten minutes", "what time is it", "turn on the kitchen light", "stop"]
)
def test_a_command_is_heard_word_for_word(moonshine: Moonshine, voice: str, command: str) -> None:
    transcript = heard(moonshine, spoken(command, voice), PHRASES)
    assert plain(transcript.text) == command
    assert transcript.text[0].isupper()
    assert transcript.text[-1] in ".?!"
    [segment] = transcript.segments
    assert 0.3 < segment.start < 0.7
    assert segment.start < segment.end <= transcript.seconds
    assert segment.text == transcript.text
    assert transcript.language == "en"


@pytest.mark.model
def test_a_phrase_wins_over_a_near_miss_and_over_no_other_phrase(moonshine: Moonshine) -> None:
    freely, biased = 0, 0
    for command in ("cancel the timer", "what day is it", "pause the music", "set a timer for five minutes"):
        for voice in VOICES:
            pcm = spoken(command, voice)
            with_phrases = plain(heard(moonshine, pcm, PHRASES).text)
            assert with_phrases == command or with_phrases not in PHRASES
            freely += plain(heard(moonshine, pcm).text) == command
            biased += with_phrases == command
    assert biased >= freely + 4
    assert biased >= 14


@pytest.mark.model
@pytest.mark.parametrize("voice", VOICES[:3])
@pytest.mark.parametrize(
    "sentence",
    [
        "please write a poem about the sea", "how many people live in tokyo", "set the table for ten people",
        "what kind of tie is it", "he cannot stand the rhyme", "tell me about the history of the kitchen",
    ],
)
def test_another_sentence_is_no_command(moonshine: Moonshine, sentence: str, voice: str) -> None:
    text = plain(heard(moonshine, spoken(sentence, voice), PHRASES).text)
    assert text
    assert text not in PHRASES


@pytest.mark.model
@pytest.mark.parametrize("name", ["jfk.wav", "beckett.wav"])
def test_real_speech_is_no_command(moonshine: Moonshine, name: str) -> None:
    pcm = recording(name)
    for at in range(0, len(pcm) - 48_000, 48_000):
        assert plain(heard(moonshine, pcm[at : at + 64_000], PHRASES).text) not in PHRASES


@pytest.mark.model
@pytest.mark.parametrize("phrases", [(), PHRASES])
def test_dictation_of_real_speech(moonshine: Moonshine, phrases: tuple[str, ...]) -> None:
    transcript = heard(moonshine, recording("jfk.wav"), phrases)
    assert plain(transcript.text) == JFK
    assert transcript.seconds == 11.0


@pytest.mark.model
def test_the_pieces_that_sound_comes_in_make_no_difference(moonshine: Moonshine) -> None:
    pcm = recording("jfk.wav")[:160_001]
    assert len({heard(moonshine, pcm, PHRASES, size) for size in (801, 3_200, 10**6)}) == 1


@pytest.mark.model
def test_utterances_may_overlap(moonshine: Moonshine) -> None:
    commands = ("set a timer for seven minutes", "what time is it")
    sounds = [spoken(command, "en-gb") for command in commands]
    utterances = [moonshine.open("en", PHRASES) for _ in commands]
    for at in range(0, max(map(len, sounds)), 6_400):
        for utterance, sound in zip(utterances, sounds, strict=True):
            utterance.feed(sound[at : at + 6_400])
    assert tuple(plain(utterance.finish().text) for utterance in utterances) == commands


@pytest.mark.model
@pytest.mark.parametrize("phrases", [(), PHRASES])
@pytest.mark.parametrize("dbfs", [-70.0, -60.0, -50.0, -35.0, -20.0])
@pytest.mark.parametrize("kind", ["white", "pink"])
def test_noise_says_nothing(moonshine: Moonshine, kind: audio.NoiseKind, dbfs: float, phrases: tuple[str, ...]) -> None:
    for seconds in (0.7, 3.0):
        transcript = heard(moonshine, audio.noise(kind, seconds, dbfs), phrases)
        assert (transcript.text, transcript.segments, transcript.seconds) == ("", (), seconds)


@pytest.mark.model
def test_silence_and_hum_say_nothing(moonshine: Moonshine) -> None:
    for pcm in (audio.silence(45.0), audio.tone(100.0, 3.0, -30.0), audio.tone(1000.0, 3.0, -30.0)):
        transcript = heard(moonshine, pcm, PHRASES)
        assert (transcript.text, transcript.segments) == ("", ())
        assert transcript.seconds == audio.seconds_of(pcm)


@pytest.mark.model
def test_noise_that_is_not_steady_says_nothing(moonshine: Moonshine) -> None:
    burst = audio.silence(0.3) + audio.noise("pink", 0.08, -15.0)
    for kind in ("white", "pink"):
        swelling = audio.to_samples(audio.noise(kind, 3.0, -15.0)) * np.linspace(0, 1, 48_000)
        for pcm in (audio.to_pcm(swelling), burst, burst * 6):
            assert heard(moonshine, pcm, PHRASES).text == ""


@pytest.mark.model
@pytest.mark.parametrize("seed", range(3))
def test_voices_without_words_are_no_command(moonshine: Moonshine, seed: int) -> None:
    for pcm in (audio.mumble(2.0, seed=seed), audio.noise("babble", 3.0, -30.0, seed)):
        assert plain(heard(moonshine, pcm, PHRASES).text) not in PHRASES


@pytest.mark.model
@pytest.mark.parametrize("dbfs", [-3.0, -23.0, -40.0, -55.0])
def test_a_command_is_heard_loud_and_soft(moonshine: Moonshine, dbfs: float) -> None:
    pcm = audio.at_level(spoken("what time is it", "en-gb"), dbfs)
    assert plain(heard(moonshine, pcm, PHRASES).text) == "what time is it"


@pytest.mark.model
@pytest.mark.parametrize("command", ["what time is it", "set a timer for ten minutes"])
def test_a_command_is_heard_in_noise(moonshine: Moonshine, command: str) -> None:
    pcm = audio.mix_at_snr(spoken(command, "en-gb"), audio.noise("pink", 3.0, -30.0), 10.0)
    assert plain(heard(moonshine, pcm, PHRASES).text) == command


@pytest.mark.model
@pytest.mark.parametrize("pcm", [b"", b"\1", b"\1\2", b"\0\x40", b"\0\x40" * 500])
def test_next_to_no_sound(moonshine: Moonshine, pcm: bytes) -> None:
    transcript = heard(moonshine, pcm, PHRASES)
    assert (transcript.text, transcript.segments) == ("", ())
    assert transcript.seconds == len(pcm) // 2 / 16_000


@pytest.mark.model
def test_an_odd_byte_at_the_end_is_left_out(moonshine: Moonshine) -> None:
    pcm = spoken("what time is it")
    whole, odd = heard(moonshine, pcm, PHRASES), heard(moonshine, pcm + b"\x7f", PHRASES, 1_601)
    assert whole == odd


@pytest.mark.model
def test_a_draft_is_what_was_said_so_far(moonshine: Moonshine) -> None:
    utterance = moonshine.open("en", ("set a timer", "set a timer for ten minutes"))
    assert utterance.draft() == Transcript(text="", language="en", segments=(), seconds=0.0)
    utterance.feed(spoken("set a timer", "en-gb"))
    drafts = [utterance.draft() for _ in range(2)]
    assert drafts[0] == drafts[1]
    assert drafts[0] is not None
    assert plain(drafts[0].text) == "set a timer"
    utterance.feed(spoken("for ten minutes", "en-gb"))
    final = utterance.finish()
    assert plain(final.text) == "set a timer for ten minutes"
    assert final.seconds > drafts[0].seconds


@pytest.mark.model
def test_a_draft_changes_nothing(moonshine: Moonshine) -> None:
    pcm = recording("jfk.wav")
    utterance = moonshine.open("en", PHRASES)
    for at in range(0, len(pcm), 40_000):
        utterance.feed(pcm[at : at + 40_000])
        assert utterance.draft() is not None
    assert utterance.finish() == heard(moonshine, pcm, PHRASES)


@pytest.mark.model
def test_partial_transcripts_come_on_the_way(moonshine: Moonshine) -> None:
    pcm = recording("jfk.wav")
    utterance = moonshine.open("en", ())
    partial = [utterance.feed(pcm[at : at + 3_200]) for at in range(0, len(pcm), 3_200)]
    shown = [text for text in partial if text]
    assert 4 <= len(shown) <= 16
    assert all(one != other for one, other in pairwise(shown))
    assert plain(shown[-1]).startswith(JFK[:60])
    assert plain(utterance.finish().text) == JFK


@pytest.mark.model
def test_nothing_is_shown_before_half_a_second_of_speech(moonshine: Moonshine) -> None:
    pcm = audio.silence(2.0) + synthesise("what time is it").pcm
    utterance = moonshine.open("en", ())
    partial = [utterance.feed(pcm[at : at + 3_200]) for at in range(0, len(pcm), 3_200)]
    assert not any(partial[:24])
    assert any(partial[24:])


@pytest.mark.model
def test_a_file_gets_no_partial_transcripts(moonshine: Moonshine) -> None:
    assert moonshine.open("en", ()).feed(recording("jfk.wav")) is None


@pytest.mark.model
def test_long_speech_is_cut_and_nothing_is_lost(moonshine: Moonshine) -> None:
    jfk, gap = recording("jfk.wav"), audio.silence(6.0)
    transcript = heard(moonshine, (jfk + gap) * 3 + spoken("what time is it", "en-gb"), PHRASES)
    assert plain(transcript.text) == " ".join([*[JFK] * 3, "what time is it"])
    assert " ".join(segment.text for segment in transcript.segments) == transcript.text
    assert len(transcript.segments) >= 4
    assert transcript.segments[0].start < 1.0
    assert all(one.start < one.end <= two.start for one, two in pairwise(transcript.segments))
    assert transcript.segments[-1].start == pytest.approx(51.5, abs=0.2)
    assert transcript.segments[-1].end <= transcript.seconds


@pytest.mark.model
def test_speech_without_a_pause_is_cut_all_the_same(moonshine: Moonshine) -> None:
    lines = (
        "the old man walked to the market to buy some bread and cheese", "yesterday we saw seven ships in the harbour",
        "my sister has lived in london for more than twenty years", "please remember to bring the books back to school",
        "the weather in the mountains was cold and wet all week", "nobody knows why the train was late this morning",
        "he wrote a long letter to his mother every sunday", "there are three green apples on the kitchen table",
    )
    pcm = b"".join(synthesise(line, "en-gb", speed=140).pcm for line in lines)
    transcript = heard(moonshine, pcm)
    assert len(transcript.segments) >= 2
    assert all(segment.end - segment.start <= 20.0 for segment in transcript.segments)
    assert all(one.start < one.end <= two.start for one, two in pairwise(transcript.segments))
    assert transcript.segments[-1].end <= transcript.seconds
    wanted, found = " ".join(lines).split(), plain(transcript.text).split()
    assert len(found) == pytest.approx(len(wanted), rel=0.1)
    same = sum(block.size for block in SequenceMatcher(None, wanted, found, autojunk=False).get_matching_blocks())
    assert same > 0.75 * len(wanted)


@pytest.mark.model
def test_a_command_within_a_long_speech_is_no_command(moonshine: Moonshine) -> None:
    transcript = heard(moonshine, recording("jfk.wav") + spoken("cancel the timer", "en-us+f3"), PHRASES)
    assert plain(transcript.text).startswith(JFK)
    assert plain(transcript.text).removeprefix(JFK)


STRANGE = (
    "", " ", "?!", "…", "<number> plus <number>", "日本語", "größe", "Naïve café", "a" * 500, "\ufffd", "\u2019",
    "What\u2019s the time?", "Set a timer, for ten minutes!", "thirty-five", "_", "'",
)


@pytest.mark.model
def test_strange_phrases_do_no_harm(moonshine: Moonshine) -> None:
    pcm = spoken("set a timer for ten minutes", "en-us")
    assert plain(heard(moonshine, pcm, STRANGE).text) == "set a timer for ten minutes"
    odd = tuple(phrase for phrase in STRANGE if "timer" not in phrase)
    assert heard(moonshine, pcm, odd).text == heard(moonshine, pcm, ("",)).text == heard(moonshine, pcm).text


@pytest.mark.model
def test_a_command_among_thousands(moonshine: Moonshine) -> None:
    ones = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    numbers = [f"{tens} {one}".strip() for tens in ("", "twenty", "thirty", "forty", "fifty") for one in ones]
    starts = ("set a timer for", "start a timer for", "timer", "cancel the timer for")
    many = [f"{start} {one} minutes {two} seconds" for start in starts for one in numbers for two in numbers[::2]]
    assert len(many) > 4000
    pcm = spoken("set a timer for ten minutes", "en-us")
    assert plain(heard(moonshine, pcm, (*PHRASES, *many)).text) == "set a timer for ten minutes"


@pytest.mark.model
def test_another_language(moonshine: Moonshine) -> None:
    for language in ("de", "eng-x", "fr-FR"):
        with pytest.raises(EngineFailed, match=f"English only, not '{language}'") as caught:
            moonshine.open(language, ())
        assert caught.value.hint
    for language in ("", "en", "en-GB", "EN_us"):
        assert moonshine.open(language, ()).finish().text == ""


@pytest.mark.model
def test_closed_and_loaded_again(moonshine_model: Path) -> None:
    engine = Moonshine()
    for _ in range(2):
        engine.load(moonshine_model)
        assert plain(heard(engine, spoken("what time is it"), PHRASES).text) == "what time is it"
        engine.close()
        with pytest.raises(EngineFailed, match="not loaded"):
            engine.open("en", PHRASES)


@pytest.mark.model
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1000, 100_000])
def test_a_damaged_model_is_named(moonshine_model: Path, tmp_path: Path, name: str, kept: int) -> None:
    folder = tmp_path / "moonshine-tiny"
    shutil.copytree(moonshine_model, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:kept])
    engine = Moonshine()
    with pytest.raises(ModelError, match=f"{re.escape(str(folder))} is damaged") as caught:
        engine.load(folder)
    assert "assistant models pull moonshine-tiny" in caught.value.hint
    with pytest.raises(EngineFailed, match="not loaded"):
        engine.open("en", ())


@pytest.mark.model
def test_a_model_of_something_else_is_named(moonshine_model: Path, silero_model: Path, tmp_path: Path) -> None:
    for name in FILES:
        shutil.copy(moonshine_model / name, tmp_path / name)
    shutil.copy(silero_model / "model.onnx", tmp_path / "decoder.ort")
    with pytest.raises(ModelError):
        Moonshine().load(tmp_path)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    for name in FILES:
        with pytest.raises(ModelError, match=f"not a Moonshine model: it has no {name}") as caught:
            Moonshine().load(tmp_path)
        assert "moonshine-tiny" in caught.value.hint
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match="needs a model") as caught:
        Moonshine().load(None)
    assert "moonshine-tiny" in caught.value.hint


def test_not_loaded() -> None:
    engine = Moonshine()
    with pytest.raises(EngineFailed, match="not loaded"):
        engine.open("en", ())
    engine.close()


def test_the_plugin_offers_the_engine() -> None:
    (engine,) = assistant_moonshine.register_stt()
    assert isinstance(engine, Moonshine)
    assert (engine.name, engine.lane, engine.default_model) == ("moonshine", "cpu", "moonshine-tiny")


WORDS = (
    ".", "?", "!", "-", SPACE, f"{SPACE}set", f"{SPACE}Set", f"{SPACE}s", "et", f"{SPACE}thirty", "five",
    f"{SPACE}five", f"{SPACE}don", "'", "t", f"{SPACE}stop", "top", f"{SPACE}{SPACE}", "x" * 200,
)
"""The tokens after the single bytes of a small vocabulary."""


def packed(tokens: list[bytes]) -> bytes:
    """A file of tokens."""
    sizes = [bytes([len(one)]) if len(one) < 128 else bytes([128 + len(one) % 128, len(one) // 128]) for one in tokens]
    return b"".join(size + one for size, one in zip(sizes, tokens, strict=True))


@pytest.fixture
def vocabulary() -> Vocabulary:
    single = [b"<unk>", b"<s>", b"</s>", *(bytes([value]) for value in range(256))]
    assert len(single) == FIRST_WORD
    return Vocabulary(packed([*single, *(word.encode() for word in WORDS)]))


def said(sentences: Sentences, vocabulary: Vocabulary) -> set[str]:
    """All that may be written, without its ending."""
    endings = {vocabulary.number(ending) for ending in ".?!"}

    def walk(place: Place, tokens: tuple[int, ...]) -> Iterator[str]:
        for token, further in sentences.next(place).items():
            if token == END:
                yield vocabulary.text(one for one in tokens if one not in endings)
            elif token in endings:
                assert set(sentences.next(further)) == {END}
            else:
                yield from walk(further, (*tokens, token))

    return set(walk(sentences.start, ()))


def test_a_vocabulary_reads_its_tokens(vocabulary: Vocabulary) -> None:
    assert len(vocabulary) == FIRST_WORD + len(WORDS)
    numbers = [vocabulary.number(word) for word in WORDS]
    assert numbers == list(range(FIRST_WORD, len(vocabulary)))
    assert vocabulary.text([numbers[6], numbers[11], numbers[3], numbers[10], numbers[1]]) == "Set five-five?"
    assert vocabulary.text([numbers[-1]]) == "x" * 200
    assert vocabulary.text([3 + 0xC3, 3 + 0xA9]) == "é"
    assert vocabulary.text([3 + 0xC3]) == "\ufffd"
    assert vocabulary.text([]) == ""
    with pytest.raises(ValueError, match="not in list"):
        vocabulary.number("nothing")


def test_a_file_of_something_else_is_no_vocabulary(vocabulary: Vocabulary) -> None:
    good = [b"a"] * 300
    assert len(Vocabulary(packed(good))) == 300
    for data in (b"", packed(good[:259]), packed([*good, b"abc"])[:-1], packed([*good, b"a" * 200])[:-200] + b"\xff"):
        with pytest.raises((ValueError, IndexError)):
            Vocabulary(data)
    with pytest.raises(IndexError):
        Vocabulary(packed(good) + b"\x80")


def test_sentences_in_every_way_to_write_them(vocabulary: Vocabulary) -> None:
    sentences = Sentences(("Set thirty-five!", "stop"), vocabulary)
    assert said(sentences, vocabulary) == {
        f"{one} thirty{other}five" for one in ("set", "Set") for other in (" ", "-")
    } | {"stop"}


def test_a_sentence_may_be_the_beginning_of_another(vocabulary: Vocabulary) -> None:
    for phrases in (("set", "set five"), ("set five", "set")):
        found = said(Sentences(phrases, vocabulary), vocabulary)
        assert {text.lower().replace("-", " ") for text in found} == {"set", "set five"}


def test_an_apostrophe_however_it_is_written(vocabulary: Vocabulary) -> None:
    for phrase in ("don't", "Don\u2019t!", "  DON'T  "):
        assert said(Sentences((phrase,), vocabulary), vocabulary) == {"don't"}


@pytest.mark.parametrize("phrase", ["", " ", "?!", "set <number>", "日本語", "unknown"])
def test_what_cannot_be_written_is_left_out(vocabulary: Vocabulary, phrase: str) -> None:
    assert said(Sentences((phrase, "stop"), vocabulary), vocabulary) == {"stop"}
    assert said(Sentences((phrase,), vocabulary), vocabulary) == set()
