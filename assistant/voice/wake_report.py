"""What the counts of wake words say: false accepts per hour and how sure that is, and a better threshold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec

from .wake import NEAR
from .wake_log import Scores, WakeRecord

CONFIDENCE = 0.95
TARGET = 0.5
"""False accepts per hour that are put up with; what openWakeWord's and Home Assistant's models aim at."""
MIN_HOURS = 6.0
"""Below that not even a spotless record shows that the target is met: the bound of no events is 3 / hours."""
MIN_WAKES = 10
"""Wakes, and near misses that were repeated, below which the scores of those who mean it are unknown."""
STEP = 0.01
HIGHEST = 0.99
"""The highest threshold that is suggested: scores rarely come nearer to 1."""


class WakeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one detector at one threshold."""

    name: str
    threshold: float
    hours: float
    """Listened."""
    wakes: int
    undone: int
    """Wakes after which nobody spoke: presumed false accepts."""
    near_misses: int
    """Runs of scores that nearly woke."""
    repeated: int
    """Those of them after which it was said again at once: presumed false rejects."""
    own: int
    """Times that the assistant said the phrase itself and was not believed."""
    false_per_hour: float | None
    """None: nothing was listened to."""
    false_per_hour_bound: float | None
    """With 95 % confidence it is not more."""
    suggested: float | None
    """A better threshold, or the present one; None: nothing can be said."""
    reason: str
    """What the suggestion rests on, or what is lacking."""


def poisson_bound(count: int, confidence: float = CONFIDENCE) -> float:
    """The largest mean of a Poisson distribution that so few events do not contradict; 3.0 for none at 95 %."""
    low, high = 0.0, 10.0 + 3.0 * count
    while _at_most(count, high) > 1 - confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(count, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(count: int, mean: float) -> float:
    """The probability of at most ``count`` events."""
    if mean <= 0:
        return 1.0
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1))


def figures(record: WakeRecord) -> WakeFigures:
    """The figures of one record."""
    hours, undone = record.seconds / 3600, _from(record.undone, 0)
    suggested, reason = suggest(record)
    repeated = _from(record.repeated, 0)
    return WakeFigures(
        name=record.name,
        threshold=record.threshold,
        hours=round(hours, 3),
        wakes=record.wakes,
        undone=undone,
        near_misses=_from(record.near, 0) + repeated,
        repeated=repeated,
        own=record.own,
        false_per_hour=round(undone / hours, 4) if hours else None,
        false_per_hour_bound=round(poisson_bound(undone) / hours, 4) if hours else None,
        suggested=suggested,
        reason=reason,
    )


def suggest(record: WakeRecord) -> tuple[float | None, str]:
    """A threshold, None if nothing can be said, and the reason.

    Lower, if people had to repeat themselves and the bound of false accepts stays at the target even so; higher, if
    false accepts are more than the target; else the present one.
    """
    hours = record.seconds / 3600
    meant = _from(record.kept, 0) + _from(record.repeated, 0)
    if hours < MIN_HOURS or meant < MIN_WAKES:
        return None, f"{hours:.1f} of {MIN_HOURS:.0f} h and {min(meant, MIN_WAKES)} of {MIN_WAKES} wakes to say more"
    basis = (
        f"{hours:.1f} h, {record.wakes} wakes, {_from(record.undone, 0)} undone, "
        f"{_from(record.near, 0) + _from(record.repeated, 0)} near misses"
    )
    if _false(record, record.threshold) > TARGET * hours:
        return _higher(record, hours, basis)
    return _lower(record, hours, basis)


def _lower(record: WakeRecord, hours: float, basis: str) -> tuple[float, str]:
    best, gained = record.threshold, _meant(record, record.threshold)
    for threshold in sorted(_grid(record.threshold * NEAR, record.threshold), reverse=True):
        if poisson_bound(_false(record, threshold)) > TARGET * hours:
            break
        if _meant(record, threshold) > gained:
            best, gained = threshold, _meant(record, threshold)
    more = gained - _meant(record, record.threshold)
    if not more:
        return record.threshold, f"keep it: {basis}"
    times = "time" if more == 1 else "times"
    return best, f"it would have woken {more} more {times} that it was called: {basis}"


def _higher(record: WakeRecord, hours: float, basis: str) -> tuple[float | None, str]:
    for threshold in _grid(record.threshold, HIGHEST):
        if threshold > record.threshold and _false(record, threshold) <= TARGET * hours:
            lost = _meant(record, record.threshold) - _meant(record, threshold)
            return threshold, f"false accepts would fall below {TARGET}/h, and {lost} wanted wakes be lost: {basis}"
    return None, f"no threshold up to {HIGHEST} brings false accepts below {TARGET}/h; try second_look: {basis}"


def _grid(low: float, high: float) -> Iterator[float]:
    """Hundredths from ``low`` up, below ``high``, and ``high`` itself."""
    at = math.ceil(round(low / STEP, 6))
    while at * STEP < high - 1e-9:
        yield round(at * STEP, 2)
        at += 1
    yield high


def _false(record: WakeRecord, threshold: float) -> int:
    """Wakes at this threshold that nobody meant."""
    return _from(record.undone, threshold) + _from(record.near, threshold)


def _meant(record: WakeRecord, threshold: float) -> int:
    return _from(record.kept, threshold) + _from(record.repeated, threshold)


def _from(scores: Scores, threshold: float) -> int:
    return sum(count for key, count in scores.items() if float(key) >= threshold)


def report(records: Iterable[WakeRecord]) -> tuple[WakeFigures, ...]:
    """The figures of all records, those that listened longest first."""
    return tuple(sorted((figures(one) for one in records), key=lambda one: (-one.hours, one.name)))
