"""One line on how things are."""

from __future__ import annotations

from textual.reactive import reactive
from textual.widgets import Static

from ...wire import Status


class StatusLine(Static):
    """The model, what is going on, and what it costs."""

    activity: reactive[str] = reactive("")
    speed: reactive[str] = reactive("")
    machine: reactive[str] = reactive("")

    def show(self, status: Status) -> None:
        """Take what the daemon says of itself."""
        held = sum(lane.rss for lane in status.lanes) + status.rss
        self.machine = f"{status.llm} · {held / 1e6:,.0f} MB"

    def render(self) -> str:
        """The three parts, those that are known."""
        return "  ·  ".join(part for part in (self.activity, self.speed, self.machine) if part)
