"""The wake words hear the canceller's frames and, softly and as late, the microphone's."""

from __future__ import annotations

import numpy as np
import pytest

from assistant.voice.echo import DELAY, EchoCanceller
from assistant.voice.frames import FRAME, SILENCE
from assistant.voice.wake_mix import SHARE, WakeMix


def test_both_are_heard_at_the_same_time() -> None:
    """A click through the idle canceller and the share of the microphone fall on the same sample."""
    mix, canceller = WakeMix(), EchoCanceller("auto")
    click = np.zeros((20, FRAME), "<i2")
    click[10, 40] = 20_000
    without, share = [], []
    for near in click:
        clean = canceller.process(near.tobytes(), SILENCE)
        mixed = np.frombuffer(mix.process(clean, near.tobytes()), "<i2").astype(int)
        without.append(np.frombuffer(clean, "<i2"))
        share.append(mixed - np.frombuffer(clean, "<i2"))
    assert int(np.argmax(np.abs(np.concatenate(without)))) == 10 * FRAME + 40 + DELAY
    added = np.concatenate(share)
    assert np.flatnonzero(added).tolist() == [10 * FRAME + 40 + DELAY]
    assert added.max() == pytest.approx(SHARE * 20_000)


def test_loud_sounds_are_clipped_not_wrapped() -> None:
    mix, loud = WakeMix(), np.full(FRAME, 32_767, "<i2").tobytes()
    mix.process(loud, loud)
    assert set(np.frombuffer(mix.process(loud, loud), "<i2").tolist()) == {32_767}
    low = np.full(FRAME, -32_768, "<i2").tobytes()
    mix.process(low, low)
    assert set(np.frombuffer(mix.process(low, low), "<i2").tolist()) == {-32_768}
