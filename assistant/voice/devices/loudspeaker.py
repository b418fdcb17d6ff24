"""The loudspeaker: pulls its sound at the device's own rate, and keeps what it played for the echo canceller."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import ports
from .framing import Framing

Pull = Callable[[int], bytes]
"""Gives exactly so many samples, 16-bit mono, without waiting; called on PortAudio's thread."""

ROOM = round(0.5 / ports.BLOCK_SECONDS)
"""Blocks of what was played that are kept for a reader that is late: 0.5 s; older echoes are of no use."""


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
        self._framing: Framing | None = None

    def open(self) -> None:
        """Open the device, without starting it.

        Raises:
            AudioError: there is none of that name, or it cannot be opened.
        """
        device = ports.find("output", self._wanted)
        self.name, self.sample_rate = device.name, device.sample_rate
        self._pull = self._factory(device.sample_rate)
        self._stream = ports.Stream("output", device, self._give, self._end)
        self._channels = self._stream.channels

    def start(self) -> None:
        """Pull and play.

        Raises:
            AudioError: the device went away.
        """
        if self._stream is not None and not self.running:
            self._framing = Framing(self.sample_rate, 1, self._stream.block, ROOM, steady=True)
            self.ended, self.blocks = False, 0
            self._stream.start()
            self.running = True

    def stop(self) -> None:
        """Rest: nothing is pulled, the device stays open, and starting again takes some milliseconds."""
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
        """How long what was played and read was silence."""
        return self._framing.zeros_seconds if self._framing else 0.0

    @property
    def far_at(self) -> float:
        """``time.monotonic`` at the end of the frame that was read last, if the device had played it when it took it.

        It plays it later, by its latency.
        """
        return self._framing.at if self._framing else 0.0

    def read_far(self) -> bytes | None:
        """The next frame of what was played, ``FRAME_BYTES`` long at 16 kHz; None if there is none yet."""
        return self._framing.take() if self._framing and self.running else None

    def _give(self, out: Any, count: int, _times: Any, status: Any) -> None:
        now = time.monotonic()
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
            every, mono = memoryview(out).cast("B").cast("h"), memoryview(pcm).cast("h")
            for channel in range(self._channels):
                every[channel :: self._channels] = mono
        if self._framing is not None:
            self._framing.put(pcm, now + count / self.sample_rate)
        self.blocks += 1

    def _end(self) -> None:
        self.ended = True
