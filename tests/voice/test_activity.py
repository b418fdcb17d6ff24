"""Voice activity: the real network on real speech, and the gate that keeps it off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assistant.errors import ModelNotFound
from assistant.testing.audio import at_level, frames_of, gain, mix, mumble, noise, read, silence, tone
from assistant.voice.activity import CLOSE, EnergyGate, VoiceActivity
from assistant.voice.frames import SILENCE

pytestmark = pytest.mark.model

DATA = Path(__file__).parents[1] / "data"
SPEAKING = 0.5


class Ungated(EnergyGate):
    """The gate that is never closed, to compare with."""

    def hear(self, *loudness: float) -> bool:
        return True


@pytest.fixture
def activity(silero_model: Path) -> VoiceActivity:
    return VoiceActivity(silero_model)


def listen(activity: VoiceActivity, pcm: bytes) -> list[float]:
    """The probability after each frame."""
    return [activity.process(frame) for frame in frames_of(pcm)]


def onsets(speech: list[float]) -> list[int]:
    """Where at least 100 ms of speech begin."""
    is_speech = [probability > SPEAKING for probability in speech]
    return [at for at in range(1, len(speech) - 10) if all(is_speech[at : at + 10]) and not is_speech[at - 1]]


def in_a_room(speech: bytes, room: bytes) -> bytes:
    """Five seconds of the room alone, speech in it, and the room again."""
    return mix(room, speech, at=5.0)


@pytest.mark.parametrize("level", [-25.0, -45.0])
@pytest.mark.parametrize("kind", ["white", "pink"])
@pytest.mark.parametrize("recording", ["jfk.wav", "beckett.wav"])
def test_the_gate_loses_no_onset(
    activity: VoiceActivity, silero_model: Path, recording: str, kind: str, level: float
) -> None:
    room = noise("white" if kind == "white" else "pink", 20.0, level - 20.0, seed=3)
    sound = in_a_room(at_level(read(DATA / recording), level), room)
    ungated = VoiceActivity(silero_model)
    ungated.gate = Ungated()
    expected, found = listen(ungated, sound), listen(activity, sound)
    starts = onsets(expected)
    assert len(starts) >= 4
    assert [at for at in starts if max(found[at : at + 6]) <= SPEAKING] == []
    differing = sum((one > SPEAKING) != (other > SPEAKING) for one, other in zip(expected, found, strict=True))
    assert differing < 0.05 * len(found), "the windows lie a little differently"
    assert activity.windows < 0.75 * ungated.windows


def test_the_first_word_is_heard_in_its_first_window(activity: VoiceActivity) -> None:
    word = mumble(1.0, seed=2)
    sound = mix(noise("white", 8.0, -60.0), word, at=6.0)
    speech = listen(activity, sound)
    assert max(speech[200:600]) == 0.0, "the gate is closed in a quiet room"
    assert next(at for at, probability in enumerate(speech) if probability > 0) <= 605


SOUNDS: dict[str, Callable[[], bytes]] = {
    "white noise": lambda: noise("white", 12.0, -50.0),
    "loud noise": lambda: noise("white", 12.0, -20.0),
    "pink noise": lambda: noise("pink", 12.0, -50.0),
    "a tone": lambda: tone(440.0, 12.0, -30.0),
    "hum": lambda: mix(tone(50.0, 12.0, -40.0), tone(150.0, 12.0, -50.0)),
    "zeros": lambda: silence(12.0),
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_what_is_no_speech_is_called_none_and_costs_next_to_nothing(activity: VoiceActivity, sound: str) -> None:
    speech = listen(activity, SOUNDS[sound]())
    assert max(speech) < SPEAKING
    assert not activity.gate.open
    assert activity.windows < 0.3 * 12.0 / 0.032


@pytest.mark.parametrize(("decibels", "least"), [(30.0, 0.6), (0.0, 0.6), (-20.0, 0.55), (-30.0, 0.45)])
def test_speech_is_found_at_any_level(activity: VoiceActivity, decibels: float, least: float) -> None:
    loud = gain(read(DATA / "jfk.wav"), decibels)
    speech = listen(activity, mix(noise("white", 16.0, -75.0), loud, at=4.0))
    spoken = [probability > SPEAKING for probability in speech[400:1500]]
    assert sum(spoken) / len(spoken) > least


def test_a_fan_that_starts_is_the_background_soon_and_speech_stands_out_of_it(activity: VoiceActivity) -> None:
    fan = mix(noise("pink", 30.0, -60.0), noise("pink", 25.0, -40.0, seed=4), at=5.0)
    speech = listen(activity, mix(fan, at_level(read(DATA / "jfk.wav"), -30.0), at=15.0))
    assert activity.gate.opened >= 2
    assert speech[1000:1500].count(0.0) > 250, "it is closed again, most of the time"
    assert len(onsets(speech[1500:2600])) >= 4


def test_exact_zeros_say_nothing_about_the_room(activity: VoiceActivity) -> None:
    room = frames_of(noise("white", 20.0, -55.0))
    for frame in room[:800]:
        activity.process(frame)
    opened = activity.gate.opened
    for _ in range(500):
        assert activity.process(SILENCE) == 0.0
    assert activity.level == -120.0
    windows = activity.windows
    for frame in room[800:]:
        activity.process(frame)
    assert (activity.gate.opened, activity.windows) == (opened, windows)


def test_it_starts_open_and_reset_starts_it_again(activity: VoiceActivity) -> None:
    sound = read(DATA / "jfk.wav")
    first = listen(activity, sound)
    activity.reset()
    assert (activity.level, activity.gate.open) == (-120.0, True)
    assert listen(activity, sound) == first
    assert max(first[:80]) > SPEAKING, "no second is needed to learn the room"


def test_the_level_is_that_of_the_last_frame(activity: VoiceActivity) -> None:
    for dbfs in (-60.0, -20.0):
        listen(activity, tone(500.0, 0.1, dbfs, fade=0.0))
        assert activity.level == pytest.approx(dbfs, abs=0.3)
    activity.process(np.full(160, -32768, "<i2").tobytes())
    assert activity.level == 0.0


def test_the_gate_closes_a_second_after_the_last_speech() -> None:
    gate = EnergyGate()
    for _ in range(50):
        gate.hear(1e-6, 1e-6)
    gate.judged(0.9)
    opened = [gate.hear(1e-6, 1e-6) for _ in range(CLOSE + 20)]
    assert opened.index(False) == CLOSE - 1
    assert [gate.hear(1e-6 * 10**0.1, 1e-6) for _ in range(10)] == [False] * 10, "one decibel is no event"
    assert gate.hear(1e-4, 1e-6)
    assert gate.opened == 1


def test_a_folder_without_the_network(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"model\.onnx is missing") as missing:
        VoiceActivity(tmp_path)
    assert missing.value.hint == "assistant models pull silero-vad"
