"""Gains that change without a click, and sounds that are mixed in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]
"""Samples on their way out, on the scale of 16 bits."""


class Ramp:
    """A gain on its way to another one; the same whatever the sizes of the pieces it is taken in."""

    def __init__(self, start: float, target: float, length: int) -> None:
        """``length`` is in samples."""
        self.start, self.target = start, target
        self.length = max(1, length)
        self.at = 0

    @property
    def value(self) -> float:
        """The gain now."""
        return self.start + (self.target - self.start) * self.at / self.length

    @property
    def over(self) -> bool:
        """It has arrived."""
        return self.at == self.length or self.start == self.target

    def toward(self, target: float, length: int) -> Ramp:
        """From where it is to another gain; itself if it is on its way there."""
        return self if target == self.target else Ramp(self.value, target, length)

    def settled(self) -> Ramp:
        """Already there."""
        return Ramp(self.target, self.target, 1)

    def apply(self, sound: Sound) -> None:
        """Scale ``sound`` and go on by its length."""
        if self.over:
            if self.target != 1.0:
                sound *= self.target
            return
        steps = np.minimum(np.arange(self.at + 1, self.at + 1 + len(sound)), self.length)
        sound *= (self.start + (self.target - self.start) / self.length * steps).astype(np.float32)
        self.at = min(self.length, self.at + len(sound))


class Voice:
    """A sound that is mixed in once."""

    def __init__(self, sound: NDArray[np.int16] | Sound, wait: int = 0) -> None:
        """It begins ``wait`` samples from now."""
        self.sound = sound
        self.at = -wait

    def mix(self, out: Sound) -> bool:
        """Add the next part; True while there is more."""
        begin, start = max(0, -self.at), max(0, self.at)
        part = self.sound[start : start + max(0, len(out) - begin)]
        out[begin : begin + len(part)] += part
        self.at += len(out)
        return self.at < len(self.sound)
