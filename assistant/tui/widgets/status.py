"""One line on how things are."""

from __future__ import annotations

import time

from textual.reactive import reactive
from textual.widgets import Static

from assistant import events
from assistant.wire import Status


class StatusLine(Static):
    """The model, what is going on, and what it costs."""

    activity: reactive[str] = reactive("")
    speed: reactive[str] = reactive("")
    machine: reactive[str] = reactive("")

    def __init__(self) -> None:
        super().__init__()
        self._first_token = 0.0
        self._tokens = 0

    def show(self, status: Status) -> None:
        """Take what the daemon says of itself."""
        held = sum(lane.rss for lane in status.lanes) + status.rss
        self.machine = f"{status.llm} · {held / 1e6:,.0f} MB"

    def follow(self, event: events.Event) -> None:
        """Take what is going on."""
        match event:
            case events.TurnStarted():
                self._tokens = 0
                self.activity, self.speed = "thinking…", ""
            case events.PromptProgressed():
                self.activity = f"reading the prompt: {event.done} of {event.total} tokens"
            case events.ModelProgressed():
                percent = f" {100 * event.done // event.total} %" if event.total else ""
                self.activity = "" if event.phase == "ready" else f"model {event.model}: {event.phase}{percent}"
            case events.TextDelta():
                self.activity = "answering"
                self._count()
            case events.ToolCallStarted():
                self.activity = f"running {event.tool}…"
            case events.TurnFinished():
                self.activity = ""
            case _:
                pass

    def render(self) -> str:
        """The three parts, those that are known."""
        return "  ·  ".join(part for part in (self.activity, self.speed, self.machine) if part)

    def _count(self) -> None:
        now = time.monotonic()
        if not self._tokens:
            self._first_token = now
        self._tokens += 1
        if self._tokens > 2:
            self.speed = f"{(self._tokens - 1) / (now - self._first_token):.1f} tokens/s"
