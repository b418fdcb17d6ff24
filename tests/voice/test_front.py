"""What the front end makes of frames in which the assistant itself can be heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rooms import Room, Samples, at_dbfs, decibels, pcm

from assistant.testing.audio import frames_of, read, to_samples
from assistant.voice.activity import VoiceActivity
from assistant.voice.echo import EchoCanceller
from assistant.voice.frames import FRAME, RATE, SILENCE, Heard
from assistant.voice.front import FrontEnd
from assistant.voice.levels import QUIETEST
from assistant.voice.wake import WakeSpotter

pytestmark = pytest.mark.model

DATA = Path(__file__).parent.parent / "data"


def speech(name: str, level: float) -> Samples:
    return at_dbfs(to_samples(read(DATA / name)), level)


def heard(silero: Path, near: Samples, far: Samples) -> list[Heard]:
    front = FrontEnd(EchoCanceller("auto"), VoiceActivity(silero), WakeSpotter([]), lambda: "what it says")
    pairs = zip(frames_of(pcm(near)), frames_of(pcm(far)), strict=True)
    return [front.process(microphone, played) for microphone, played in pairs]


def test_what_is_left_of_its_own_sound_has_no_level(silero_model: Path) -> None:
    far = np.tile(speech("jfk.wav", -23.0), 2)
    found = heard(silero_model, Room(reverberation=0.5).microphone(far, np.zeros(0)), far)
    loud = [one for one, played in zip(found, frames_of(pcm(far)), strict=True) if decibels(to_samples(played)) > -30.0]
    late = loud[len(loud) // 2 :]
    assert len(late) > 200
    assert sum(one.level == QUIETEST for one in late) >= 0.5 * len(late)


def test_somebody_who_speaks_over_it_has_one(silero_model: Path) -> None:
    far = np.tile(speech("jfk.wav", -23.0), 2)
    user = np.concatenate([np.zeros(11 * RATE), speech("beckett.wav", -23.0)])
    found = heard(silero_model, Room().microphone(far, user), far)[round(11 * RATE / FRAME) :]
    spoken = [one for one in found if one.playing and one.speech >= 0.5]
    assert len(spoken) > 200
    assert sum(one.level > -60.0 for one in spoken) >= 0.9 * len(spoken)


def test_when_nothing_plays_the_level_is_that_of_the_room(silero_model: Path) -> None:
    near = speech("jfk.wav", -23.0)
    silent = np.zeros(len(near))
    found = heard(silero_model, near, silent)
    assert pcm(silent)[: len(SILENCE)] == SILENCE
    assert not any(one.playing for one in found)
    assert min(one.level for one in found[10:] if one.speech >= 0.9) > -60.0
