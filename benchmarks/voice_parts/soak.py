"""Hours of audio in fast-forward through the front end and the loop: memory stays flat, and no frame is lost.

Ten minutes are repeated: a quiet room, in which somebody says the wake word and asks something, and people talk to each
other for a while. The recogniser, the model and the voice know their texts; all else is as in the daemon, on the sample
clock: echo path and canceller, Silero, microWakeWord, lanes in processes, turns, store, playback.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import psutil
from llm_parts.world import Row, say

from assistant import events
from assistant.hookspecs import WakeWord
from assistant.testing import EchoPath, ScriptedWakeWord, ToneTextToSpeech, VoiceHarness, synthesise, wake_sound
from assistant.testing.audio import frames_of, mix, noise, silence
from assistant.voice import audio_files
from assistant.voice.echo import EchoCanceller
from assistant.voice.frames import FRAME_SECONDS, frames
from assistant.voice.virtual import ticks

from . import instant

CYCLE = 600.0
"""Seconds that are repeated."""
QUIET_DBFS = -65.0
NOISE_SECONDS = 60.0
WAKE_AT, TALK_AT, TALK_EVERY, TALKS = 60.0, 240.0, 8.0, 10
PAUSE = 0.4
"""Seconds between the wake word and the question."""
SAMPLE = frames(300.0)
SETTLED = 3600.0
"""Seconds of audio after which memory must not grow; of less audio, a quarter of it."""
GROWTH = 1.1
DRIFT = 0.05
"""Seconds by which the wake word may be noticed earlier or later from one repetition to another."""
TALK = (
    "I told him that the train would be late", "she has never been to the mountains before", "we could paint the fence",
    "nobody had closed the window", "the soup needs more salt", "they are moving in the spring",
)  # fmt: skip


@dataclass
class Log:
    """What came of it."""

    given: int = 0
    wakes: list[float] = field(default_factory=list)
    """Seconds, by the sample clock."""
    answers: int = 0
    failures: int = 0
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Seconds of audio, and bytes of this process and of the lanes."""

    def note(self, event: events.Event) -> None:
        """Take an event."""
        if isinstance(event, events.WakeWordHeard) and event.accepted:
            self.wakes.append(event.clock)
        elif isinstance(event, events.TurnFinished):
            self.answers += event.reason == "complete"
        elif isinstance(event, events.VoiceFailed | events.LaneCrashed):
            self.failures += 1


def cycle(recordings: Path | None) -> list[bytes]:
    """The ten minutes, in frames.

    Args:
        recordings: a folder with ``hey_jarvis-1.wav``; None: a tone takes the wake word's place.
    """
    woken = audio_files.read(recordings / "hey_jarvis-1.wav").pcm if recordings else wake_sound()
    room = noise("white", NOISE_SECONDS, QUIET_DBFS) * round(CYCLE / NOISE_SECONDS)
    asked = woken + silence(PAUSE) + synthesise(instant.QUESTION).pcm
    room = mix(room, asked, at=WAKE_AT)
    for number, text in zip(range(TALKS), itertools.cycle(TALK), strict=False):
        room = mix(room, synthesise(text).pcm, at=TALK_AT + number * TALK_EVERY)
    return frames_of(room)


def soak(silero: Path, recordings: Path | None, hours: float = 24.0) -> list[Row]:
    """Run it, and say what has grown, and what was lost.

    Args:
        silero: the folder of the model ``silero-vad``.
        recordings: see ``cycle``.
    """
    log, began = Log(), time.perf_counter()
    counted = anyio.run(_run, silero, recordings, frames(hours * 3600), log)
    factor = log.given * FRAME_SECONDS / (time.perf_counter() - began)
    cycles = round(log.given * FRAME_SECONDS / CYCLE)
    places = [at % CYCLE for at in log.wakes]
    drift = max(places, default=0.0) - min(places, default=0.0)
    what = f"{hours:g} h"
    lost = log.given - counted
    well = log.answers == len(log.wakes) == cycles and not log.failures
    return [
        Row(f"{what}: times real time", factor, "", "-", True, f"{log.given} frames"),
        Row(f"{what}: frames given less frames counted", lost, "", "= 0", lost == 0),
        Row(f"{what}: wake word's place moved by", drift, "s", f"<= {DRIFT:g}", bool(places) and drift <= DRIFT),
        Row(f"{what}: answers", log.answers, "", f"= {cycles}", well,
            f"{len(log.wakes)} wakes, {cycles} expected, {log.failures} failures"),
        _growth(what, log),
    ]  # fmt: skip


def _growth(what: str, log: Log) -> Row:
    end = log.memory[-1][0]
    settled = [(at, size) for at, size in log.memory if at >= min(SETTLED, end / 4)]
    first, last = settled[0], settled[-1]
    ratio = last[1] / first[1]
    most = max(size for _, size in log.memory)
    note = (f"{first[1] / 1e6:.1f} MB at {first[0] / 3600:.2f} h, {last[1] / 1e6:.1f} MB at the end, "
            f"most {most / 1e6:.1f}")  # fmt: skip
    values = tuple(size / 1e6 for _, size in log.memory)
    return Row(f"{what}: memory at the end ÷ when settled", ratio, "", f"<= {GROWTH}", ratio <= GROWTH, note, values)


async def _run(silero: Path, recordings: Path | None, count: int, log: Log) -> int:
    sound = b"".join(chunk.pcm for chunk in ToneTextToSpeech().speak(instant.ANSWER, ""))
    wakes: list[WakeWord | str] = ["hey_jarvis"] if recordings else ["hey_jarvis", ScriptedWakeWord()]
    canceller: Any = EchoCanceller("auto")
    harness = VoiceHarness(
        installed=("microwakeword",), stt=instant.Ear(), llm=instant.Model(), tts=instant.Mouth(sound),
        wake_words=wakes, activity=silero, canceller=canceller,
    )  # fmt: skip
    echo = EchoPath()
    async with harness:
        audio, bus = harness.audio, harness.services.bus
        bus.add_observer(log.note)
        microphone = _microphone(cycle(recordings), count, log)

        def room(near: bytes, played: bytes) -> bytes:
            return mix(near, echo.process(played))

        async for _ in ticks(audio.front, audio.loop, audio.playback, microphone, room):
            pass
        bus.remove_observer(log.note)
        return round(audio.loop.listened_seconds / FRAME_SECONDS)


def _microphone(repeated: list[bytes], count: int, log: Log) -> Iterator[bytes]:
    process = psutil.Process()
    for frame in itertools.islice(itertools.cycle(repeated), count):
        if log.given % SAMPLE == 0:
            everyone = [process, *process.children(recursive=True)]
            log.memory.append((log.given * FRAME_SECONDS, sum(one.memory_info().rss for one in everyone)))
        if log.given % frames(3600.0) == 0:
            say(f"soak: {log.given * FRAME_SECONDS / 3600:.0f} h, {log.memory[-1][1] / 1e6:.1f} MB")
        log.given += 1
        yield frame
