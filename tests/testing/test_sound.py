"""The sound helpers of the test kit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assistant.engines import AudioChunk, TextToSpeech, WordMark
from assistant.errors import AudioError, EngineFailed
from assistant.testing import audio

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("dbfs", [-60.0, -20.0, -6.0])
def test_a_tone_has_the_level_and_the_pitch_that_are_asked_for(dbfs: float) -> None:
    sound = audio.tone(1000, 1.0, dbfs)
    assert audio.seconds_of(sound) == 1.0
    assert audio.level(sound) == pytest.approx(dbfs, abs=0.1)
    assert np.abs(np.fft.rfft(audio.to_samples(sound))).argmax() == 1000


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
def test_noise_has_its_level_and_depends_on_the_seed_only(kind: audio.NoiseKind) -> None:
    first = audio.noise(kind, 0.5, -30, seed=3)
    assert audio.seconds_of(first) == 0.5
    assert audio.level(first) == pytest.approx(-30, abs=0.1)
    assert audio.noise(kind, 0.5, -30, seed=3) == first
    assert audio.noise(kind, 0.5, -30, seed=4) != first


def test_pink_noise_falls_by_three_decibels_an_octave() -> None:
    power = np.abs(np.fft.rfft(audio.to_samples(audio.noise("pink", 4.0, -20)))) ** 2
    low, high = power[4 * 200 : 4 * 400].mean(), power[4 * 3200 : 4 * 6400].mean()
    assert 10 * np.log10(low / high) == pytest.approx(12, abs=1)


def test_the_level_of_speech_leaves_its_pauses_out() -> None:
    speech = audio.tone(300, 1, -20) + audio.silence(3)
    assert audio.level(speech) == pytest.approx(-26, abs=0.2)
    assert audio.level(speech, speech=True) == pytest.approx(-20, abs=0.2)
    assert audio.level(audio.silence(1)) == audio.level(b"") == audio.QUIETEST


def test_speech_and_background_are_as_far_apart_as_asked() -> None:
    speech, background = audio.tone(300, 1, -20), audio.noise("white", 0.3, -50)
    mixed = audio.to_samples(audio.mix_at_snr(speech, background, 10)) - audio.to_samples(speech)
    assert audio.level(audio.to_pcm(mixed)) == pytest.approx(-30, abs=0.2)


def test_mixing_adds_and_clips_and_is_long_enough() -> None:
    loud = audio.to_pcm(np.full(160, 0.8))
    mixed = audio.to_samples(audio.mix(loud, loud, at=0.005))
    assert len(mixed) == 240
    assert mixed[0] == pytest.approx(0.8, abs=1e-4)
    assert mixed[100] == pytest.approx(1.0, abs=1e-4)
    assert mixed[-1] == pytest.approx(0.8, abs=1e-4)


def test_gain_is_in_decibels_and_silence_stays_silence() -> None:
    assert audio.level(audio.gain(audio.tone(500, 1, -20), -6)) == pytest.approx(-26, abs=0.1)
    assert audio.at_level(audio.silence(0.1), -20) == audio.silence(0.1)


def test_an_echo_arrives_late_and_soft_whatever_the_pieces_are() -> None:
    played = audio.noise("white", 0.3, -20)
    whole = audio.EchoPath(delay=0.05, attenuation_db=10).process(played + audio.silence(0.2))
    path = audio.EchoPath(delay=0.05, attenuation_db=10)
    pieces = b"".join(path.process(piece) for piece in audio.frames_of(played + audio.silence(0.2)))
    first, echo = audio.to_samples(played), audio.to_samples(whole)
    assert np.abs(audio.to_samples(pieces) - echo).max() < 1e-4
    assert not echo[: round(0.05 * 16_000)].any()
    direct = echo[800 : 800 + 160]
    assert np.abs(direct - first[:160] * 10 ** (-10 / 20)).max() < 1e-4
    assert echo[len(first) + 800 : len(first) + 900].any(), "the reflections go on"


def test_a_recording_is_read_at_the_rate_of_the_loop() -> None:
    assert audio.seconds_of(audio.read(DATA / "jfk.wav")) == pytest.approx(11, abs=0.01)
    with pytest.raises(AudioError, match="there is no file"):
        audio.read(DATA / "nobody.wav")


def test_synthesised_speech_has_no_silence_around_it_and_words_in_it() -> None:
    speech = audio.synthesise("what time is it")
    assert 0.4 < speech.seconds < 1.5
    assert audio.level(speech.pcm, speech=True) == pytest.approx(audio.SPEECH_DBFS, abs=0.5)
    assert [word.text for word in speech.words] == ["what", "time", "is", "it"]
    assert [word.start for word in speech.words] == sorted(word.start for word in speech.words)
    assert speech.words[-1].end == pytest.approx(speech.seconds)
    assert audio.synthesise("what time is it", speed=300).seconds < speech.seconds
    with pytest.raises(EngineFailed):
        audio.synthesise("hello", voice="nobody")


class Marked(TextToSpeech):
    """Half a second of silence, then "hi" for a second and "you" for two, at 8 kHz."""

    name = "marked"

    def load(self, model: Path | None) -> None: ...

    def close(self) -> None: ...

    def speak(self, text: str, voice: str):  # type: ignore[no-untyped-def]
        """Two chunks."""
        tone = audio.tone(300, 1, rate=8000)
        yield AudioChunk(pcm=audio.silence(0.25) + tone, sample_rate=8000, words=(WordMark(sample=4000, character=0),))
        yield AudioChunk(pcm=tone + tone, sample_rate=8000, words=(WordMark(sample=0, character=3),))


def test_the_word_marks_of_a_voice_are_believed() -> None:
    speech = audio.synthesise("hi you", engine=Marked())
    hi, you = speech.words
    assert speech.seconds == pytest.approx(3, abs=0.01)
    assert (hi.text, you.text) == ("hi", "you")
    assert hi.start == pytest.approx(0, abs=0.01)
    assert you.start == hi.end == pytest.approx(1, abs=0.01)
    assert you.end == pytest.approx(3, abs=0.01)
