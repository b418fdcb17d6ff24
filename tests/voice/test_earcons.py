"""The short sounds."""

from __future__ import annotations

import numpy as np
import pytest

from assistant.voice.earcons import EARCONS, LEVEL_DBFS, RING_SECONDS, earcon

RATES = (8_000, 16_000, 44_100, 48_000)


def loudest(sound: np.ndarray[tuple[int], np.dtype[np.float64]], rate: int) -> float:
    size = rate // 20
    power = [float((sound[at : at + size] ** 2).mean()) for at in range(0, max(1, len(sound) - size), size // 10)]
    return 10 * float(np.log10(max(power)))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", EARCONS)
def test_each_is_short_soft_and_without_clicks(name: str, rate: int) -> None:
    sound = earcon(name, rate).astype(np.float64) / 32_768
    assert len(sound) / rate <= (RING_SECONDS if name == "ring" else 0.3)
    assert loudest(sound, rate) == pytest.approx(LEVEL_DBFS, abs=1)
    assert np.abs(sound).max() < 0.5
    assert np.abs(sound[: rate // 1_000]).max() < 0.01
    assert np.abs(sound[-rate // 1_000 :]).max() < 0.01


def test_they_can_be_told_apart() -> None:
    rate = 16_000
    melodies = {name: [round(tone) for _, _, tone, _ in notes] for name, notes in EARCONS.items()}
    assert len({tuple(melody) for melody in melodies.values()}) == len(EARCONS)
    assert melodies["woken"] == sorted(melodies["woken"])
    assert melodies["failed"] == sorted(melodies["failed"], reverse=True)
    heard = np.abs(np.fft.rfft(earcon("heard", rate).astype(float), rate))
    assert abs(int(heard.argmax()) - melodies["heard"][0]) < 10


def test_the_ring_ends_in_silence_so_that_it_can_be_repeated() -> None:
    assert not earcon("ring", 16_000)[-8_000:].any()


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(KeyError):
        earcon("gong", 16_000)
