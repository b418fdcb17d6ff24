"""Writing to standard output from the event loop without ever blocking it, and the status line on standard error."""

from __future__ import annotations

import os
import select
import shutil
import stat
import sys
from typing import TextIO

import anyio

from . import render

PIECE = select.PIPE_BUF
"""Bytes that a pipe takes at once when it says that it is writable (POSIX)."""


class Output:
    """Standard output. A reader that stops reading holds up only its own answer, never Ctrl-C.

    A write raises BrokenPipeError when the reader is gone.
    """

    def __init__(self) -> None:
        self.terminal = render.is_terminal(sys.stdout)
        self._fd = _pollable(sys.stdout)
        self._turn = anyio.Lock()

    async def write(self, text: str) -> None:
        """Text, at once."""
        if self.terminal:
            text = render.plain_text(text)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        await self.write_bytes(text.encode(encoding, errors="replace"))

    async def write_bytes(self, data: bytes) -> None:
        """Bytes, at once."""
        if sys.stdout is None:
            return
        async with self._turn:  # a second task that waits for the same descriptor would take the first one's wake-up
            for start in range(0, len(data), PIECE):
                if self._fd is not None:
                    await anyio.wait_writable(self._fd)
                sys.stdout.buffer.write(data[start : start + PIECE])
                sys.stdout.buffer.flush()


class StatusLine:
    """One changing line on standard error, there only while a person looks at it."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.shown = not quiet and render.is_terminal(sys.stderr)
        self._drawn = False

    def show(self, text: str) -> None:
        """Replace the line."""
        if not self.shown:
            return
        width = shutil.get_terminal_size().columns - 1
        line = render.plain_text(text)[:width]
        self._put("\r\x1b[K" + render.paint(line, "dim", sys.stderr))
        self._drawn = True

    def clear(self) -> None:
        """Take the line away, so that something else can be written."""
        if self._drawn:
            self._put("\r\x1b[K")
            self._drawn = False

    def note(self, text: str, colour: str = "dim") -> None:
        """A line that stays."""
        if self.shown:
            self.clear()
            self._put(render.paint(render.plain_text(text), colour, sys.stderr) + "\n")

    def _put(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _pollable(stream: TextIO | None) -> int | None:
    """The descriptor, if it is a pipe or socket: nothing else makes a writer wait for long."""
    try:
        descriptor = stream.fileno() if stream is not None else -1
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None
