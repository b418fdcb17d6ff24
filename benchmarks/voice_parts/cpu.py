"""What listening costs all the time: echo canceller and voice activity, in percent of one core in real time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from llm_parts.world import Row, at_most

from assistant.testing.audio import frames_of
from assistant.voice.activity import VoiceActivity
from assistant.voice.echo import EchoCanceller
from assistant.voice.frames import FRAME_SECONDS, SILENCE

from .echo import own_speech

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from rooms import Room, Samples, at_dbfs, pcm

ROUNDS = 3


def listening(model: Path, seconds: float = 60.0) -> list[Row]:
    """A quiet room, a room in which somebody speaks all the time, and the assistant speaking into it."""
    speech = own_speech(seconds / 60)
    silence, quiet = np.zeros(len(speech)), Room()
    talking = quiet.microphone(silence, at_dbfs(speech, -30.0))
    cases = {
        "CPU, quiet room": (quiet.microphone(silence), silence, 3.0),
        "CPU, somebody speaks": (talking, silence, 15.0),
        "CPU, the assistant speaks": (quiet.microphone(speech), speech, 15.0),
    }
    return [
        at_most(what, _percent(near, far, model), reach, "of one core, echo and voice activity", "%")
        for what, (near, far, reach) in cases.items()
    ]


def _percent(near: Samples, far: Samples, model: Path) -> list[float]:
    played = [frame if any(frame) else SILENCE for frame in frames_of(pcm(far))]
    pairs = list(zip(frames_of(pcm(near)), played, strict=True))
    taken = []
    for _ in range(ROUNDS):
        echo, activity = EchoCanceller(), VoiceActivity(model)
        for pair in pairs[:200]:
            activity.process(echo.process(*pair))
        started = time.process_time()
        for microphone, loudspeaker in pairs[200:]:
            activity.process(echo.process(microphone, loudspeaker))
        taken.append(100 * (time.process_time() - started) / (len(pairs[200:]) * FRAME_SECONDS))
    return taken
