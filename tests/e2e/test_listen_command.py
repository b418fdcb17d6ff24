"""``assistant listen`` in the foreground: the real daemon, a real PulseAudio, and eSpeak's voice in the microphone."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from homes import Home, wait_for
from voice.pulse import RATE, Pulse

from assistant.testing import audio
from assistant.voice.frames import RATE as LISTENED

CONFIG = """
[voice]
wake_words = ["open_hey_jarvis"]
[stt]
engine = "moonshine"
[llm]
engine = "scripted"
"""
PAUSE = bytes(RATE)
"""Half a second."""


@pytest.fixture
def room(home: Home, pulse: Pulse, silero_model: Path, smart_turn_model: Path, moonshine_model: Path) -> Home:
    """A home whose devices are those of the sound server; nothing runs yet."""
    models = home.path / "data" / "models"
    models.mkdir(parents=True)
    for model in (silero_model, smart_turn_model, moonshine_model):
        (models / model.name).symlink_to(model)
    home.config(CONFIG)
    home.env.update({name: value for name, value in pulse.env.items() if name not in home.env})
    home.env["ALSA_CONFIG_PATH"] = pulse.env["ALSA_CONFIG_PATH"]
    return home


class Listener:
    """The command, and the events that it has written so far."""

    def __init__(self, home: Home) -> None:
        self._log = home.path / "events.ndjson"
        self.process = home.start("listen", "--events", str(self._log))

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = self._log.read_bytes().split(b"\n")[:-1] if self._log.exists() else []
        return [event for line in lines if (event := json.loads(line))["type"] == kind]

    def leave(self) -> subprocess.CompletedProcess[bytes]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=60)
        return subprocess.CompletedProcess([], self.process.returncode, out, err)


@pytest.fixture
def overdue(room: Home) -> None:
    """A timer ran out while the daemon was down."""
    file = room.path / "data" / "plugins" / "clock" / "timers.json"
    file.parent.mkdir(parents=True)
    timer = {"id": "a", "name": "pasta", "seconds": 60.0, "fires_at": time.time() - 5}
    file.write_text(json.dumps({"version": 1, "timers": [timer]}))


@pytest.fixture
def listener(room: Home) -> Iterator[Listener]:
    found = Listener(room)
    yield found
    found.process.kill()
    found.process.communicate()


def said(text: str) -> bytes:
    """The words in eSpeak's voice, at the rate of the virtual microphone."""
    spoken = np.frombuffer(audio.synthesise(text, speed=160).pcm, np.int16)
    return bytes(soxr.resample(spoken, LISTENED, RATE).tobytes())


def test_a_question_is_answered_until_the_user_leaves(room: Home, pulse: Pulse, listener: Listener) -> None:
    wait_for(lambda: [event for event in listener.events("engine_loaded") if event["engine"].startswith("llm")], 60)
    assert len(pulse.listeners()) == 1
    pulse.microphone.say(PAUSE + said("hey jarvis") + PAUSE[: RATE // 2] + said("what time is it"))
    [finished] = wait_for(lambda: listener.events("turn_finished"), 90)
    assert finished["reason"] == "complete"
    done = listener.leave()
    assert done.returncode == 130
    lines = done.stdout.decode().splitlines()
    assert "* open_hey_jarvis" in lines
    assert "» What time is it?" in lines
    assert lines[-1] == finished["text"]
    assert done.stderr == b"Listening. Ctrl-C to leave.\n"
    assert room.status()["voice"] is None
    wait_for(lambda: not pulse.listeners())


def test_a_daemon_that_is_killed_listens_again(room: Home, pulse: Pulse, listener: Listener) -> None:
    wait_for(lambda: listener.events("listening_started"), 60)
    room.kill_daemon()
    wait_for(lambda: len(listener.events("listening_started")) == 2, 60)
    assert room.status()["voice"]["microphone"] == "open"
    assert listener.process.poll() is None
    done = listener.leave()
    assert b"starting it again" in done.stderr
    assert done.stdout.count(b"(microphone open: ") == 2
    wait_for(lambda: not pulse.listeners())


def test_a_timer_that_was_overdue_rings_until_it_is_hushed(room: Home, overdue: None, listener: Listener) -> None:
    [rings] = wait_for(lambda: listener.events("ringing_started"), 60)
    assert rings["name"] == "pasta"
    assert room.run("hush").code == 0
    [silent] = wait_for(lambda: listener.events("ringing_stopped"), 60)
    assert (silent["name"], silent["reason"]) == ("pasta", "stopped")
    assert "~ pasta rings" in listener.leave().stdout.decode().splitlines()


def test_nobody_is_listened_to_when_the_command_is_killed(room: Home, pulse: Pulse, listener: Listener) -> None:
    wait_for(lambda: listener.events("listening_started"), 60)
    assert len(pulse.listeners()) == 1
    listener.process.kill()
    wait_for(lambda: not pulse.listeners(), 60)
    assert room.status()["voice"] is None
