"""From the blocks of a device's callback to frames of 10 ms at 16 kHz that know their time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from assistant.voice.frames import FRAME_BYTES, RATE, SILENCE

from .ring import Ring

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


SETTLED_SECONDS = 0.06
"""After such a run of zeros the resampler, which dithers, would give nothing but its own noise of one bit."""


class Resampler:
    """Takes blocks of any length of the first channel and brings them to 16 kHz, with a band up to 7.5 kHz.

    Args:
        steady: give for each block what it is worth, 13 ms late (soxr's way with a variable rate, held constant);
            otherwise it comes in bursts, 5 to 38 ms late, for an eighth of the work, which is then 0.01 ms a block.
    """

    def __init__(self, rate: int, channels: int = 1, *, steady: bool = False) -> None:
        self._ratio = RATE / rate
        self._channels = channels
        self._owed = 0.0
        self._stream: Any = None
        if rate != RATE:
            import soxr

            quality = "HQ" if steady else "MQ"
            self._stream = soxr.ResampleStream(rate, RATE, 1, dtype="int16", quality=quality, vr=steady)
            if steady:
                self._stream.set_io_ratio(rate, RATE, 0)

    @property
    def delay(self) -> float:
        """Seconds of sound that went in and have not come out."""
        return self._owed / RATE

    def process(self, pcm: bytes) -> bytes:
        """The next block; what comes out may be empty."""
        if self._stream is None and self._channels == 1:
            return pcm
        import numpy as np

        samples: NDArray[np.int16] = np.frombuffer(pcm, np.int16)[:: self._channels]
        self._owed += len(samples) * self._ratio
        if self._stream is not None:
            samples = self._stream.resample_chunk(np.ascontiguousarray(samples))
        self._owed -= len(samples)
        return samples.tobytes()


class Framing:
    """One thread puts blocks in, another takes frames out; neither waits for the other.

    Args:
        rate: samples per second of the blocks.
        channels: of the blocks, interleaved; the first one counts.
        block: samples of one block.
        room: blocks that are kept for a reader that is late.
        steady: see ``Resampler``.
    """

    def __init__(self, rate: int, channels: int, block: int, room: int, *, steady: bool = False) -> None:
        self.zeros_seconds = 0.0
        """The run of exact zeros that was taken last; 0 after any other sample."""
        self.sounded = False
        """Something other than zeros was taken."""
        self.at = 0.0
        """When the end of the frame taken last was at the device, on the clock of the times that were put in."""
        self._rate = rate
        self._size = 2 * channels * block
        self._seconds = block / rate
        self._ring = Ring(room * self._size)
        self._times: deque[float] = deque()
        self._resampler = Resampler(rate, channels, steady=steady)
        self._pcm = bytearray()
        self._end = 0.0

    def put(self, data: Any, end: float) -> bool:
        """A block, and the time of its end; False if there is no room for it, and then it is lost."""
        if not self._ring.write(data):
            return False
        self._times.append(end)
        return True

    def take(self) -> bytes | None:
        """The next frame, ``FRAME_BYTES`` long; None if there is none yet."""
        while len(self._pcm) < FRAME_BYTES:
            if not self._times:
                return None
            self._end = self._times.popleft()
            block = self._ring.read(self._size)
            self._note_zeros(block)
            self._pcm += self._resampler.process(block)
        frame = bytes(self._pcm[:FRAME_BYTES])
        del self._pcm[:FRAME_BYTES]
        self.at = self._end - self._resampler.delay - len(self._pcm) / 2 / RATE
        return SILENCE if self.zeros_seconds > SETTLED_SECONDS else frame

    def _note_zeros(self, block: bytes) -> None:
        if block.strip(b"\0"):
            self.zeros_seconds, self.sounded = 0.0, True
        else:
            self.zeros_seconds += self._seconds
