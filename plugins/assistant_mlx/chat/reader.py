"""From a stream of decoded text to answer, reasoning and tool calls. Knows nothing of MLX."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["text", "reasoning", "tool", "bare", "cut"]


class Piece(NamedTuple):
    """A stretch of the output.

    ``tool`` is what stands between the markers of a call, ``bare`` an answer that began as a call does without a
    marker, ``cut`` a call whose end marker never came.
    """

    kind: Kind
    text: str


class Markers(NamedTuple):
    """The strings by which a model separates its output; empty ones do not exist."""

    think_start: str = ""
    think_end: str = ""
    tool_start: str = ""
    tool_end: str = ""
    """Empty for a call that goes on to the end."""
    others: tuple[tuple[str, str], ...] = ()
    """Further pairs around calls; these are handed on together with the call."""
    bare: str = ""
    """An answer that begins with this is a call from there to its end."""
    quoted: bool = False
    """Calls hold JSON: an end marker within a string is no end."""


class Reader:
    """Splits the output at the markers and ends it at a stop string, wherever the pieces of the stream are cut.

    Text that may be the beginning of a marker is held back until it is known. A tool call comes as one piece, when
    it is complete, or at the end if it never was.
    """

    def __init__(self, markers: Markers, stop: tuple[str, ...] = (), *, reasoning: bool = False) -> None:
        self._markers = markers
        self._stop = tuple(word for word in stop if word)
        self._state: Kind = "reasoning" if reasoning else "text"
        self._held = ""
        self._trim = reasoning
        self._begins = bool(markers.bare)
        self._open, self._close = "", ""
        self._pairs = [(markers.tool_start, markers.tool_end), *markers.others]
        self.stopped = False
        """Whether a stop string was met; nothing follows it."""

    def feed(self, text: str) -> list[Piece]:
        """Take the next text. Returns what is certain by now."""
        self._held += text
        pieces: list[Piece] = []
        while not self.stopped and not self._bare() and (found := self._first()):
            at, marker = found
            before, self._held = self._held[:at], self._held[at + len(marker) :]
            self._emit(pieces, before + self._close * (self._state == "tool" and bool(self._open)))
            self._pass(marker)
        if not self.stopped and self._state in ("text", "reasoning") and not self._undecided_beginning():
            keep = self._undecided()
            certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
            self._emit(pieces, certain)
        return pieces

    def finish(self) -> list[Piece]:
        """The stream has ended. Returns what was held back."""
        pieces: list[Piece] = []
        rest, self._held = self._held, ""
        if self.stopped:
            return pieces
        if self._state == "tool" and self._close:
            pieces.append(Piece("cut", self._open + rest))
        else:
            self._emit(pieces, rest)
        return pieces

    def _bare(self) -> bool:
        """Whether the answer is a call without a marker."""
        if self._begins and self._state == "text" and (beginning := self._held.lstrip()):
            self._begins = False
            if beginning.startswith(self._markers.bare):
                self._state, self._held = "bare", beginning
        return self._state == "bare"

    def _undecided_beginning(self) -> bool:
        return self._begins and self._state == "text"

    def _next_markers(self) -> tuple[str, ...]:
        marks = self._markers
        starts = tuple(start for start, _ in self._pairs)
        if self._state == "text":
            # A model whose reasoning was ended for it may end it once more.
            return marks.think_start, marks.think_end, *starts, *self._stop
        if self._state == "reasoning":
            return marks.think_end, *starts
        return (self._close,)

    def _first(self) -> tuple[int, str] | None:
        if self._state == "tool" and self._markers.quoted:
            return self._outside_quotes()
        hits = [(self._held.find(marker), marker) for marker in self._next_markers() if marker]
        return min((hit for hit in hits if hit[0] >= 0), key=lambda hit: (hit[0], -len(hit[1])), default=None)

    def _outside_quotes(self) -> tuple[int, str] | None:
        at = -1
        while self._close and (at := self._held.find(self._close, at + 1)) >= 0:
            if len(re.findall(r'(?<!\\)(?:\\\\)*"', self._held[:at])) % 2 == 0:
                return at, self._close
        return None

    def _undecided(self) -> int:
        longest = max((len(marker) for marker in self._next_markers()), default=0)
        for size in range(min(longest - 1, len(self._held)), 0, -1):
            if any(marker.startswith(self._held[-size:]) for marker in self._next_markers()):
                return size
        return 0

    def _pass(self, marker: str) -> None:
        if self._state == "text" and marker in self._stop:
            self.stopped = True
            return
        marks = self._markers
        self._trim = self._state == "tool" or marker in (marks.think_start, marks.think_end)
        if marker == marks.think_start and self._state == "text":
            self._state = "reasoning"
        elif self._state in ("text", "reasoning") and (pair := self._pair(marker)):
            self._state = "tool"
            self._open, self._close = ("" if pair == self._pairs[0] else pair[0]), pair[1]
        else:
            self._begins = bool(marks.bare) and self._state == "reasoning"
            self._state, self._open, self._close = "text", "", ""

    def _pair(self, marker: str) -> tuple[str, str] | None:
        return next((pair for pair in self._pairs if pair[0] == marker), None)

    def _emit(self, pieces: list[Piece], text: str) -> None:
        if self._trim and self._state in ("text", "reasoning"):
            text = text.lstrip()
        if text or self._state == "tool":
            self._trim = False
            pieces.append(Piece(self._state, self._open + text))
