"""Which frame of the loudspeaker belongs to which frame of the microphone."""

from __future__ import annotations

from collections import deque

from assistant.voice.frames import FRAME_SECONDS, SILENCE, frames

LIMIT = frames(0.2)
"""Played frames that may wait for a microphone; the echo cancellers follow delays up to 0.5 s."""
WINDOW = frames(1.0)
"""How long a surplus must last before it is taken for one."""
SURPLUS = frames(0.03)
"""Frames above the usual that are not worth a change."""


class Pairing:
    """A short queue of what was played.

    The first pair is made by the times at which the devices delivered and took: as both have some latency, the echo
    comes later than its frame, which is what cancellers need. From then on frame follows frame. The devices have clocks
    of their own: where the loudspeaker's is ahead, the queue grows, and a frame of silence is left out as soon as one
    comes by; only what exceeds 200 ms is lost. Where it is behind, silence is put in.
    """

    def __init__(self) -> None:
        self.dropped = 0
        """Frames of the loudspeaker that no microphone frame was paired with."""
        self.missing = 0
        """Frames of silence that were put in between two that were played."""
        self._queue: deque[tuple[bytes, float]] = deque()
        self._flowing = False
        self._pending = 0
        self._usual: int | None = None
        self._least = LIMIT
        self._age = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, far: bytes, at: float) -> None:
        """The next frame that was played, and when."""
        self.missing, self._pending = self.missing + self._pending, 0
        self._queue.append((far, at))

    def take(self, at: float) -> bytes:
        """What was played in the microphone's next frame, which was captured at that time."""
        if not self._flowing and not self._find(at):
            return SILENCE
        if not self._queue:
            self._pending += 1
            if self._pending >= LIMIT:
                self.clear()
            return SILENCE
        self._trim()
        return self._queue.popleft()[0]

    def bound(self) -> None:
        """All frames of the microphone that were there have been paired: what exceeds 200 ms now is lost."""
        while len(self._queue) > LIMIT:
            self._queue.popleft()
            self.dropped += 1

    def realign(self) -> None:
        """Go by the times again: sound was lost."""
        self._flowing, self._usual, self._least, self._age = False, None, LIMIT, 0

    def clear(self) -> None:
        """Begin anew: one of the devices was opened, or nothing is played any more."""
        self._queue.clear()
        self._pending = 0
        self.realign()

    def _find(self, at: float) -> bool:
        """Whether the queue begins with the frame for this time, once older ones were left out."""
        while self._queue and self._queue[0][1] < at - FRAME_SECONDS:
            self._queue.popleft()
            self.dropped += 1
        self._flowing = bool(self._queue) and self._queue[0][1] <= at
        return self._flowing

    def _trim(self) -> None:
        """Leave out a frame of silence if there were always more than usual in the last second."""
        self._least = min(self._least, len(self._queue))
        self._age += 1
        if self._age >= WINDOW and self._queue[0][0] == SILENCE:
            if self._usual is None:
                self._usual = self._least
            elif self._least > self._usual + SURPLUS:
                self._queue.popleft()
                self.dropped += 1
            self._least, self._age = LIMIT, 0
