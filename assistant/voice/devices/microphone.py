"""The microphone: frames of 10 ms at 16 kHz from a device at its own rate."""

from __future__ import annotations

import threading
import time
from typing import Any

from assistant.voice.frames import FRAME_BYTES, RATE

from . import ports
from .resampling import Resampler
from .ring import Ring

RING_SECONDS = 2.0
"""How long the reader may be away before sound is lost."""


class Microphone:
    """Opened, read and closed by one thread; what PortAudio's own thread does is a copy and some counting.

    Args:
        device: a part of the device's name; empty for the default.
    """

    def __init__(self, device: str = "") -> None:
        self.name = device
        """As the system calls it, once it is open."""
        self.sample_rate = 0
        """The device's own, in samples per second, once it is open."""
        self.overflows = 0
        """How often sound was lost because nobody took it in time."""
        self.blocks = 0
        """Callbacks so far."""
        self.ended = False
        """The stream ended by itself: the device is gone."""
        self.zeros_seconds = 0.0
        """The run of exact zeros that was read last; 0 after any other sample."""
        self.sounded = False
        """Something other than zeros was read."""
        self._wanted = device
        self._stream: ports.Stream | None = None
        self._pcm = bytearray()
        self._zeros = 0
        self._newest = 0.0
        self._filled = threading.Lock()

    def open(self) -> None:
        """Open the device and let it run.

        Raises:
            AudioError: there is none of that name, or it cannot be opened.
        """
        device = ports.find("input", self._wanted)
        self.name, self.sample_rate = device.name, device.sample_rate
        self._stream = ports.Stream("input", device, self._take, self._end)
        self._width = 2 * self._stream.channels
        self._block = self._width * round(device.sample_rate * ports.BLOCK_SECONDS)
        self._ring = Ring(round(RING_SECONDS / ports.BLOCK_SECONDS) * self._block)
        self._resampler = Resampler(device.sample_rate, RATE, self._stream.channels)
        self._newest = time.monotonic()
        self._filled.acquire(blocking=False)
        try:
            self._stream.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the device back; nothing is heard from now on."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.close()

    def read(self, timeout: float) -> bytes | None:
        """The next frame, ``FRAME_BYTES`` long; None if it takes longer than ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while len(self._pcm) < FRAME_BYTES:
            block = self._ring.read(self._block)
            if block:
                self._note_zeros(block)
                self._pcm += self._resampler.process(block)
            elif not self._filled.acquire(timeout=max(0.0, deadline - time.monotonic())):
                return None
        frame = bytes(self._pcm[:FRAME_BYTES])
        del self._pcm[:FRAME_BYTES]
        return frame

    @property
    def stalled_seconds(self) -> float:
        """Since the last callback, or since it was opened."""
        return time.monotonic() - self._newest

    @property
    def captured_at(self) -> float:
        """``time.monotonic`` when the frame read last had come from the device whole."""
        waiting = len(self._ring) / self._width / self.sample_rate + len(self._pcm) / 2 / RATE
        return self._newest - waiting

    def _note_zeros(self, block: bytes) -> None:
        if block.strip(b"\0"):
            self._zeros, self.sounded = 0, True
        else:
            self._zeros += len(block) // self._width
        self.zeros_seconds = self._zeros / self.sample_rate

    def _take(self, data: Any, _count: int, _times: Any, status: Any) -> None:
        if self._ring.write(data) or status.input_overflow:
            self.overflows += 1
        self.blocks += 1
        self._newest = time.monotonic()
        if self._filled.locked():
            self._filled.release()

    def _end(self) -> None:
        self.ended = True
