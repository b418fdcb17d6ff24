"""How loud a stretch of audio is, for telling speech from what is around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from assistant import STT_SAMPLE_RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIECE = STT_SAMPLE_RATE * 3 // 100
"""Samples of 30 ms: a syllable is several."""

TAIL_PIECES = 4
"""The end that may be a pause: the host asks for a draft 150 to 200 ms into one."""

BELOW_SPEECH = 0.05
"""-26 dB below the loudest piece nothing is spoken."""

PAUSE_SHARE, PAUSE_MARGIN = 0.35, 1.6
"""An end 9 dB below the loudest piece is a pause with noise in it; what is at most 4 dB louder is this noise still."""


class Loudness(NamedTuple):
    """RMS values of 16-bit samples."""

    peak: float
    """Of the loudest piece but one, so that a click is nothing."""
    middle: float
    """Of a usual piece."""
    quiet: float
    """What is no louder and follows the stretch is not speech."""


def loudness(samples: NDArray[np.float32]) -> Loudness:
    """Measure a stretch of 16-bit samples; all zero if it is empty."""
    import numpy as np

    if not len(samples):
        return Loudness(0.0, 0.0, 0.0)
    whole = samples[: max(len(samples) // PIECE, 1) * PIECE]
    pieces = np.sqrt((whole.reshape(-1, min(PIECE, len(whole))) ** 2).mean(axis=1))
    peak = float(np.sort(pieces)[-2:][0])
    tail = float(pieces[-TAIL_PIECES:].max())
    quiet = peak * BELOW_SPEECH
    if tail <= peak * PAUSE_SHARE:
        quiet = max(quiet, tail * PAUSE_MARGIN)
    return Loudness(peak, float(np.median(pieces)), quiet)
