"""Whether a device delivers, and when to try again: pure arithmetic on times that it is told."""

from __future__ import annotations

from typing import Literal

from assistant.voice.frames import FRAME_SECONDS

Trouble = Literal["gone", "stalled", "silent"]

STALL_SECONDS = 1.5
"""Without a callback for so long, a device has stalled; Bluetooth devices change their profile in less."""
FIRST_SECONDS = 3.0
"""The same while it begins: Bluetooth devices take up to 2 s to, and sound servers to wake a device."""
FIRST_BLOCKS = 10
"""Callbacks until a device has begun: the first ones may come at once, to fill its buffer."""
SILENT_SECONDS = 2.0
"""Exact zeros for so long: macOS delivers them without a permission; a microphone in a quiet room makes some noise."""
SILENT_LIMIT = 64.0
"""The longest that a device which falls silent and returns by itself is given."""
STEP_SECONDS = 0.25
"""The most that counts between two looks: a process that was itself stopped does not blame the device."""

RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Waits before each further attempt to open a device; the last one repeats."""
SILENT_RETRY_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
"""The same for a device that is open and silent: muted by a switch of its own, it is not helped by that."""


class Watch:
    """Judges what comes from a device, again after each time that it was opened."""

    def __init__(self) -> None:
        self._seen = 0.0
        self._blocks = 0
        self._still = 0.0
        self._silent_after = SILENT_SECONDS

    def restart(self, now: float) -> None:
        """It was opened or started just now; ``now`` is in seconds of a clock that only goes forward."""
        self._seen, self._still, self._blocks = now, 0.0, 0

    def judge(self, now: float, blocks: int, *, ended: bool, zeros: float = 0.0) -> Trouble | None:
        """What is wrong with it now.

        Args:
            blocks: callbacks since it was opened or started.
            ended: its stream ended by itself.
            zeros: seconds of the present run of exact zeros.
        """
        step, self._seen = min(now - self._seen, STEP_SECONDS), now
        self._still = 0.0 if blocks != self._blocks else self._still + step
        self._blocks = blocks
        if ended:
            return "gone"
        if self._still > (STALL_SECONDS if blocks > FIRST_BLOCKS else FIRST_SECONDS):
            return "stalled"
        return "silent" if zeros > self._silent_after else None

    def returned(self) -> None:
        """It was silent and sounds again: as one that gates its noise does often, it is given longer each time."""
        self._silent_after = min(2 * self._silent_after, SILENT_LIMIT)


class Backoff:
    """When to try the next time."""

    def __init__(self, waits: tuple[float, ...]) -> None:
        self._waits = waits
        self._tries = 0
        self._due = 0.0

    def plan(self, now: float) -> None:
        """An attempt failed: the next one comes later."""
        self._due = now + self._waits[min(self._tries, len(self._waits) - 1)]
        self._tries += 1

    def due(self, now: float) -> bool:
        """Try now."""
        return now >= self._due

    def reset(self) -> None:
        """All is well: the next trouble is met with the shortest wait."""
        self._tries, self._due = 0, 0.0


class Pacer:
    """Counts the frames that time is worth while no device counts them."""

    LIMIT = 50
    """The most that is made up at once, in frames."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._given = 0

    def due(self, now: float) -> list[float]:
        """The times at which the frames ended that have become due."""
        if self._start is None:
            self._start, self._given = now, 0
        count = int((now - self._start) / FRAME_SECONDS)
        if count - self._given > self.LIMIT:
            self._start, self._given, count = now - self.LIMIT * FRAME_SECONDS, 0, self.LIMIT
        times = [self._start + (number + 1) * FRAME_SECONDS for number in range(self._given, count)]
        self._given = count
        return times

    def stop(self) -> None:
        """A device counts again."""
        self._start = None
