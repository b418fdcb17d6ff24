"""Listening in the foreground: the daemon listens; this shows what happens and passes keys on."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectSendStream

from assistant import events
from assistant.errors import AssistantError, DaemonUnreachable
from assistant.events import Event
from assistant.wire import Attend, Subscribe

from . import probe
from .failures import INTERRUPTED, from_info
from .keyboard import LEAVE, single_keys

if TYPE_CHECKING:
    from assistant.client import Client, Connection, VoiceAction

    from .listening import ListenView

KEYS = "m mute, space talk without the wake word, s silence, q leave"
STOP_SECONDS = 5.0
"""How long the daemon may take to close the microphone when the user leaves."""
LATE_SECONDS = 0.3
"""How long events may still be on their way when an answer has overtaken them."""
POLL_SECONDS = 0.3
"""How often a daemon that was stopped is looked for."""


class Live:
    """One user who listens along.

    Args:
        restart: starts the daemon if it is down, and waits until it answers.
    """

    def __init__(self, client: Client, view: ListenView, restart: Callable[[], object]) -> None:
        self._client = client
        self._view = view
        self._restart = restart
        self._status = 0

    async def run(self) -> int:
        """Go on until the user leaves or listening ends; the exit status.

        Raises:
            AssistantError: it cannot listen.
            BrokenPipeError: nobody reads our output any more.
        """
        failure: AssistantError | None = None
        try:
            with single_keys() as keys:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._watch_signals, tasks.cancel_scope)
                    if keys is not None:
                        tasks.start_soon(self._watch_keys, keys, tasks.cancel_scope)
                    greeting = f"Listening: {KEYS}." if keys is not None else "Listening. Ctrl-C to leave."
                    try:
                        await self._attend(greeting)
                    except AssistantError as error:
                        failure = error
                    tasks.cancel_scope.cancel()
        finally:
            await self._leave()
        if failure is not None:
            raise failure
        return self._status

    async def _attend(self, greeting: str) -> None:
        """Listen, over as many connections as it takes."""
        while True:
            attendance = Attendance(self._client, self._view, greeting)
            try:
                await attendance.run()
            except DaemonUnreachable as error:
                await self._await_daemon(error, stopped=attendance.stopped)
                greeting = "The daemon is back."
            else:
                self._view.note("Listening was ended by another command.")
                return

    async def _await_daemon(self, error: DaemonUnreachable, *, stopped: bool) -> None:
        if stopped:
            self._view.note("The daemon was stopped: nothing is heard until it is back (`assistant up`).")
            while not await anyio.to_thread.run_sync(self._is_back, abandon_on_cancel=True):  # noqa: ASYNC110
                await anyio.sleep(POLL_SECONDS)
        else:
            self._view.note(f"{error.message[:1].upper()}{error.message[1:]}: starting it again…")
            await anyio.to_thread.run_sync(self._restart, abandon_on_cancel=True)

    def _is_back(self) -> bool:
        return probe.answers(self._client.socket)

    async def _watch_signals(self, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for number in signals:
                self._status = INTERRUPTED if number == signal.SIGINT else 128 + number
                scope.cancel()

    async def _watch_keys(self, keys: AsyncIterator[str], scope: anyio.CancelScope) -> None:
        async for key in keys:
            if key in LEAVE:
                scope.cancel()
                return
            try:
                if action := self._meant(key):
                    self._view.now(await self._client.voice(action))
            except AssistantError as error:
                await self._view.trouble(error)

    def _meant(self, key: str) -> VoiceAction | None:
        match key:
            case "m":
                return "unmute" if self._view.muted else "mute"
            case " ":
                return "release" if self._view.listening else "talk"
            case "s":
                return "hush"
        self._view.note(f"Keys: {KEYS}.")
        return None

    async def _leave(self) -> None:
        """Close the microphone, unless the configuration says that the daemon always listens."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_SECONDS):
            try:
                voice = await self._client.voice("leave")
            except AssistantError:
                return
            if voice is not None:
                self._view.note("The daemon goes on listening: [voice] enabled = true.")


class Attendance:
    """Listening over one connection.

    Args:
        greeting: what is said once the daemon listens.
    """

    def __init__(self, client: Client, view: ListenView, greeting: str) -> None:
        self._client = client
        self._view = view
        self._greeting = greeting
        self._failure: AssistantError | None = None
        self._trouble: AssistantError | None = None
        self._answered = self._off = False
        self.stopped = False
        """The daemon said that it goes down; it ends the connection when it does."""

    async def run(self) -> None:
        """Go on until listening is ended.

        Raises:
            DaemonUnreachable: the daemon went away.
            AssistantError: it cannot listen.
        """
        async with self._client.connect() as connection:
            await connection.send(Subscribe())
            await connection.send(Attend())
            self._view.connected()
            send, receive = anyio.create_memory_object_stream[Event](math.inf)
            async with receive, anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, connection, send)
                tasks.start_soon(self._listen, tasks.cancel_scope)
                async for event in receive:
                    await self._view.show(event)
                    if self._is_end(event) or (self._off and await self._is_over()):
                        break
                tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _read(self, connection: Connection, send: MemoryObjectSendStream[Event]) -> None:
        """Take everything at once, so that a reader of ours who is slow never makes the daemon drop us."""
        async with send:
            try:
                async for event in connection:
                    send.send_nowait(event)
            except AssistantError as error:
                self._failure = error
            else:
                self._failure = DaemonUnreachable("the daemon was stopped")

    async def _listen(self, scope: anyio.CancelScope) -> None:
        try:
            voice = await self._client.voice("listen")
            self._view.note(self._greeting)
            await self._view.began(voice)
            self._answered = True
            if self._off and await self._is_over():
                await anyio.sleep(LATE_SECONDS)
                scope.cancel()
        except AssistantError as error:
            self._failure = error
            scope.cancel()

    async def _is_over(self) -> bool:
        """Whether listening was ended: it may also be what somebody else has just ended, and be begun again."""
        self._off = not self._answered
        if self._off or self.stopped:
            return False
        try:
            if await self._client.voice_info() is not None:
                return False
        except AssistantError:
            return False
        self._failure = self._trouble
        return True

    def _is_end(self, event: Event) -> bool:
        match event:
            case events.DaemonStopping():
                self.stopped = True
                return False
            case events.SubscriberLagged():
                self._failure = DaemonUnreachable(f"{event.missed} events were lost")
            case events.VoiceFailed():
                self._trouble = from_info(event.error)
                return False
            case events.VoiceStateChanged():
                self._off = event.state == "off"
                self._trouble = self._trouble if self._off else None
                return False
            case _:
                return False
        return True
