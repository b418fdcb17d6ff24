"""Plain text for people: columns, colours where a terminal shows them, sizes and times."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TextIO

COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
"""Names to SGR codes (ECMA-48)."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that could move the cursor or speak to the terminal; tab and newline stay."""

GAP = "  "


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at this stream."""
    return stream is not None and not stream.closed and stream.isatty()


def has_colour(stream: TextIO | None) -> bool:
    """Whether colours are wanted there: on a terminal, unless NO_COLOR (no-color.org) or TERM=dumb says otherwise."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None) -> str:
    """The text in a colour if ``stream`` shows colours."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if has_colour(stream) else text


def plain_text(text: str) -> str:
    """The text without control characters, so that an answer cannot drive the terminal."""
    return CONTROL.sub("", text)


def safe(text: str) -> str:
    """Text of unknown origin as it may go to standard output: without control characters if that is a terminal."""
    return plain_text(text) if is_terminal(sys.stdout) else text


def out(text: str) -> None:
    """One or more lines to standard output, just as they are."""
    if sys.stdout is None:
        return
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def json_out(value: object) -> None:
    """A value as JSON on standard output, indented."""
    import msgspec

    out(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def note(text: str) -> None:
    """A notice for the person at the terminal, to standard error."""
    if sys.stderr is None:
        return
    sys.stderr.write(plain_text(text) + "\n")
    sys.stderr.flush()


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """Rows in columns; the last column is cut to the terminal's width, and only there.

    Args:
        right: the columns that are set flush right.
    """
    lines = [list(head), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    flush = set(right)
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else 0
    return "\n".join(_row(line, widths, flush, width) for line in lines)


def pairs(items: Iterable[tuple[str, str]]) -> str:
    """Names and values, one a line, the values under one another."""
    known = list(items)
    width = max((len(name) for name, _ in known), default=0)
    return "\n".join(f"{name:<{width}}{GAP}{_one_line(value)}".rstrip() for name, value in known)


def size(count: int) -> str:
    """A number of bytes in decimal units."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def moment(at: float) -> str:
    """A Unix time as the local date and time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def duration(seconds: float) -> str:
    """A span of time in its two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _one_line(cell: str) -> str:
    return plain_text(" ".join(cell.split()))


def _row(line: list[str], widths: list[int], flush: set[int], width: int) -> str:
    cells = [f"{cell:>{widths[i]}}" if i in flush else f"{cell:<{widths[i]}}" for i, cell in enumerate(line)]
    text = GAP.join(cells).rstrip()
    return text if not width or len(text) <= width else text[: width - 1] + "…"
