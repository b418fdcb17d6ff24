"""The conversation as it is shown."""

from __future__ import annotations

from rich.markup import escape
from textual.containers import VerticalScroll
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownStream

from assistant.events import ErrorInfo
from assistant.wire import StoredMessage

MARKS = {"cancelled": "— interrupted", "interrupted": "— interrupted: the daemon stopped", "failed": "— failed"}


class Transcript(VerticalScroll):
    """Messages from the oldest to the newest; follows the end unless the user scrolled away."""

    def __init__(self) -> None:
        super().__init__()
        self._stream: MarkdownStream | None = None

    def on_mount(self) -> None:
        """Stay at the end while text arrives."""
        self.anchor()

    async def add_user(self, text: str) -> None:
        """What the user said."""
        await self.mount(Static(escape(text), classes="user"))

    async def add_stored(self, message: StoredMessage) -> None:
        """A message from the past."""
        if message.role == "user":
            await self.add_user(message.text)
        for call in (call for call in message.tool_calls if call.result != message.text):
            await self.add_tool(call.tool, call.result, call.ok)
        if message.role == "assistant":
            await self.mount(Markdown(message.text, classes="answer"))
        if message.role == "assistant" or message.error:
            await self.finish(message.state, message.error)

    async def append(self, text: str) -> None:
        """The next piece of the answer."""
        if self._stream is None:
            answer = Markdown(classes="answer")
            await self.mount(answer)
            self._stream = Markdown.get_stream(answer)
        await self._stream.write(text)

    async def add_tool(self, tool: str, result: str, ok: bool) -> None:
        """A tool call that ended."""
        await self.end_answer()
        sign = "✓" if ok else "✗"
        first_line = result.partition("\n")[0][:200]
        await self.mount(Static(f"{sign} {escape(tool)} → {escape(first_line)}", classes="tool"))

    async def add_notice(self, text: str, kind: str = "notice") -> None:
        """Something the user should know: ``kind`` is ``notice`` or ``error``."""
        await self.mount(Static(escape(text), classes=kind))

    async def end_answer(self) -> None:
        """The answer that was streaming is whole."""
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None

    async def finish(self, state: str, error: ErrorInfo | None) -> None:
        """A turn ended; says so unless it ended well."""
        await self.end_answer()
        if error is not None:
            await self.add_notice(f"{error.message}\n{error.hint}".rstrip(), "error")
        elif state in MARKS:
            await self.add_notice(MARKS[state])
