"""From a stream of decoded text to answer, reasoning and tool calls. Knows nothing of MLX."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["text", "reasoning", "tool"]


class Piece(NamedTuple):
    """A stretch of the output."""

    kind: Kind
    text: str


class Markers(NamedTuple):
    """The strings by which a model separates its output; empty ones do not exist."""

    think_start: str = ""
    think_end: str = ""
    tool_start: str = ""
    tool_end: str = ""


class Reader:
    """Splits the output at the markers and ends it at a stop string, wherever the pieces of the stream are cut.

    Text that may be the beginning of a marker is held back until it is known. A tool call comes as one piece, when
    it is complete; one that is cut off comes as text, with its opening marker.
    """

    def __init__(self, markers: Markers, stop: tuple[str, ...] = (), *, reasoning: bool = False) -> None:
        self._markers = markers
        self._stop = tuple(word for word in stop if word)
        self._state: Kind = "reasoning" if reasoning else "text"
        self._held = ""
        self._trim = reasoning
        self.stopped = False
        """Whether a stop string was met; nothing follows it."""

    def feed(self, text: str) -> list[Piece]:
        """Take the next text. Returns what is certain by now."""
        self._held += text
        pieces: list[Piece] = []
        while not self.stopped and (found := self._first()):
            at, marker = found
            before, self._held = self._held[:at], self._held[at + len(marker) :]
            self._emit(pieces, before)
            self._pass(marker)
        if not self.stopped and self._state != "tool":
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
        if self._state != "tool":
            self._emit(pieces, rest)
        elif self._markers.tool_end:
            pieces.append(Piece("text", self._markers.tool_start + rest))
        else:
            self._emit(pieces, rest)
        return pieces

    def _next_markers(self) -> tuple[str, ...]:
        marks = self._markers
        if self._state == "text":
            return marks.think_start, marks.tool_start, *self._stop
        if self._state == "reasoning":
            return marks.think_end, marks.tool_start
        return (marks.tool_end,)

    def _first(self) -> tuple[int, str] | None:
        hits = [(self._held.find(marker), marker) for marker in self._next_markers() if marker]
        return min((hit for hit in hits if hit[0] >= 0), key=lambda hit: (hit[0], -len(hit[1])), default=None)

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
        self._trim = marker in (self._markers.think_start, self._markers.think_end, self._markers.tool_end)
        if marker == self._markers.think_start and self._state == "text":
            self._state = "reasoning"
        elif marker == self._markers.tool_start and self._state != "tool":
            self._state = "tool"
        else:
            self._state = "text"

    def _emit(self, pieces: list[Piece], text: str) -> None:
        if self._trim and self._state != "tool":
            text = text.lstrip()
        if text or self._state == "tool":
            self._trim = False
            pieces.append(Piece(self._state, text))
