"""Always on: the real daemon, a real PulseAudio and sounddevice, eSpeak's voice into the microphone and out again."""

from __future__ import annotations

import json
import subprocess
import sys
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
enabled = true
wake_words = ["open_hey_jarvis"]
[stt]
engine = "moonshine"
[llm]
engine = "scripted"
"""
LEAD = bytes(RATE)
"""Half a second of silence."""


@pytest.fixture
def pulse() -> Iterator[Pulse]:
    server = Pulse()
    yield server
    server.close()


@pytest.fixture
def listening(home: Home, pulse: Pulse, silero_model: Path, smart_turn_model: Path, moonshine_model: Path) -> Home:
    """A daemon that listens to the virtual microphone."""
    models = home.path / "data" / "models"
    models.mkdir(parents=True)
    for model in (silero_model, smart_turn_model, moonshine_model):
        (models / model.name).symlink_to(model)
    home.config(CONFIG)
    home.env.update({name: value for name, value in pulse.env.items() if name not in home.env})
    home.env["ALSA_CONFIG_PATH"] = pulse.env["ALSA_CONFIG_PATH"]
    home.run("up")
    wait_for(lambda: (home.status().get("voice") or {}).get("microphone") == "open", 60)
    return home


class Watcher:
    """The daemon's events as they come."""

    def __init__(self, home: Home) -> None:
        script = (
            "import anyio, sys\n"
            "from assistant import events, paths\n"
            "from assistant.client import Client\n"
            "from assistant.wire import Subscribe\n"
            "async def main():\n"
            "    async with Client(paths.find().socket).connect() as connection:\n"
            "        await connection.send(Subscribe())\n"
            "        async for event in connection:\n"
            "            sys.stdout.buffer.write(events.encode(event) + b'\\n')\n"
            "            sys.stdout.flush()\n"
            "anyio.run(main)\n"
        )
        self._file = home.path / "events.ndjson"
        with self._file.open("wb") as out:
            self._process = subprocess.Popen([sys.executable, "-c", script], env=home.env, stdout=out)

    def all(self, kind: str = "") -> list[dict[str, Any]]:
        lines = self._file.read_bytes().split(b"\n")[:-1]
        found = [json.loads(line) for line in lines]
        return [event for event in found if not kind or event["type"] == kind]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def watcher(listening: Home) -> Iterator[Watcher]:
    found = Watcher(listening)
    yield found
    found.close()


def said(text: str) -> bytes:
    """The words in eSpeak's voice, at the rate of the virtual microphone."""
    spoken = np.frombuffer(audio.synthesise(text, speed=160).pcm, np.int16)
    return bytes(soxr.resample(spoken, LISTENED, RATE).tobytes())


def test_a_question_is_heard_and_answered_aloud(listening: Home, pulse: Pulse, watcher: Watcher) -> None:
    with pulse.recording() as loudspeaker:
        pulse.microphone.say(LEAD + said("hey jarvis") + LEAD[: RATE // 2] + said("what time is it"))
        [finished] = wait_for(lambda: watcher.all("turn_finished"), 60)
        assert finished["reason"] == "complete"
        assert " is it" not in finished["text"]
        assert ":" in finished["text"] or "o'clock" in finished["text"]
    assert [hit["accepted"] for hit in watcher.all("wake_word_heard")] == [True]
    assert [event["text"] for event in watcher.all("final_transcript")] == ["What time is it?"]
    assert watcher.all("speech_played")[-1]["text"].rstrip(".") in finished["text"]
    assert audio.level(bytes(loudspeaker)) > -45
    states = [event["state"] for event in watcher.all("voice_state_changed")]
    assert states[-4:] == ["listening", "thinking", "speaking", "idle"]


def test_talk_that_is_not_meant_for_it_is_left_alone(listening: Home, pulse: Pulse, watcher: Watcher) -> None:
    pulse.microphone.say(LEAD + said("what time is it") + LEAD + said("set a timer for ten minutes") + LEAD * 2)
    wait_for(lambda: pulse.microphone.silent, 60)
    assert listening.status()["voice"]["state"] == "idle"
    assert watcher.all("turn_started") == []


def test_mute_closes_the_microphone(listening: Home, pulse: Pulse) -> None:
    assert len(pulse.listeners()) == 1
    assert listening.run("mute").code == 0
    wait_for(lambda: not pulse.listeners())
    assert listening.status()["voice"]["microphone"] == "muted"
    assert listening.run("down").code == 0
    assert listening.run("up").code == 0
    wait_for(lambda: listening.status()["voice"])
    assert listening.status()["voice"]["microphone"] == "muted", "a restart opens nothing"
    assert pulse.listeners() == []
    assert listening.run("unmute").code == 0
    wait_for(pulse.listeners)
    assert listening.status()["voice"]["microphone"] == "open"
