"""Another detector's opinion of what sounded like a wake word."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assistant.hookspecs import WakeWord


def agrees(detector: WakeWord, pcm: bytes, threshold: float) -> bool:
    """Whether a loaded detector hears its phrase anywhere in some audio; takes as long as it takes to score it.

    Args:
        pcm: 16 kHz mono, 16-bit; about a second before the phrase helps it.
        threshold: the score that counts; 0 takes the detector's own.
    """
    detector.reset()
    size = detector.frame_samples * 2
    frames = (pcm[start : start + size] for start in range(0, len(pcm) - size + 1, size))
    return max((detector.score(frame) for frame in frames), default=0.0) >= (threshold or detector.threshold)
