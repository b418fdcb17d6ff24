"""The short sounds between words: synthesised, so that they fit any sample rate and need no file."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVEL_DBFS = -20.0
"""Root mean square of the loudest 50 ms of every earcon."""
FADE_SECONDS = 0.008
RING_SECONDS = 2.0
"""One turn of the ring: a figure of four notes, twice, and a rest."""

Note = tuple[float, float, float, float]
"""Begins at, lasts (both seconds), frequency at its beginning, at its end (Hz)."""

EARCONS: Final[dict[str, tuple[Note, ...]]] = {
    "woken": ((0.0, 0.10, 659.3, 659.3), (0.07, 0.17, 987.8, 987.8)),
    "heard": ((0.0, 0.12, 784.0, 784.0),),
    "failed": ((0.0, 0.13, 392.0, 392.0), (0.11, 0.17, 293.7, 277.2)),
    "muted": ((0.0, 0.10, 587.3, 587.3), (0.08, 0.15, 440.0, 440.0)),
    "unmuted": ((0.0, 0.10, 440.0, 440.0), (0.08, 0.15, 587.3, 587.3)),
    "ring": tuple(
        (start + 0.09 * step, 0.16, tone, tone)
        for start in (0.0, 0.6)
        for step, tone in enumerate((880.0, 1108.7, 1318.5, 1108.7))
    ),
}
"""The notes of each; all but the ring are over within 300 ms."""

_OVERTONES = ((1.0, 1.0), (2.0, 0.25), (3.0, 0.08))
"""A soft bell: frequency and amplitude, as shares of the note's own."""


@cache
def earcon(name: str, rate: int) -> NDArray[np.int16]:
    """The samples of an earcon; not to be written to.

    Raises:
        KeyError: ``EARCONS`` has none of this name.
    """
    notes = EARCONS[name]
    seconds = RING_SECONDS if name == "ring" else max(start + lasts for start, lasts, _, _ in notes)
    sound = np.zeros(round(seconds * rate))
    for start, lasts, low, high in notes:
        note = _note(lasts, low, high, rate)
        at = round(start * rate)
        part = sound[at : at + len(note)]
        part += note[: len(part)]
    samples = np.rint(sound * (32768 * 10 ** (LEVEL_DBFS / 20) / _loudest(sound, rate))).astype(np.int16)
    samples.setflags(write=False)
    return samples


def _note(seconds: float, low: float, high: float, rate: int) -> NDArray[np.float64]:
    count = round(seconds * rate)
    time = np.arange(count) / rate
    phase = 2 * np.pi * (low * time + (high - low) * time**2 / (2 * seconds))
    sound = sum(
        (size * np.sin(phase * multiple) for multiple, size in _OVERTONES if high * multiple < rate / 2.2),
        np.zeros(count),
    )
    edge = min(1 + round(FADE_SECONDS * rate), count // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(edge) / edge)
    sound *= np.exp(-time * 3.0 / seconds)
    sound[:edge] *= ramp
    sound[count - edge :] *= ramp[::-1]
    return sound


def _loudest(sound: NDArray[np.float64], rate: int) -> float:
    """Root mean square of the loudest 50 ms."""
    window = min(len(sound), round(0.05 * rate))
    power = np.convolve(sound**2, np.full(window, 1 / window), "valid")
    return float(np.sqrt(power.max()))
