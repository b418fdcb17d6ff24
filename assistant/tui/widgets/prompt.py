"""Where the user types."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.message import Message
from textual.widgets import TextArea

NEWLINE_KEYS = ("shift+enter", "ctrl+j", "alt+enter")


class Prompt(TextArea):
    """A text area in which Enter sends and Shift+Enter, Alt+Enter or Ctrl+J begin a new line."""

    @dataclass
    class Submitted(Message):
        """The user sent ``text``."""

        text: str

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, show_line_numbers=False, placeholder="Ask anything", tab_behavior="focus")

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.prevent_default().stop()
            if self.text.strip():
                self.post_message(self.Submitted(self.text))
            return
        if event.key in NEWLINE_KEYS:
            event.prevent_default().stop()
            self.insert("\n")
            return
        await super()._on_key(event)
