"""The audio thread: pairs what was heard with what was played, and hands on what is made of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import anyio

from assistant.config import VoiceSettings
from assistant.events import Event
from assistant.voice.frames import SILENCE

from . import ports
from .health import Pacer
from .keeper import Keeper
from .listening import MicrophoneState
from .loudspeaker import Pull

T = TypeVar("T")

READ_SECONDS = 0.1
"""The longest that a microphone is waited for before anything else is seen to."""
PACE_SECONDS = 0.02
"""How often frames are made up while no microphone is open."""
ROUSED_SECONDS = 10.0
"""How long the loudspeaker runs for something that was announced."""
BACKLOG = 1500
"""Batches that may wait for the event loop, 30 s; later ones are dropped until it comes back."""
LAGS = 512
"""Batches whose lag is remembered, some 10 s."""


class RealtimeAudio(Generic[T]):
    """The listening loop's own clock: 10 ms by 10 ms, whether a microphone is open or not.

    Args:
        process: called on the audio thread with a frame of the microphone and the one that was played in it, both
            ``FRAME_BYTES``. While no microphone is open, frames of silence come at the same pace, so that what is said
            and played goes on.
        publish: called on the audio thread with what happens to the devices.
        make_playback: gives what is called for sound, for a rate in samples per second; called on the audio thread,
            when a loudspeaker of that rate is opened for the first time.
        sounding: whether there is something to play now, asked about 50 times a second on the audio thread; the
            loudspeaker rests while there is not. Without it the loudspeaker never rests.
    """

    def __init__(
        self,
        settings: VoiceSettings,
        process: Callable[[bytes, bytes], T],
        publish: Callable[[Event], None],
        make_playback: Callable[[int], Pull],
        sounding: Callable[[], bool] | None = None,
    ) -> None:
        self._process = process
        self._sounding = sounding
        self._keeper = Keeper(settings.input_device, settings.output_device, make_playback, publish)
        self._pacer = Pacer()
        self._batches: deque[tuple[list[T], float]] = deque()
        self._lags: deque[float] = deque(maxlen=LAGS)
        self._muted = False
        self._stopping = False
        self._roused = -ROUSED_SECONDS
        self.dropped = 0
        """Batches that the event loop came too late for."""

    @property
    def microphone(self) -> MicrophoneState:
        """Whether it listens now."""
        return self._keeper.input.state

    @property
    def device(self) -> str:
        """The microphone's name, as the system calls it."""
        return self._keeper.input.name

    @property
    def loudspeaker(self) -> str:
        """The loudspeaker's name; empty if none is open."""
        loudspeaker = self._keeper.output.loudspeaker
        return loudspeaker.name if loudspeaker else ""

    @property
    def overflows(self) -> int:
        """How often sound was lost because nobody took it in time."""
        return self._keeper.input.overflows

    @property
    def underflows(self) -> int:
        """How often the loudspeaker had a gap because sound came too late."""
        return self._keeper.output.underflows

    @property
    def pairing(self) -> tuple[int, int]:
        """Frames that were dropped and put in to keep what was played in step with what is heard."""
        return self._keeper.pairing.dropped, self._keeper.pairing.missing

    @property
    def lag_p95(self) -> float:
        """Seconds from a frame's capture to its being handed over, 95th percentile of the last 10 s; 0 before any."""
        lags = sorted(self._lags)
        return lags[int(0.95 * (len(lags) - 1))] if lags else 0.0

    def mute(self) -> None:
        """Close the microphone, within some 0.1 s; ``microphone`` says when."""
        self._muted = True

    def unmute(self) -> None:
        """Open the microphone again."""
        self._muted = False

    def rouse(self) -> None:
        """Something will be played soon: let the loudspeaker run, so that the first word comes at once."""
        self._roused = time.monotonic()

    async def run(self, take: Callable[[T], None]) -> None:
        """Listen until cancelled; ``take`` is called on the event loop with what ``process`` gave, in order.

        Raises:
            AudioError: there is no PortAudio; what a device does is never an error, but published.
        """
        ports.library()
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        self._stopping = False
        worker = ThreadPoolExecutor(1, "audio")
        working = loop.run_in_executor(worker, self._work, lambda: loop.call_soon_threadsafe(news.set))
        working.add_done_callback(lambda _: news.set())
        try:
            while not working.done():
                await news.wait()
                news.clear()
                self._hand_over(take)
        finally:
            self._stopping = True
            worker.shutdown(wait=False)
            with anyio.CancelScope(shield=True):
                await asyncio.wait([working])
            self._batches.clear()
        working.result()

    def _hand_over(self, take: Callable[[T], None]) -> None:
        while self._batches:
            batch, captured = self._batches.popleft()
            self._lags.append(time.monotonic() - captured)
            for item in batch:
                take(item)

    def _work(self, tell: Callable[[], object]) -> None:
        keeper = self._keeper
        try:
            while not self._stopping:
                now = time.monotonic()
                keeper.tend(now, muted=self._muted, wanted=self._wanted(now))
                near = self._gather()
                keeper.collect()
                batch = [self._process(frame, keeper.pairing.take(at)) for frame, at in near]
                keeper.pairing.bound()
                if batch and len(self._batches) < BACKLOG:
                    self._batches.append((batch, near[-1][1]))
                    tell()
                elif batch:
                    self.dropped += 1
        finally:
            keeper.stop()

    def _wanted(self, now: float) -> bool:
        return self._sounding is None or now - self._roused < ROUSED_SECONDS or self._sounding()

    def _gather(self) -> list[tuple[bytes, float]]:
        """The frames that are there now, one at least if a microphone delivers; each with the time of its end."""
        microphone = self._keeper.input.microphone
        if microphone is None:
            time.sleep(PACE_SECONDS)
            return [(SILENCE, at) for at in self._pacer.due(time.monotonic())]
        self._pacer.stop()
        near = []
        frame = microphone.read(READ_SECONDS)
        while frame is not None:
            near.append((frame, microphone.captured_at))
            frame = microphone.read(0)
        return near
