"""How far a model's download is: a bar for a person, a line every tenth for a log."""

from __future__ import annotations

import sys

from assistant.events import ModelProgressed

from . import render
from .output import StatusLine

WIDTH = 24
"""Cells of the bar."""
VERBS = {"download": "downloading", "verify": "verifying", "convert": "converting", "ready": "ready"}


class ModelProgress:
    """Shows ``ModelProgressed`` events on standard error."""

    def __init__(self, line: StatusLine, *, quiet: bool = False) -> None:
        self._line = line
        self._quiet = quiet
        self._phase = ("", "")
        self._began = (0.0, 0)
        self._tenth = -1

    def show(self, event: ModelProgressed) -> None:
        """Take the next event."""
        if self._quiet:
            return
        fresh = self._phase != (event.model, event.phase)
        if fresh:
            self._phase = (event.model, event.phase)
            self._began, self._tenth = (event.at, event.done), -1
        if event.phase == "ready":
            if fresh:
                self._say(f"{event.model}: ready")
        elif self._line.shown:
            self._line.show(self._bar(event))
        else:
            self._log(event, fresh)

    def _bar(self, event: ModelProgressed) -> str:
        what = f"{event.model}  {VERBS[event.phase]}"
        if not event.total:
            return f"{what}  {render.size(event.done)}" if event.done else f"{what}…"
        share = min(1.0, event.done / event.total)
        full = round(share * WIDTH)
        bar = "━" * full + "·" * (WIDTH - full)
        return f"{what}  {bar} {share:4.0%}  {render.size(event.done)} of {render.size(event.total)}{self._rate(event)}"

    def _rate(self, event: ModelProgressed) -> str:
        seconds, count = event.at - self._began[0], event.done - self._began[1]
        if seconds < 0.5 or count <= 0:
            return ""
        left = (event.total - event.done) / (count / seconds)
        return f"  {render.size(round(count / seconds))}/s  {render.duration(left)} left"

    def _log(self, event: ModelProgressed, fresh: bool) -> None:
        if not event.total:
            if fresh:
                self._say(f"{event.model}: {VERBS[event.phase]}")
            return
        tenth = min(10, 10 * event.done // event.total)
        if tenth > self._tenth:
            self._tenth = tenth
            self._say(f"{event.model}: {VERBS[event.phase]} {10 * tenth} % of {render.size(event.total)}")

    def _say(self, text: str) -> None:
        self._line.clear()
        if sys.stderr is not None:
            render.note(text)
