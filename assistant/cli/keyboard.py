"""Single keys from a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio

LEAVE = ("q", "\x04", "")
"""``q``, Ctrl-D and the end of the input."""
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?")
"""Arrows and the like, which are no key of ours (ECMA-48)."""


@contextmanager
def single_keys() -> Iterator[AsyncIterator[str] | None]:
    """Each key as it is pressed, unseen; None where there is no terminal. Afterwards the terminal is as it was."""
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        yield None
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield _pressed(terminal)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


async def _pressed(terminal: int) -> AsyncIterator[str]:
    while True:
        await anyio.wait_readable(terminal)
        try:
            keys = os.read(terminal, 64).decode(errors="replace")
        except OSError:
            keys = ""
        if not keys:
            yield ""
            return
        for key in ESCAPES.sub("", keys):
            yield key
