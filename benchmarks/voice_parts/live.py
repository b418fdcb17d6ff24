"""The listening loop in real time without a sound card: two threads take the place of the devices' callbacks.

Every 10 ms one hands the microphone's frame to the front end and posts the result to the event loop, and the other
pulls a frame of sound. As with two devices, their clocks differ a little, so that no turn depends on which comes first.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.lowlevel
import numpy as np
import soxr

from assistant import events
from assistant.engines import AudioChunk
from assistant.intents import IntentMatcher
from assistant.testing import VoiceHarness
from assistant.testing.audio import frames_of, noise
from assistant.turn import Parts
from assistant.voice.activity import VoiceActivity
from assistant.voice.echo import EchoCanceller
from assistant.voice.frames import FRAME_BYTES, FRAME_SECONDS, RATE, Heard
from assistant.voice.front import FrontEnd
from assistant.voice.loop import VoiceLoop
from assistant.voice.playback import Playback
from assistant.voice.service import PLAYBACK_RATE
from assistant.voice.smart_turn import SmartTurn
from assistant.voice.wake import WakeSpotter

LOUD = 200
"""A sample from which sound is audible, of 32767: -44 dBFS."""
ROOM_DBFS = -70.0
GIVE_UP = 10.0
"""Seconds after a question's last word in which the answer must have begun."""
REST = 0.6
"""Seconds between an answer and the next question."""
LOOK = 0.02
LOUDSPEAKER_SECONDS = 0.010005
"""Between two calls of the loudspeaker's; 500 parts per million slow, it passes all of the microphone's in 20 s."""


@dataclass
class Turn:
    """What happened when, by the machine's clock; 0: it did not."""

    spoken: float = 0.0
    """The frame with the question's last sound was over."""
    decided: float = 0.0
    """The end of the turn was published, ``SpeechEnded``."""
    began: float = 0.0
    """The turn of the store began, ``TurnStarted``; what was begun ahead is part of it from then on."""
    given: float = 0.0
    """``Playback`` was given the first chunk of the answer."""
    sounded: float = 0.0
    """The first frame with audible sound was pulled."""
    reason: str = ""
    answer: str = ""
    late: float = 0.0
    """Most seconds that a frame came after its time."""


class Noting(Playback):
    """Notes when it is given the first sound of an answer."""

    turn: Callable[[], Turn] = Turn

    def add(self, sentence: str, chunk: AudioChunk) -> None:
        """The next chunk."""
        turn = self.turn()
        turn.given = turn.given or time.perf_counter()
        super().add(sentence, chunk)


class Device:
    """Both devices.

    Args:
        post: takes what became of each frame, in the microphone's thread.
    """

    def __init__(self, front: FrontEnd, playback: Playback, post: Callable[[Heard], None]) -> None:
        self._front, self._playback, self._post = front, playback, post
        self._room = frames_of(noise("white", 2.0, ROOM_DBFS))
        self._say: deque[tuple[bytes, bool]] = deque()
        self._played: deque[bytes] = deque()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._tick, args=(FRAME_SECONDS, self._hear), daemon=True),
            threading.Thread(target=self._tick, args=(LOUDSPEAKER_SECONDS, self._play), daemon=True),
        ]
        self._far = soxr.ResampleStream(playback.rate, RATE, 1, dtype="int16")
        self._waiting = bytearray()
        self._number = 0
        self.turn = Turn()

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def say(self, pcm: bytes) -> None:
        """Speak into the microphone from the next frame on."""
        frames = frames_of(pcm)
        self._say.extend((frame, frame is frames[-1]) for frame in frames)

    def stop(self) -> None:
        """End."""
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _tick(self, seconds: float, work: Callable[[], None]) -> None:
        due = time.perf_counter()
        while not self._over.is_set():
            work()
            due += seconds
            left = due - time.perf_counter()
            self.turn.late = max(self.turn.late, -left)
            if left > 0:
                time.sleep(left)

    def _play(self) -> None:
        out = np.frombuffer(self._playback.pull(round(self._playback.rate * FRAME_SECONDS)), np.int16)
        if not self.turn.sounded and out.any() and int(np.abs(out.astype(np.int32)).max()) > LOUD:
            self.turn.sounded = time.perf_counter()
        self._waiting += self._far.resample_chunk(out).tobytes()
        self._played.append(bytes(self._waiting[:FRAME_BYTES]).rjust(FRAME_BYTES, b"\0"))
        del self._waiting[:FRAME_BYTES]

    def _hear(self) -> None:
        near, last = self._say.popleft() if self._say else (self._room[self._number % len(self._room)], False)
        self._number += 1
        if last:
            self.turn.spoken = time.perf_counter()
        self._post(self._front.process(near, self._played.popleft() if self._played else bytes(FRAME_BYTES)))


class Mail:
    """Hands frames from the devices' thread over to the loop, in order, as ``RealtimeAudio`` does."""

    def __init__(self, loop: VoiceLoop) -> None:
        self._loop = loop
        self._running = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._frames: deque[Heard] = deque()

    def post(self, heard: Heard) -> None:
        """From the other thread."""
        self._frames.append(heard)
        self._running.call_soon_threadsafe(self._news.set)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._frames:
                self._loop.take(self._frames.popleft())


class Listener:
    """A loop and its devices; everything is up when it is given out."""

    def __init__(self, loop: VoiceLoop, playback: Playback, device: Device) -> None:
        self._loop = loop
        self._playback = playback
        self._device = device

    async def ask(self, pcm: bytes) -> Turn:
        """Say something, and let the answer be spoken to its end."""
        turn = self._device.turn = Turn()
        self._device.say(pcm)
        began, seconds = time.perf_counter(), len(pcm) / 2 / RATE
        calm = 0.0
        while calm < REST:
            await anyio.sleep(LOOK)
            over = self._loop.dialogue.state == "idle" and self._playback.done and turn.sounded
            calm = calm + LOOK if over else 0.0
            if not turn.sounded and time.perf_counter() - began > seconds + GIVE_UP:
                self._loop.dialogue.stop()
                await anyio.sleep(REST)
                break
        return turn

    def note(self, event: events.Event) -> None:
        """Take an event of the daemon."""
        if isinstance(event, events.TurnStarted):
            self._device.turn.began = time.perf_counter()
        elif isinstance(event, events.TurnFinished):
            self._device.turn.answer = event.text
        elif isinstance(event, events.SpeechEnded):
            self._device.turn.decided, self._device.turn.reason = time.perf_counter(), event.reason


@asynccontextmanager
async def listening(
    harness: VoiceHarness, silero: Path, smart_turn: Path | None = None
) -> AsyncIterator[Listener]:
    """A live loop over the plugins, lanes, store and sessions of a harness; no wake word is needed.

    Args:
        silero: the folder of the model ``silero-vad``.
        smart_turn: the folder of the model ``smart-turn``; None: silence alone decides.
    """
    services = harness.services
    parts = Parts(
        services.settings, services.bus, services.db, services.plugins, services.pool,
        IntentMatcher(services.plugins.intents), services.paths,
    )  # fmt: skip
    playback = Noting(PLAYBACK_RATE, services.settings.voice.volume)
    front = FrontEnd(EchoCanceller("auto"), VoiceActivity(silero), WakeSpotter([]), lambda: playback.sentence)
    judge = SmartTurn(smart_turn) if smart_turn else None
    if judge is not None:
        judge.probability(bytes(RATE))
    loop = VoiceLoop(parts, services.sessions, playback, phrases={}, smart_turn=judge)
    mail = Mail(loop)
    device = Device(front, playback, mail.post)
    playback.turn = lambda: device.turn
    listener = Listener(loop, playback, device)
    services.bus.add_observer(listener.note)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.run)
            tasks.start_soon(mail.run)
            await anyio.lowlevel.checkpoint()
            device.start()
            await anyio.sleep(1.0)
            yield listener
            tasks.cancel_scope.cancel()
    finally:
        device.stop()
        services.bus.remove_observer(listener.note)

