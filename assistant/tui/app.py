"""The Textual application: bindings and screens only."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from assistant.client import Client

from .screens.chat import ChatScreen


class AssistantApp(App[None]):
    """A chat with the running daemon."""

    TITLE = "assistant"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("ctrl+n", "new_conversation", "New"),
    ]

    def __init__(self, client: Client, session_id: str = "") -> None:
        super().__init__()
        self._client = client
        self._session_id = session_id

    def on_mount(self) -> None:
        """Show the conversation."""
        self.push_screen(ChatScreen(self._client, self._session_id))

    def action_new_conversation(self) -> None:
        """Begin a conversation; the present one stays in the store."""
        self.switch_screen(ChatScreen(self._client))


def run(socket: Path, session_id: str = "") -> None:
    """Open the chat on the daemon that listens on ``socket``; an empty ``session_id`` begins a conversation."""
    AssistantApp(Client(socket), session_id).run()
