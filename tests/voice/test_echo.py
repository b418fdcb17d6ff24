"""The echo canceller in simulated rooms, in a real one, and where it must give up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from rooms import Room, Samples, at_dbfs, decibels, pcm

from assistant.testing.audio import frames_of, read, to_samples
from assistant.voice.activity import VoiceActivity
from assistant.voice.echo import DELAY, RUN_ON, TAIL, WARM_UP, EchoCanceller
from assistant.voice.frames import FRAME, RATE, SILENCE

DATA = Path(__file__).parents[1] / "data"
TAKEN = {"50 ms": Room(), "at once": Room(delay=0.002), "250 ms": Room(delay=0.25), "soft": Room(loss_db=20.0)}
HARD = {
    "as loud as played": Room(loss_db=0.0),
    "reverberation": Room(reverberation=0.5, loss_db=6.0),
    "small loudspeaker": Room(drive=8.0, loss_db=3.0),
    "clocks 100 ppm apart": Room(drift_ppm=100.0),
    "clocks apart the other way": Room(drift_ppm=-100.0),
}
ISOLATED = Room(isolated=True)
HEADPHONES = Room(loss_db=90.0)


@dataclass
class Run:
    """What came out, and what the canceller said of itself after each frame."""

    sound: Samples
    figures: list[float | None] = field(default_factory=list)
    duplex: list[str] = field(default_factory=list)
    audible: list[bool] = field(default_factory=list)


def speech() -> Samples:
    """Twenty-one seconds of real speech."""
    parts = [at_dbfs(to_samples(read(DATA / name)), -23.0) for name in ("jfk.wav", "beckett.wav")]
    return np.concatenate(parts)


def pause(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE))


def run(near: Samples, far: Samples, echo: EchoCanceller | None = None) -> Run:
    echo = echo or EchoCanceller()
    out = Run(np.zeros(0))
    parts = []
    for microphone, played in zip(frames_of(pcm(near)), frames_of(pcm(far)), strict=True):
        parts.append(echo.process(microphone, played))
        assert len(parts[-1]) == len(microphone)
        out.figures.append(echo.attenuation_db)
        out.duplex.append(echo.duplex)
        out.audible.append(echo.audible)
    out.sound = to_samples(b"".join(parts))
    return out


def softer(near: Samples, clean: Samples, begin: float, end: float) -> float:
    """By how many dB, between two seconds."""
    part = slice(round(begin * RATE), round(end * RATE))
    return decibels(near[part]) - decibels(clean[part])


@pytest.mark.parametrize("name", [*TAKEN, *HARD])
def test_the_echo_is_taken_out(name: str) -> None:
    room, far = (TAKEN | HARD)[name], speech()
    near = room.microphone(far)
    found = run(near, far)
    measured = softer(near, found.sound, 5.0, 21.0)
    assert measured > 20.0
    assert set(found.duplex[WARM_UP + 200 :]) == {"full"}
    figure = found.figures[-1]
    assert figure is not None
    assert abs(figure - softer(near, found.sound, 18.0, 21.0)) < 8.0


def test_until_it_has_warmed_up_nothing_is_believed_while_it_plays() -> None:
    far = np.concatenate([pause(1.0), speech()])
    found = run(Room().microphone(far), far)
    assert found.duplex[50] == "full", "nothing is played yet"
    assert set(found.duplex[140:380]) == {"half"}
    assert set(found.duplex[600:]) == {"full"}


def test_a_system_that_changes_the_sound_leads_to_half_duplex_and_an_honest_one_back() -> None:
    far = speech()
    echo = EchoCanceller()
    first = run(ISOLATED.microphone(far), far, echo)
    assert set(first.duplex[600:]) == {"half"}
    assert first.figures[-1] is not None
    assert first.figures[-1] < 10.0
    far = np.concatenate([far, far])
    second = run(Room().microphone(far), far, echo)
    assert second.duplex[-1] == "full"
    assert second.figures[-1] is not None
    assert second.figures[-1] > 15.0
    assert sum(one != other for one, other in zip(second.duplex, second.duplex[1:], strict=False)) == 1


@pytest.mark.model
@pytest.mark.parametrize(("louder", "share"), [(0.0, 0.4), (6.0, 0.6), (12.0, 0.8)])
def test_somebody_who_speaks_over_it_is_heard_and_changes_nothing(
    silero_model: Path, louder: float, share: float
) -> None:
    far = np.concatenate([speech(), speech()])
    voice = at_dbfs(to_samples(read(DATA / "jfk.wav")), -33.0 + louder)
    user = np.concatenate([pause(12.0), voice])
    found = run(Room().microphone(far, user), far)
    assert set(found.duplex[500:]) == {"full"}
    alone, together = VoiceActivity(silero_model), VoiceActivity(silero_model)
    spoken = [alone.process(frame) > 0.5 for frame in frames_of(pcm(user))]
    heard = [together.process(frame) > 0.5 for frame in frames_of(pcm(found.sound))]
    of_voice = [found for found, said in zip(heard, spoken, strict=False) if said]
    assert sum(of_voice) / len(of_voice) > share
    assert sum(heard[500:1200]) == 0, "before somebody spoke there was nothing"


def test_headphones_have_no_echo_to_measure() -> None:
    far = np.concatenate([pause(2.0), speech()])
    found = run(HEADPHONES.microphone(far), far)
    assert found.figures[-1] is None
    assert set(found.duplex[600:]) == {"full"}


def test_voices_that_have_nothing_to_do_with_it_for_long_lead_to_half_duplex_until_they_stop() -> None:
    far = np.concatenate([pause(2.0), speech(), speech(), speech()])
    television = np.concatenate([pause(5.0), np.roll(speech(), RATE * 7)])
    found = run(HEADPHONES.microphone(far, at_dbfs(television, -30.0)), far)
    assert "half" in found.duplex[800:2500]
    assert found.duplex[-1] == "full"


def test_what_was_learnt_outlasts_silence() -> None:
    far = np.concatenate([speech(), pause(30.0), speech()[: RATE * 6]])
    near = Room().microphone(far)
    found = run(near, far)
    assert softer(near, found.sound, 51.5, 53.0) > 20.0
    assert set(found.duplex[600:]) == {"full"}


def test_while_nothing_is_played_it_only_delays_and_takes_out_rumble() -> None:
    voice = speech()[: RATE * 5]
    rumble = 0.05 * np.sin(2 * np.pi * 20.0 * np.arange(len(voice)) / RATE)
    clean = run(voice + rumble, np.zeros(len(voice))).sound
    assert decibels(clean[: RATE // 4]) < decibels(rumble) - 15.0
    shifted, end = clean[DELAY:], len(clean) - DELAY
    assert np.corrcoef(shifted[RATE:], voice[RATE:end])[0, 1] > 0.97


def test_starting_and_stopping_the_canceller_clicks_not() -> None:
    """A tone of 300 Hz obeys y[n] = 2 cos(w) y[n-1] - y[n-2]; a click does not."""
    seconds = 8.0
    at = np.arange(round(seconds * RATE))
    near = 0.1 * np.sin(2 * np.pi * 300.0 / RATE * at) + 0.01
    far = np.zeros(len(near))
    far[RATE * 2 : RATE * 3] = 0.001 * np.random.default_rng(1).standard_normal(RATE)
    clean = run(near, far).sound
    error = np.abs(clean[2:] - 2 * np.cos(2 * np.pi * 300.0 / RATE) * clean[1:-1] + clean[:-2])
    started, stopped = RATE * 2, RATE * 3 + RUN_ON * FRAME
    assert error[started - RATE // 20 : started + FRAME // 2].max() < 0.0002, "then it works on the sound"
    assert error[stopped - RATE // 20 : stopped + RATE // 20].max() < 0.0002


def test_its_own_sound_is_audible_until_it_has_faded() -> None:
    far = np.concatenate([pause(0.1), speech()[RATE : RATE * 2], pause(1.0)])
    found = run(np.zeros(len(far)), far)
    assert not any(found.audible[:10])
    assert all(found.audible[30:110])
    assert found.audible.index(False, 30) in range(110, 112 + TAIL)
    assert not any(found.audible[112 + TAIL :])


@pytest.mark.parametrize("mode", ["half", "off"])
def test_without_cancelling(mode: str) -> None:
    far = speech()[: RATE * 6]
    near = Room().microphone(far)
    echo = EchoCanceller("half" if mode == "half" else "off")
    found = run(near, far, echo)
    assert set(found.duplex) == {"half" if mode == "half" else "full"}
    assert set(found.figures) == {None}
    assert any(found.audible)
    if mode == "off":
        assert pcm(found.sound) == pcm(near)
    else:
        assert abs(softer(near, found.sound, 1.0, 6.0)) < 3.0


def test_a_recording_in_a_real_room() -> None:
    far, near = (to_samples(read(DATA / f"echo-{which}.flac")) for which in ("reference", "original"))
    found = run(near[: len(near) // FRAME * FRAME], far[: len(far) // FRAME * FRAME])
    for second in (6.0, 7.0, 11.0, 12.0):
        assert softer(near, found.sound, second, second + 1.0) > 15.0
    for second in (1.0, 2.0, 10.0):
        assert softer(near, found.sound, second, second + 1.0) < 3.0, "here somebody speaks"
    assert found.figures[-1] is not None
    assert found.figures[-1] > 15.0
    assert found.duplex[-1] == "full"


def test_silence_is_taken_as_it_comes() -> None:
    echo = EchoCanceller()
    for _ in range(20):
        assert echo.process(SILENCE, SILENCE) == SILENCE
    assert (echo.attenuation_db, echo.duplex, echo.audible) == (None, "full", False)
