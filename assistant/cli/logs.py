"""``assistant logs``: the end of the daemon's log, and what comes after."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import click

from assistant.errors import DaemonError

from . import render

BLOCK = 1 << 16
POLL_SECONDS = 0.2


@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Keep on showing what is written, until Ctrl-C.")
@click.option("-n", "--lines", "count", type=click.IntRange(0), default=50, show_default=True, metavar="N",
              help="How many lines to begin with.")  # fmt: skip
def logs(follow: bool, count: int) -> None:
    """Show the end of the daemon's log."""
    from assistant.paths import find

    log = find().log
    if not follow and not log.exists():
        raise DaemonError(f"there is no log yet: {log}", hint="assistant up")
    start = log.stat().st_size if log.exists() else 0
    for line in tail(log, count):
        render.out(render.safe(line))
    if follow:
        for text in watch(log, start):
            _write(text)


def tail(path: Path, count: int, *, since: int = 0) -> list[str]:
    """The last ``count`` lines of a text file, not before byte ``since`` (from its start if it is shorter)."""
    if not count or not path.exists():
        return []
    with path.open("rb") as file:
        end = file.seek(0, 2)
        floor = since if since <= end else 0
        data = b""
        while end > floor and data.count(b"\n") <= count:
            begin = max(floor, end - BLOCK)
            file.seek(begin)
            data = file.read(end - begin) + data
            end = begin
    return data.decode(errors="replace").splitlines()[-count:]


def watch(path: Path, start: int, *, poll: float = POLL_SECONDS) -> Generator[str, None, None]:
    """What is appended to a file from byte ``start`` on, for ever; of a rotated file also what was written last.

    Yields an empty string when there is nothing new, then waits ``poll`` seconds.
    """
    file, half = _open(path, start), b""
    try:
        while True:
            if data := file.read(BLOCK) if file else b"":
                whole, _, half = (half + data).rpartition(b"\n")
                if whole:
                    yield whole.decode(errors="replace")
                continue
            if file is None or _replaced(file, path):
                if file:
                    file.close()
                file, half = _open(path, 0), b""
                if file:
                    continue
            yield ""
            time.sleep(poll)
    finally:
        if file:
            file.close()


def _open(path: Path, start: int) -> BinaryIO | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    file.seek(start)
    return file


def _replaced(file: BinaryIO, path: Path) -> bool:
    """Whether the path now names another file, or this one was cut below what we have read."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return now.st_ino != os.fstat(file.fileno()).st_ino or now.st_size < file.tell()


def _write(text: str) -> None:
    if text:
        render.out(render.safe(text))
