"""Kept prompts on the disk, in a folder that several processes and models may share."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .file import BROKEN, WRITING, Note, decoded, encoded, expected_size, loaded, read_note, written
from .state import trimmable

log = logging.getLogger(__name__)

FORMAT = 1
"""Of the files; another number makes them stale."""

ABANDONED = 3600.0
"""Seconds after which a file that is still being written belongs to a process that has died."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A prompt on the disk, known without its tensors."""

    path: Path
    key: str
    tokens: Any
    snapshot: bool
    trimmable: bool


def fingerprint(folder: Path, extra: str) -> str:
    """What the caches of a model depend on: ``<which model>-<which version of it>``.

    Args:
        folder: the model's, whose configuration, and sizes and times of weights, are its version.
        extra: what else makes a version, such as the data type it computes in.
    """
    digest = hashlib.sha256(f"{FORMAT} {extra}".encode())
    for package in ("mlx", "mlx-lm"):
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{package} {version(package)}\n".encode())
    with contextlib.suppress(OSError):
        digest.update((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        with contextlib.suppress(OSError):
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    which = hashlib.sha256(str(folder.resolve()).encode())
    return f"{which.hexdigest()[:16]}-{digest.hexdigest()[:32]}"


class CacheDisk:
    """The files of one model; the budget is shared with those of other models in the same folder.

    The index is read at once, tensors only when they are asked for. Damaged files, foreign ones and those of another
    version of the model are logged and removed. Nothing here raises.

    Args:
        folder: made if it does not exist, for its owner only: the files hold what was said.
        budget: bytes of the whole folder.
        fingerprint: as ``fingerprint()`` makes it.
    """

    def __init__(self, folder: Path, budget: int, fingerprint: str) -> None:
        self.failed = False
        """The last write failed, most often for want of space."""
        self._folder = folder
        self._budget = budget
        self._fingerprint = fingerprint
        self._index: dict[Path, Stored] = {}
        self._warned = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._read_index()
        except OSError as error:
            self._warn(f"prompts cannot be kept in {folder}: {error}")

    def entries(self, key: str) -> list[Stored]:
        """The files for that adapter and format of caches."""
        return [stored for stored in self._index.values() if stored.key == key]

    def load(self, stored: Stored) -> list[Any] | None:
        """The caches of a file; None if it is damaged or has vanished, and it is then forgotten."""
        try:
            return loaded(stored.path)
        except FileNotFoundError:
            self._index.pop(stored.path, None)
            return None
        except BROKEN as error:
            self._discard(stored.path, str(error))
            return None

    def touch(self, stored: Stored, used: int) -> bool:
        """Note when a file was last of use, in nanoseconds. Returns whether it still exists."""
        try:
            os.utime(stored.path, ns=(used, used))
        except FileNotFoundError:
            self._index.pop(stored.path, None)
        except OSError as error:
            log.debug("the time of %s cannot be set: %s", stored.path, error)
        return stored.path in self._index

    def write(self, key: str, tokens: Any, caches: list[Any], snapshot: bool, used: int) -> Stored | None:
        """Write a prompt in place of the shorter ones that it has grown from.

        Args:
            key: adapter and format of the caches.
            tokens: an array of int32.
            caches: what holds them.
            snapshot: it stays when a longer one is written.
            used: when it was last of use, in nanoseconds; the files that were so before it make room.

        Returns:
            The file; None if there is no room for it, or if it cannot be written.
        """
        older = [stored for stored in self.entries(key) if _grown(stored, tokens)]
        snapshot = snapshot or any(stored.snapshot for stored in older)
        if not self._make_room(expected_size(caches, tokens), used, {stored.path for stored in older}):
            return None
        note = Note(self._fingerprint, key, encoded(tokens), snapshot, trimmable(caches))
        self.failed = True
        try:
            path = written(self._folder, caches, note)
            os.utime(path, ns=(used, used))
        except (OSError, RuntimeError, ValueError) as error:
            self._warn(f"a prompt cannot be kept in {self._folder}: {error}")
            return None
        self.failed = self._warned = False
        stored = self._index[path] = Stored(path, key, tokens, snapshot, note.trimmable)
        for replaced in older:
            self._forget(replaced.path)
        return stored

    def _read_index(self) -> None:
        stale = 0
        for path in sorted(self._folder.glob("*.safetensors")):
            if path.name.endswith(WRITING):
                _remove_abandoned(path)
                continue
            try:
                note = read_note(path)
                tokens = decoded(note.tokens)
            except FileNotFoundError:
                continue
            except BROKEN as error:
                self._discard(path, str(error))
                continue
            if note.fingerprint == self._fingerprint:
                self._index[path] = Stored(path, note.key, tokens, note.snapshot, note.trimmable)
            elif note.fingerprint.partition("-")[0] == self._fingerprint.partition("-")[0]:
                stale += 1
                _remove(path)
        if stale:
            log.warning("%d kept prompts of another version of the model were removed from %s", stale, self._folder)

    def _make_room(self, needed: int, used: int, replaced: set[Path]) -> bool:
        """Remove files that were of use before ``used``, the oldest first. Returns whether that was enough."""
        files: list[tuple[int, int, Path]] = []
        try:
            for path in self._folder.glob("*.safetensors"):
                if path in replaced or path.name.endswith(WRITING):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    files.append((status.st_mtime_ns, status.st_size, path))
        except OSError as error:
            self._warn(f"{self._folder} cannot be read: {error}")
            return False
        total = needed + sum(nbytes for _, nbytes, _ in files)
        removable = sum(nbytes for when, nbytes, _ in files if when < used)
        if total - removable > self._budget:
            return False
        for _, nbytes, path in sorted(files):
            if total <= self._budget:
                break
            self._forget(path)
            total -= nbytes
        return True

    def _forget(self, path: Path) -> None:
        self._index.pop(path, None)
        _remove(path)

    def _discard(self, path: Path, why: str) -> None:
        log.warning("the kept prompt %s is ignored and removed: %s", path.name, why)
        self._forget(path)

    def _warn(self, text: str) -> None:
        log.log(logging.DEBUG if self._warned else logging.WARNING, "%s", text)
        self._warned = True


def _grown(stored: Stored, tokens: Any) -> bool:
    """Whether ``tokens`` begin with those of the file, which nothing else needs then."""
    same = len(stored.tokens) == len(tokens)
    if len(stored.tokens) > len(tokens) or (stored.snapshot and not same):
        return False
    return bool((tokens[: len(stored.tokens)] == stored.tokens).all())


def _remove_abandoned(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > ABANDONED:
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
