"""The loudspeaker: pulls its sound at the device's own rate, and keeps what it played for the echo canceller."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from assistant.voice.frames import FRAME_BYTES, RATE

from . import ports
from .resampling import Resampler
from .ring import Ring

Pull = Callable[[int], bytes]
"""Gives exactly so many samples, 16-bit mono, without waiting; called on PortAudio's thread."""

RING_SECONDS = 0.5
"""How much of what was played is kept for a reader that is late; older echoes are of no use."""


class Loudspeaker:
    """Opened, started, stopped and closed by one thread, which also reads what was played.

    Args:
        device: a part of the device's name; empty for the default.
        pull_factory: gives what is called for sound, for a rate in samples per second.
    """

    def __init__(self, device: str, pull_factory: Callable[[int], Pull]) -> None:
        self.name = device
        """As the system calls it, once it is open."""
        self.sample_rate = 0
        """The device's own, in samples per second, once it is open."""
        self.underflows = 0
        """How often there was a gap because sound came too late."""
        self.blocks = 0
        """Callbacks since it was started."""
        self.ended = False
        """The stream ended by itself: the device is gone."""
        self.running = False
        """Sound is pulled."""
        self.failure: Exception | None = None
        """What the last call for sound raised; silence was played."""
        self._wanted = device
        self._factory = pull_factory
        self._stream: ports.Stream | None = None
        self._pcm = bytearray()
        self._sounded = 0.0

    def open(self) -> None:
        """Open the device, without starting it.

        Raises:
            AudioError: there is none of that name, or it cannot be opened.
        """
        device = ports.find("output", self._wanted)
        self.name, self.sample_rate = device.name, device.sample_rate
        self._stream = ports.Stream("output", device, self._give, self._end)
        self._channels = self._stream.channels
        self._pull = self._factory(device.sample_rate)
        self._block = 2 * round(device.sample_rate * ports.BLOCK_SECONDS)
        self._ring = Ring(round(RING_SECONDS / ports.BLOCK_SECONDS) * self._block)

    def start(self) -> None:
        """Pull and play.

        Raises:
            AudioError: the device went away.
        """
        if self._stream is not None and not self.running:
            self._ring.clear()
            self._pcm.clear()
            self._resampler = Resampler(self.sample_rate, RATE)
            self._sounded = time.monotonic()
            self.ended, self.blocks = False, 0
            self._stream.start()
            self.running = True

    def stop(self) -> None:
        """Rest: nothing is pulled, the device stays open, and starting again is quick."""
        if self._stream is not None and self.running:
            self.running = False
            self._stream.stop()

    def close(self) -> None:
        """Silence at once, and give the device back."""
        if self._stream is not None:
            stream, self._stream, self.running = self._stream, None, False
            stream.close()

    @property
    def quiet_seconds(self) -> float:
        """Since it last played anything but silence, or was started."""
        return time.monotonic() - self._sounded

    def read_far(self) -> bytes | None:
        """The next frame of what was played, ``FRAME_BYTES`` long at 16 kHz; None if there is none yet."""
        while len(self._pcm) < FRAME_BYTES:
            block = self._ring.read(self._block) if self.running else b""
            if not block:
                return None
            self._pcm += self._resampler.process(block)
        frame = bytes(self._pcm[:FRAME_BYTES])
        del self._pcm[:FRAME_BYTES]
        return frame

    def _give(self, out: Any, count: int, _times: Any, status: Any) -> None:
        if status.output_underflow:
            self.underflows += 1
        size = 2 * count
        try:
            pcm = self._pull(count)
        except Exception as error:
            self.failure, pcm = error, b""
        if len(pcm) != size:
            pcm = pcm[:size].ljust(size, b"\0")
        if self._channels == 1:
            out[:] = pcm
        else:
            both, mono = memoryview(out).cast("B").cast("h"), memoryview(pcm).cast("h")
            for channel in range(self._channels):
                both[channel :: self._channels] = mono
        self._ring.write(pcm)
        self.blocks += 1
        if pcm.strip(b"\0"):
            self._sounded = time.monotonic()

    def _end(self) -> None:
        self.ended = True
