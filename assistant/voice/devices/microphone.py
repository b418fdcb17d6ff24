"""The microphone: frames of 10 ms at 16 kHz from a device at its own rate."""

from __future__ import annotations

import threading
import time
from typing import Any

from . import ports
from .framing import Framing

ROOM = round(2.0 / ports.BLOCK_SECONDS)
"""Blocks that are kept while the reader is away: 2 s."""


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
        self._wanted = device
        self._stream: ports.Stream | None = None
        self._framing: Framing | None = None
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
        self._framing = Framing(device.sample_rate, self._stream.channels, self._stream.block, ROOM)
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
        if self._framing is None:
            return None
        deadline = time.monotonic() + timeout
        while (frame := self._framing.take()) is None:
            if not self._filled.acquire(timeout=max(0.0, deadline - time.monotonic())):
                return None
        return frame

    @property
    def zeros_seconds(self) -> float:
        """The run of exact zeros that was read last; 0 after any other sample."""
        return self._framing.zeros_seconds if self._framing else 0.0

    @property
    def sounded(self) -> bool:
        """Something other than zeros was read."""
        return self._framing is not None and self._framing.sounded

    @property
    def stalled_seconds(self) -> float:
        """Since the last callback, or since it was opened."""
        return time.monotonic() - self._newest

    @property
    def captured_at(self) -> float:
        """``time.monotonic`` at the end of the frame that was read last, as it came from the device."""
        return self._framing.at if self._framing else 0.0

    def _take(self, data: Any, _count: int, _times: Any, status: Any) -> None:
        self._newest = time.monotonic()
        self.blocks += 1
        stored = self._framing is not None and self._framing.put(data, self._newest)
        if status.input_overflow or not stored:
            self.overflows += 1
        if self._filled.locked():
            self._filled.release()

    def _end(self) -> None:
        self.ended = True
