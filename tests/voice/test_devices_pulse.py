"""Microphone and loudspeaker through PortAudio and a real PulseAudio: what is heard, played, lost and found again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from voice.pulse import RATE, Pulse

from assistant.voice.frames import FRAME_BYTES
from assistant.voice.frames import RATE as HEARD_RATE

PROGRAM = Path(__file__).with_name("listener.py")
ATTEMPTS = 8
"""A machine under load loses sound, which is counted: then it is said or played once more."""
PATIENCE = 60.0
"""Seconds until a test gives up: a machine with much else to do is slow."""

FINER = 8
"""Sound is compared at so many times its rate: two paths differ by a part of a sample."""

Samples = NDArray[np.float64]


class Listener:
    """The program ``listener.py`` at work."""

    def __init__(self, pulse: Pulse, folder: Path, *devices: str) -> None:
        self.folder = folder
        self.lines: list[dict[str, Any]] = []
        self._seen = 0
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), *devices], env=pulse.env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._errors)]
        self.errors = ""
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(json.loads(line))
                self._news.notify()

    def _errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def next(self, **wanted: Any) -> dict[str, Any]:
        """The next line that has all this, among those that no earlier call went past."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while True:
                while self._seen < len(self.lines):
                    line = self.lines[self._seen]
                    self._seen += 1
                    if wanted.items() <= line.items():
                        return line
                left = deadline - time.monotonic()
                assert self._news.wait(max(left, 0.0)), f"no {wanted} among {self.lines}"

    def tell(self, *words: object) -> None:
        """A command."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def figures(self) -> dict[str, Any]:
        """How it is doing."""
        deadline = time.monotonic() + PATIENCE
        start = len(self.lines)
        self.tell("figures")
        with self._news:
            while not (found := [line for line in self.lines[start:] if "overflows" in line]):
                assert self._news.wait(max(deadline - time.monotonic(), 0.0)), "no figures"
        return found[0]

    def troubles(self) -> list[str]:
        """Those that were said so far."""
        return [line["trouble"] for line in self.lines if line.get("type") == "audio_troubled"]

    def heard(self, name: str = "near") -> Samples:
        """All of a tape up to now."""
        data = (self.folder / name).read_bytes()
        return np.frombuffer(data[: len(data) // FRAME_BYTES * FRAME_BYTES], np.int16).astype(float)

    def over(self, name: str, begin: int) -> bool:
        """There was sound on a tape, and it ended."""
        samples = self.heard(name)[begin:]
        loud = np.flatnonzero(np.abs(samples) > 100)
        return len(loud) > 0 and len(samples) - loud[-1] > HEARD_RATE // 2

    def end(self) -> None:
        """Cancel it and wait."""
        if self.process.poll() is None:
            self.tell("end")
        with self.process:
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()
                for reader in self._readers:
                    reader.join()


@contextmanager
def listening(pulse: Pulse, folder: Path, *devices: str) -> Iterator[Listener]:
    listener = Listener(pulse, folder, *devices)
    try:
        yield listener
    finally:
        listener.end()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def noise(seconds: float, seed: int, rate: int = RATE) -> Samples:
    """Band-limited so that no filter on the way takes any of it: 100 Hz to 4 kHz."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(seconds * rate)))
    frequencies = np.fft.rfftfreq(round(seconds * rate), 1 / rate)
    spectrum[(frequencies < 100) | (frequencies > 4_000)] = 0
    wave: Samples = np.fft.irfft(spectrum)
    wave *= 20_000 / np.abs(wave).max()
    return wave


def pcm(wave: Samples) -> bytes:
    return wave.astype(np.int16).tobytes()


def place(part: Samples, whole: Samples) -> tuple[float, float]:
    """Where a signal lies in a longer one, in samples, and their correlation there over all of its length."""
    part, whole = (soxr.resample(samples, 1, FINER) for samples in (part, whole))
    size = 1 << (len(part) + len(whole)).bit_length()
    match = np.fft.irfft(np.fft.rfft(whole, size) * np.fft.rfft(part, size).conj(), size)
    start = int(np.argmax(match[: max(1, len(whole) - len(part) + 1)]))
    there = whole[start : start + len(part)]
    if len(there) < len(part):
        return start / FINER, 0.0
    return start / FINER, float(np.dot(there, part) / (np.linalg.norm(there) * np.linalg.norm(part) + 1e-9))


def test_what_is_said_arrives_whole(pulse: Pulse, tmp_path: Path) -> None:
    words = noise(1.5, 1)
    expected = soxr.resample(words, RATE, HEARD_RATE)
    with listening(pulse, tmp_path) as listener:
        started = listener.next(type="listening_started")
        assert started["device"] == "default"
        assert started["sample_rate"] in {44_100, 48_000}
        for _ in range(ATTEMPTS):
            begin, before = len(listener.heard()), listener.figures()
            pulse.microphone.say(pcm(words))
            until(partial(listener.over, "near", begin))
            _, likeness = place(expected, listener.heard()[begin:])
            figures = listener.figures()
            if figures["overflows"] == before["overflows"]:
                break
        assert likeness > 0.99
        assert figures["microphone"] == "open"
        assert figures["dropped"] == 0
    assert listener.lines[-2] == {"type": "listening_stopped", "at": listener.lines[-2]["at"], "reason": "stopped"}
    assert listener.lines[-1] == {"ended": True, "microphone": "closed"}
    assert not pulse.listeners()


def test_what_is_played_is_heard_and_is_known_to_the_echo_canceller(pulse: Pulse, tmp_path: Path) -> None:
    """The loudspeaker's own monitor is the microphone: a room of faint noise whose only other sound is the echo."""
    pulse.pactl("load-module", "module-loopback", "source=microphone", "sink=loudspeaker")
    with listening(pulse, tmp_path, "ECHO") as listener, pulse.recording() as recorded:
        assert listener.next(type="listening_started")["device"] == "echo"
        rate = listener.next()["rate"]
        for seed in range(ATTEMPTS):
            begin, before = len(listener.heard()), listener.figures()
            words = noise(1.5, seed, rate)
            (tmp_path / "words").write_bytes(pcm(words))
            listener.tell("play", tmp_path / "words")
            until(partial(listener.over, "near", begin))
            until(partial(listener.over, "far", begin))
            expected = soxr.resample(words, rate, HEARD_RATE)
            played, known = place(expected, listener.heard("far")[begin:])
            echo, likeness = place(expected, listener.heard()[begin:])
            figures = listener.figures()
            if all(figures[name] == before[name] for name in ("overflows", "underflows", "pairing")):
                break
        assert known > 0.99
        assert likeness > 0.99
        assert -0.02 * HEARD_RATE <= echo - played <= 0.3 * HEARD_RATE, "a null sink plays a block of 20 ms at once"
        out = np.frombuffer(bytes(recorded[: len(recorded) // 2 * 2]), np.int16).astype(float)
        assert place(soxr.resample(words, rate, RATE), out)[1] > 0.99


def test_a_mute_closes_the_microphone(pulse: Pulse, tmp_path: Path) -> None:
    with listening(pulse, tmp_path) as listener:
        listener.next(type="listening_started")
        assert len(pulse.listeners()) == 1
        listener.tell("mute")
        assert listener.next(type="listening_stopped")["reason"] == "muted"
        assert listener.figures()["microphone"] == "muted"
        assert pulse.listeners() == []
        before = len(listener.heard())
        until(lambda: len(listener.heard()) > before + HEARD_RATE // 2)
        assert not listener.heard()[before + HEARD_RATE // 4 :].any()
        listener.tell("unmute")
        listener.next(type="listening_started")
        assert len(pulse.listeners()) == 1
        until(lambda: bool(listener.heard()[-HEARD_RATE // 10 :].any()))
    assert listener.troubles() == []


def test_a_microphone_that_is_unplugged_is_taken_up_again(deaf_pulse: Pulse, tmp_path: Path) -> None:
    """Without it PortAudio does not even list it, and there is no loudspeaker at all."""
    pulse = deaf_pulse
    with listening(pulse, tmp_path, "desk") as listener:
        missing = listener.next(type="audio_troubled")
        assert missing["trouble"] == "gone"
        assert "desk" in missing["message"]
        pulse.plug()
        assert listener.next(type="listening_started")["device"] == "desk"
        pulse.unplug()
        assert listener.next(type="listening_stopped")["reason"] == "lost"
        lost = listener.next(type="audio_troubled")
        assert (lost["trouble"], lost["message"]) == ("gone", 'the microphone "desk" is gone')
        assert "[voice] input_device" in lost["hint"]
        before = len(listener.heard())
        until(lambda: len(listener.heard()) > before + 2 * HEARD_RATE)
        assert listener.figures()["microphone"] == "lost"
        pulse.plug()
        listener.next(type="listening_started")
        until(lambda: bool(listener.heard()[-HEARD_RATE // 10 :].any()))
        assert listener.figures()["loudspeaker"] == ""
    inputs = [line["message"] for line in listener.lines if "microphone" in line.get("message", "")]
    assert len(inputs) == 2


def test_a_device_that_does_not_exist_is_answered_with_those_that_do(pulse: Pulse, tmp_path: Path) -> None:
    with listening(pulse, tmp_path, "Shure MV7", "Bose") as listener:
        microphone, loudspeaker = listener.next(type="audio_troubled"), listener.next(type="audio_troubled")
        assert microphone["message"] == 'no microphone has "Shure MV7" in its name'
        assert loudspeaker["message"] == 'no loudspeaker has "Bose" in its name'
        assert '"default"' in microphone["hint"]
        assert '"desk"' in microphone["hint"]
        assert "[voice] output_device" in loudspeaker["hint"]
        until(lambda: len(listener.heard()) > 4 * HEARD_RATE)
    assert listener.troubles() == ["gone", "gone"]


def test_a_microphone_that_stalls_is_opened_again(pulse: Pulse, tmp_path: Path) -> None:
    with listening(pulse, tmp_path, "desk") as listener:
        listener.next(type="listening_started")
        until(lambda: len(listener.heard()) > HEARD_RATE // 2)
        pulse.pactl("suspend-source", "microphone", "1")
        assert listener.next(type="listening_stopped")["reason"] == "lost"
        assert listener.next(type="audio_troubled")["trouble"] == "stalled"
        pulse.pactl("suspend-source", "microphone", "0")
        listener.next(type="listening_started")
    assert listener.troubles() == ["stalled"]


def test_exact_zeros_are_said_to_be_no_silence(pulse: Pulse, tmp_path: Path) -> None:
    pulse.microphone.zeros = True
    with listening(pulse, tmp_path) as listener:
        listener.next(type="listening_started")
        assert listener.next(type="listening_stopped")["reason"] == "lost"
        trouble = listener.next(type="audio_troubled")
        assert trouble["trouble"] == "silent"
        assert trouble["message"] == 'the microphone "default" delivers nothing but zeros'
        assert ("Privacy & Security" if sys.platform == "darwin" else "mute") in trouble["hint"]
        before = len(listener.heard())
        until(lambda: len(listener.heard()) > before + 3 * HEARD_RATE)
        pulse.microphone.zeros = False
        listener.next(type="listening_started")
    assert listener.troubles() == ["silent"]


def test_a_sound_server_that_dies_and_returns(pulse: Pulse, tmp_path: Path) -> None:
    """PortAudio never comes back from starting a stream whose server died just then; that is survived too.

    A new null sink takes some seconds before it takes sound, which may be called a stall.
    """
    with listening(pulse, tmp_path, "desk") as listener:
        listener.next(type="listening_started")
        listener.next()
        listener.tell("rouse")
        pulse.kill()
        assert listener.next(type="listening_stopped")["reason"] == "lost"
        until(lambda: len(listener.troubles()) == 2)
        pulse.start()
        pulse.plug()
        listener.next(type="listening_started")
        words = noise(0.5, 3, 44_100)
        (tmp_path / "words").write_bytes(pcm(words))
        listener.tell("play", tmp_path / "words")
        until(lambda: np.abs(listener.heard("far")).max() > 10_000)
    assert listener.troubles()[:2] == ["gone", "gone"]


def test_an_error_of_what_is_played_ends_the_listening_and_not_the_process(pulse: Pulse, tmp_path: Path) -> None:
    with listening(pulse, tmp_path) as listener:
        listener.next(type="listening_started")
        listener.tell("tear")
        assert listener.next(type="listening_stopped")["reason"] == "stopped"
        assert listener.process.wait(PATIENCE) == 1
    assert "ValueError: the tape is torn" in listener.errors


@pytest.mark.parametrize("command", ["end", "mute"])
def test_it_ends_also_while_there_is_no_microphone(deaf_pulse: Pulse, tmp_path: Path, command: str) -> None:
    with listening(deaf_pulse, tmp_path) as listener:
        listener.next(type="audio_troubled")
        listener.tell(command)
        if command == "mute":
            assert listener.next(type="listening_stopped")["reason"] == "muted"
    assert listener.lines[-1] == {"ended": True, "microphone": "closed"}
    assert listener.process.returncode == 0
