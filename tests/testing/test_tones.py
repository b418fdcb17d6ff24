"""The voice of tones, what is read back from it, and the wake word that is a tone."""

from __future__ import annotations

import pickle

import pytest

from assistant.testing import (
    EchoPath,
    ScriptedWakeWord,
    ToneTextToSpeech,
    audio,
    played_words,
    wake_sound,
    words_in,
)
from assistant.testing.tones import GAP_SECONDS, WORD_SECONDS, word_seconds

SENTENCE = "It isn't 10 o'clock, is it? Incomprehensibilities — déjà vu!"
WORDS = ["it", "isn't", "10", "o'clock", "is", "it", "incomprehensibilities", "deja", "vu"]


def spoken(text: str, rate: int = 16_000, **options: str) -> bytes:
    """A text in tones."""
    voice: ToneTextToSpeech = pickle.loads(pickle.dumps(ToneTextToSpeech(rate=rate, **options)))
    voice.load(None)
    return b"".join(chunk.pcm for chunk in voice.speak(text, ""))


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100, 48_000])
def test_words_are_read_back_at_any_rate(rate: int) -> None:
    assert words_in(spoken(SENTENCE, rate), rate) == WORDS


@pytest.mark.parametrize("decibels", [-30, -12, 6])
def test_the_volume_does_not_matter(decibels: float) -> None:
    assert words_in(audio.gain(spoken(SENTENCE), decibels)) == WORDS


def test_noise_and_a_little_echo_do_not_matter() -> None:
    noisy = audio.mix_at_snr(spoken(SENTENCE), audio.noise("white", 2, -20), 15)
    assert words_in(noisy) == WORDS
    echo = EchoPath(delay=0.03, attenuation_db=20).process(spoken(SENTENCE))
    assert words_in(audio.mix(spoken(SENTENCE), echo)) == WORDS


def test_the_times_of_the_words_are_known() -> None:
    found = played_words(audio.silence(1) + spoken("one two three"))
    assert [word.start for word in found] == pytest.approx([1, 1 + WORD_SECONDS, 1 + 2 * WORD_SECONDS], abs=0.005)
    assert all(word.share == 1 for word in found)


def test_the_marks_are_exactly_where_the_words_begin() -> None:
    begun: dict[int, float] = {}
    passed = 0
    for chunk in ToneTextToSpeech().speak("incomprehensibilities, one two", ""):
        begun |= {mark.character: (passed + mark.sample) / 16_000 for mark in chunk.words}
        passed += len(chunk.pcm) // 2
    long = word_seconds("incomprehensibilities")
    assert long > WORD_SECONDS
    assert begun == pytest.approx({0: 0.0, 23: long, 27: long + WORD_SECONDS})


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_word_that_is_cut_off_tells_how_far_it_came(share: float) -> None:
    sound = WORD_SECONDS - GAP_SECONDS
    cut = spoken("hello you")[: round((WORD_SECONDS + share * sound) * 16_000) * 2] + audio.silence(0.5)
    hello, you = played_words(cut)
    assert (hello.text, hello.share, you.text) == ("hello", 1, "you")
    assert you.share == pytest.approx(share, abs=0.05)
    assert words_in(cut) == (["hello", "you"] if share > 0.5 else ["hello"])


def test_a_word_that_was_begun_again_counts_once() -> None:
    cut = spoken("one two")[: round((WORD_SECONDS + 0.25) * 16_000) * 2]
    assert words_in(cut + audio.silence(1) + spoken("two three")) == ["one", "two", "three"]


def test_nothing_is_read_from_other_sounds() -> None:
    for sound in (audio.silence(1), audio.noise("pink", 1, -20), audio.mumble(2), wake_sound(), b""):
        assert words_in(sound) == []


def score(detector: ScriptedWakeWord, pcm: bytes) -> float:
    """The highest score in some audio."""
    detector.load()
    return max(detector.score(frame) for frame in audio.frames_of(pcm + audio.noise("white", 0.2, -60)))


def test_the_wake_word_hears_its_tone_and_nothing_else() -> None:
    robin = pickle.loads(pickle.dumps(ScriptedWakeWord()))
    assert score(robin, audio.silence(0.1) + wake_sound()) == pytest.approx(1, abs=0.01)
    robin.reset()
    assert score(robin, wake_sound(purity=0.3)) == pytest.approx(0.3, abs=0.02)
    robin.reset()
    others = (spoken(SENTENCE), audio.mumble(2), audio.noise("white", 1, -10), audio.tone(3100, 0.04), wake_sound(2500))
    for sound in others:
        assert score(robin, sound) == 0
        robin.reset()


def test_the_voice_can_say_the_wake_word() -> None:
    robin = ScriptedWakeWord()
    said = spoken("I am called Hey Robin by you", wake="hey robin")
    assert score(robin, said) == pytest.approx(1, abs=0.01)
    assert words_in(said) == ["i", "am", "called", "by", "you"]


def test_the_wake_word_is_heard_once_its_sound_is_over() -> None:
    robin, sound = ScriptedWakeWord(), audio.silence(0.5) + wake_sound() + audio.noise("pink", 0.5, -30)
    scores = [robin.score(frame) for frame in audio.frames_of(sound)]
    assert next(at for at, one in enumerate(scores) if one) == pytest.approx(70, abs=1)
    assert sum(one > 0.9 for one in scores) == 15
