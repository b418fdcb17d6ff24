"""What is kept of wake words: how long was listened, and how high the scores were; no audio, no words, no times."""

from __future__ import annotations

import logging
import re
import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from assistant.errors import VoiceError

from .frames import WakeHit

log = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
"""How often counts are written, in seconds of audio, if something happened."""
IDLE_SECONDS = 600.0
"""How often if nothing but time passed."""
REPEAT_SECONDS = 8.0
"""A near miss that is followed by a wake within so long was meant: the person said it again."""
SETTLE_SECONDS = 2.0
"""So long after it woke a detector's scores are down again, and the highest of them is known."""

NAME = re.compile(r"[\w.-]+")

Scores = dict[Annotated[str, Meta(pattern=r"^[01]\.\d{3}$")], Annotated[int, Meta(ge=1)]]
"""A histogram: how often each score came, by its three decimals."""


class WakeRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What one detector did at one threshold."""

    name: str
    threshold: float
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    """Listened."""
    kept: Scores = {}
    """Highest scores of the wakes after which somebody spoke."""
    undone: Scores = {}
    """Of those after which nobody spoke, or nothing that was meant: presumed false accepts."""
    near: Scores = {}
    """Of the runs that nearly woke."""
    repeated: Scores = {}
    """Of those that were followed by a wake at once: presumed false rejects."""
    own: Annotated[int, Meta(ge=0)] = 0
    """Times that the assistant said the phrase itself and was not believed."""

    @property
    def wakes(self) -> int:
        """How often it woke."""
        return sum(self.kept.values()) + sum(self.undone.values())


class Spotter(Protocol):
    """What the log asks of ``WakeSpotter``."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """The score that counts for each detector."""

    def strength(self, name: str) -> float:
        """The highest score so far of the last run that woke."""


@dataclass
class _Wake:
    at: float
    key: str
    repeated: list[str]
    settled: bool = False


class WakeLog:
    """Counts for all detectors that listen, one small file each in ``folder``; files that cannot be read are set aside.

    Args:
        folder: made at the first write.
    """

    def __init__(self, folder: Path, spotter: Spotter) -> None:
        self._folder = folder
        self._spotter = spotter
        self._records = {name: _load(folder, name, threshold) for name, threshold in spotter.thresholds.items()}
        self._clock = 0.0
        self._saved = 0.0
        self._changed = False
        self._warned = False
        self._last: dict[str, _Wake] = {}
        self._near: dict[str, deque[tuple[float, str]]] = {name: deque() for name in self._records}

    @property
    def records(self) -> tuple[WakeRecord, ...]:
        """The counts so far."""
        return tuple(self._records.values())

    def listened(self, seconds: float) -> None:
        """So much more audio was listened to."""
        self._clock += seconds
        for record in self._records.values():
            record.seconds += seconds
        for name, wake in self._last.items():
            if not wake.settled and self._clock - wake.at >= SETTLE_SECONDS:
                self._settle(name, wake)
        if self._clock - self._saved >= (SAVE_SECONDS if self._changed else IDLE_SECONDS):
            self.save()

    def add(self, hit: WakeHit) -> None:
        """A wake, or a near miss."""
        record, near = self._records[hit.name], self._near[hit.name]
        self._changed = True
        key = _key(hit.score)
        if hit.own:
            record.own += 1
            return
        if not hit.accepted:
            _count(record.near, key)
            near.append((self._clock, key))
            return
        repeated = [key for at, key in near if self._clock - at <= REPEAT_SECONDS]
        near.clear()
        for one in repeated:
            _move(one, record.near, record.repeated)
        _count(record.kept, key)
        self._last[hit.name] = _Wake(self._clock, key, repeated)

    def undo(self, name: str) -> None:
        """The last wake led to nothing: nobody spoke, or nothing was meant."""
        wake = self._last.get(name)
        if wake is None:
            return
        self._changed = True
        self._settle(name, wake)
        del self._last[name]
        record = self._records[name]
        _move(wake.key, record.kept, record.undone)
        for one in wake.repeated:
            _move(one, record.repeated, record.near)

    def save(self) -> None:
        """Write the files, each whole or not at all; what cannot be written is said once in the log."""
        self._saved, self._changed = self._clock, False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for record in self._records.values():
                _write(_file(self._folder, record.name, record.threshold), msgspec.json.encode(record))
        except OSError as error:
            if not self._warned:
                log.warning("the wake words' counts cannot be written to %s: %s", self._folder, error)
            self._warned = True

    def close(self) -> None:
        """Write what is new."""
        for name, wake in self._last.items():
            self._settle(name, wake)
        self.save()

    def _settle(self, name: str, wake: _Wake) -> None:
        """Put the highest score of the run in the place of that at which it woke."""
        if wake.settled:
            return
        wake.settled = True
        key = max(wake.key, _key(self._spotter.strength(name)))
        if key != wake.key:
            record = self._records[name]
            _move(wake.key, record.kept, record.kept, key)
            wake.key = key
            self._changed = True


def read_records(folder: Path) -> Iterator[WakeRecord]:
    """Everything that was counted, by name and threshold; files that cannot be read are left out.

    Raises:
        VoiceError: the folder cannot be read.
    """
    try:
        files = sorted(folder.glob("*.json"))
    except OSError as error:
        raise VoiceError(f"{folder} cannot be read: {error}", hint="check its permissions") from error
    for file in files:
        try:
            yield msgspec.json.decode(file.read_bytes(), type=WakeRecord)
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s is left out: %s", file, error)


def _load(folder: Path, name: str, threshold: float) -> WakeRecord:
    fresh = WakeRecord(name=name, threshold=round(threshold, 3))
    file = _file(folder, name, threshold)
    try:
        found = msgspec.json.decode(file.read_bytes(), type=WakeRecord)
        if (found.name, found.threshold) == (fresh.name, fresh.threshold):
            return found
        reason = f"it counts for {found.name} at {found.threshold}"
    except FileNotFoundError:
        return fresh
    except (OSError, msgspec.DecodeError) as error:
        reason = str(error)
    aside = file.with_suffix(".broken")
    log.warning("%s is set aside as %s, counting begins anew: %s", file, aside.name, reason)
    try:
        file.replace(aside)
    except OSError as error:
        log.warning("%s cannot be set aside: %s", file, error)
    return fresh


def _file(folder: Path, name: str, threshold: float) -> Path:
    """Each threshold has a file of its own, since the counts of one say little of another."""
    safe = name if NAME.fullmatch(name) else name.encode().hex()
    return folder / f"{safe}@{threshold:.3f}.json"


def _write(file: Path, data: bytes) -> None:
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(data)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _key(score: float) -> str:
    return f"{min(max(score, 0.0), 1.0):.3f}"


def _count(scores: Scores, key: str) -> None:
    scores[key] = scores.get(key, 0) + 1


def _move(key: str, source: Scores, target: Scores, new: str = "") -> None:
    source[key] -= 1
    if not source[key]:
        del source[key]
    _count(target, new or key)
