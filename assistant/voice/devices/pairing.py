"""Which frame of the loudspeaker belongs to which frame of the microphone."""

from __future__ import annotations

from collections import deque

from assistant.voice.frames import SILENCE, frames

LIMIT = frames(0.2)
"""Played frames that may wait for a microphone; the echo cancellers follow delays up to 0.5 s."""
WINDOW = frames(1.0)
"""How long a surplus must last before it is taken for one: blocks come in bursts."""


class Pairing:
    """A short queue of what was played.

    The two devices have clocks of their own. Where the loudspeaker's is ahead, the queue grows, and a frame of silence
    is left out as soon as one comes by; only a queue of 200 ms loses sound. Where it is behind, silence is put in.
    """

    def __init__(self) -> None:
        self.dropped = 0
        """Frames of the loudspeaker that no microphone frame was paired with."""
        self.missing = 0
        """Frames of silence that were put in while something had been played just before."""
        self._queue: deque[bytes] = deque()
        self._least = LIMIT
        self._age = 0
        self._flowing = False

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, far: bytes) -> None:
        """The next frame that was played."""
        self._queue.append(far)
        self._flowing = True
        while len(self._queue) > LIMIT:
            self._queue.popleft()
            self.dropped += 1

    def take(self) -> bytes:
        """What was played in the microphone's next frame."""
        if not self._queue:
            self.missing += self._flowing
            self._flowing = False
            self._restart()
            return SILENCE
        self._least = min(self._least, len(self._queue) - 1)
        self._age += 1
        if self._age >= WINDOW and self._least > 0 and self._queue[0] == SILENCE and len(self._queue) > 1:
            self._queue.popleft()
            self.dropped += 1
            self._restart()
        return self._queue.popleft()

    def clear(self) -> None:
        """Forget what waits: one of the devices was opened anew."""
        self._queue.clear()
        self._flowing = False
        self._restart()

    def _restart(self) -> None:
        self._least = LIMIT
        self._age = 0
