"""One conversation."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import ClassVar
from uuid import uuid4

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Header, Static

from assistant import events
from assistant.client import Client, Connection
from assistant.errors import AssistantError
from assistant.tui.widgets.prompt import Prompt
from assistant.tui.widgets.status import StatusLine
from assistant.tui.widgets.transcript import Transcript
from assistant.wire import Cancel, Say, Subscribe

RECONNECT_SECONDS = 1.0
STATUS_SECONDS = 5.0
NEW = "new conversation"
WELCOME = "Ask anything. Enter sends, Shift+Enter begins a new line, Escape stops an answer."


class ChatScreen(Screen[None]):
    """Prompt below, transcript above; everything shown comes as events from the daemon."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel_turn", "Stop", priority=True)]

    def __init__(self, client: Client, session_id: str = "") -> None:
        super().__init__()
        self._client = client
        self._session_id = session_id
        self._connection: Connection | None = None
        self._sent: dict[str, str] = {}
        self._model_calls: set[str] = set()
        self._live_turn = ""

    @property
    def busy(self) -> bool:
        """Whether an answer is being written."""
        return bool(self._live_turn)

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Header()
        with Transcript() as transcript:
            transcript.can_focus = True
            yield Static(WELCOME, classes="welcome")
        yield StatusLine()
        yield Prompt()
        yield Footer()

    def on_mount(self) -> None:
        """Connect, and keep the status line fresh."""
        self.sub_title = NEW
        self.query_one(Prompt).focus()
        self.run_worker(self._stay_connected(), name="events", exit_on_error=True)
        self.run_worker(self._watch_status(), name="status", exit_on_error=True)

    async def on_prompt_submitted(self, message: Prompt.Submitted) -> None:
        """Send what was typed; the draft stays where it is when that cannot be done."""
        if self._connection is None:
            self.notify("Not connected to the daemon; your text is kept.", severity="warning")
            return
        turn_id, session = uuid4().hex, self._session_id
        self._sent[turn_id] = message.text
        command = Say(turn_id=turn_id, text=message.text, session_id=session, new=not session, channel="tui")
        try:
            await self._connection.send(command)
        except AssistantError as error:
            self.notify(error.message, severity="error")
            return
        self.query_one(Prompt).clear()
        self.query_one(Transcript).anchor()

    async def action_cancel_turn(self) -> None:
        """Stop the answer that is being written."""
        if self._connection is not None and self._live_turn:
            await self._connection.send(Cancel(session_id=self._session_id, turn_id=self._live_turn))

    async def _stay_connected(self) -> None:
        """Read events; when the daemon goes away, wait for it to come back."""
        await self._load()
        while True:
            with suppress(AssistantError):
                async with self._client.connect() as connection:
                    self._connection = connection
                    self.query_one(StatusLine).activity = ""
                    if self._session_id:
                        await connection.send(Subscribe(session_id=self._session_id))
                    async for event in connection:
                        await self._on_event(event)
            self._connection = None
            self._live_turn = ""
            await self.query_one(Transcript).end_answer()
            self.query_one(StatusLine).activity = "not connected: waiting for the daemon (assistant up)"
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _load(self) -> None:
        if not self._session_id:
            return
        try:
            conversation = await self._client.conversation(self._session_id)
        except AssistantError as error:
            await self.query_one(Transcript).add_notice(f"{error.message}\n{error.hint}", "error")
            self._session_id = ""
            return
        self._session_id = conversation.session.id
        self.sub_title = conversation.session.title
        for message in conversation.messages:
            await self.query_one(Transcript).add_stored(message)

    async def _watch_status(self) -> None:
        while True:
            with suppress(AssistantError):
                self.query_one(StatusLine).show(await self._client.status())
            await asyncio.sleep(STATUS_SECONDS)

    async def _on_event(self, event: events.Event) -> None:
        if event.session_id and event.session_id != self._session_id and event.turn_id not in self._sent:
            return
        self.query_one(StatusLine).follow(event)
        transcript = self.query_one(Transcript)
        match event:
            case events.TurnStarted():
                self._session_id, self._live_turn = event.session_id, event.turn_id
            case events.FinalTranscript():
                await self._on_words(event)
            case events.TextDelta():
                await transcript.append(event.text)
            case events.ToolCallStarted(origin="model"):
                self._model_calls.add(event.call_id)
            case events.ToolCallFinished() if event.call_id in self._model_calls:
                await transcript.add_tool(event.tool, event.result, event.ok)
            case events.TurnFinished():
                self._live_turn = ""
                await transcript.finish(event.reason, event.error)
            case events.CommandFailed():
                await transcript.finish("failed", event.error)
                self._restore(event.turn_id)
            case events.TimerFired():
                self.app.bell()
                self.notify(event.name or "Your timer is done.", title="Timer", timeout=30)
            case _:
                pass

    async def _on_words(self, event: events.FinalTranscript) -> None:
        if self.sub_title == NEW:
            self.sub_title = event.text.partition("\n")[0][:60]
        await self.query_one(Transcript).add_user(event.text)

    def _restore(self, turn_id: str) -> None:
        """Put words that were refused back where they can be mended."""
        prompt = self.query_one(Prompt)
        if (text := self._sent.pop(turn_id, "")) and not prompt.text:
            prompt.text = text
