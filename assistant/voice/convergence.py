"""How much of the own sound is left after cancelling: measured live, whoever else may be speaking."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .frames import frames
from .levels import decibels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 2
"""Frames between two comparisons."""
LAGS = frames(0.4) // STEP
"""Delays that are tried, as long as the own sound counts as audible."""
SMOOTHING = 0.3
"""Weight of the newest frame in the loudness that is compared: 30 ms, so that 10 ms of misalignment do not matter."""
MEMORY = frames(2.0) // STEP
"""How far back the comparison goes: a dozen syllables."""
FIGURE_MEMORY = frames(1.5) // STEP
"""The same for the figure that is shown."""
RELATED = 0.5
"""Correlation between what is played and what is heard from which the one explains the other. In simulated rooms it is
above 0.85, with somebody speaking as loudly as the echo 0.5, and below 0.35 where no echo arrives."""
EXPLAINED = 2.0
"""Up to twice as loud as the echo should be (6 dB) a frame counts as mostly echo."""

ENOUGH_DB, GOOD_DB = 20.0, 30.0
"""Less than the first is a failure: by so much, what follows the playback must become softer. In simulated and real
rooms it was 21 to 60 dB, with somebody speaking over it 25, and 0 to 20 where the system changes the sound: there the
10 dB of KoljaB/echoff still interrupted the assistant (tests/rooms.py). At the second it is trusted again."""
FAIL = frames(3.5) // STEP
"""After a failure of that length it is given up; a voice may speak over it for as long, by chance in its rhythm."""
WORKED = frames(2.0) // STEP
"""After that long with good figures it is settled that it works."""
RECOVER = frames(30.0) // STEP
"""After a failure it must be good for so long to be trusted again, and longer each time: where the system changes the
sound, the figures were good for up to 20 s by chance."""
PATIENCE = 4
"""How many times longer."""
LOST = frames(3.0) // STEP
"""So much loud sound that has nothing to do with the playback, before cancelling has ever worked: it cannot be told
what is heard."""
FIRST = frames(1.0) // STEP
"""Before that, a correlation may be chance."""
LOUD_DB, QUIET_DB = 10.0, 6.0
"""Over the background: as loud as something that is said, and so soft that no echo arrives."""


class Convergence:
    """Compares the loudness of what is played, heard and left, frame by frame.

    Covariances with what is played leave out whatever else is in the room, so a voice over the own one does not look
    like a failure.
    """

    def __init__(self) -> None:
        import numpy as np

        self.attenuation_db: float | None = None
        """Energy of the echo before and after cancelling, in dB; None: not measured."""
        self.failed = False
        """The canceller does not do its work, or it cannot be told."""
        self._background = 0.0
        self._frames = self._count = 0
        self._near = self._clean = self._far = 0.0
        self._played: NDArray[np.float64] = np.zeros(LAGS)
        self._mean_near = self._mean_clean = self._of_near = 0.0
        self._mean_played: NDArray[np.float64] = np.zeros(LAGS)
        self._of_played: NDArray[np.float64] = np.zeros(LAGS)
        self._with: NDArray[np.float64] = np.zeros((2, LAGS))
        self._energy = [0.0, 0.0]
        self._bad = self._good = self._lost = 0
        self._worked = False
        self._recover = RECOVER

    @property
    def doubtful(self) -> bool:
        """It has failed, or what it does now is not enough and it has not been settled that it works."""
        return self.failed or (self._bad > 0 and not self._worked)

    def rest(self, near: float) -> None:
        """Take the power of a frame in which nothing of the own sound can be heard."""
        step = 0.1 if near < self._background or not self._background else 0.002
        self._background += step * (near - self._background)

    def hear(self, near: float, clean: float, far: float) -> None:
        """Take the powers of a frame in which the own sound is audible: heard, left over, played."""
        self._near += SMOOTHING * (near - self._near)
        self._clean += SMOOTHING * (clean - self._clean)
        self._far += SMOOTHING * (far - self._far)
        self._frames += 1
        if self._frames % STEP:
            return
        self._follow(math.sqrt(self._near), math.sqrt(self._clean), math.sqrt(self._far))
        if self._count < FIRST:
            return
        lag, related, left_db = self._compare()
        if related >= RELATED:
            self._measure(lag)
            self._judge(left_db)
        elif not self._worked:
            self._wonder()

    def _follow(self, near: float, clean: float, far: float) -> None:
        """Means and covariances of the loudness, which forget slowly."""
        self._played[1:] = self._played[:-1].copy()
        self._played[0] = far
        self._count += 1
        weight = max(1 / MEMORY, 1 / self._count)
        heard, left, played = near - self._mean_near, clean - self._mean_clean, self._played - self._mean_played
        self._mean_near += weight * heard
        self._mean_clean += weight * left
        self._mean_played += weight * played
        self._of_near += weight * (heard * heard - self._of_near)
        self._of_played += weight * (played * played - self._of_played)
        self._with[0] += weight * (heard * played - self._with[0])
        self._with[1] += weight * (left * played - self._with[1])

    def _compare(self) -> tuple[int, float, float]:
        """The delay at which the playback is found, the correlation there, and how much less of it is left, in dB."""
        alike = self._with[0] / (self._of_played + 1e-20) ** 0.5
        lag = int(alike.argmax())
        near, clean = self._with[:, lag].tolist()
        if near <= 0:
            return lag, 0.0, 0.0
        return lag, float(alike[lag]) / math.sqrt(self._of_near + 1e-20), -20 * math.log10(max(clean / near, 1e-3))

    def _measure(self, lag: int) -> None:
        expected = float(self._with[0, lag] / (self._of_played[lag] + 1e-20) * self._played[lag])
        if math.sqrt(self._near) <= EXPLAINED * expected:
            for at, now in enumerate((self._near, self._clean)):
                self._energy[at] += (now - self._energy[at]) / FIGURE_MEMORY
        if self._energy[0]:
            self.attenuation_db = decibels(self._energy[0]) - decibels(self._energy[1])

    def _judge(self, left_db: float) -> None:
        best = max(self.attenuation_db or 0.0, left_db)
        self._bad = 0 if best >= ENOUGH_DB else self._bad + 1
        self._good = self._good + 1 if best >= GOOD_DB else 0
        self._worked = self._worked or (self._good >= WORKED and not self.failed)
        self._decide(self._bad >= FAIL, self._recover)

    def _wonder(self) -> None:
        """Nothing heard is like what is played: no echo arrives, or it arrives unrecognisable."""
        over = decibels(self._near) - decibels(self._background)
        if self._background and over >= LOUD_DB and self._clean > self._near / 4:
            self._lost += 1
        self._good = self._good + 1 if over <= QUIET_DB else 0
        self._decide(self._lost >= LOST, WORKED)

    def _decide(self, bad: bool, recover: int) -> None:
        if bad and not self.failed:
            self.failed, self._worked, self._good = True, False, 0
        elif self.failed and self._good >= recover:
            self.failed, self._bad, self._lost = False, 0, 0
            self._recover *= PATIENCE
