"""How the work of the echo canceller is measured, on the loudness of frames alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assistant.voice.convergence import Convergence
from assistant.voice.frames import frames

Powers = NDArray[np.float64]
ROOM = 1e-6
COUPLING = 0.1


def syllables(seconds: float, seed: int, loud: float = 1e-2) -> Powers:
    """The power of something like speech."""
    random = np.random.default_rng(seed)
    beats = random.lognormal(0.0, 1.5, round(seconds * 5))
    return np.repeat(beats / beats.mean(), 20) * loud


def hear(found: Convergence, played: Powers, left: float | Powers, others: float | Powers = 0.0, late: int = 7) -> None:
    """Frames in which so much of the echo is left, and others are as loud as that."""
    echo = np.roll(played, late) * COUPLING
    near = echo + ROOM + others
    clean = echo * left + ROOM + others
    for one in zip(near.tolist(), clean.tolist(), played.tolist(), strict=True):
        found.hear(*one)


def rested() -> Convergence:
    """It knows how quiet the room is."""
    found = Convergence()
    for _ in range(frames(2.0)):
        found.rest(ROOM)
    return found


@pytest.mark.parametrize("reduction", [3.0, 15.0, 25.0])
def test_the_figure_is_the_energy_before_and_after(reduction: float) -> None:
    found = rested()
    hear(found, syllables(10.0, 1), 10 ** (-reduction / 10))
    assert found.attenuation_db == pytest.approx(reduction, abs=1.5)
    assert found.failed == (reduction < 20.0)


def test_nothing_is_told_in_the_first_second() -> None:
    found = rested()
    hear(found, syllables(1.0, 1)[:99], 1.0)
    assert (found.attenuation_db, found.failed) == (None, False)


def test_a_failure_is_suspected_at_once_and_certain_after_five_seconds_of_sound() -> None:
    found = rested()
    hear(found, syllables(2.0, 2), 0.8)
    states = [(found.doubtful, found.failed)]
    hear(found, syllables(3.0, 2), 0.8)
    assert [*states, (found.doubtful, found.failed)] == [(True, False), (True, True)]


def test_once_it_has_worked_it_must_fail_for_long_to_be_doubted() -> None:
    found = rested()
    hear(found, syllables(8.0, 3), 0.001)
    hear(found, syllables(2.4, 4), 0.8)
    states = [found.doubtful]
    hear(found, syllables(8.0, 5), 0.8)
    states.append(found.failed)
    hear(found, syllables(50.0, 6), 0.001)
    assert [*states, found.doubtful] == [False, True, False]


def test_the_second_failure_is_forgiven_later_than_the_first() -> None:
    found = rested()
    waits = []
    for _ in range(2):
        hear(found, syllables(8.0, 5), 0.8)
        waits.append(0)
        while found.failed:
            hear(found, syllables(1.0, waits[-1]), 0.001)
            waits[-1] += 1
    assert 30 <= waits[0] <= 45
    assert 2 * waits[0] < waits[1] < 6 * waits[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_voice_as_loud_as_the_echo_is_no_failure(seed: int) -> None:
    found = rested()
    hear(found, syllables(8.0, 10 + seed), 0.001)
    before = found.attenuation_db
    hear(found, syllables(3.0, 20 + seed), 0.001, others=syllables(3.0, 30 + seed, 1e-3))
    assert not found.failed
    assert before is not None
    assert before > 20.0


def test_noise_as_loud_as_what_is_left_hides_it_and_is_no_failure() -> None:
    found = rested()
    hear(found, syllables(12.0, 7), 0.0001, others=3e-4)
    assert not found.failed
    assert found.attenuation_db is not None
    assert found.attenuation_db < 10.0


def test_strange_sound_before_anything_was_measured() -> None:
    found = rested()
    hear(found, syllables(12.0, 8) * 1e-9, 1.0, others=syllables(12.0, 9, 1e-3))
    states = [found.failed]
    hear(found, syllables(6.0, 8) * 1e-9, 1.0)
    assert [*states, found.failed] == [True, False]
