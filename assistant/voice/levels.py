"""How loud a frame is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUIETEST = -120.0
"""dBFS of exact silence; 16 bits end at -96."""


def power(samples: NDArray[np.float32]) -> float:
    """Mean square of 16-bit samples as 32-bit floats, where full scale is 1."""
    return float(samples @ samples) / (len(samples) * 1073741824.0)


def decibels(ratio: float) -> float:
    """A ratio of powers in dB, ``QUIETEST`` at the least."""
    return max(10.0 * math.log10(ratio), QUIETEST) if ratio > 0.0 else QUIETEST
