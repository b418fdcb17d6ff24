"""Speech found by its loudness."""

from __future__ import annotations

import pytest

from assistant.testing import LoudnessActivity, NoEchoCanceller, audio, synthesise
from assistant.testing.audio import NoiseKind


def found(activity: LoudnessActivity, pcm: bytes) -> list[bool]:
    """In which frames there is speech."""
    return [activity.process(frame) > 0.5 for frame in audio.frames_of(pcm)]


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
@pytest.mark.parametrize("snr", [40, 20, 10])
def test_speech_is_found_over_noise_and_only_while_it_lasts(kind: NoiseKind, snr: float) -> None:
    speech = synthesise("set a timer for ten minutes")
    noise = audio.noise(kind, 4, audio.SPEECH_DBFS - snr)
    begin, end = 200, 200 + round(speech.seconds * 100)
    spoken = found(LoudnessActivity(), audio.mix(noise, speech.pcm, at=2.0))
    assert not any(spoken[:begin])
    assert not any(spoken[end + 6 :])
    assert any(spoken[begin : begin + 20])
    assert sum(spoken[begin:end]) > 0.5 * (end - begin)
    assert "0" * 50 not in "".join(str(int(one)) for one in spoken[begin:end]), "no pause that could be an end"


def test_silence_is_no_speech_and_a_reset_forgets() -> None:
    activity = LoudnessActivity()
    assert not any(found(activity, audio.silence(1)))
    assert activity.level == audio.QUIETEST
    assert any(found(activity, audio.tone(1000, 0.2)))
    activity.reset()
    assert not any(found(activity, audio.tone(1000, 0.2))), "what is heard first is the background"
    assert activity.level < -20


def test_a_louder_background_is_learnt() -> None:
    activity = LoudnessActivity()
    found(activity, audio.noise("white", 1, -60))
    spoken = found(activity, audio.noise("white", 20, -40))
    assert spoken[20]
    assert not any(spoken[-200:])


def test_without_a_canceller_everything_passes() -> None:
    canceller, near = NoEchoCanceller(), audio.tone(300, 0.01)
    audible = []
    for far in (bytes(320), near):
        assert canceller.process(near, far) == near
        audible.append(canceller.audible)
    assert audible == [False, True]
    assert canceller.duplex == "full"
