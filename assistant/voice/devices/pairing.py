"""Which frame of the loudspeaker belongs to which frame of the microphone."""

from __future__ import annotations

from collections import deque

from assistant.voice.frames import FRAME_SECONDS, SILENCE, frames

LIMIT = frames(0.2)
"""Played frames that may wait for a microphone; the echo cancellers follow delays up to 0.5 s."""
WINDOW = frames(1.0)
"""How long frames must have been old before they are taken for it: callbacks come late one by one."""
SURPLUS = frames(0.03)
"""More of silence is left out."""
EXCESS = frames(0.05)
"""More of anything is left out, and then all of it: the echo would come before its frame."""


class Pairing:
    """A short queue of what was played.

    The first pair is made by the times at which the devices delivered and took: as both have some latency, the echo
    comes later than its frame, which is what cancellers need. From then on frame follows frame, as times jitter. Where
    the loudspeaker's clock is ahead, or the microphone skipped something, the frames that wait become old: then silence
    is left out as soon as it comes by, and anything beyond 50 ms. Where its clock is behind, silence is put in.
    """

    def __init__(self) -> None:
        self.dropped = 0
        """Frames of the loudspeaker that no microphone frame was paired with."""
        self.missing = 0
        """Frames of silence that were put in between two that were played."""
        self._queue: deque[tuple[bytes, float]] = deque()
        self._flowing = False
        self._pending = 0
        self._usual: float | None = None
        self._least = float("inf")
        self._age = 0
        self._surplus = 0

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
        self._watch(at - self._queue[0][1])
        self._trim()
        return self._queue.popleft()[0]

    def bound(self) -> None:
        """All frames of the microphone that were there have been paired: what exceeds 200 ms now is lost."""
        while len(self._queue) > LIMIT:
            self._queue.popleft()
            self.dropped += 1

    def realign(self) -> None:
        """Go by the times again: sound was lost."""
        self._flowing, self._usual, self._surplus = False, None, 0
        self._least, self._age = float("inf"), 0

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

    def _watch(self, age: float) -> None:
        """Note how old the next frame is, and once in a second what that makes."""
        self._least = min(self._least, age)
        self._age += 1
        if self._age < WINDOW:
            return
        if self._usual is None:
            self._usual = self._least
        surplus = round((self._least - self._usual) / FRAME_SECONDS)
        self._surplus = surplus if surplus > SURPLUS else 0
        self._least, self._age = float("inf"), 0

    def _trim(self) -> None:
        everything = self._surplus > EXCESS
        while self._surplus and len(self._queue) > 1 and (everything or self._queue[0][0] == SILENCE):
            self._queue.popleft()
            self._surplus -= 1
            self.dropped += 1
