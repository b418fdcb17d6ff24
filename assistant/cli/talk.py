"""One turn as seen from the command line: send it, show its events, cancel it on Ctrl-C."""

from __future__ import annotations

import contextlib
import math
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from assistant import events
from assistant.errors import DaemonError, DaemonUnreachable
from assistant.events import Event
from assistant.wire import Cancel, EndAudio, Listen, Say

from .failures import FAILED, INTERRUPTED, from_info, status_of

if TYPE_CHECKING:
    from assistant.client import Client, Connection

GRACE_SECONDS = 5.0
"""How long a cancelled turn may take to say that it has ended."""
AUDIO_BYTES = 32_000
"""One second of 16 kHz 16-bit mono, sent as one message."""


class View(Protocol):
    """Where the events of a turn are shown."""

    async def show(self, event: Event) -> None:
        """Show one event."""

    def cancelling(self) -> None:
        """The user pressed Ctrl-C."""

    async def end(self) -> None:
        """Nothing more comes, whether or not the turn has ended."""


@dataclass(frozen=True)
class Outcome:
    """How a turn went."""

    finished: events.TurnFinished | None
    """None: the user left before its end."""
    interrupted: bool

    @property
    def status(self) -> int:
        """The exit status."""
        if self.interrupted or self.finished is None:
            return INTERRUPTED
        if self.finished.error is not None:
            return status_of(self.finished.error.code, permanent=self.finished.error.permanent)
        return 0 if self.finished.reason == "complete" else FAILED


class Follower:
    """Follows one turn on one connection until it ends."""

    def __init__(self, connection: Connection, turn_id: str, view: View) -> None:
        self._connection = connection
        self._turn_id = turn_id
        self._view = view
        self._session = ""
        self._known = anyio.Event()
        self._scope = anyio.CancelScope()
        self._stopping = False
        self.interrupted = False
        self.finished: events.TurnFinished | None = None

    async def run(self, command: Say | Listen, pcm: bytes) -> None:
        """Start the turn and show it to its end, or until the user has had enough.

        Raises:
            AssistantError: the turn was refused, or the daemon went away.
        """
        send, receive = anyio.create_memory_object_stream[Event](math.inf)
        with self._scope:
            async with anyio.create_task_group() as tasks:
                await self._connection.send(command)
                tasks.start_soon(self._watch_keys)
                tasks.start_soon(self._read, send)
                if isinstance(command, Listen):
                    tasks.start_soon(self._speak, pcm)
                async with receive:
                    async for event in receive:
                        await self._take(event)
                        if self.finished is not None:
                            break
                tasks.cancel_scope.cancel()
        await self._view.end()
        if self.finished is None and not self.interrupted:
            what = "was stopped" if self._stopping else "went away"
            raise DaemonUnreachable(f"the daemon {what} in the middle of the answer", hint="assistant logs; ask again")

    async def _read(self, send: MemoryObjectSendStream[Event]) -> None:
        """Take everything at once, so that a reader of ours who is slow never makes the daemon drop us."""
        async with send:
            with contextlib.suppress(DaemonUnreachable):
                async for event in self._connection:
                    send.send_nowait(event)

    async def _take(self, event: Event) -> None:
        if event.turn_id not in ("", self._turn_id):
            return
        if event.session_id and not self._session:
            self._session = event.session_id
            self._known.set()
        await self._view.show(event)
        if isinstance(event, events.CommandFailed) and not self.interrupted:
            raise from_info(event.error)
        if isinstance(event, events.SubscriberLagged):
            raise DaemonError(f"{event.missed} events were lost: this process could not keep up", hint="ask again")
        self._stopping = self._stopping or isinstance(event, events.DaemonStopping)
        if isinstance(event, events.TurnFinished):
            self.finished = event

    async def _speak(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), AUDIO_BYTES):
            await self._connection.send_audio(pcm[start : start + AUDIO_BYTES])
        await self._connection.send(EndAudio())

    async def _watch_keys(self) -> None:
        """The first Ctrl-C cancels the turn and waits for its end; the second leaves at once."""
        with anyio.open_signal_receiver(signal.SIGINT) as presses:
            async for _ in presses:
                break
            self.interrupted = True
            self._view.cancelling()
            with anyio.move_on_after(GRACE_SECONDS):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.cancel)
                    async for _ in presses:
                        break
                    tasks.cancel_scope.cancel()
            self._scope.cancel()

    async def cancel(self) -> None:
        """Ask the daemon to cancel the turn, as soon as its conversation is known."""
        await self._known.wait()
        await self._connection.send(Cancel(session_id=self._session, turn_id=self._turn_id))


async def follow(client: Client, command: Say | Listen, view: View, pcm: bytes = b"") -> Outcome:
    """Run one turn to its end, or until the user leaves.

    Raises:
        AssistantError: it was refused, or the daemon went away.
        BrokenPipeError: nobody reads our output any more; the turn was cancelled.
    """
    async with client.connect() as connection:
        follower = Follower(connection, command.turn_id, view)
        try:
            await follower.run(command, pcm)
        except* BrokenPipeError:
            with anyio.move_on_after(GRACE_SECONDS):
                await follower.cancel()
            raise
    return Outcome(follower.finished, follower.interrupted)
