"""What every source of models needs while it downloads: a report of the progress, and room on the disk."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from assistant.errors import ModelDownloadFailed

Phase = Literal["download", "verify", "convert", "ready"]

POLL_SECONDS = 0.25
"""How often the growth of the files is looked at; four times a second is smooth for a progress bar."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""What the system says when a disk or a quota is full."""


class Progressed(msgspec.Struct, frozen=True, tag="progressed"):
    """How far the child is, in bytes; ``total`` is 0 while it is unknown."""

    phase: Phase
    done: int = 0
    total: int = 0


Report = Callable[[Progressed], None]
"""Takes progress; may be called from any thread of the child."""


def check_space(folder: Path, needed: int) -> None:
    """Raise ModelDownloadFailed if the disk of ``folder`` has less than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelDownloadFailed(
            f"the disk is too full: fetching needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            hint=f"make room on the disk that holds {folder.parent}, or move the assistant with ASSISTANT_HOME",
        )


def disk_full(folder: Path) -> ModelDownloadFailed:
    """The error for a disk that ran full on the way."""
    return ModelDownloadFailed(
        "the disk ran full while the model was being fetched",
        hint=f"make room on the disk that holds {folder.parent}; what was fetched so far has been removed",
    )


@contextmanager
def watching(folder: Path, total: int, report: Report) -> Iterator[None]:
    """Report a download by the growth of ``folder``, for as long as the block runs."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            done = bytes_in(folder)
            report(Progressed("download", min(done, total) if total else done, total))

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    report(Progressed("download", 0, total))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def bytes_in(folder: Path) -> int:
    """Bytes of all files below ``folder``; files that vanish meanwhile count as nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total
